"""A session's message table -> rows of the predecessor's tables, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from pyarrow import csv

from kalshi_pipeline.config import CENTI_PER_CONTRACT
from kalshi_pipeline.errors import CannotExport
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.postgres.collector import ACTIONS, Collected, collect
from kalshi_pipeline.recordings.postgres.connection import write
from kalshi_pipeline.recordings.postgres.ddl import TABLES
from kalshi_pipeline.recordings.postgres.ladders import HALF_CENTS
from kalshi_pipeline.recordings.postgres.schema import DELTAS, SESSIONS, SNAPSHOTS, TRADES

BATCH_ROWS = 200_000
_DOLLAR_BP, _CENT_BP = 10_000, 100


@dataclass(frozen=True)
class Exported:
    """What was written of a session.

    Args:
        left_out: changes that a world of whole cents and whole contracts does not have.
    """

    session: int
    snapshots: int
    deltas: int
    trades: int
    markets: int
    left_out: int


def export_session(
    url: str,
    messages: pa.Table,
    info: SessionInfo,
    markets: Sequence[Mapping[str, Any]],
    *,
    session: int | None = None,
    faulty: bool = False,
) -> Exported:
    """Write a session, and the tables where there are none; all of it or nothing.

    Args:
        url: database; its user must be allowed to write.
        messages: the session's message table.
        info: what is declared of it.
        markets: what is known of its markets.
        session: id it is to have there; its own where not given.
        faulty: as the collector before 17 December 2025 wrote.

    Raises:
        CannotExport: the session is made of polls, or its id is taken there.
        SourceUnavailable: the database cannot be written.
    """
    number = info.session if session is None else session
    if info.sequence == "none":
        raise CannotExport(
            "a session of polls has no changes a collector could have stored", session=number
        )
    collected = collect(messages, sequence=info.sequence, faulty=faulty)
    names = messages["market"].unify_dictionaries().combine_chunks()
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    tickers = names.dictionary

    def work(connection: psycopg.Connection) -> Exported:
        connection.execute(TABLES)
        _claim(connection, number)
        _copy(connection, SNAPSHOTS, _snapshot_rows(collected, tickers, number, faulty))
        _copy(connection, DELTAS, _delta_rows(collected, tickers, number))
        trades = _trade_rows(messages, faulty)
        if _has_trades(connection, trades):
            trades = trades.slice(0, 0)
        _copy(connection, TRADES, trades)
        _write_markets(connection, markets)
        _write_session(connection, number, info, collected, tickers, faulty)
        return Exported(
            number,
            len(collected.ladders),
            len(collected.deltas["seq"]),
            trades.num_rows,
            len(markets),
            collected.left_out,
        )

    return write(url, work)


def _claim(connection: psycopg.Connection, number: int) -> None:
    taken = connection.execute(
        sql.SQL("SELECT 1 FROM {} WHERE session_id = %s").format(sql.Identifier(SESSIONS)),
        [number],
    ).fetchone()
    if taken:
        raise CannotExport(
            "the database has a session of this id: export it under another one (--as)",
            session=number,
        )


def _copy(connection: psycopg.Connection, table: str, rows: pa.Table) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), columns
    )
    options = csv.WriteOptions(include_header=False)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            buffer = BytesIO()
            csv.write_csv(pa.Table.from_batches([batch]), buffer, options)
            copy.write(buffer.getbuffer())


def _common(rows: dict[str, NDArray[Any]], tickers: pa.Array, number: int) -> dict[str, Any]:
    return {
        "session_id": np.full(len(rows["seq"]), number),
        "market_ticker": tickers.take(pa.array(rows["market"])),
        "timestamp_ms": rows["recv_ms"],
        "sequence_number": rows["seq"],
    }


def _delta_rows(collected: Collected, tickers: pa.Array, number: int) -> pa.Table:
    rows = collected.deltas
    return pa.table(
        {
            **_common(rows, tickers, number),
            "side": pa.array(["yes", "no"]).take(pa.array(rows["side"])),
            "action": pa.array(ACTIONS).take(pa.array(rows["action"])),
            "price": rows["cents"],
            "old_size": rows["old"],
            "new_size": rows["new"],
        }
    )


def _snapshot_rows(collected: Collected, tickers: pa.Array, number: int, faulty: bool) -> pa.Table:
    ladders = [_ladders(yes, no, faulty) for yes, no in collected.ladders]
    names = ("yes_bids", "yes_asks", "no_bids", "no_asks")
    texts = {
        name: pa.array([json.dumps(four[place]) for four in ladders], pa.string())
        for place, name in enumerate(names)
    }
    return pa.table({**_common(collected.snapshots, tickers, number), **texts})


def _ladders(
    yes: NDArray[np.int64], no: NDArray[np.int64], faulty: bool
) -> tuple[dict[str, int], ...]:
    # yes_bids, yes_asks, no_bids, no_asks: bids above 50 cents among the asks, or mirrored asks
    bids = [{int(c): int(side[c]) for c in np.flatnonzero(side)} for side in (yes, no)]
    if faulty:
        four = [
            {cents: size for cents, size in side.items() if (cents > HALF_CENTS) == above}
            for side in bids
            for above in (False, True)
        ]
    else:
        mirrors = [{100 - cents: size for cents, size in side.items()} for side in bids]
        four = [bids[0], mirrors[1], bids[1], mirrors[0]]
    return tuple({str(cents): size for cents, size in ladder.items()} for ladder in four)


def _trade_rows(messages: pa.Table, faulty: bool) -> pa.Table:
    trades = messages.filter(pa.array(messages["kind"].to_numpy() == MessageKind.TRADE))
    price, size = trades["price_bp"].to_numpy(), trades["size_centi"].to_numpy()
    received = trades["recv_ms"].to_numpy()
    sent = trades["exchange_ms"].fill_null(-1).to_numpy()
    sent = np.where(sent < 0, received, sent)
    # its trades came with the second
    sent = sent // 1000 * 1000 if faulty else sent
    dollars = {
        f"{name}_price_dollars": pa.array([f"{own / _DOLLAR_BP:.4f}" for own in prices])
        for name, prices in (("yes", price), ("no", _DOLLAR_BP - price))
    }
    rows = pa.table(
        {
            "market_ticker": trades["market"].cast(pa.string()),
            "yes_price": price // _CENT_BP,
            "no_price": 100 - price // _CENT_BP,
            **dollars,
            "count": size // CENTI_PER_CONTRACT,
            "taker_side": pa.array(["yes", "no"]).take(trades["side"]),
            "ts": sent,
            "received_at": received,
        }
    )
    return rows.filter(pa.array(size >= CENTI_PER_CONTRACT))


def _has_trades(connection: psycopg.Connection, trades: pa.Table) -> bool:
    # the table is of the whole exchange: what another session brought is not written twice
    if not trades.num_rows:
        return False
    received = trades["received_at"].to_numpy()
    found = connection.execute(
        sql.SQL(
            "SELECT 1 FROM {} WHERE received_at BETWEEN %s AND %s AND market_ticker = ANY(%s) "
            "LIMIT 1"
        ).format(sql.Identifier(TRADES)),
        [int(received.min()), int(received.max()), pc.unique(trades["market_ticker"]).to_pylist()],
    ).fetchone()
    return found is not None


def _write_markets(connection: psycopg.Connection, markets: Sequence[Mapping[str, Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO markets (ticker, title, raw_market_data) VALUES (%s, %s, %s) "
            "ON CONFLICT (ticker) DO NOTHING",
            [
                (market["ticker"], market.get("title"), json.dumps(market))
                for market in markets
                if market.get("ticker")
            ],
        )


def _write_session(
    connection: psycopg.Connection,
    number: int,
    info: SessionInfo,
    collected: Collected,
    tickers: pa.Array,
    faulty: bool,
) -> None:
    times = np.concatenate([collected.deltas["recv_ms"], collected.snapshots["recv_ms"]])
    started = info.started_ms if info.started_ms is not None else int(times.min(initial=0))
    last = int(times.max(initial=started))
    counts = len(collected.ladders), len(collected.deltas["seq"])
    noted = {
        "title": info.title,
        "generated": info.generated,
        "exported_by": "kalshi-pipeline",
        "collector": "faulty" if faulty else "fixed",
    }
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (session_id, market_tickers, started_at, ended_at, status, "
            "connection_metadata, messages_received, snapshots_count, deltas_count, "
            "last_message_at, environment) VALUES (%(number)s, %(tickers)s, "
            "to_timestamp(%(started)s), to_timestamp(%(ended)s), 'closed', %(noted)s, "
            "%(messages)s, %(snapshots)s, %(deltas)s, to_timestamp(%(last)s), %(environment)s)"
        ).format(sql.Identifier(SESSIONS)),
        {
            "number": number,
            "tickers": list(info.tickers) or tickers.to_pylist(),
            "started": started / 1000,
            "ended": max(last, started, info.ended_ms or 0) / 1000,
            "noted": json.dumps(noted),
            "messages": sum(counts),
            "snapshots": counts[0],
            "deltas": counts[1],
            "last": last / 1000,
            "environment": info.declared.get("environment") or "local",
        },
    )
    # sessions a collector adds later get ids above this one
    connection.execute(
        "SELECT setval(pg_get_serial_sequence(%(table)s, 'session_id'), "
        "(SELECT max(session_id) FROM rl_orderbook_sessions))",
        {"table": SESSIONS},
    )
