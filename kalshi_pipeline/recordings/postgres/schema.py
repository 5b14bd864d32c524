"""The tables a collector wrote, and what of them has to be there.

Source: `domain.md` sections 2.1 to 2.3 and 2.6 (the schema of the predecessor's database).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from kalshi_pipeline.errors import SchemaMismatch
from kalshi_pipeline.recordings.postgres.connection import Database

SESSIONS, SNAPSHOTS = "rl_orderbook_sessions", "rl_orderbook_snapshots"
DELTAS, TRADES = "rl_orderbook_deltas", "trades"
MARKETS, LIFECYCLE = "markets", "lifecycle_events"

_INTEGER = frozenset({"bigint", "integer", "smallint"})
_TEXT = frozenset({"text", "character varying"})
_JSON = frozenset({"jsonb", "json", "text", "character varying"})
_TIME = frozenset({"timestamp with time zone"})
_MOMENT = _TIME | _INTEGER
_NUMBER = _INTEGER | {"numeric", "double precision", "real"}
_ARRAY = frozenset({"ARRAY"})


@dataclass(frozen=True)
class _Table:
    # columns that are needed, and those that are read where they exist, with their possible types
    needed: Mapping[str, frozenset[str]]
    optional: Mapping[str, frozenset[str]] = field(default_factory=dict)
    required: bool = True


_ROW = {
    "id": _INTEGER,
    "session_id": _INTEGER,
    "market_ticker": _TEXT,
    "timestamp_ms": _INTEGER,
    "sequence_number": _INTEGER,
}
_TABLES: Mapping[str, _Table] = {
    SESSIONS: _Table(
        {"session_id": _INTEGER, "market_tickers": _ARRAY, "started_at": _TIME},
        {
            "ended_at": _TIME,
            "status": _TEXT,
            "connection_metadata": _JSON,
            "messages_received": _INTEGER,
            "snapshots_count": _INTEGER,
            "deltas_count": _INTEGER,
            "environment": _TEXT,
        },
    ),
    SNAPSHOTS: _Table(
        {**_ROW, "yes_bids": _JSON, "yes_asks": _JSON, "no_bids": _JSON, "no_asks": _JSON}
    ),
    DELTAS: _Table(
        {
            **_ROW,
            "side": _TEXT,
            "action": _TEXT,
            "price": _INTEGER,
            "old_size": _INTEGER,
            "new_size": _INTEGER,
        }
    ),
    TRADES: _Table(
        {
            "id": _INTEGER,
            "market_ticker": _TEXT,
            "yes_price": _INTEGER,
            "count": _INTEGER,
            "taker_side": _TEXT,
            "ts": _INTEGER,
            "received_at": _INTEGER,
        },
        {"yes_price_dollars": _NUMBER},
        required=False,
    ),
    MARKETS: _Table({"ticker": _TEXT}, {"title": _TEXT, "raw_market_data": _JSON}, required=False),
    LIFECYCLE: _Table(
        {
            "market_ticker": _TEXT,
            "event_type": _TEXT,
            "payload": _JSON,
            "received_at": _MOMENT,
        },
        {"kalshi_ts": _MOMENT},
        required=False,
    ),
}


@dataclass(frozen=True)
class Schema:
    """What a database has: table -> column -> type; tables that are absent are left out."""

    tables: Mapping[str, Mapping[str, str]]

    def has(self, table: str, column: str | None = None) -> bool:
        """Whether an optional table, or a column of it, is there."""
        columns = self.tables.get(table)
        return columns is not None and (column is None or column in columns)

    def column(self, table: str, name: str) -> sql.Composable:
        """A column, or NULL where this database does not have it."""
        return sql.Identifier(name) if self.has(table, name) else sql.SQL("NULL")

    def moment_ms(self, table: str, name: str) -> sql.Composable:
        """A moment as Unix milliseconds, from a time or from a number of either precision."""
        if not self.has(table, name):
            return sql.SQL("NULL::bigint")
        column = sql.Identifier(name)
        if self.tables[table][name] in _TIME:
            return sql.SQL("round(extract(epoch FROM {}) * 1000)::bigint").format(column)
        # a number of seconds stays below this until the year 5138
        seconds = "CASE WHEN {0} < 100000000000 THEN {0}::bigint * 1000 ELSE {0} END"
        return sql.SQL(seconds).format(column)


def read_schema(database: Database) -> Schema:
    """What of the tables is there, each of its columns checked.

    Raises:
        SchemaMismatch: a table or column that is needed is missing, or has a type that cannot be
            read; names both. A table the user may not read counts as missing.
        SourceUnavailable: the database cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    query = sql.SQL(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = ANY(current_schemas(false)) AND table_name = ANY(%(tables)s)"
    )
    for table, column, kind in database.rows(query, {"tables": list(_TABLES)}):
        found.setdefault(table, {})[column] = kind
    for name, table in _TABLES.items():
        if name in found:
            _check(name, table, found[name])
        elif table.required:
            raise SchemaMismatch(
                "the database lacks a table, or its user may not read it",
                rule="table",
                value=name,
            )
    return Schema(found)


def _check(name: str, table: _Table, columns: Mapping[str, str]) -> None:
    for column, kinds in {**table.needed, **table.optional}.items():
        kind = columns.get(column)
        if kind is None and column in table.needed:
            raise SchemaMismatch(
                f"the table {name} lacks the column {column}",
                rule="column",
                value=f"{name}.{column}",
            )
        if kind is not None and kind not in kinds:
            raise SchemaMismatch(
                f"the column {column} of {name} should be one of: {', '.join(sorted(kinds))}",
                rule="type",
                value=f"{name}.{column} is {kind}",
            )
