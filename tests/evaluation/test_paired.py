"""The section that compares with each baseline, against the metrics and against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import permutation_test

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.evaluation.metrics import measure, panel
from kalshi_pipeline.evaluation.paired import paired
from tests.evaluation.ledgers import event_ledger

CONFIG = EvaluationConfig(resamples=2_000)


def noise(seed: int, events: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=10.0, size=events).round(3)


PNL = {"P": noise(1) + 4.0, "Q": noise(2), "R": noise(1) + 3.5, "Oracle": noise(3) + 300.0}


def test_a_difference_is_the_one_of_the_tables_with_the_same_interval() -> None:
    data = panel(event_ledger(PNL), list(PNL))
    rows = {metrics.policy: metrics for metrics in measure(data, CONFIG)}
    for each in paired(data, list(PNL)[1:], CONFIG):
        assert each.difference_cents == pytest.approx(rows[each.baseline].difference_cents)
        assert each.interval_percentile == pytest.approx(rows[each.baseline].difference_interval)
        assert each.interval_bca == pytest.approx(each.interval_percentile, abs=0.8)
        assert each.units == 80


def test_the_test_is_a_permutation_test_of_the_events() -> None:
    data = panel(event_ledger(PNL), list(PNL))
    against_q = paired(data, ["Q"], CONFIG)[0]
    theirs = permutation_test(
        (PNL["P"] - PNL["Q"],), np.mean, permutation_type="samples", n_resamples=20_000,
        batch=2_000, rng=np.random.default_rng(4),
    ).pvalue  # fmt: skip
    assert against_q.p_value == pytest.approx(theirs, abs=0.02)
    assert against_q.p_holm == against_q.p_value


def test_who_cheats_is_compared_with_but_takes_nothing_from_the_others() -> None:
    data = panel(event_ledger(PNL), list(PNL))
    without = paired(data, ["Q", "R"], CONFIG)
    *others, oracle = paired(data, ["Q", "R", "Oracle"], CONFIG, cheating=["Oracle"])
    for each, alone in zip(others, without, strict=True):
        assert (each.p_value, each.p_holm) == (alone.p_value, alone.p_holm)
        assert each.interval_percentile == pytest.approx(alone.interval_percentile)
    assert (oracle.cheating, oracle.p_holm) == (True, None)
    assert oracle.interval_percentile is not None
    assert oracle.interval_percentile.high < 0
    counted = paired(data, ["Q", "R", "Oracle"], CONFIG)
    assert counted[1].p_holm == pytest.approx(1.5 * others[1].p_holm)


def test_below_thirty_events_only_the_difference_is_said() -> None:
    few = {name: values[:29] for name, values in PNL.items()}
    for each in paired(panel(event_ledger(few), list(few)), list(few)[1:], CONFIG):
        said = (each.interval_percentile, each.interval_bca, each.p_value, each.p_holm)
        assert (*said, each.detectable_cents) == (None,) * 5
        assert each.difference_cents == pytest.approx(float((few["P"] - few[each.baseline]).mean()))
        assert not each.beaten(0.05)
    alone = panel(event_ledger({"P": PNL["P"]}), ["P"])
    assert paired(alone, [], CONFIG) == ()


def test_a_smaller_difference_than_can_be_detected_is_not_found() -> None:
    data = panel(event_ledger(PNL), list(PNL))
    for each in paired(data, ["Q", "R"], CONFIG):
        assert each.detectable_cents is not None
        far = abs(each.difference_cents) > 1.5 * each.detectable_cents
        assert not far or each.beaten(0.05)
    exact = paired(data, ["R"], CONFIG)[0]  # the same noise: every event differs by 0.5 cents
    assert exact.beaten(0.05)
    assert exact.detectable_cents == pytest.approx(0.0, abs=1e-3)


def test_the_same_seed_says_the_same() -> None:
    data = panel(event_ledger(PNL), list(PNL))
    assert paired(data, ["Q"], CONFIG) == paired(data, ["Q"], CONFIG)
    other = paired(data, ["Q"], replace(CONFIG, seed=1))[0]
    assert other.interval_percentile != paired(data, ["Q"], CONFIG)[0].interval_percentile
