"""The training plan's success criteria (section 5.4), each with who else meets it.

A criterion that a policy without skill meets too says nothing here, and the report says so. What
the plan leaves open is fixed as `docs/EVALUATION.md` does: returns, Sharpe ratio and share are per
Kalshi event, drawdown is against the cash that was at risk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.metrics import PolicyMetrics
from kalshi_pipeline.evaluation.samples import Sample

Status = Literal["pass", "fail", "not assessable"]
Unit = Literal["cents", "share", "ratio", "count"]
Comparison = Literal[">", "<", "="]


@dataclass(frozen=True)
class Criterion:
    """One line of the plan, answered.

    Args:
        group: which bar of the plan it belongs to.
        text: the criterion, in the terms it is computed in.
        unit: of value, threshold and interval.
        threshold: the plan's number.
        comparison: how the value must lie to the threshold.
        value: of the judged policy; None where it has no meaning.
        interval: of the value, where one can be had.
        events: independent units behind the value.
        status: "not assessable" below the number of units an interval needs.
        conclusive: whether the interval lies wholly on one side; None without an interval.
        in_sample: True where the data are not clean-forward: a pass is then no evidence.
        also_met_by: baselines whose value meets the threshold on the same data; what cheats is
            none.
        discriminates: whether it tells the judged policy from those: False where one meets it too.
        note: what to think of the answer, in words; "" where it speaks for itself.
    """

    group: str
    text: str
    unit: Unit
    threshold: float
    comparison: Comparison
    value: float | None
    interval: Interval | None
    events: int
    status: Status
    conclusive: bool | None
    in_sample: bool
    also_met_by: tuple[str, ...]
    discriminates: bool
    note: str


@dataclass(frozen=True)
class _Rule:
    group: str
    text: str
    unit: Unit
    threshold: float
    comparison: Comparison
    value: Callable[[PolicyMetrics], float | None]
    interval: Callable[[PolicyMetrics], Interval | None] = lambda _: None

    def met(self, value: float | None) -> bool:
        if value is None:
            return False
        return value > self.threshold if self.comparison == ">" else value < self.threshold

    def decided(self, interval: Interval | None) -> bool | None:
        return None if interval is None else self.met(interval.low) == self.met(interval.high)


_FIRST, _SECOND = "Minimum viable model", "Second bar of the plan"

_ON_VALIDATION = _Rule(
    _FIRST,
    "P&L per event on the validation sessions above 0",
    "cents",
    0.0,
    ">",
    lambda metrics: metrics.pnl_cents,
    lambda metrics: metrics.pnl_interval,
)


def _win_rate(group: str, threshold: float) -> _Rule:
    return _Rule(
        group,
        f"Win rate of round trips above {threshold:.0%}",
        "share",
        threshold,
        ">",
        lambda metrics: metrics.win_rate,
        lambda metrics: metrics.win_interval,
    )


def _drawdown(group: str, threshold: float) -> _Rule:
    return _Rule(
        group,
        f"Worst drawdown of an episode under {threshold:.0%} of its capital at risk",
        "share",
        threshold,
        "<",
        lambda metrics: metrics.max_drawdown_share,
    )


_ON_TEST = (
    _win_rate(_FIRST, 0.45),
    _drawdown(_FIRST, 0.20),
    _Rule(
        _SECOND,
        "Sharpe ratio per event (not annualised) above 1",
        "ratio",
        1.0,
        ">",
        lambda metrics: metrics.sharpe,
        lambda metrics: metrics.sharpe_interval,
    ),
    _win_rate(_SECOND, 0.52),
    _drawdown(_SECOND, 0.15),
    _Rule(
        _SECOND,
        "Share of events with P&L above 0 over 70%",
        "share",
        0.70,
        ">",
        lambda metrics: metrics.positive_share,
        lambda metrics: metrics.positive_interval,
    ),
)


def criteria(
    validation: Sample | None,
    test: Sample,
    tiers: Mapping[str, Sample],
    min_units: int,
    cheating: Collection[str] = (),
) -> tuple[Criterion, ...]:
    """Answer every criterion of the plan.

    Args:
        validation: the sessions whose role is validation; None where there is none.
        test: the headline's episodes, or all of them where none is clean-forward.
        tiers: the same episodes by activity tier of the market.
        min_units: events below which nothing is assessable.
        cheating: baselines that see what nobody can: they discriminate nothing.
    """
    answers = [_answer(_ON_VALIDATION, validation, min_units, cheating)]
    answers += [_answer(rule, test, min_units, cheating) for rule in _ON_TEST]
    consistent = _consistent(tiers, min_units, cheating)
    first = [answer for answer in answers if answer.group == _FIRST]
    return (*first, consistent, *(answer for answer in answers if answer.group == _SECOND))


def _answer(
    rule: _Rule, sample: Sample | None, min_units: int, cheating: Collection[str]
) -> Criterion:
    judged = sample.metrics[0] if sample else None
    value = rule.value(judged) if judged else None
    interval = rule.interval(judged) if judged else None
    events = sample.events if sample else 0
    others = sample.metrics[1:] if sample else ()
    status: Status = "pass" if rule.met(value) else "fail"
    if value is None or events < min_units:
        status = "not assessable"
    also = tuple(
        other.policy
        for other in others
        if other.policy not in cheating and rule.met(rule.value(other))
    )
    conclusive = rule.decided(interval)
    return Criterion(
        group=rule.group,
        text=rule.text,
        unit=rule.unit,
        threshold=rule.threshold,
        comparison=rule.comparison,
        value=value,
        interval=interval,
        events=events,
        status=status,
        conclusive=conclusive,
        in_sample=not (sample and sample.clean),
        also_met_by=also,
        discriminates=not also,
        note=_note(status, events, min_units, conclusive, also),
    )


def _note(
    status: Status,
    events: int,
    min_units: int,
    conclusive: bool | None,
    also: tuple[str, ...],
) -> str:
    told = []
    if events < min_units:
        told.append(f"no interval possible: {events} independent events, {min_units} are needed")
    elif status == "not assessable":
        told.append("there is no such figure")
    elif conclusive is False:
        told.append("the interval holds the threshold")
    if also:
        told.append("this criterion does not discriminate here")
    return "; ".join(told)


def _consistent(
    tiers: Mapping[str, Sample], min_units: int, cheating: Collection[str]
) -> Criterion:
    """P&L above 0 in each activity tier; assessable only where each tier is."""

    def positive(k: int) -> int:
        return sum(sample.metrics[k].pnl_cents > 0 for sample in tiers.values())

    samples = list(tiers.values())
    smallest = min((sample.events for sample in samples), default=0)
    value = positive(0) if samples else None
    status: Status = "pass" if value == len(samples) else "fail"
    if smallest < min_units:
        status = "not assessable"
    names = [metrics.policy for metrics in samples[0].metrics] if samples else []
    also = tuple(
        name
        for k, name in enumerate(names)
        if k and name not in cheating and positive(k) == len(samples)
    )
    return Criterion(
        group=_FIRST,
        text=f"P&L per event above 0 in every activity tier ({', '.join(tiers) or 'none'})",
        unit="count",
        threshold=float(len(samples)),
        comparison="=",
        value=value,
        interval=None,
        events=smallest,
        status=status,
        conclusive=None,
        in_sample=not (samples and all(sample.clean for sample in samples)),
        also_met_by=also,
        discriminates=not also,
        note=_note(status, smallest, min_units, None, also),
    )
