"""What state a market was in at each step of a tape: the buckets that behaviour is broken down by.

Every edge is fixed here, or is a quantile of market data; none depends on what a policy earned.
Session thirds, bursts and ends look at the whole recording: they describe and cannot be traded on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.feature_table import COLUMN, MAX_RATE_HZ, YEAR_S
from kalshi_pipeline.trading.tape import Tape, Universe

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TIERS = ("high", "medium", "low")
_BP_PER_CENT = 100
_WINDOW_MS = 60_000
_APART_MS = 1 << 42  # more than any time in Unix milliseconds
_SPIKES = 0.05  # share of the steps that counts as volatility spikes


@dataclass(frozen=True)
class Dimension:
    """One way to break steps down: a value a step, cut at edges.

    Args:
        name: how the report calls it.
        unit: of the edges; None where buckets are kinds.
        labels: one a bucket: up to the first edge (it included), ..., above the last one.
        edges: ascending, one fewer than labels.
        missing: bucket of the steps that have no value; None where all have one.
    """

    name: str
    unit: str | None
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    missing: str | None = None

    @property
    def buckets(self) -> tuple[str, ...]:
        """Every bucket's name."""
        return (*self.labels, self.missing) if self.missing else self.labels

    def bounds(self, bucket: int) -> tuple[float | None, float | None]:
        """Lower (exclusive) and upper edge of a bucket, None where it is open or a kind."""
        if self.unit is None or bucket >= len(self.labels):
            return None, None
        ends = (None, *self.edges, None)
        return ends[bucket], ends[bucket + 1]

    def codes(self, values: Floats) -> Ints:
        """`[T]` bucket of each value; NaN is missing."""
        codes = np.searchsorted(self.edges, values, side="left")
        return np.where(np.isnan(values), len(self.labels), codes)


SPREAD = Dimension(
    "spread", "cents",
    ("1 cent or less", "over 1 to 3 cents", "over 3 to 10 cents", "over 10 cents"),
    (1.0, 3.0, 10.0), "a side missing",
)  # fmt: skip
VOLATILITY = Dimension(
    "volatility", "cents in 60 s",
    ("lowest third", "middle third", "highest third without spikes", "spikes, top 5 %"),
    (),
)  # fmt: skip
DIMENSIONS: tuple[Dimension, ...] = (
    Dimension("activity", None, TIERS, (0.5, 1.5), "not ranked"),
    SPREAD,
    VOLATILITY,
    Dimension(
        "imbalance", "share",
        ("asks heavy, over 2/3", "asks heavier", "balanced", "bids heavier",
         "bids heavy, over 2/3"),
        (-2 / 3, -1 / 3, 1 / 3, 2 / 3), "a side missing",
    ),
    Dimension("session_third", "share of the recording", ("first", "second", "last"),
              (1 / 3, 2 / 3)),
    Dimension(
        "time_to_close", "s",
        ("last minute", "1 to 5 minutes", "5 to 15 minutes", "15 minutes to 1 hour",
         "1 hour to 1 day", "over 1 day"),
        (60.0, 300.0, 900.0, 3_600.0, 86_400.0), "not known",
    ),
    Dimension("burst", "of the segment's median rate", ("quiet", "usual", "burst"), (0.5, 2.0)),
    Dimension(
        "session_end", "s before the end",
        ("last 5 minutes", "5 to 30 minutes before", "earlier"), (300.0, 1_800.0),
    ),
    Dimension(
        "segment_end", "s before the end",
        ("last minute", "1 to 5 minutes before", "earlier"), (60.0, 300.0),
    ),
)  # fmt: skip


def with_market_edges(
    dimensions: Sequence[Dimension], volatility: Sequence[Floats]
) -> tuple[Dimension, ...]:
    """The dimensions, volatility cut at quantiles of the steps that are looked at.

    Args:
        dimensions: with or without edges.
        volatility: values of the steps, in any number of parts; at least one step.
    """
    shares = (1 / 3, 2 / 3, 1 - _SPIKES)
    edges = tuple(np.quantile(np.concatenate(volatility), shares).tolist())
    return tuple(
        replace(dimension, edges=edges) if dimension.name == VOLATILITY.name else dimension
        for dimension in dimensions
    )


def codes_of(universe: Universe, dimensions: Sequence[Dimension]) -> dict[str, Ints]:
    """Name of a dimension -> `[T]` bucket of every step of a session's tape."""
    return {
        dimension.name: dimension.codes(_VALUES[dimension.name](universe))
        for dimension in dimensions
    }


