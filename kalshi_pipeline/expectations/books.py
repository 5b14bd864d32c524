"""What is expected of a session's books: of each market's rows, and of the session as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kalshi_pipeline.books.build import Market, read_markets
from kalshi_pipeline.books.schemas import BOOK_SCHEMA, LADDER_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.books.traded import DEPLETION_SCHEMA
from kalshi_pipeline.books.traded_size import TRADED_SCHEMA
from kalshi_pipeline.config import BP_PER_DOLLAR, BookConfig
from kalshi_pipeline.expectations.sql import Source, query
from kalshi_pipeline.expectations.suites import Place, Profile, between, equal, none, one_row
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.storage.publish import Generation

MAX_LOSS_RATE = 0.01  # reliability rule D1: above it the session does not go on
# The predecessor ran two collectors into one session, and kept sessions of days with no data.
MAX_DUPLICATE_RATE = 0.01
MAX_IDLE_SHARE = 0.9  # of its time without any message for a minute or more

OF_A_MARKET = (
    between("runs", 1, 1, "the rows of a market lie together"),
    none("out_of_order", "inside a segment order is (connection, subscription, seq) (D4)"),
    none("clock_backward", "inside a segment market time never runs backward (D13)"),
    none("off_tick", "every price is on the market's own tick (D7, D8)"),
    none("negative_size", "no size, depth or number of levels is negative (D9)"),
    none("unexplained_change", "total size changes by exactly what each message says (D9)"),
    none("impossible_touch", "touch, depth and levels describe one book (D15)"),
    none("crossed_too_long", "no book stays crossed beyond the tolerance (D12)"),
)
OF_THE_SESSION = (
    equal("rows_in", "accounted", "rows in = applied + quarantined + before a snapshot (P1)"),
    equal("rows_in", "raw_rows", "rows in are the raw messages' deltas, snapshots and rejects"),
    equal("applied", "applied_rows", "the book table has a row an applied message"),
    equal("quarantined", "quarantine_rows", "the quarantine has a row a refused message"),
    none("unknown_reasons", "every reason is one of the vocabulary's"),
    equal("segment_rows", "segment_messages", "segments span the rows that name them"),
    none("segment_overlaps", "segments follow each other and none is empty"),
    none("ladder_faults", "kept ladders hold sizes at prices inside the dollar"),
    none("depletion_faults", "what left the touch was traded or cancelled, no less than nothing"),
    none("traded_faults", "every market has one traded size, from a source that is named"),
    between("loss_rate", 0, MAX_LOSS_RATE, "at most 1 % of the messages are lost (D1)"),
    none("lost_messages", "no sequence number is missing (D1)", warns=True),
    none("after_gap", "no message falls between a gap and the next snapshot (D1)", warns=True),
    none("negative_size", "no change takes more from a level than is there (D9)", warns=True),
    none("conflict", "no sequence number comes with two contents (D3)", warns=True),
    none("ended_crossed", "no segment ends because its book stayed crossed (D12)", warns=True),
    between("duplicate_rate", 0, MAX_DUPLICATE_RATE, "one collector wrote it (D2)", warns=True),
    between("idle_share", 0, MAX_IDLE_SHARE, "most of its time is not silence", warns=True),
    none("clock_back", "the receive clock never goes back by over a second (D13)", warns=True),
    none("drifted_levels", "snapshots agree with the replayed book (D14)", warns=True),
)

# rows of the whole table; trades do not change a book and carry another counter
_STATES = """
WITH rows AS (
    SELECT *, row_number() OVER () - 1 AS "row",
        lag(market) OVER () IS NOT DISTINCT FROM market
            AND lag(segment) OVER () = segment AND segment >= 0 AND kind <> $close AS goes_on,
        lag(time_ms) OVER () AS time_before,
        lag(bid_total_centi) OVER () AS bid_before,
        lag(ask_total_centi) OVER () AS ask_before,
        lag(market) OVER () IS DISTINCT FROM market AS begins
    FROM books
),
judged AS (
    SELECT market, segment, kind, begins, "row",
        goes_on AND time_ms < time_before AS back,
        least(bid_size_centi, ask_size_centi, bid_near_centi, ask_near_centi, bid_total_centi,
              ask_total_centi, bid_levels, ask_levels, buy_cost_micro, sell_value_micro) < 0
            AS negative,
        goes_on AND kind IN ($delta, $trade) AND (
            bid_total_centi - bid_before
                <> CASE WHEN kind = $delta AND side = 0 THEN size_centi ELSE 0 END
            OR ask_total_centi - ask_before
                <> CASE WHEN kind = $delta AND side = 1 THEN size_centi ELSE 0 END) AS unexplained,
        (bid_bp > 0) <> (bid_size_centi > 0) OR (bid_bp > 0) <> (bid_levels > 0)
            OR (ask_bp < $dollar) <> (ask_size_centi > 0) OR (ask_bp < $dollar) <> (ask_levels > 0)
            OR bid_size_centi > bid_near_centi OR bid_near_centi > bid_total_centi
            OR ask_size_centi > ask_near_centi OR ask_near_centi > ask_total_centi
            OR (bid_bp > 0 AND bid_second_bp >= bid_bp)
            OR (ask_bp < $dollar AND ask_second_bp <= ask_bp) AS impossible
    FROM rows
)
SELECT
    market,
    count(*) FILTER (begins) AS runs,
    count(*) AS rows,
    count(*) FILTER (kind <> $trade) AS applied,
    count(*) FILTER (segment >= 0 AND kind <> $close) AS segment_rows,
    count(*) FILTER (back) AS clock_backward, min("row") FILTER (back) AS clock_backward_row,
    count(*) FILTER (negative) AS negative_size, min("row") FILTER (negative) AS negative_size_row,
    count(*) FILTER (unexplained) AS unexplained_change,
    min("row") FILTER (unexplained) AS unexplained_change_row,
    count(*) FILTER (impossible) AS impossible_touch,
    min("row") FILTER (impossible) AS impossible_touch_row
