"""Websocket frames as text: all but the two kinds there are millions of (`frame_writer.py`).

Source: Kalshi API documentation, "orderbook updates", "market lifecycle"; the legacy form (whole
cents, integer counts) was sent until 12 March 2026.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT

BOOK_CHANNEL, TRADE_CHANNEL, LIFECYCLE_CHANNEL = "orderbook_delta", "trade", "market_lifecycle_v2"
CHANNELS = (BOOK_CHANNEL, TRADE_CHANNEL, LIFECYCLE_CHANNEL)
BOOK_SID, TRADE_SID, LIFECYCLE_SID = 1, 2, 3  # in the order of subscription

Wire = Literal["legacy", "current"]
Levels = Sequence[tuple[int, int]]
SIDES = ("yes", "no")


def line(recv_ms: int, connection: int, frame: str) -> str:
    """A line of a recording."""
    return f'{{"recv_ms":{recv_ms},"conn":{connection},"event":{frame}}}\n'


def snapshot(wire: Wire, ticker: str, seq: int, yes: Levels, no: Levels) -> str:
    """A whole book; the key of an empty side is absent.

    Args:
        wire: generation of the format.
        ticker: the market.
        seq: counter of the subscription.
        yes: (price_bp, size_centi), ascending.
        no: the same in the NO scale.
    """
    body: dict[str, object] = {"market_ticker": ticker, "market_id": market_id(ticker)}
    for side, levels in zip(SIDES, (yes, no), strict=True):
        if levels and wire == "legacy":
            body[side] = [[bp // 100, size // CENTI_PER_CONTRACT] for bp, size in levels]
            body[f"{side}_dollars"] = [
                [dollars(bp), size // CENTI_PER_CONTRACT] for bp, size in levels
            ]
        elif levels:
            body[f"{side}_dollars_fp"] = [[dollars(bp), count(size)] for bp, size in levels]
    head = {"type": "orderbook_snapshot", "sid": BOOK_SID, "seq": seq}
    return _compact({**head, "msg": body})


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
    second = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=4096)
def market_id(ticker: str) -> str:
    """The exchange's own name of a market: a UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ticker))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
