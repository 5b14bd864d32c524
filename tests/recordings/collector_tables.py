"""The predecessor's tables, as its migrations made them, and rows for tests to put into them.

Source: `domain.md` sections 2.1 to 2.3 and 2.6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

SESSION_DDL = """
CREATE TABLE rl_orderbook_sessions (
    session_id BIGSERIAL PRIMARY KEY, market_tickers TEXT[] NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(), ended_at TIMESTAMPTZ,
    status VARCHAR(20) DEFAULT 'active', websocket_url TEXT, connection_metadata JSONB,
    messages_received BIGINT DEFAULT 0, snapshots_count INT DEFAULT 0, deltas_count INT DEFAULT 0,
    last_message_at TIMESTAMPTZ, error_message TEXT, created_at TIMESTAMPTZ DEFAULT now(),
    environment TEXT, CHECK (ended_at >= started_at));
"""
ROW_DDL = """
CREATE TABLE rl_orderbook_snapshots (
    id BIGSERIAL PRIMARY KEY, session_id BIGINT, market_ticker VARCHAR(100) NOT NULL,
    timestamp_ms BIGINT NOT NULL, sequence_number BIGINT NOT NULL CHECK (sequence_number >= 0),
    yes_bids JSONB NOT NULL, yes_asks JSONB NOT NULL,
    no_bids JSONB NOT NULL, no_asks JSONB NOT NULL,
    yes_spread INT, no_spread INT, yes_mid_price DECIMAL(10,4), no_mid_price DECIMAL(10,4),
    total_volume BIGINT, created_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE (session_id, market_ticker, sequence_number));
CREATE TABLE rl_orderbook_deltas (
    id BIGSERIAL PRIMARY KEY, session_id BIGINT, market_ticker VARCHAR(100) NOT NULL,
    timestamp_ms BIGINT NOT NULL, sequence_number BIGINT NOT NULL,
    side TEXT NOT NULL, action TEXT NOT NULL, price INT NOT NULL,
    old_size BIGINT NOT NULL, new_size BIGINT NOT NULL, created_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE (session_id, market_ticker, sequence_number));
"""
MORE_DDL = """
CREATE TABLE trades (
    id BIGSERIAL PRIMARY KEY, market_ticker TEXT NOT NULL, yes_price INT, no_price INT,
    yes_price_dollars DECIMAL(10,4), no_price_dollars DECIMAL(10,4), count INT,
    taker_side TEXT, ts BIGINT, received_at BIGINT);
CREATE TABLE markets (
    ticker TEXT PRIMARY KEY, title TEXT, category TEXT, raw_market_data JSONB);
CREATE TABLE lifecycle_events (
    market_ticker TEXT, event_type TEXT, payload JSONB, kalshi_ts BIGINT,
    received_at TIMESTAMPTZ);
"""
DDL = SESSION_DDL + ROW_DDL
START_MS = 1_765_400_000_000  # 10 December 2025


def add_session(
    connection: psycopg.Connection, session: int, tickers: Iterable[str] = ("KXA", "KXB"),
    **columns: Any,
) -> None:  # fmt: skip
    """One row of the sessions table."""
    row = {"session_id": session, "market_tickers": list(tickers), "status": "closed", **columns}
    _insert(connection, "rl_orderbook_sessions", row)


def add_snapshot(
    connection: psycopg.Connection, session: int, seq: int, market: str = "KXA", *,
    at_ms: int | None = None, yes_bids: Mapping[int, int] | str | None = None,
    no_bids: Mapping[int, int] | None = None, legacy: bool = False, **columns: Any,
) -> None:  # fmt: skip
    """One snapshot of true bids (cents -> contracts), as either collector stored it."""
    if isinstance(yes_bids, str):  # a column as a test wants it
        columns, yes_bids = {"yes_bids": yes_bids, **columns}, {}
    yes, no = dict(yes_bids or {}), dict(no_bids or {})
    if legacy:
        parts = (_low(yes), _high(yes), _low(no), _high(no))
    else:
        parts = (yes, _mirror(no), no, _mirror(yes))
    names = ("yes_bids", "yes_asks", "no_bids", "no_asks")
    ladders = {
        name: json.dumps({str(cents): size for cents, size in part.items()})
        for name, part in zip(names, parts, strict=True)
    }
    row = {
        "session_id": session, "market_ticker": market, "sequence_number": seq,
        "timestamp_ms": START_MS + seq if at_ms is None else at_ms, **ladders, **columns,
    }  # fmt: skip
    _insert(connection, "rl_orderbook_snapshots", row)


def add_delta(
    connection: psycopg.Connection, session: int, seq: int, market: str = "KXA", *,
    side: str = "yes", price: int = 40, old: int = 0, new: int = 10, at_ms: int | None = None,
    **columns: Any,
) -> None:  # fmt: skip
    """One change of a level."""
    row = {
        "session_id": session, "market_ticker": market, "sequence_number": seq, "side": side,
        "timestamp_ms": START_MS + seq if at_ms is None else at_ms, "price": price,
        "old_size": old, "new_size": new, "action": "update", **columns,
    }  # fmt: skip
    _insert(connection, "rl_orderbook_deltas", row)


def _insert(connection: psycopg.Connection, table: str, row: Mapping[str, Any]) -> None:
    names = ", ".join(row)
    places = ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)


def _mirror(ladder: Mapping[int, int]) -> dict[int, int]:
    return {100 - cents: size for cents, size in ladder.items()}


def _low(ladder: Mapping[int, int]) -> dict[int, int]:
    return {cents: size for cents, size in ladder.items() if cents <= 50}


def _high(ladder: Mapping[int, int]) -> dict[int, int]:
    return {cents: size for cents, size in ladder.items() if cents > 50}