FROM judged GROUP BY ALL
"""
_ORDER = """
WITH books AS (
    SELECT * FROM (SELECT *, row_number() OVER () - 1 AS "row" FROM books)
    WHERE kind NOT IN ($trade, $close) AND segment >= 0
),
rows AS (
    SELECT *,
        lag(market) OVER () IS NOT DISTINCT FROM market
            AND lag(segment) OVER () IS NOT DISTINCT FROM segment AS goes_on,
        lag(epoch) OVER () AS epoch_before,
        lag(sid) OVER () AS sid_before,
        lag(seq) OVER () AS seq_before,
        bid_bp > ask_bp AS crossed
    FROM books
),
spells AS (
    SELECT *, count(CASE WHEN NOT crossed OR NOT goes_on THEN 1 END)
        OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS spell
    FROM rows
),
crossings AS (
    SELECT market, spell, count(*) FILTER (crossed) AS states, min("row") AS first_row,
        max(time_ms) - min(time_ms) FILTER (crossed) AS lasted_ms
    FROM spells WHERE crossed GROUP BY ALL
)
SELECT market, sum(out_of_order)::BIGINT AS out_of_order,
    min(out_of_order_row) AS out_of_order_row,
    sum(crossed_too_long)::BIGINT AS crossed_too_long,
    min(crossed_too_long_row) AS crossed_too_long_row
