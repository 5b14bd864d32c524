"""What a policy looks at: planted features are found, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.baselines import Always, RandomUniform
from kalshi_pipeline.evaluation.baselines.signals import Follow
from kalshi_pipeline.evaluation.evidence import Case, gather
from kalshi_pipeline.evaluation.features import features, scrambled_universe
from kalshi_pipeline.evaluation.importance import (
    Visits,
    chances,
    dealt_anew,
    disagreement,
    feature_groups,
    saliency,
)
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.feature_table import COLUMN, FEATURES, OBSERVATION_WIDTH
from kalshi_pipeline.trading.actions import ACTIONS, Action
from tests.evaluation.universes import named_universe

CONFIG = EvaluationConfig(n_envs=16, resamples=200, stochastic_repeats=2)
LOOKED_AT = COLUMN["imbalance_touch"]


@dataclass(frozen=True)
class Watcher:
    """Buys where one feature is above its middle, sells where it is below."""

    column: int = LOOKED_AT
    name: str = "Watcher"
    stochastic: bool = False

    def act(self, observation: Any, mask: Any, rng: Any) -> np.ndarray:
        up = observation[:, self.column] > 0
        return np.where(up, Action.BUY_BEST, Action.SELL_BEST).astype(np.int64)


@dataclass(frozen=True)
class Linear:
    """A softmax of one linear layer: its gradient is known."""

    weight: np.ndarray  # [52, 7]
    name: str = "Linear"
    stochastic: bool = True

    def probabilities(self, observation: Any, mask: Any = None) -> np.ndarray:
        logits = observation.astype(np.float64) @ self.weight
        logits = logits if mask is None else np.where(mask, logits, -np.inf)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def act(self, observation: Any, mask: Any, rng: Any) -> np.ndarray:
        below = np.cumsum(self.probabilities(observation, mask), axis=1)
        return (rng.random((len(observation), 1)) > below).sum(axis=1).clip(0, ACTIONS - 1)


def visits(n: int = 400, seed: int = 0) -> Visits:
    rng = np.random.default_rng(seed)
    observation = rng.uniform(-1, 1, (n, OBSERVATION_WIDTH)).astype(np.float32)
    mask = np.ones((n, ACTIONS), np.bool_)
    return Visits(observation, mask, rng.integers(3, size=n), rng.integers(8, size=n))


def drops(policy: Policy, seen: Visits) -> np.ndarray:
    base = chances(policy, seen.observation, seen.mask, 1)
    return np.array(
        [
            disagreement(policy, seen, (column,), base, 1).distance.mean()
            for column in range(OBSERVATION_WIDTH)
        ]
    )


def test_the_one_feature_a_policy_looks_at_is_found_and_no_other():
    found = drops(Watcher(), visits())
    assert found[LOOKED_AT] == pytest.approx(0.5, abs=0.07)  # half of the dealt values differ
    assert np.count_nonzero(found) == 1


def test_a_policy_of_chance_alone_looks_at_nothing():
    assert not drops(RandomUniform(), visits()).any()


def test_twins_are_one_group_and_matter_together():
    seen = visits()
    twin = COLUMN["imbalance_near"]
    seen.observation[:, twin] = seen.observation[:, LOOKED_AT] ** 3  # ranks the steps alike
    groups = feature_groups(seen.observation)
    assert (LOOKED_AT, twin) in groups
    assert all(len(group) == 1 for group in groups if group != (LOOKED_AT, twin))
    assert sorted(column for group in groups for column in group) == list(range(52))
    weight = np.zeros((OBSERVATION_WIDTH, ACTIONS))
    weight[[LOOKED_AT, twin], Action.BUY_BEST] = 3.0
    policy = Linear(weight)
    base = chances(policy, seen.observation, seen.mask, 1)
    alone, other, both = (
        disagreement(policy, seen, columns, base, 1).distance.mean()
        for columns in ((LOOKED_AT,), (twin,), (LOOKED_AT, twin))
    )
    assert both > max(alone, other) > 0


def test_columns_that_never_change_are_alone():
    seen = visits()
    seen.observation[:, 3:9] = 0.25
    groups = feature_groups(seen.observation)
    assert {(column,) for column in range(3, 9)} <= set(groups)


def test_values_are_dealt_among_the_steps_of_a_session_each_once():
    session = np.array([5, 1, 5, 1, 5, 5, 1, 2])
    source = dealt_anew(session, np.random.default_rng(3))
    assert sorted(source) == list(range(8))
    np.testing.assert_array_equal(session[source], session)
    long = np.repeat([0, 1], 500)
    assert (dealt_anew(long, np.random.default_rng(3)) != np.arange(1_000)).mean() > 0.9


def test_saliency_is_the_gradient_of_the_log_probability():
    rng = np.random.default_rng(2)
    policy, seen = Linear(rng.normal(size=(OBSERVATION_WIDTH, ACTIONS)) / 4), visits(200)
    table = {(r["action"], r["feature"]): r for r in saliency(policy, seen)}
    assert len(table) == OBSERVATION_WIDTH * ACTIONS
    p = policy.probabilities(seen.observation)
    for action in (Action.HOLD, Action.SELL_PASSIVE):
        slope = policy.weight[:, action][None, :] - p @ policy.weight.T
        expected = np.abs(slope).mean(axis=0)
        found = [table[action.name, feature.name]["weight"] for feature in FEATURES]
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_steps_at_which_an_action_is_impossible_are_left_out_of_its_saliency():
    weight = np.zeros((OBSERVATION_WIDTH, ACTIONS))
    weight[LOOKED_AT, Action.BUY_BEST] = 1.0
    seen = visits(100)
    seen.mask[:50, Action.BUY_BEST] = False
    seen.mask[:, Action.SELL_BEST] = False
    table = {(r["action"], r["feature"]): r["weight"] for r in saliency(Linear(weight), seen)}
    p = Linear(weight).probabilities(seen.observation, seen.mask)[50:, Action.BUY_BEST]
    assert table["BUY_BEST", "imbalance_touch"] == pytest.approx((1 - p).mean(), rel=1e-3)
    assert table["SELL_BEST", "imbalance_touch"] == 0.0


# --- the section


def section(policy: Policy, events: int) -> dict[str, Any]:
    universe = named_universe(1, events)
    planted = np.repeat(np.tile([1.0, -1.0], events)[:events], 12)
    universe.tape.features[:, LOOKED_AT] = planted
    case = Case(
        {1: universe}, {1: "forward"}, judged=policy, baselines=(Always(Action.HOLD),),
        used=Lineage.of([]), provenance={}, trading=TradingConfig(), evaluation=CONFIG,
    )  # fmt: skip
    return features(gather(case, lambda _: None))


def test_the_report_names_what_is_looked_at_and_what_it_is_worth():
    # it looks at the planted column and at what it holds, and at nothing else
    report = section(Follow("Follow", "imbalance_touch", 1.0, 0.5), 40)
    rows = {tuple(row["features"]): row for row in report["importance"]}
    planted = rows[("imbalance_touch",)]
    low, high = planted["agreement_drop_interval"]
    assert low <= planted["agreement_drop_share"] <= high
    assert planted["agreement_drop_share"] > 0.05
    assert planted["pnl_events"] == 40
    low, high = planted["pnl_drop_interval"]
    assert low <= planted["pnl_drop_cents"] <= high
    assert low < high
    for names, row in rows.items():
        if not {"imbalance_touch", "inventory"} & set(names):
            assert row["agreement_drop_share"] == 0.0
            assert row["pnl_drop_cents"] is None  # changes no action: not played
    assert report["saliency"] is None  # tells no probabilities
    assert {name for names in rows for name in names} == {f.name for f in FEATURES}
    drops = [row["agreement_drop_share"] for row in report["importance"]]
    assert drops == sorted(drops, reverse=True)


def test_a_policy_that_is_not_compiled_is_not_replayed_and_few_events_have_no_interval():
    report = section(Watcher(), 6)
    assert report["events"] == 6
    assert all(row["pnl_drop_cents"] is None for row in report["importance"])
    assert all(row["agreement_drop_interval"] is None for row in report["importance"])


def test_saliency_is_shown_for_a_policy_that_tells_its_probabilities():
    rng = np.random.default_rng(0)
    report = section(Linear(rng.normal(size=(OBSERVATION_WIDTH, ACTIONS))), 4)
    assert len(report["saliency"]) == OBSERVATION_WIDTH * ACTIONS
    assert 0 < report["decision_nats"] < np.log(7)


def test_scrambling_moves_only_the_columns_it_names():
    universe = named_universe(1, 4)
    other = scrambled_universe(universe, (2, 5), 0)
    same = np.delete(np.arange(35), [2, 5])
    before, after = universe.tape.features, other.tape.features
    np.testing.assert_array_equal(before[:, same], after[:, same])
    assert (before[:, [2, 5]] != after[:, [2, 5]]).any()
    pairs = {tuple(row) for row in before[:, [2, 5]].tolist()}
    assert {tuple(row) for row in after[:, [2, 5]].tolist()} == pairs  # dealt together
