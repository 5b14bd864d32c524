"""What is expected of a session's message table."""

from __future__ import annotations

import json
from typing import Any

from kalshi_pipeline.config import BP_PER_DOLLAR, MAX_SIZE_CENTI
from kalshi_pipeline.expectations.sql import Source, query
from kalshi_pipeline.expectations.suites import Place, Profile, between, equal, none, one_row
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from kalshi_pipeline.storage.publish import Generation

MAX_UNREADABLE_RATE = 0.01

EXPECTATIONS = (
    equal("frames", "accounted", "every frame is in the message table or in quarantine (P1)"),
    equal("rejected", "quarantined", "the quarantine has a row a rejected frame"),
    equal("deltas", "delta_rows", "as many deltas as were counted while decoding"),
    equal("snapshots", "snapshot_rows", "as many snapshots as were counted while decoding"),
    equal("trades", "trade_rows", "as many trades as were counted while decoding"),
    none("out_of_receive_order", "rows keep the order of receipt, a snapshot before its levels"),
    none("incomplete", "no row lacks its frame, connection, receive time, kind or market"),
    none("price_out_of_range", "prices of levels, deltas and trades lie inside the dollar (D7)"),
    none("size_invalid", "levels and trades have a size, none above 10^9 contracts (D10)"),
    none("side_invalid", "every level, delta and trade is of the YES or the NO side (D16)"),
    between(
        "unreadable_rate", 0, MAX_UNREADABLE_RATE, "at most 1 % of the frames are unreadable (D20)"
    ),
    none("rejected", "every frame can be read", warns=True),
)
OF_A_COUNTER = (
    equal("declared", "measured", "the collector counted what there is (D25)", warns=True),
)

_COUNTS = """
WITH rows AS (
    SELECT *, row_number() OVER () - 1 AS "row", lag(frame) OVER () AS before FROM messages
),
judged AS (
    SELECT kind, market, "row",
        frame < before OR (frame = before) <> (kind = $level) AS disordered,
        frame IS NULL OR epoch IS NULL OR recv_ms IS NULL OR kind IS NULL
            OR (market IS NULL AND kind IN ($snapshot, $level, $delta, $trade)) AS lacking,
        kind IN ($level, $delta, $trade)
            AND (price_bp IS NULL OR price_bp <= 0 OR price_bp >= $dollar) AS priced_wrong,
        kind IN ($level, $delta, $trade) AND (size_centi IS NULL OR abs(size_centi) > $largest)
            OR kind IN ($level, $trade) AND size_centi < 1 AS sized_wrong,
        kind IN ($level, $delta, $trade) AND (side IS NULL OR side NOT IN (0, 1)) AS sided_wrong
    FROM rows
)
SELECT
    count(*) FILTER (kind <> $level) AS message_frames,
    count(*) FILTER (kind = $delta) AS delta_rows,
    count(*) FILTER (kind = $snapshot) AS snapshot_rows,
    count(*) FILTER (kind = $trade) AS trade_rows,
    count(*) FILTER (disordered) AS out_of_receive_order,
    count(*) FILTER (lacking) AS incomplete,
    count(*) FILTER (priced_wrong) AS price_out_of_range,
    count(*) FILTER (sized_wrong) AS size_invalid,
    count(*) FILTER (sided_wrong) AS side_invalid,
    min("row") FILTER (disordered) AS out_of_receive_order_row,
    min("row") FILTER (lacking) AS incomplete_row,
    min("row") FILTER (priced_wrong) AS price_out_of_range_row,
    min("row") FILTER (sized_wrong) AS size_invalid_row,
    min("row") FILTER (sided_wrong) AS side_invalid_row
FROM judged
"""
_TICKERS = """
SELECT "row", market FROM (SELECT market, row_number() OVER () - 1 AS "row" FROM messages)
WHERE "row" IN (SELECT unnest($rows))
"""
_IN_BOTH = """
SELECT count(DISTINCT frame) AS frames FROM messages SEMI JOIN quarantine USING (frame)
"""


def profile(raw: Generation) -> list[Profile]:
    """The figures of one session's raw messages."""
    messages = Source(
        raw.path("messages.parquet"),
        MESSAGE_SCHEMA,
        ("frame", "epoch", "recv_ms", "market", "kind", "side", "price_bp", "size_centi"),
    )
    quarantine = Source(raw.path("quarantine.parquet"), QUARANTINE_SCHEMA, ("frame",))
    counts = query(
        _COUNTS,
        {"messages": messages},
        snapshot=int(MessageKind.SNAPSHOT),
        level=int(MessageKind.LEVEL),
        delta=int(MessageKind.DELTA),
        trade=int(MessageKind.TRADE),
        dollar=BP_PER_DOLLAR,
        largest=MAX_SIZE_CENTI,
    )
    (put_aside,) = query("SELECT count(*) AS n FROM quarantine", {"quarantine": quarantine})["n"]
    (in_both,) = (
        query(
            _IN_BOTH,
            {"messages": messages._replace(columns=("frame",)), "quarantine": quarantine},
        )["frames"]
        if put_aside
        else (0,)
    )
    (message_frames,) = counts.pop("message_frames")
    places = _places(messages, counts)
    said = raw.summary
    figures = one_row(
        frames=said["frames"],
        accounted=message_frames + put_aside - in_both,
        rejected=said["rejected"],
        quarantined=put_aside,
        unreadable_rate=said["rejected"] / said["frames"] if said["frames"] else 0.0,
        **{name: said[name] for name in ("deltas", "snapshots", "trades")},
    )
    return [
        Profile("session", {**figures, **counts}, EXPECTATIONS, places),
        Profile("counter", _counters(raw), OF_A_COUNTER),
    ]


def _places(messages: Source, counts: dict[str, list[Any]]) -> dict[str, tuple[Place, ...]]:
    # takes the first rows at fault out of the counts; a second pass, where there are any, tells
    # their markets
    first = {
        name.removesuffix("_row"): counts.pop(name)[0]
        for name in list(counts)
        if name.endswith("_row")
    }
    rows = [row for row in first.values() if row is not None]
    if not rows:
        return {}
    found = query(_TICKERS, {"messages": messages._replace(columns=("market",))}, rows=rows)
    market = dict(zip(found["row"], found["market"], strict=True))
    return {name: (Place(row, market[row]),) for name, row in first.items() if row is not None}


def _counters(raw: Generation) -> dict[str, list[Any]]:
    # what the collector counted, beside what there is; the measured values are the ones used
    header = json.loads(raw.path("session.json").read_bytes())
    declared, said = header.get("declared_counters"), raw.summary
    measured = {
        "messages": said["deltas"] + said["snapshots"],
        "snapshots": said["snapshots"],
        "deltas": said["deltas"],
    }
    known = {
        name: count
        for name, count in (declared.items() if isinstance(declared, dict) else ())
        if name in measured and isinstance(count, int)
    }
    return {
        "counter": list(known),
        "declared": list(known.values()),
        "measured": [measured[name] for name in known],
    }