FROM (
    SELECT market, 0 AS out_of_order, NULL AS out_of_order_row,
        count(*) AS crossed_too_long, min(first_row) AS crossed_too_long_row
    FROM crossings WHERE states > $messages AND lasted_ms > $milliseconds GROUP BY ALL
    UNION ALL
    SELECT market, count(*), min("row"), 0, NULL
    FROM rows WHERE goes_on AND (epoch <> epoch_before OR sid <> sid_before OR seq <= seq_before)
    GROUP BY ALL
) GROUP BY ALL
"""
_PRICES = """
SELECT market, yes_bp, count(*) AS n, min("row") AS "row" FROM (
    SELECT market, "row", unnest([
        CASE WHEN kind <> $delta THEN NULL WHEN side = 0 THEN price_bp ELSE $dollar - price_bp END,
        nullif(bid_bp, 0), nullif(ask_bp, $dollar)
    ]) AS yes_bp FROM (SELECT *, row_number() OVER () - 1 AS "row" FROM books)
) WHERE yes_bp IS NOT NULL GROUP BY ALL
"""
_SEGMENTS = """
WITH rows AS (SELECT *, lag(end_row) OVER () AS end_before FROM segments)
SELECT coalesce(sum(messages), 0)::BIGINT AS segment_messages,
    count(*) FILTER (first_row < end_before OR end_row <= first_row
                     OR messages <> end_row - first_row OR end_ms < start_ms) AS segment_overlaps,
    count(*) FILTER (ended_by = 'crossed') AS ended_crossed
FROM rows
"""
_LADDERS = """
SELECT count(*) FILTER (
    size_centi < 1 OR price_bp < 1 OR price_bp >= $dollar OR side > 1 OR "row" < 0
) AS ladder_faults FROM ladders
"""
_DEPLETION = """
SELECT count(*) FILTER (
    traded_centi < 0 OR cancelled_centi < 0 OR traded_centi + cancelled_centi < 1
    OR confidence > 100 OR "row" < 0
) AS depletion_faults FROM depletion
"""
_TRADED = """
SELECT count(*) - count(DISTINCT market)
    + count(*) FILTER (traded_centi < 0 OR source NOT IN ('trades', 'ticker', 'none'))
    AS traded_faults FROM traded
"""
_STATE_COLUMNS = (
    "market", "segment", "time_ms", "kind", "side", "size_centi", "bid_bp", "ask_bp",
    "bid_size_centi", "ask_size_centi", "bid_near_centi", "ask_near_centi", "bid_total_centi",
    "ask_total_centi", "bid_levels", "ask_levels", "bid_second_bp", "ask_second_bp",
    "buy_cost_micro", "sell_value_micro",
)  # fmt: skip
_ORDER_COLUMNS = (
    "market", "segment", "epoch", "sid", "seq", "time_ms", "kind", "bid_bp", "ask_bp",
)  # fmt: skip
_PRICE_COLUMNS = ("market", "kind", "side", "price_bp", "bid_bp", "ask_bp")
_KINDS = {
    "snapshot": int(RowKind.SNAPSHOT),
    "delta": int(RowKind.DELTA),
    "trade": int(RowKind.TRADE),
    "close": int(RowKind.CLOSE),
}

Row = dict[str, Any]


def profile(books: Generation) -> list[Profile]:
    """The figures of one session's books: a row a market, and one row of them all."""
    table, folder = books.path("books.parquet"), books.verified()
    states = _by_market(_counted(_STATES, table, _STATE_COLUMNS, dollar=BP_PER_DOLLAR))
    order = _by_market(
        _counted(
            _ORDER,
            table,
            _ORDER_COLUMNS,
            messages=BookConfig.crossed_tolerance_messages,
            milliseconds=BookConfig.crossed_tolerance_ms,
        )
    )
    prices = _counted(_PRICES, table, _PRICE_COLUMNS, dollar=BP_PER_DOLLAR)
    off_tick = _off_tick(prices, {market.ticker: market for market in read_markets(folder)})
    flawless = {"out_of_order": 0, "crossed_too_long": 0, "off_tick": 0}
    markets = [
        {**row, **flawless, **order.get(ticker, {}), **off_tick.get(ticker, {})}
        for ticker, row in sorted(states.items())
    ]
    counted = [expectation.column for expectation in OF_A_MARKET]
    by_market = {name: [market[name] for market in markets] for name in ("market", *counted)}
    rows = {name: [market.get(f"{name}_row") for market in markets] for name in counted}
    places = {
        name: [None if row is None else Place(row) for row in of] for name, of in rows.items()
    }
    return [
        Profile("session", one_row(**_session(books, markets)), OF_THE_SESSION),
        Profile("market", by_market, OF_A_MARKET, places),
    ]


