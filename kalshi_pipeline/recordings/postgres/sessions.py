"""The sessions of a collector's database: what there is, and one of them as a recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
from psycopg import sql

from kalshi_pipeline.config import RecoveryConfig
from kalshi_pipeline.errors import SessionNotFound
from kalshi_pipeline.names import is_ticker, session_id
from kalshi_pipeline.recordings.folder import SessionInfo, is_completed, session_info
from kalshi_pipeline.recordings.ingest import IngestSummary
from kalshi_pipeline.recordings.postgres.connection import Database
from kalshi_pipeline.recordings.postgres.rows import DELTA_PAGE, SNAPSHOT_PAGE, TRADE_PAGE
from kalshi_pipeline.recordings.postgres.schema import (
    DELTAS,
    LIFECYCLE,
    MARKETS,
    SESSIONS,
    SNAPSHOTS,
    TRADES,
    Schema,
    read_schema,
)

POSTGRES_VERSION = "1"
# trades are received around the time of the session; clocks of two writers differ a little
_TRADE_SLACK_MS = 60_000
SNAPSHOT_ROWS = 25  # a page of snapshots is so many times shorter
# what of a market's REST object never changes, or says how it ended
_MARKET_FACTS = (
    "ticker", "event_ticker", "title", "yes_sub_title", "market_type", "open_time", "close_time",
    "can_close_early", "price_level_structure", "price_ranges", "result",
    "settlement_value_dollars",
)  # fmt: skip
_COUNTERS = {
    "messages": "messages_received",
    "snapshots": "snapshots_count",
    "deltas": "deltas_count",
}


@dataclass(frozen=True)
class Extent:
    """How many rows of a table belong to a session, and between which ids."""

    rows: int
    first_id: int
    last_id: int
    last_ms: int


class DatabaseSessions:
    """The sessions of one database.

    Args:
        database: where they are.
        recovery: how mislaid sizes are recovered.
        trust: as `config.BookConfig.trust`: a row whose size before the change is not ours (rows
            before it are missing) is rejected, which ends its segment (strict), or sets the level
            to what it says (continuous).
    """

    def __init__(
        self,
        database: Database,
        recovery: RecoveryConfig | None = None,
        trust: Literal["strict", "continuous"] = "strict",
    ) -> None:
        self.database = database
        self.recovery = recovery or RecoveryConfig()
        self.trust = trust

    @cached_property
    def schema(self) -> Schema:
        """What the database has.

        Raises:
            SchemaMismatch: a table or column that is needed is missing or of another type.
            SourceUnavailable: the database cannot be read.
        """
        return read_schema(self.database)

    def infos(self) -> list[SessionInfo]:
        """What is declared of every session, by id; active ones say so in `declared["status"]`."""
        return [_info(*row) for row in self._select(None)]

    def completed(self) -> list[int]:
        """Ids of the sessions whose collector is done with them."""
        return [info.session for info in self.infos() if is_completed(info)]

    def find(self, session: int) -> DatabaseSession | None:
        """One session; None where the database has no such session."""
        found = self._select(session_id(session))
        return DatabaseSession(self, _info(*found[0])) if found else None

    def open(self, session: int) -> DatabaseSession:
        """One session.

        Raises:
            SessionNotFound: the database has no such session.
        """
        found = self.find(session)
        if found is None:
            raise SessionNotFound("the database has no such session", session=session)
        return found

    def _select(self, session: int | None) -> list[tuple[Any, ...]]:
        schema = self.schema
        names = ("status", "environment", *_COUNTERS.values())
        query = sql.SQL(
            "SELECT session_id, market_tickers, {started}, {ended}, {metadata}::text, {columns} "
            "FROM {table} WHERE session_id = coalesce(%(session)s, session_id) "
            "AND session_id BETWEEN 1 AND 999999999 ORDER BY session_id"
        ).format(
            started=schema.moment_ms(SESSIONS, "started_at"),
            ended=schema.moment_ms(SESSIONS, "ended_at"),
            metadata=schema.column(SESSIONS, "connection_metadata"),
            columns=sql.SQL(", ").join(schema.column(SESSIONS, name) for name in names),
            table=sql.Identifier(SESSIONS),
        )
        return self.database.rows(query, {"session": session})


class DatabaseSession:
    """One session of a database, with the doors a recording folder has.

    Args:
        sessions: the database it is in.
        info: what the collector declared; once its rows have been read, what they showed as well.
    """

    def __init__(self, sessions: DatabaseSessions, info: SessionInfo) -> None:
        self.info = info
        self.found: dict[str, Any] = {}  # what reading the rows showed
        self.recovery, self.trust = sessions.recovery, sessions.trust
        self.database, self._schema = sessions.database, sessions.schema

    @cached_property
    def markets(self) -> tuple[Mapping[str, Any], ...]:
        """What the database knows about the session's markets: facts that do not change."""
        if not self._schema.has(MARKETS):
            return ()
        query = sql.SQL(
            "SELECT ticker, {title}, {raw}::text FROM {table} "
            "WHERE ticker = ANY(%(tickers)s) ORDER BY ticker"
        ).format(
            title=self._schema.column(MARKETS, "title"),
            raw=self._schema.column(MARKETS, "raw_market_data"),
            table=sql.Identifier(MARKETS),
        )
        rows = self.database.rows(query, {"tickers": list(self.info.tickers)})
        return tuple(_market(*row) for row in rows)

    @cached_property
    def extents(self) -> dict[str, Extent]:
        """How far each table goes for this session, at the time of asking."""
        extents = {}
        for table in (SNAPSHOTS, DELTAS):
            query = sql.SQL(
                "SELECT count(*), min(id), max(id), max(timestamp_ms), min(timestamp_ms) "
                "FROM {} WHERE session_id = %(session)s"
            ).format(sql.Identifier(table))
            extents[table] = self.database.rows(query, {"session": self.info.session})[0]
        received = [time for row in extents.values() for time in row[3:] if time is not None]
        found = {table: Extent(*(int(n or 0) for n in row[:4])) for table, row in extents.items()}
        if self._schema.has(TRADES) and received:
            found[TRADES] = self._trades(min(received), max(received))
        return found

    def settings(self) -> dict[str, Any]:
        """What the message table depends on beside the rows: part of the stage's recipe."""
        return {
            "reader": POSTGRES_VERSION,
            "policy": self.recovery.policy,
            "trust": self.trust,
        }

    def fingerprint(self) -> str:
        """A hash that changes when rows come, go or are replaced: counts, ids, times, markets."""
        facts = {
            "info": self.info.declared,
            "extents": {name: vars(extent) for name, extent in self.extents.items()},
            "markets": self.markets,
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def ingest(self, folder: Path) -> IngestSummary:
        """Write the session's message table, quarantine and integrity figures into a folder.

        Raises:
            SourceUnavailable: the database broke off for good; the folder is not to be used.
            SourceChanged: rows came or went meanwhile.
        """
        from kalshi_pipeline.recordings.postgres.reader import read_session

        return read_session(self, folder)

    def pages(self, table: str) -> Iterator[pa.Table]:
        """The session's rows of one table by id, a page at a time (keyset pagination)."""
        extent = self.extents.get(table)
        if extent is None or not extent.rows:
            return
        query, schema = self._page_query(table)
        limit = self.database.config.page_rows
        if table == SNAPSHOTS:  # a row of them is some hundred times as long
            limit = max(1, limit // SNAPSHOT_ROWS)
        after = extent.first_id - 1
        while after < extent.last_id:
            keys = {"after": after, "last": extent.last_id, "limit": limit}
            parameters = {"session": self.info.session, "tickers": list(self.info.tickers), **keys}
            page = self.database.columns(query, parameters, schema)
            if page.num_rows:
                yield page
            if page.num_rows < limit:
                return
            after = page["id"][-1].as_py()

    def lifecycle(self) -> list[tuple[int, int | None, str, str]]:
        """(receive time, exchange time, market, payload with its type) of each event."""
        if not self._schema.has(LIFECYCLE):
            return []
        query = sql.SQL(
            "SELECT {received} AS received, {sent}, market_ticker, event_type, payload::text "
            "FROM {table} WHERE market_ticker = ANY(%(tickers)s) ORDER BY received, market_ticker"
        ).format(
            received=self._schema.moment_ms(LIFECYCLE, "received_at"),
            sent=self._schema.moment_ms(LIFECYCLE, "kalshi_ts"),
            table=sql.Identifier(LIFECYCLE),
        )
        rows = self.database.rows(query, {"tickers": list(self.info.tickers)})
        return [
            (received, sent, market, _event(kind, payload))
            for received, sent, market, kind, payload in rows
            if received is not None and market is not None
        ]

    def _page_query(self, table: str) -> tuple[sql.Composed, pa.Schema]:
        if table == TRADES:
            columns = sql.SQL(
                "id, market_ticker, received_at, ts, taker_side, "
                "coalesce(round({}::numeric * 10000)::bigint, yes_price::bigint * 100), {}"
            ).format(self._schema.column(TRADES, "yes_price_dollars"), sql.Identifier("count"))
            own, schema = sql.SQL("market_ticker = ANY(%(tickers)s)"), TRADE_PAGE
        else:
            schema = SNAPSHOT_PAGE if table == SNAPSHOTS else DELTA_PAGE
            text = "{}::text" if table == SNAPSHOTS else "{}"
            columns = sql.SQL(", ").join(
                sql.SQL(text if place > 3 else "{}").format(sql.Identifier(name))
                for place, name in enumerate(schema.names)
            )
            own = sql.SQL("session_id = %(session)s")
        query = sql.SQL(
            "SELECT {columns} FROM {table} WHERE {own} AND id > %(after)s AND id <= %(last)s "
            "ORDER BY id LIMIT %(limit)s"
        ).format(columns=columns, table=sql.Identifier(table), own=own)
        return query, schema

    def _trades(self, first_ms: int, last_ms: int) -> Extent:
        # trades have no session, only times: ids grow with them, so the ends are found by halving
        first = self._first_trade(first_ms - _TRADE_SLACK_MS)
        end = self._first_trade(last_ms + _TRADE_SLACK_MS)
        query = sql.SQL(
            "SELECT count(*), min(id), max(id), max(received_at) FROM {} "
            "WHERE id >= %(first)s AND id < %(end)s AND market_ticker = ANY(%(tickers)s)"
        ).format(sql.Identifier(TRADES))
        parameters = {"first": first, "end": end, "tickers": list(self.info.tickers)}
        return Extent(*(int(n or 0) for n in self.database.rows(query, parameters)[0]))

    def _first_trade(self, since_ms: int) -> int:
        table = sql.Identifier(TRADES)
        ends = sql.SQL("SELECT coalesce(min(id), 0), coalesce(max(id), -1) + 1 FROM {}")
        low, high = self.database.rows(ends.format(table), {})[0]
        probe = sql.SQL(
            "SELECT id, received_at FROM {} WHERE id >= %(id)s ORDER BY id LIMIT 1"
        ).format(table)
        while low < high:
            middle = (low + high) // 2
            found = self.database.rows(probe, {"id": middle})
            if found and (found[0][1] or 0) < since_ms:
                low = found[0][0] + 1
            else:
                high = middle
        return int(low)


def _info(
    session: int,
    tickers: list[str],
    started_ms: int | None,
    ended_ms: int | None,
    metadata: str | None,
    status: str | None,
    environment: str | None,
    *counters: int | None,
) -> SessionInfo:
    noted = _object(metadata)
    header = {
        "session_id": session,
        "title": str(noted.get("title") or f"database session {session}"),
        "kind": "database",
        # the collector subscribed once a connection and stored all of it: a number that is missing
        # is a row that was dropped
        "sequence": "complete",
        "environment": environment,
        "status": status,
        "started_at": _utc(started_ms),
        "ended_at": _utc(ended_ms),
        "use_yes_price": False,
        "market_tickers": list(filter(is_ticker, tickers or ())),
        "generated": noted.get("generated") is True,
        "declared_counters": dict(zip(_COUNTERS, counters, strict=True)),
    }
    return session_info(session, header)


def _market(ticker: str, title: str | None, raw: str | None) -> dict[str, Any]:
    facts = {"title": title, **_object(raw), "ticker": ticker}
    return {name: facts[name] for name in _MARKET_FACTS if facts.get(name) is not None}


def _event(kind: str | None, payload: str | None) -> str:
    return json.dumps({"event_type": kind, **_object(payload)}, sort_keys=True)


def _object(text: str | None) -> dict[str, Any]:
    # JSON as an object; as text inside JSON too
    try:
        value = msgspec.json.decode(text or "null")
        value = msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _utc(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")
