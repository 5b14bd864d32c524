"""The verdict in one sentence, and the words it may use.

The words profitable, production-ready and edge claim something. They are allowed only where the
lower end of the interval against every baseline is above 0 in the headline cell, every comparison
allowed for, and the deflated Sharpe ratio is at least 0.95; `wording` sees to it that no other
sentence uses them. Source: `docs/EVALUATION.md`, "Wording".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.metrics import PolicyMetrics
from kalshi_pipeline.evaluation.paired import Paired
from kalshi_pipeline.evaluation.seeds import OverSeeds

MIN_DEFLATED_SHARPE = 0.95


@dataclass(frozen=True)
class Cell:
    """What every number depends on: how passive orders fill, how the end is marked, fees."""

    fill_model: str
    mark: str
    fees: bool

    @classmethod
    def of(cls, config: TradingConfig) -> Cell:
        """The cell an evaluation runs in; P&L is always at the liquidation mark."""
        queue = f"queue({config.queue_alpha:g})"
        model = queue if config.fill_model == "queue" else config.fill_model
        return cls(model, "liquidation", config.fees)

    @property
    def headline(self) -> bool:
        """Whether it is the one cell in which claims are made."""
        return self == Cell("cross", "liquidation", fees=True)

    def __str__(self) -> str:
        """As the verdict prints it."""
        fees = "fees on" if self.fees else "fees off"
        return f"fill model {self.fill_model}, {self.mark} mark, {fees}"


@dataclass(frozen=True)
class Verdict:
    """One sentence, and whether it claims success."""

    sentence: str
    claim: bool


def verdict(
    metrics: Sequence[PolicyMetrics],
    compared: Sequence[Paired],
    labels: Counter[Label],
    cell: Cell,
    evaluation: EvaluationConfig,
    *,
    generated: bool,
    trainings: OverSeeds | None = None,
    deflated_sharpe: float | None = None,
    sealed: Sequence[int] = (),
) -> Verdict:
    """Judge the first policy on its clean-forward events.

    Args:
        metrics: `[K]` clean-forward metrics, the judged policy first; empty where there are none.
        compared: it with each baseline on the same events; what cheats has not to be beaten.
        labels: events of the whole evaluation by label.
        cell: what the numbers depend on.
        evaluation: confidence and the fewest units of an interval.
        generated: whether the sessions are generated.
        trainings: of the judged policy with several seeds; None where there was one.
        deflated_sharpe: probability of skill after selection; None where it was not computed, and
            then nothing is claimed.
        sealed: sessions kept for one look that nobody has opened.
    """
    where = " on generated sessions" if generated else ""
    if not metrics:
        return _sober(f"No evidence of profit{where}: {_none_clean(labels, sealed)}, {cell}.")
    honest = [each for each in compared if not each.cheating]
    judged, names = metrics[0], {each.baseline for each in honest}
    baselines = [other for other in metrics[1:] if other.policy in names]
    events = labels[Label.CLEAN_FORWARD]
    if judged.pnl_interval is None:
        return _sober(
            f"No evidence of profit{where}: {_count(events, 'clean-forward')} "
            f"{'is' if events == 1 else 'are'} under the "
            f"{evaluation.min_units} an interval needs; {_signed(judged.pnl_cents)} ¢ per event, "
            f"{_best(baselines)}, {cell}."
        )
    low, high = judged.pnl_interval
    figure = (
        f"{where}: {_signed(judged.pnl_cents)} ¢ per event [{_signed(low)}, {_signed(high)}], "
        f"{_count(events, 'clean-forward')}, {cell}"
    )
    if high < 0:
        return _sober(f"Loses money{figure}.")
    level = round(1.0 - evaluation.confidence, 9)
    doubt = _doubt(judged, honest, cell, level, trainings, deflated_sharpe)
    if doubt:
        return _sober(f"No evidence of profit{figure}; {doubt}.")
    return Verdict(f"Profitable in replay{figure}; above every baseline.", claim=True)


def _doubt(
    judged: PolicyMetrics,
    compared: Sequence[Paired],
    cell: Cell,
    level: float,
    trainings: OverSeeds | None,
    deflated_sharpe: float | None,
) -> str | None:
    """The first reason not to claim anything."""
    unbeaten = [each.baseline for each in compared if not each.beaten(level)]
    if unbeaten:
        more = f" and {len(unbeaten) - 1} more" if len(unbeaten) > 1 else ""
        return f"not shown to beat {unbeaten[0]}{more}"
    if judged.pnl_interval is None or judged.pnl_interval.low <= 0:
        return "0 is inside the interval"
    if not compared:
        return "no baseline beside it"
    if not cell.headline:
        return "only the headline cell counts"
    if trainings and (trainings.mean_interval is None or trainings.mean_interval.low <= 0):
        return f"not shown for the mean over its {len(trainings.seeds)} training seeds"
    if deflated_sharpe is None:
        return "above every baseline, but no deflated Sharpe ratio corrects for the choice made"
    if deflated_sharpe < MIN_DEFLATED_SHARPE:
        return f"above every baseline, but the deflated Sharpe ratio is {deflated_sharpe:.2f}"
    return None


def _none_clean(labels: Counter[Label], sealed: Sequence[int]) -> str:
    others = [_count(count, label.value.replace("_", "-")) for label, count in labels.items()]
    told = "no clean-forward events" + (f" (there are {', '.join(others)})" if others else "")
    return told + "".join(f"; session {session} is sealed, not opened" for session in sealed)


def _best(baselines: Sequence[PolicyMetrics]) -> str:
    if not baselines:
        return "no baseline beside it"
    best = max(baselines, key=lambda baseline: baseline.pnl_cents)
    return f"best baseline {best.policy} {_signed(best.pnl_cents)} ¢"


def _count(events: int, label: str) -> str:
    return f"{events} {label} event{'s' if events != 1 else ''}"


def _signed(cents: float) -> str:
    return f"{round(cents, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


def _sober(sentence: str) -> Verdict:
    return Verdict(sentence, claim=False)