def _counted(sql: str, table: Path, columns: tuple[str, ...], **parameters: int) -> list[Row]:
    used = {name: code for name, code in _KINDS.items() if f"${name}" in sql}
    found = query(sql, {"books": Source(table, BOOK_SCHEMA, columns)}, **used, **parameters)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _by_market(rows: list[Row]) -> dict[str, Row]:
    return {row["market"]: row for row in rows}


def _off_tick(prices: list[Row], markets: Mapping[str, Market]) -> dict[str, Row]:
    # by market: rows with a price its grid does not have; all of them where it has no grid
    wrong: dict[str, Row] = {}
    for row in prices:
        market, price_bp = markets.get(row["market"]), row["yes_bp"]
        inside = 0 < price_bp < BP_PER_DOLLAR
        if market is None or not inside or not market.grid.valid[price_bp]:
            known = wrong.setdefault(row["market"], {"off_tick": 0, "off_tick_row": row["row"]})
            known["off_tick"] += row["n"]
            known["off_tick_row"] = min(known["off_tick_row"], row["row"])
    return wrong


def _session(books: Generation, markets: list[Row]) -> Row:
    said, folder = books.summary, books.whole()
    quarantine = Source(folder / "quarantine.parquet", QUARANTINE_SCHEMA, ("reason",))
    reasons = query(
        "SELECT reason, count(*) AS n FROM quarantine GROUP BY ALL", {"quarantine": quarantine}
    )
    put_aside = dict(zip(reasons["reason"], reasons["n"], strict=True))
    segments = Source(
        folder / "segments.parquet",
        SEGMENT_SCHEMA,
        ("first_row", "end_row", "start_ms", "end_ms", "messages", "ended_by"),
    )
    ladders = Source(folder / "ladders.parquet", LADDER_SCHEMA, LADDER_SCHEMA.names)
    depletion = Source(
        folder / "depletion.parquet",
        DEPLETION_SCHEMA,
        ("row", "traded_centi", "cancelled_centi", "confidence"),
    )
    traded = Source(folder / "traded.parquet", TRADED_SCHEMA, ("market", "source", "traded_centi"))
    refused, lost = sum(said["quarantined"].values()), said["lost_messages"]
    after_gap = put_aside.get(label(Reason.AFTER_GAP), 0)
    missing, expected = lost + after_gap, said["rows_in"] + lost
    return {
        "session": said["session_id"],
        "rows_in": said["rows_in"],
        "accounted": said["applied"] + refused + said["before_snapshot"],
        "raw_rows": said["raw_rows"],
        "applied": said["applied"],
        "applied_rows": sum(market["applied"] for market in markets),
        "quarantined": refused,
        "quarantine_rows": sum(put_aside.values()),
        "unknown_reasons": len(set(put_aside) - {label(reason) for reason in Reason}),
        "loss_rate": missing / expected if expected else 0.0,
        "lost_messages": lost,
        "after_gap": after_gap,
        "negative_size": put_aside.get(label(Reason.NEGATIVE_SIZE), 0),
        "conflict": put_aside.get(label(Reason.CONFLICT), 0),
        "duplicate_rate": put_aside.get(label(Reason.DUPLICATE), 0) / max(1, said["rows_in"]),
        "idle_share": said["idle_s"] / said["duration_s"] if said["duration_s"] else 0.0,
        "clock_back": said["clock_back"],
        "drifted_levels": said["drifted_levels"],
        "segment_rows": sum(market["segment_rows"] for market in markets),
        **_first(query(_SEGMENTS, {"segments": segments})),
        **_first(query(_LADDERS, {"ladders": ladders}, dollar=BP_PER_DOLLAR)),
        **_first(query(_DEPLETION, {"depletion": depletion})),
        **_first(query(_TRADED, {"traded": traded})),
    }


def _first(columns: dict[str, list[Any]]) -> Row:
    return {name: values[0] for name, values in columns.items()}
