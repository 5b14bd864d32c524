"""The plan's criteria: value, interval, answer, and who else meets them."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.evaluation.criteria import Criterion, criteria
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.samples import Sample, take
from tests.evaluation.ledgers import event_ledger, labelled

CONFIG = EvaluationConfig(resamples=200)
GOOD = np.tile([10.0, 12.0, 8.0, 11.0], 10)


def sample(pnl_cents: dict[str, np.ndarray], label: Label = Label.CLEAN_FORWARD) -> Sample:
    return take("sample", labelled(event_ledger(pnl_cents), label), list(pnl_cents), CONFIG)


def answers(one: Sample, tiers: dict[str, Sample] | None = None) -> dict[str, Criterion]:
    found = criteria(one, one, tiers or {}, CONFIG.min_units)
    return {criterion.text: criterion for criterion in found}


def test_every_criterion_of_the_plan_is_answered() -> None:
    found = answers(sample({"PPO": GOOD, "Hold": np.zeros(40)}), {"high": sample({"PPO": GOOD})})
    assert [(criterion.group, criterion.status) for criterion in found.values()] == [
        ("Minimum viable model", "pass"),  # P&L
        ("Minimum viable model", "pass"),  # win rate 50 % > 45 %
        ("Minimum viable model", "pass"),  # drawdown
        ("Minimum viable model", "pass"),  # tiers
        ("Second bar of the plan", "pass"),  # Sharpe
        ("Second bar of the plan", "fail"),  # win rate 50 % < 52 %
        ("Second bar of the plan", "pass"),  # drawdown
        ("Second bar of the plan", "pass"),  # share of events
    ]


def test_a_criterion_that_hold_meets_names_it() -> None:
    found = answers(sample({"PPO": GOOD, "Hold": np.zeros(40)}))
    drawdown = found["Worst drawdown of an episode under 15% of its capital at risk"]
    assert drawdown.also_met_by == ("Hold",)
    assert found["P&L per event on the validation sessions above 0"].also_met_by == ()


@pytest.mark.parametrize("events", [1, 2, 29])
def test_nothing_is_assessable_below_thirty_events(events: int) -> None:
    few = sample({"PPO": GOOD[:events], "Hold": np.zeros(events)})
    for criterion in answers(few, {"high": few}).values():
        assert criterion.status == "not assessable"
        assert criterion.interval is None


def test_without_validation_sessions_the_first_is_not_assessable() -> None:
    one = sample({"PPO": GOOD})
    first = criteria(None, one, {}, CONFIG.min_units)[0]
    assert (first.status, first.value, first.events) == ("not assessable", None, 0)


def test_a_pass_on_seen_data_is_marked_in_sample() -> None:
    found = answers(sample({"PPO": GOOD}, Label.BACKWARD))
    assert all(criterion.in_sample for criterion in found.values())
    assert not answers(sample({"PPO": GOOD}))["Win rate of round trips above 45%"].in_sample


def test_an_interval_that_holds_the_threshold_decides_nothing() -> None:
    noisy = np.random.default_rng(0).normal(scale=50.0, size=40)
    found = answers(sample({"PPO": noisy - noisy.mean() + 1.0}))
    criterion = found["P&L per event on the validation sessions above 0"]
    assert (criterion.status, criterion.conclusive) == ("pass", False)
    clear = answers(sample({"PPO": GOOD}))["P&L per event on the validation sessions above 0"]
    assert clear.conclusive


def test_one_losing_tier_is_not_consistent() -> None:
    tiers = {"high": sample({"PPO": GOOD, "Q": GOOD}), "low": sample({"PPO": -GOOD, "Q": GOOD})}
    (consistent,) = (c for c in answers(tiers["high"], tiers).values() if c.unit == "count")
    assert (consistent.value, consistent.threshold, consistent.status) == (1, 2.0, "fail")
    assert consistent.also_met_by == ("Q",)
