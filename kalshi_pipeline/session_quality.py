"""How good a session is, measured: counts, durations, gaps, crossed time, idle periods, a score.

The score is the product of four shares, so that any one of them can spoil it:

    applied rows / rows in
    * sequence numbers seen / (seen + lost)
    * 1 - crossed time / time in segments
    * 1 / (1 + levels that disagreed at re-snapshots / levels in snapshots)

It says how far the books can be trusted, not how interesting the session is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.market.integrity import Reason
from kalshi_pipeline.market.replay_tables import BookRows, Counters, FrameKind, RowKind
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.replay_order import SessionFrames

QUALITY_VERSION = "1"
IDLE_MS = 600_000  # nothing received for longer than this is an idle period


def session_quality(
    session: SessionFrames,
    rows: BookRows,
    table: pa.Table,
    segments: pa.Table,
    quarantine: pa.Table,
    counters: NDArray[np.int64],
    info: SessionInfo,
    declared_markets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The measured figures of one session, JSON values only."""
    frames = session.frames
    quarantined = dict(sorted(Counter(quarantine["reason"].to_pylist()).items()))
    is_raw_row = (frames.kind == FrameKind.SNAPSHOT) | (frames.kind == FrameKind.DELTA)
    before = int(np.count_nonzero(rows.reason == Reason.BEFORE_SNAPSHOT))
    applied = int(
        np.count_nonzero((rows.reason == Reason.APPLIED) & (rows.row_kind != RowKind.TRADE))
    )
    received = np.sort(frames.time_ms)
    idle = np.diff(received)
    idle = idle[idle > IDLE_MS]
    trusted_ms = int((segments["end_ms"].to_numpy() - segments["start_ms"].to_numpy()).sum())
    figures = {
        "session_id": info.session,
        "title": info.title,
        "generated": info.generated,
        "sequence": info.sequence,
        "deltas": int(np.count_nonzero(frames.kind == FrameKind.DELTA)),
        "snapshots": int(np.count_nonzero(frames.kind == FrameKind.SNAPSHOT)),
        "trades": int(np.count_nonzero(frames.kind == FrameKind.TRADE)),
        # raw rows the replay saw, and those decoding had put aside before
        "rows_in": int(np.count_nonzero(is_raw_row)) + _rejected_before(quarantine),
        "applied": applied,
        "quarantined": quarantined,
        "before_snapshot": before,
        "epochs": session.epochs,
        "segments": segments.num_rows,
        "segments_ended_by": dict(sorted(Counter(segments["ended_by"].to_pylist()).items())),
        "gaps": session.gaps,
        "lost_messages": session.lost,
        "negative_sizes": quarantined.get("negative_size", 0),
        "crossed_states": int(counters[Counters.CROSSED_STATES]),
        "crossed_ms": int(counters[Counters.CROSSED_MS]),
        "drifted_levels": int(counters[Counters.DRIFTED_LEVELS]),
        "clock_back": int(counters[Counters.CLOCK_BACK]),
        "markets_subscribed": len(info.tickers),
        "markets_declared": len(declared_markets),
        "markets": len(session.tickers),
        "markets_with_updates": _markets_with_updates(table),
        "started_ms": int(received[0]) if len(received) else None,
        "ended_ms": int(received[-1]) if len(received) else None,
        "duration_s": round(float(received[-1] - received[0]) / 1000, 3) if len(received) else 0.0,
        "idle_periods": len(idle),
        "idle_s": round(float(idle.sum()) / 1000, 3),
        "trusted_s": round(trusted_ms / 1000, 3),
    }
    figures["quality_score"] = _score(figures, len(frames.level_side), trusted_ms)
    return figures


def declared_true(
    declared: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, float | None]:
    """How true the counters are that a session declares of itself: the smaller over the larger.

    Collectors that write into one counter over several connections declare far more than a session
    holds (see the plan's sessions 70 and 6).

    Args:
        declared: what the session declares; its `declared_counters` may hold snapshots, deltas and
            messages.
        figures: what has been measured.
    """
    measured = {
        "snapshots": figures["snapshots"],
        "deltas": figures["deltas"],
        "messages": figures["snapshots"] + figures["deltas"],
    }
    counters = declared.get("declared_counters") or {}
    shares: dict[str, float | None] = {}
    for name in measured:
        said = counters.get(name)
        if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
            larger = max(said, measured[name])
            shares[name] = round(min(said, measured[name]) / larger, 4) if larger else 1.0
        else:
            shares[name] = None
    return shares


def _rejected_before(quarantine: pa.Table) -> int:
    decoding = {reason.name.lower() for reason in Reason if 10 <= reason < 30}
    return sum(reason in decoding for reason in quarantine["reason"].to_pylist())


def _markets_with_updates(table: pa.Table) -> int:
    deltas = table["kind"].to_numpy() == RowKind.DELTA
    codes = table["market"].combine_chunks().indices.to_numpy()
    return len(np.unique(codes[deltas]))


def _score(figures: Mapping[str, Any], snapshot_levels: int, trusted_ms: int) -> float:
    rows_in, lost = figures["rows_in"], figures["lost_messages"]
    if not rows_in:
        return 0.0
    applied = figures["applied"] / rows_in
    seen = rows_in / (rows_in + lost)
    uncrossed = 1 - min(1.0, figures["crossed_ms"] / trusted_ms) if trusted_ms else 1.0
    steady = 1 / (1 + figures["drifted_levels"] / max(1, snapshot_levels))
    return float(round(applied * seen * uncrossed * steady, 4))
