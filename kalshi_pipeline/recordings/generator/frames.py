"""Websocket frames as text, in both generations of Kalshi's wire format.

Source: Kalshi API documentation, "orderbook updates", "public trades", "market lifecycle"; the
legacy form (whole cents, integer counts) was sent until 12 March 2026.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT

BOOK_CHANNEL, TRADE_CHANNEL, LIFECYCLE_CHANNEL = "orderbook_delta", "trade", "market_lifecycle_v2"
CHANNELS = (BOOK_CHANNEL, TRADE_CHANNEL, LIFECYCLE_CHANNEL)
BOOK_SID, TRADE_SID, LIFECYCLE_SID = 1, 2, 3  # in the order of subscription

Levels = Sequence[tuple[int, int]]
_SIDES = ("yes", "no")


class Wire(Protocol):
    """What differs between the two generations.

    Prices are 1/10,000 dollar, sizes 1/100 contract, times Unix ms; `side` is 0 YES, 1 NO.
    """

    def snapshot(self, ticker: str, seq: int, yes: Levels, no: Levels) -> str:
        """A whole book; the key of an empty side is absent."""

    def delta(
        self, ticker: str, seq: int, side: int, price_bp: int, change_centi: int, time_ms: int
    ) -> str:
        """A change of one level; the price in the ladder's own scale."""

    def trade(
        self, ticker: str, trade_id: str, taker: int, yes_bp: int, size_centi: int, time_ms: int
    ) -> str:
        """A public trade; `taker` bought 0 YES or 1 NO; the price in the YES scale."""


class LegacyWire:
    """Whole cents and whole contracts as integers, dollar strings beside them."""

    def snapshot(self, ticker: str, seq: int, yes: Levels, no: Levels) -> str:
        """See Wire."""
        body: dict[str, object] = {"market_ticker": ticker, "market_id": _market_id(ticker)}
        for side, levels in zip(_SIDES, (yes, no), strict=True):
            if levels:
                body[side] = [[bp // 100, size // CENTI_PER_CONTRACT] for bp, size in levels]
                body[f"{side}_dollars"] = [
                    [dollars(bp), size // CENTI_PER_CONTRACT] for bp, size in levels
                ]
        return _book("orderbook_snapshot", seq, _compact(body))

    def delta(
        self, ticker: str, seq: int, side: int, price_bp: int, change_centi: int, time_ms: int
    ) -> str:
        """See Wire."""
        return _book(
            "orderbook_delta",
            seq,
            f'{{"market_ticker":"{ticker}","price":{price_bp // 100},'
            f'"price_dollars":"{dollars(price_bp)}","delta":{change_centi // CENTI_PER_CONTRACT},'
            f'"side":"{_SIDES[side]}","ts":"{rfc3339(time_ms)}"}}',
        )

    def trade(
        self, ticker: str, trade_id: str, taker: int, yes_bp: int, size_centi: int, time_ms: int
    ) -> str:
        """See Wire."""
        body = {
            "trade_id": trade_id,
            "market_ticker": ticker,
            "yes_price": yes_bp // 100,
            "no_price": (BP_PER_DOLLAR - yes_bp) // 100,
            "yes_price_dollars": dollars(yes_bp),
            "no_price_dollars": dollars(BP_PER_DOLLAR - yes_bp),
            "count": size_centi // CENTI_PER_CONTRACT,
            "taker_side": _SIDES[taker],
            "ts": time_ms // 1000,
        }
        return f'{{"type":"trade","sid":{TRADE_SID},"msg":{_compact(body)}}}'


class CurrentWire:
    """Prices and counts as decimal strings."""

    def snapshot(self, ticker: str, seq: int, yes: Levels, no: Levels) -> str:
        """See Wire."""
        body: dict[str, object] = {"market_ticker": ticker, "market_id": _market_id(ticker)}
        for side, levels in zip(_SIDES, (yes, no), strict=True):
            if levels:
                body[f"{side}_dollars_fp"] = [[dollars(bp), count(size)] for bp, size in levels]
        return _book("orderbook_snapshot", seq, _compact(body))

    def delta(
        self, ticker: str, seq: int, side: int, price_bp: int, change_centi: int, time_ms: int
    ) -> str:
        """See Wire."""
        return _book(
            "orderbook_delta",
            seq,
            f'{{"market_ticker":"{ticker}","market_id":"{_market_id(ticker)}",'
            f'"price_dollars":"{dollars(price_bp)}","delta_fp":"{count(change_centi)}",'
            f'"side":"{_SIDES[side]}","ts_ms":{time_ms}}}',
        )

    def trade(
        self, ticker: str, trade_id: str, taker: int, yes_bp: int, size_centi: int, time_ms: int
    ) -> str:
        """See Wire."""
        body = {
            "trade_id": trade_id,
            "market_ticker": ticker,
            "yes_price_dollars": dollars(yes_bp),
            "no_price_dollars": dollars(BP_PER_DOLLAR - yes_bp),
            "count_fp": count(size_centi),
            "taker_side": _SIDES[taker],
            "taker_outcome_side": _SIDES[taker],
            "taker_book_side": ("bid", "ask")[taker],
            "is_block_trade": False,
            "ts": time_ms // 1000,
            "ts_ms": time_ms,
        }
        return f'{{"type":"trade","sid":{TRADE_SID},"msg":{_compact(body)}}}'


def subscribed(channel: str, sid: int) -> str:
    """Reply to a subscription."""
    return _compact({"type": "subscribed", "id": sid, "msg": {"channel": channel, "sid": sid}})


def markets_added(seq: int, tickers: Sequence[str]) -> str:
    """Acknowledgement of more markets on the book subscription: it uses up a seq."""
    reply = {"type": "ok", "id": LIFECYCLE_SID + 1, "sid": BOOK_SID, "seq": seq}
    return _compact({**reply, "msg": {"market_tickers": list(tickers)}})


def determined(ticker: str, result: bool, time_ms: int) -> str:
    """The result of a market."""
    body = {
        "market_ticker": ticker,
        "event_type": "determined",
        "result": outcome(result),
        "determination_ts": time_ms // 1000,
        "settlement_value": settlement_dollars(result),
    }
    return _compact({"type": LIFECYCLE_CHANNEL, "sid": LIFECYCLE_SID, "msg": body})


def outcome(result: bool) -> str:
    """A result in Kalshi's words."""
    return "yes" if result else "no"


def settlement_dollars(result: bool) -> str:
    """What one YES contract pays."""
    return "1.0000" if result else "0.0000"


def dollars(price_bp: int) -> str:
    """1/10,000 dollar as a decimal string."""
    return f"{price_bp // BP_PER_DOLLAR}.{price_bp % BP_PER_DOLLAR:04d}"


def count(size_centi: int) -> str:
    """1/100 contract as a signed decimal string."""
    whole, rest = divmod(abs(size_centi), CENTI_PER_CONTRACT)
    return f"{'-' if size_centi < 0 else ''}{whole}.{rest:02d}"


def rfc3339(time_ms: int) -> str:
    """Unix ms as `2025-12-13T14:25:38.123Z`."""
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4096)
def _market_id(ticker: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ticker))


def _book(kind: str, seq: int, body: str) -> str:
    return f'{{"type":"{kind}","sid":{BOOK_SID},"seq":{seq},"msg":{body}}}'


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
