"""What the replay leaves in its arrays -> the tables of a session's books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.market.integrity import Reason, SegmentEnd, label
from kalshi_pipeline.market.orderbook import NOT_A_BOOK_ROW
from kalshi_pipeline.market.replay_tables import (
    BookRows,
    Counters,
    Frames,
    Ladders,
    RowKind,
    Segments,
)
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.replay_order import SessionFrames


def applied_order(frames: Frames, rows: BookRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames that become rows, market by market; and each frame's row (-1 = none)."""
    applied = np.flatnonzero(rows.reason == Reason.APPLIED)
    applied = applied[np.argsort(frames.market[applied], kind="stable")]
    position = np.full(len(frames.kind), -1, dtype=np.int64)
    position[applied] = np.arange(len(applied))
    return applied, position


def row_table(session: SessionFrames, rows: BookRows, applied: NDArray[np.int64]) -> pa.Table:
    """The book table: the message of each applied frame, its segment, the book after it."""
    frames = session.frames
    market = pa.DictionaryArray.from_arrays(
        pa.array(frames.market[applied]), pa.array(session.tickers, pa.string())
    )
    columns: dict[str, Any] = {
        "market": market,
        "segment": rows.segment[applied],
        "frame": session.frame[applied],
        "epoch": session.epoch[applied],
        "sid": session.sid[applied],
        "seq": pa.array(session.seq[applied], mask=session.seq[applied] < 0),
        "recv_ms": frames.time_ms[applied],
        "time_ms": rows.time_ms[applied],
        "kind": rows.row_kind[applied],
        "side": frames.side[applied],
        "price_bp": frames.price_bp[applied],
        "size_centi": frames.size_centi[applied],
    }
    for name in BookRows._fields[4:]:
        columns[name] = getattr(rows, name)[applied]
    return pa.table(columns)


def segment_table(
    segments: Segments,
    counters: NDArray[np.int64],
    rows: BookRows,
    applied: NDArray[np.int64],
    tickers: Sequence[str],
) -> pa.Table:
    """One row a trusted stretch, with the rows of the book table it spans."""
    # rows of one market are contiguous and its segments do not interleave: runs of equal segment
    count = int(counters[Counters.SEGMENTS])
    ids = rows.segment[applied]
    inside = (ids >= 0) & (rows.row_kind[applied] != RowKind.CLOSE)
    first = np.full(count, len(applied), dtype=np.int64)
    end = np.zeros(count, dtype=np.int64)
    where = np.flatnonzero(inside)
    np.minimum.at(first, ids[where], where)
    np.maximum.at(end, ids[where], where + 1)
    order = np.argsort(first, kind="stable")
    times = rows.time_ms[applied]
    return pa.table(
        {
            "segment": order.astype(np.int32),
            "market": pa.array([tickers[segments.market[i]] for i in order], pa.string()),
            "first_row": first[order],
            "end_row": end[order],
            "start_ms": times[first[order]] if count else np.zeros(0, np.int64),
            "end_ms": times[end[order] - 1] if count else np.zeros(0, np.int64),
            "messages": end[order] - first[order],
            "ended_by": pa.array(
                [label(SegmentEnd(int(segments.end[i]))) for i in order], pa.string()
            ),
        }
    )


def quarantine_table(session: SessionFrames, rows: BookRows) -> pa.Table:
    """Every frame that the replay rejected, with its reason."""
    outside = {Reason.APPLIED, Reason.BEFORE_SNAPSHOT, NOT_A_BOOK_ROW}
    where = np.flatnonzero(~np.isin(rows.reason, list(outside)))
    frames = session.frames
    names = {int(code): label(Reason(int(code))) for code in np.unique(rows.reason[where])}
    return pa.table(
        {
            "market": [session.tickers[frames.market[f]] for f in where],
            "epoch": session.epoch[where],
            "sid": session.sid[where],
            "seq": pa.array(session.seq[where], mask=session.seq[where] < 0),
            "recv_ms": frames.time_ms[where],
            "frame": session.frame[where],
            "file": session.file[where],
            "offset": session.offset[where],
            "reason": [names[int(rows.reason[f])] for f in where],
            "value": [f"{frames.price_bp[f]}:{frames.size_centi[f]}" for f in where],
        },
        schema=QUARANTINE_SCHEMA,
    )


def ladder_table(
    ladders: Ladders, counters: NDArray[np.int64], position: NDArray[np.int64]
) -> pa.Table:
    """Full ladders as (row of the book table, side, price_bp, size_centi)."""
    count = int(counters[Counters.LADDER_LEVELS])
    row = position[ladders.frame[:count]]
    order = np.argsort(row, kind="stable")
    return pa.table(
        {
            "row": row[order],
            "side": ladders.side[:count][order],
            "price_bp": ladders.price_bp[:count][order],
            "size_centi": ladders.size_centi[:count][order],
        }
    )
