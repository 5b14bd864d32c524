"""What becomes of the result where a rule of the episode is another: curves, one rule at a time.

Source: training plan, section 8.1; `docs/EVALUATION.md`, "Robustness".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import CENTI_PER_CONTRACT, MICRO_PER_DOLLAR, TradingConfig
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, Shuffled
from kalshi_pipeline.evaluation.columns import columns_of
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.grid import cells
from kalshi_pipeline.evaluation.metrics import panel
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.evaluation.verdict import Cell
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe

CAPITAL_DOLLARS = (5, 20, 100, 500)
LIMIT_CONTRACTS = (1, 3, 10, 30)
ORDER_CONTRACTS = (1, 2, 5, 10)
FEE_MULTIPLES = (0.0, 0.5, 1.0, 2.0, 3.0)
LATENCY_MS = (0, 250, 1_000, 5_000)
QUEUE_ALPHAS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Setting:
    """One value of one rule, all others as they were.

    Args:
        name: as the report shows it.
        value: where it lies on the axis; None where it is no number.
        config: the rules.
        fee_multiple: of the fee schedules on the tape.
    """

    name: str
    value: float | None
    config: TradingConfig
    fee_multiple: float = 1.0

    @property
    def rules(self) -> tuple[TradingConfig, float]:
        """What tells two settings apart."""
        return self.config, self.fee_multiple


@dataclass(frozen=True)
class Axis:
    """A rule and the values it is given."""

    name: str
    unit: str
    settings: tuple[Setting, ...]


def robustness(evidence: Evidence) -> dict[str, Any]:
    """Section `robustness` of the report.

    Returns:
        `curves`: for each axis `{axis, unit, points}`, a point `{setting, value, policy, pnl_cents,
        pnl_interval}`, per event. `queue_break_even_alpha`: see the function `break_even_alphas`,
        of the judged policy; `break_even_alphas` the same of each.
    """
    found = axes(evidence.case.trading)
    measured = _measured(evidence, found)
    curves = []
    for axis in found:
        points = [
            {"setting": setting.name, "value": setting.value, **point}
            for setting in axis.settings
            for point in measured[setting.rules]
        ]
        curves.append({"axis": axis.name, "unit": axis.unit, "points": points})
    alphas = break_even_alphas(
        evidence,
        {
            round(100 * alpha): {
                point["policy"]: point["pnl_cents"] > 0
                for point in measured[_queue(evidence.case.trading, alpha), 1.0]
            }
            for alpha in QUEUE_ALPHAS
        },
    )
    return {
        "curves": curves,
        "queue_break_even_alpha": alphas[evidence.case.judged.name],
        "break_even_alphas": alphas,
    }


def axes(base: TradingConfig) -> tuple[Axis, ...]:
    """Every curve, worst to best or least to most, through the rules as they are."""
    return (
        Axis("starting_capital", "$", tuple(_numbers(base, "cash_start_micro", CAPITAL_DOLLARS))),
        Axis("position_limit", "contracts",
             tuple(_numbers(base, "position_limit_centi", LIMIT_CONTRACTS))),
        Axis("order_size", "contracts",
             tuple(_numbers(base, "order_size_centi", ORDER_CONTRACTS))),
        Axis("fee_multiple", "x", tuple(
            Setting(f"{x:g}", x, replace(base, fees=True), x) for x in FEE_MULTIPLES
        )),
        Axis("latency", "ms", tuple(_numbers(base, "latency_ms", LATENCY_MS))),
        Axis("fill_model", "", tuple(_fill_models(base))),
    )  # fmt: skip


_UNIT = {
    "cash_start_micro": MICRO_PER_DOLLAR,
    "position_limit_centi": CENTI_PER_CONTRACT,
    "order_size_centi": CENTI_PER_CONTRACT,
    "latency_ms": 1,
}


def _numbers(base: TradingConfig, field: str, values: Sequence[int]) -> list[Setting]:
    # the value as it is lies among them
    unit, own = _UNIT[field], getattr(base, field)
    found = []
    for raw in sorted({own, *(value * unit for value in values)}):
        value = raw / unit if raw % unit else raw // unit
        found.append(Setting(f"{value:,}", value, replace(base, **{field: raw})))
    return found


def _fill_models(base: TradingConfig) -> list[Setting]:
    own = {base.queue_alpha} if base.fill_model == "queue" else set()
    configs = [
        replace(base, fill_model="cross"),
        *(_queue(base, alpha) for alpha in sorted(own.union(QUEUE_ALPHAS))),
        replace(base, fill_model="touch"),
    ]
    return [Setting(Cell.of(config).fill_model, None, config) for config in configs]


def _queue(base: TradingConfig, alpha: float) -> TradingConfig:
    return replace(base, fill_model="queue", queue_alpha=alpha)


def _policies(evidence: Evidence) -> tuple[Policy, ...]:
    """The judged one, and those whose free money or chance it might share."""
    judged = evidence.case.judged
    return judged, Always(Action.HOLD), Shuffled(judged), PassiveTwoSided()


def _measured(
    evidence: Evidence, found: Sequence[Axis]
) -> dict[tuple[TradingConfig, float], list[dict[str, Any]]]:
    """Rules -> every policy under them, all from the same draws."""
    policies = evidence.once(_policies)
    names = [policy.name for policy in policies]
    # the rules as they are lie on every axis
    distinct = {s.rules: f"{axis.name} {s.name}" for axis in found for s in axis.settings}
    panels = []
    for (config, multiple), name in distinct.items():
        ledger = None
        if multiple == 1.0:
            ledger = _played_already(evidence, config, policies)
        if ledger is None:
            ledger = evidence.under(config, policies, name, evidence.once(_scaled)[multiple])
        panels.append(panel(ledger, names))
    pnl = np.hstack([data.totals["pnl_micro"] for data in panels])
    figures = columns_of(pnl, panels[0].cluster, evidence.case.evaluation)
    measured = {}
    for n, rules in enumerate(distinct):
        means = [figures.mean(n * len(names) + k) for k in range(len(names))]
        measured[rules] = [
            {"policy": name, "pnl_cents": cents, "pnl_interval": interval}
            for name, (cents, interval) in zip(names, means, strict=True)
        ]
    return measured


def _played_already(
    evidence: Evidence, config: TradingConfig, policies: Sequence[Policy]
) -> pa.Table | None:
    # the grid plays every policy of the case with the same chance: in its cells nothing is new
    if any(policy not in evidence.case.policies for policy in policies):
        return None
    for cell, ledger in evidence.once(cells):
        if cell == config:
            names = pa.array([policy.name for policy in policies])
            return ledger.filter(pc.is_in(ledger["policy"], names))
    return None


def _scaled(evidence: Evidence) -> dict[float, Mapping[int, Universe]]:
    universes = evidence.case.universes
    return {
        multiple: universes
        if multiple == 1.0
        else {session: with_fees(found, multiple) for session, found in universes.items()}
        for multiple in FEE_MULTIPLES
    }


def with_fees(universe: Universe, multiple: float) -> Universe:
    """The same market under fees that many times as high, rounded to a percent of a rate."""
    schedule = universe.tape.fee_schedule.copy()
    schedule[:, 2] = np.round(schedule[:, 2] * multiple)
    return Universe(universe.tape._replace(fee_schedule=schedule), universe.episodes)


def break_even_alphas(
    evidence: Evidence, known: Mapping[int, Mapping[str, bool]]
) -> dict[str, float | None]:
    """Share of unexplained decreases that must be trades for a policy to earn anything.

    The smallest whole percentage at which P&L per event is above 0 under `queue`, sought between
    the first of `QUEUE_ALPHAS` with a gain and the one before it: as if what is earned rose with
    alpha there. All policies are halved in step, so that those that stand at one percentage play
    together and who follows another one finds its steps.

    Args:
        evidence: whose policies.
        known: percentage -> policy -> whether it gains, for each of `QUEUE_ALPHAS`.

    Returns:
        Policy -> its alpha; None where none of `QUEUE_ALPHAS` gains.
    """
    tried = sorted(known)
    first = {
        policy.name: next((percent for percent in tried if known[percent][policy.name]), None)
        for policy in evidence.once(_policies)
    }
    # policy -> the most percent known to bring nothing, the fewest known to gain
    between = {
        name: (tried[tried.index(percent) - 1], percent)
        for name, percent in first.items()
        if percent is not None and percent != tried[0]
    }
    while wide := {name: sum(ends) // 2 for name, ends in between.items() if ends[1] - ends[0] > 1}:
        for percent in sorted(set(wide.values())):
            names = {name for name, middle in wide.items() if middle == percent}
            for name, gain in _gains(evidence, percent, names).items():
                low, high = between[name]
                between[name] = (low, percent) if gain else (percent, high)
    found = {name: None if one is None else one / 100 for name, one in first.items()}
    return found | {name: high / 100 for name, (_, high) in between.items()}


def _gains(evidence: Evidence, percent: int, names: Collection[str]) -> dict[str, bool]:
    # policy -> whether it gains at this share
    config = _queue(evidence.case.trading, percent / 100)
    policies = [policy for policy in evidence.once(_policies) if policy.name in names]
    ledger = evidence.under(config, policies, f"{Cell.of(config).fill_model}, break-even")
    order = [policy.name for policy in policies]
    earned = panel(ledger, order).totals["pnl_micro"].sum(axis=0)
    return {name: bool(total > 0) for name, total in zip(order, earned, strict=True)}