def volatility_of(universe: Universe) -> Floats:
    """`[T]` cents: root of the summed squared changes of mid between the steps of the last minute.

    The mid of a book with a side missing is the last one that had both. The feature of that name
    ends at 20 cents, which a market near its close often passes.
    """
    tape = universe.tape
    episode = np.repeat(np.arange(len(universe)), tape.end_step - tape.first_step)
    steps = np.arange(len(episode))
    seen = np.maximum.accumulate(np.where(_two_sided(tape), steps, -1))
    first = tape.first_step[episode]
    mid = (tape.bid_bp + tape.ask_bp)[tape.step_row] / (2.0 * _BP_PER_CENT)
    before = np.maximum(steps - 1, 0)
    both = (seen[before] >= first) & (steps > first)
    moved = np.where(both, mid[seen] - mid[seen[before]], 0.0)
    summed = np.cumsum(moved**2)
    # each episode in a stretch of time of its own, so that one search finds all windows
    times_ms = _step_ms(tape) + episode * _APART_MS
    start = np.maximum(np.searchsorted(times_ms, times_ms - _WINDOW_MS, side="left"), first)
    # the first step of a window has no change inside it
    return np.asarray(np.sqrt(np.maximum(summed - summed[start], 0.0)))


def spread_of(universe: Universe) -> Floats:
    """`[T]` cents; NaN where a side is missing."""
    tape = universe.tape
    bid, ask = tape.bid_bp[tape.step_row], tape.ask_bp[tape.step_row]
    spread = (ask - bid) / _BP_PER_CENT
    return np.where(_two_sided(tape), spread, np.nan)


def seconds_to_close_of(universe: Universe) -> Floats:
    """`[T]` to the close known at that moment; NaN where none was."""
    scaled = _feature(universe.tape, "seconds_to_close")
    return np.where(scaled < 0, np.nan, np.expm1(scaled * np.log1p(YEAR_S)))


def _feature(tape: Tape, name: str) -> Floats:
    return tape.features[:, COLUMN[name]].astype(np.float64)


def _two_sided(tape: Tape) -> NDArray[np.bool_]:
    bid, ask = tape.bid_bp[tape.step_row], tape.ask_bp[tape.step_row]
    return (bid > 0) & (ask < BP_PER_DOLLAR)


def _step_ms(tape: Tape) -> Ints:
    times_ms: Ints = tape.time_ms[tape.step_row]
    return times_ms


def _each_step(universe: Universe, values: Any) -> Floats:
    # one value an episode -> one a step
    counts = universe.tape.end_step - universe.tape.first_step
    return np.repeat(np.asarray(values, np.float64), counts)


def _activity(universe: Universe) -> Floats:
    places = {tier: float(place) for place, tier in enumerate(TIERS)}
    return _each_step(universe, [places.get(e.tier, np.nan) for e in universe.episodes])


def _imbalance(universe: Universe) -> Floats:
    tape = universe.tape
    return np.where(_two_sided(tape), _feature(tape, "imbalance_touch"), np.nan)


def _session_third(universe: Universe) -> Floats:
    times_ms = _step_ms(universe.tape)
    if not len(times_ms):
        return np.zeros(0)
    start_ms = times_ms.min()
    share: Floats = (times_ms - start_ms) / max(int(times_ms.max() - start_ms), 1)
    return share


def _burst(universe: Universe) -> Floats:
    rate = np.expm1(_feature(universe.tape, "update_rate_10s") * np.log1p(MAX_RATE_HZ))
    usual = _each_step(universe, [np.median(rate[part]) for part in _segments(universe.tape)])
    return np.where(usual > 0, rate / np.where(usual > 0, usual, 1.0), 1.0)


def _session_end(universe: Universe) -> Floats:
    times_ms = _step_ms(universe.tape)
    left: Floats = (times_ms.max(initial=0) - times_ms) / 1_000.0
    return left


def _segment_end(universe: Universe) -> Floats:
    tape = universe.tape
    ends_ms = _step_ms(tape)[tape.end_step - 1]
    return (_each_step(universe, ends_ms) - _step_ms(tape)) / 1_000.0


def _segments(tape: Tape) -> list[slice]:
    spans = zip(tape.first_step.tolist(), tape.end_step.tolist(), strict=True)
    return [slice(first, end) for first, end in spans]


_VALUES: Mapping[str, Callable[[Universe], Floats]] = {
    "activity": _activity,
    SPREAD.name: spread_of,
    VOLATILITY.name: volatility_of,
    "imbalance": _imbalance,
    "session_third": _session_third,
    "time_to_close": seconds_to_close_of,
    "burst": _burst,
    "session_end": _session_end,
    "segment_end": _segment_end,
}
