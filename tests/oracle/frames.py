"""Lines of a recording, written the slow way: from the rule, with `json`."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime

SIDES = ("yes", "no")


def dollars(price_bp: int) -> str:
    return f"{price_bp / 10_000:.4f}"


def count(size_centi: int) -> str:
    return f"{'-' if size_centi < 0 else ''}{abs(size_centi) // 100}.{abs(size_centi) % 100:02d}"


def stamp(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def line(recv_ms: int, connection: int, event: dict) -> str:
    whole = {"recv_ms": recv_ms, "conn": connection, "event": event}
    return json.dumps(whole, separators=(",", ":")) + "\n"


def delta(wire: str, ticker: str, seq: int, change: tuple[int, int, int], time_ms: int) -> dict:
    side, price_bp, change_centi = change
    message: dict = {"market_ticker": ticker}
    if wire == "legacy":
        message |= {"price": price_bp // 100, "price_dollars": dollars(price_bp)}
        message |= {"delta": int(change_centi / 100), "side": SIDES[side], "ts": stamp(time_ms)}
    else:
        message |= {"market_id": str(uuid.uuid5(uuid.NAMESPACE_URL, ticker))}
        message |= {"price_dollars": dollars(price_bp), "delta_fp": count(change_centi)}
        message |= {"side": SIDES[side], "ts_ms": time_ms}
    return {"type": "orderbook_delta", "sid": 1, "seq": seq, "msg": message}


def trade(
    wire: str, ticker: str, trade_id: str, change: tuple[int, int, int], time_ms: int
) -> dict:
    # a taker that sells into a YES bid buys NO, and the other way round
    side, price_bp, change_centi = change
    yes_bp = price_bp if side == 0 else 10_000 - price_bp
    taker = SIDES[1 - side]
    message: dict = {"trade_id": trade_id, "market_ticker": ticker}
    if wire == "legacy":
        message |= {"yes_price": yes_bp // 100, "no_price": (10_000 - yes_bp) // 100}
    message |= {"yes_price_dollars": dollars(yes_bp), "no_price_dollars": dollars(10_000 - yes_bp)}
    if wire == "legacy":
        message |= {"count": -change_centi // 100, "taker_side": taker, "ts": time_ms // 1000}
    else:
        book_side = "bid" if taker == "yes" else "ask"
        message |= {"count_fp": count(-change_centi), "taker_side": taker}
        message |= {"taker_outcome_side": taker, "taker_book_side": book_side}
        message |= {"is_block_trade": False, "ts": time_ms // 1000, "ts_ms": time_ms}
    return {"type": "trade", "sid": 2, "msg": message}


def trade_ids(text: str) -> list[str]:
    """The ids in written lines; each looks like a UUID and none comes twice."""
    found = re.findall(r'"trade_id":"([^"]*)"', text)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name) for name in found)
    assert len(set(found)) == len(found)
    return found
