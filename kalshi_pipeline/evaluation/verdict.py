"""The verdict in one sentence, and the words it may use.

The words profitable, production-ready and edge claim something. They are allowed only where the
lower end of the interval against every baseline is above 0 in the headline cell, every comparison
allowed for, and the deflated Sharpe ratio is at least 0.95; `wording` sees to it that no other
sentence uses them. Source: `docs/EVALUATION.md`, "Wording".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.metrics import PolicyMetrics
from kalshi_pipeline.evaluation.paired import Paired
from kalshi_pipeline.evaluation.seeds import OverSeeds

# What a claim takes whatever the settings say: a plan may judge otherwise, and then claims nothing.
MIN_DEFLATED_SHARPE = 0.95
CLAIM_EVENTS = 30
CLAIM_SEEDS = 5
CLAIM_P = 0.05
CLAIM_LATENCY_MS = TradingConfig().latency_ms
_CLAIM_SETTINGS = {"confidence": 0.95, "resamples": 2_000, "embargo_ms": 3_600_000}


@dataclass(frozen=True)
class Cell:
    """What every number depends on: how passive orders fill, how the end is marked, fees, delay."""

    fill_model: str
    mark: str
    fees: bool
    latency_ms: int = CLAIM_LATENCY_MS

    @classmethod
    def of(cls, config: TradingConfig) -> Cell:
        """The cell an evaluation runs in; P&L is always at the liquidation mark."""
        queue = f"queue({config.queue_alpha:g})"
        model = queue if config.fill_model == "queue" else config.fill_model
        return cls(model, "liquidation", config.fees, config.latency_ms)

    @property
    def headline(self) -> bool:
        """Whether it is the one cell in which claims are made; slower than it is none is better."""
        rules = (self.fill_model, self.mark, self.fees)
        return rules == ("cross", "liquidation", True) and self.latency_ms >= CLAIM_LATENCY_MS

    def __str__(self) -> str:
        """As the verdict prints it."""
        fees = "fees on" if self.fees else "fees off"
        usual = self.latency_ms == CLAIM_LATENCY_MS
        delay = "" if usual else f", latency {self.latency_ms} ms"
        return f"fill model {self.fill_model}, {self.mark} mark, {fees}{delay}"


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
    against: Sequence[str] = (),
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
        against: reasons not to claim anything that are no figures; the first one is printed.
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
    level = min(CLAIM_P, round(1.0 - evaluation.confidence, 9))
    doubt = (
        _unbeaten(judged, honest, level)
        or _doubt(events, cell, evaluation, trainings, deflated_sharpe)
        or next(iter(against), None)
    )
    if doubt:
        return _sober(f"No evidence of profit{figure}; {doubt}.")
    return Verdict(f"Profitable in replay{figure}; above every baseline.", claim=True)


def lax(settings: Mapping[str, Any]) -> str | None:
    """The first setting of an evaluation under which nothing can be claimed."""
    for name, least in _CLAIM_SETTINGS.items():
        if not settings[name] >= least:  # NaN is nothing
            return f"{name} {settings[name]:g} is under the {least:g} a claim takes"
    return None


def _unbeaten(judged: PolicyMetrics, compared: Sequence[Paired], level: float) -> str | None:
    unbeaten = [each.baseline for each in compared if not each.beaten(level)]
    if unbeaten:
        more = f" and {len(unbeaten) - 1} more" if len(unbeaten) > 1 else ""
        return f"not shown to beat {unbeaten[0]}{more}"
    if judged.pnl_interval is None or judged.pnl_interval.low <= 0:
        return "0 is inside the interval"
    return None if compared else "no baseline beside it"


def _doubt(
    events: int,
    cell: Cell,
    evaluation: EvaluationConfig,
    trainings: OverSeeds | None,
    deflated_sharpe: float | None,
) -> str | None:
    """The first reason not to claim anything of what is above every baseline."""
    if not cell.headline:
        return "only the headline cell counts"
    if events < CLAIM_EVENTS:
        return f"above every baseline, but under the {CLAIM_EVENTS} events a claim takes"
    if loose := lax(asdict(evaluation)):
        return f"above every baseline, but {loose}"
    if trainings and len(trainings.seeds) < CLAIM_SEEDS:
        return f"{len(trainings.seeds)} training seeds; a claim takes the mean over {CLAIM_SEEDS}"
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
