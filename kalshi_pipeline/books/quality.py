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

import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.market.integrity import Reason
from kalshi_pipeline.market.replay_tables import Counters
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.order_kernel import IDLE_BUCKET_MS
from kalshi_pipeline.recordings.replay_order import Survey

QUALITY_VERSION = "1"
IDLE_MS = IDLE_BUCKET_MS  # nothing received for longer than this is an idle period
_DECODING = {reason.name.lower() for reason in Reason if 10 <= reason < 30}


def session_quality(
    survey: Survey,
    counters: NDArray[Any],
    segments: pa.Table,
    quarantined: Mapping[str, int],
    info: SessionInfo,
    declared_markets: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The measured figures of one session, JSON values only.

    Args:
        survey: what its counters say.
        counters: the replay's.
        segments: segment table.
        quarantined: rows by reason, those of decoding included.
        info: what the collector declared.
        declared_markets: objects of `markets.json`.
    """
    kinds, received = survey.kinds, survey.times
    idle = received[1:, 0] - received[:-1, 1]
    idle = idle[idle > IDLE_MS]
    started, ended = (int(received[0, 0]), int(received[-1, 1])) if len(received) else (None, None)
    duration_ms = ended - started if ended is not None and started is not None else 0
    trusted_ms = int((segments["end_ms"].to_numpy() - segments["start_ms"].to_numpy()).sum())
    raw_rows = kinds[MessageKind.DELTA] + kinds[MessageKind.SNAPSHOT]
    figures = {
        "session_id": info.session,
        "title": info.title,
        "generated": info.generated,
        "sequence": info.sequence,
        "deltas": kinds[MessageKind.DELTA],
        "snapshots": kinds[MessageKind.SNAPSHOT],
        "trades": kinds[MessageKind.TRADE],
        # raw rows the replay saw, and those decoding had put aside before
        "rows_in": raw_rows + sum(quarantined.get(reason, 0) for reason in _DECODING),
        "applied": int(counters[Counters.APPLIED]),
        "quarantined": dict(sorted(quarantined.items())),
        "before_snapshot": int(counters[Counters.BEFORE_SNAPSHOT]),
        "epochs": survey.epochs,
        "segments": segments.num_rows,
        "segments_ended_by": dict(sorted(Counter(segments["ended_by"].to_pylist()).items())),
        "gaps": survey.gaps,
        "lost_messages": survey.lost,
        "negative_sizes": quarantined.get("negative_size", 0),
        "crossed_states": int(counters[Counters.CROSSED_STATES]),
        "crossed_ms": int(counters[Counters.CROSSED_MS]),
        "drifted_levels": int(counters[Counters.DRIFTED_LEVELS]),
        "clock_back": int(counters[Counters.CLOCK_BACK]),
        "markets_subscribed": len(info.tickers),
        "markets_declared": len(declared_markets),
        "markets": len(survey.tickers),
        "markets_with_updates": int(counters[Counters.UPDATED_MARKETS]),
        "started_ms": started,
        "ended_ms": ended,
        "duration_s": round(duration_ms / 1000, 3),
        "idle_periods": len(idle),
        "idle_s": round(float(idle.sum()) / 1000, 3),
        "trusted_s": round(trusted_ms / 1000, 3),
    }
    figures["quality_score"] = _score(figures, kinds[MessageKind.LEVEL], trusted_ms)
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


def _score(figures: Mapping[str, Any], snapshot_levels: int, trusted_ms: int) -> float:
    rows_in, lost = figures["rows_in"], figures["lost_messages"]
    if not rows_in:
        return 0.0
    applied = figures["applied"] / rows_in
    seen = rows_in / (rows_in + lost)
    uncrossed = 1 - min(1.0, figures["crossed_ms"] / trusted_ms) if trusted_ms else 1.0
    steady = 1 / (1 + figures["drifted_levels"] / max(1, snapshot_levels))
    return float(round(applied * seen * uncrossed * steady, 4))
