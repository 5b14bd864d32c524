"""A set of rows under every policy, measured: what a table, a criterion or a plot is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.metrics import Panel, PolicyMetrics, measure, panel

# Plots need no more points than pixels, and a band no more resamples than it has pixels.
_PATH_POINTS = 400
_BAND_RESAMPLES = 2_000
_QUANTILES = 101


@dataclass(frozen=True)
class Sample:
    """Every policy on one set of episodes.

    Args:
        title: how the report calls it.
        panel: totals by market and event.
        metrics: `[K]` one entry a policy, the judged one first.
        clean: whether every row is clean-forward.
    """

    title: str
    panel: Panel
    metrics: tuple[PolicyMetrics, ...]
    clean: bool

    @property
    def events(self) -> int:
        """Number of independent units."""
        return self.panel.events

    def table(self) -> dict[str, Any]:
        """The sample as a section of the report."""
        return {
            "title": self.title,
            "clean": self.clean,
            "events": self.events,
            "markets": len(self.panel.cluster),
            "episodes": self.panel.episodes,
            "policies": [asdict(metrics) for metrics in self.metrics],
        }


def take(
    title: str, ledger: pa.Table, policies: Sequence[str], evaluation: EvaluationConfig
) -> Sample:
    """Measure labelled rows of a ledger, at least one of each policy."""
    data = panel(ledger, policies)
    clean = bool(pc.all(pc.equal(ledger["label"], Label.CLEAN_FORWARD.value)).as_py())
    return Sample(title, data, measure(data, evaluation), clean)


def shape(sample: Sample, evaluation: EvaluationConfig) -> dict[str, Any]:
    """What the plots show, in cents: cumulative P&L by time, and the spread of event totals.

    The band is the pointwise bootstrap interval of the judged policy's path: events keep their
    place in time and their number of draws varies. None below `min_units` events.
    """
    data = sample.panel
    pnl = data.per_event("pnl_micro") / MICRO_PER_CENT
    shown = np.unique(np.linspace(0, data.events - 1, _PATH_POINTS).round().astype(np.int64))
    paths = np.cumsum(pnl, axis=0)[shown]
    band = _band(data, shown, evaluation) if data.events >= evaluation.min_units else None
    quantiles = np.quantile(pnl, np.linspace(0.0, 1.0, _QUANTILES), axis=0)
    return {
        "title": sample.title,
        "clean": sample.clean,
        "events_so_far": (shown + 1).tolist(),
        "end_ms": data.event_end_ms[shown].tolist(),
        "paths": {name: paths[:, k].tolist() for k, name in enumerate(data.policies)},
        "band": None if band is None else {"low": band[0].tolist(), "high": band[1].tolist()},
        "quantiles": {name: quantiles[:, k].tolist() for k, name in enumerate(data.policies)},
    }


def _band(
    data: Panel, shown: NDArray[np.int64], evaluation: EvaluationConfig
) -> NDArray[np.float64]:
    """`[2, shown]` low and high."""
    pnl = data.per_event("pnl_micro")[:, 0] / MICRO_PER_CENT
    rng = np.random.default_rng(evaluation.seed)
    blocks = stats.cluster_counts(data.events, min(_BAND_RESAMPLES, evaluation.resamples), rng)
    paths = np.concatenate([np.cumsum(counts * pnl, axis=1)[:, shown] for counts in blocks])
    tail = (1.0 - evaluation.confidence) / 2.0
    band: NDArray[np.float64] = np.quantile(paths, (tail, 1.0 - tail), axis=0)
    return band
