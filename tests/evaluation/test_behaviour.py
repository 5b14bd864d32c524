"""What a policy does where: buckets that sum to the accounts, states by hand, alarms, the hash."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig, TradingConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform, baselines
from kalshi_pipeline.evaluation.baselines.shuffled import Shuffled
from kalshi_pipeline.evaluation.behaviour.characteristics import (
    market_characteristics,
    rank_correlations,
)
from kalshi_pipeline.evaluation.behaviour.section import behaviour, nats, weighted_quantiles
from kalshi_pipeline.evaluation.behaviour.states import (
    DIMENSIONS,
    SPREAD,
    codes_of,
    volatility_of,
    with_market_edges,
)
from kalshi_pipeline.evaluation.behaviour.steps import event_pnl_micro, tally
from kalshi_pipeline.evaluation.behaviour.walks import walks
from kalshi_pipeline.evaluation.evidence import Case, Evidence, gather
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.learning.alert_rules import BY_NAME
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe
from tests.evaluation.test_evaluate import Renamed
from tests.evaluation.universes import named_universe, ranges
from tests.tapes import universe_from_books

CONFIG = EvaluationConfig(n_envs=16, resamples=200, stochastic_repeats=3)
RULES = TradingConfig(fill_model="touch", latency_ms=0)


def evidence(
    universes: dict[int, Universe], policy: Policy, *, lineage: Any = (), **options: Any
) -> Evidence:
    case = Case(
        universes,
        dict.fromkeys(universes, "forward"),
        judged=Renamed(policy),
        baselines=options.pop("baselines", baselines()),
        used=Lineage.of(lineage),
        provenance={"generated": True},
        trading=RULES,
        evaluation=options.pop("evaluation", CONFIG),
        **options,
    )
    return gather(case, lambda _: None)


@pytest.fixture(scope="module")
def few() -> Evidence:
    return evidence({1: named_universe(1, 5), 2: named_universe(2, 4)}, RandomUniform())


@pytest.fixture(scope="module")
def many() -> Evidence:
    return evidence({1: named_universe(1, 40)}, RandomUniform())


# --- sums


@pytest.mark.parametrize("policy", [RandomUniform(), PassiveTwoSided(), Always(Action.BUY_BEST)])
def test_the_buckets_of_every_dimension_sum_to_the_ledger_to_the_micro_dollar(policy):
    universes = {1: named_universe(1, 5), 2: named_universe(2, 4)}
    found = evidence(universes, policy, lineage=ranges(universes[1], end_ms=0))
    scope = found.scope.filter(pc.equal(found.scope["policy"], "PPO"))
    assert set(scope["session"].to_pylist()) == {2}  # the other was trained on
    walked = found.once(walks)
    dimensions = with_market_edges(DIMENSIONS, [volatility_of(u) for u in universes.values()])
    codes = {session: codes_of(u, dimensions) for session, u in universes.items()}
    sums = tally(
        walked.details["PPO"], universes, codes, walked.markets, dimensions, RULES.cash_start_micro
    )
    assert set(sums) == {dimension.name for dimension in DIMENSIONS}
    total = {
        name: pc.sum(scope[name]).as_py() for name in ("pnl_micro", "contracts_centi", "steps")
    }
    assert total["pnl_micro"] != 0
    for each in sums.values():
        assert each.pnl_micro.sum() == total["pnl_micro"]
        assert each.contracts_centi.sum() == total["contracts_centi"]
        assert each.actions.sum() == total["steps"]
    pnl = event_pnl_micro(walked.details["PPO"], walked.markets, RULES.cash_start_micro)
    repeats = walked.details["PPO"].repeats
    assert pnl.sum() * repeats == pytest.approx(total["pnl_micro"], abs=1e-3)


def test_buckets_of_the_report_sum_to_the_headline_per_event(few):
    rows = behaviour(few)["buckets"]
    judged = few.scope.filter(pc.equal(few.scope["policy"], "PPO"))
    micro = pc.sum(judged["pnl_micro"]).as_py() / CONFIG.stochastic_repeats
    cents = micro / MICRO_PER_CENT / 9
    for dimension in DIMENSIONS:
        own = [r for r in rows if r["dimension"] == dimension.name and r["policy"] == "PPO"]
        assert sum(row["pnl_cents"] for row in own) == pytest.approx(cents)
        assert sum(row["steps_share"] for row in own) == pytest.approx(1.0)
        for row in own:
            assert sum(row["actions"].values()) == pytest.approx(1.0)


def test_edges_depend_on_the_market_and_on_no_policy():
    universes = {1: named_universe(1, 6)}
    tables = [
        behaviour(evidence(universes, policy))["buckets"]
        for policy in (RandomUniform(), Always(Action.HOLD))
    ]
    edges = [
        {(r["dimension"], r["bucket"]): (r["low"], r["high"], r["steps"])
         for r in rows if r["policy"] == "PPO"}
        for rows in tables
    ]  # fmt: skip
    assert edges[0] == edges[1]


def test_no_interval_below_thirty_events(few, many):
    assert all(
        r["pnl_interval"] is r["action_intervals"] is None for r in behaviour(few)["buckets"]
    )
    report = behaviour(many)
    for row in report["buckets"]:
        assert (row["pnl_interval"] is not None) is (row["events"] >= 30), row
    wide = [row for row in report["buckets"] if row["policy"] == "PPO" and row["pnl_interval"]]
    assert {row["dimension"] for row in wide} >= {"spread", "volatility", "burst"}
    for row in wide:
        low, high = row["pnl_interval"]
        assert low <= row["pnl_cents"] <= high
        held = row["action_intervals"]["HOLD"]
        assert held[0] <= row["actions"]["HOLD"] <= held[1]


def test_the_judged_policy_stands_beside_the_best_baseline_that_trades_and_random(few):
    report = behaviour(few)
    assert report["policies"][0] == "PPO"
    assert "Random" in report["policies"]
    assert "Hold" not in report["policies"]
    rows = few.scope.to_pylist()
    pnl: Counter[str] = Counter()
    for row in rows:
        pnl[row["policy"]] += row["pnl_micro"] / (3 if row["policy"] == "Random" else 1)
    best = max((name for name in pnl if name not in ("PPO", "Hold")), key=lambda name: pnl[name])
    assert best in report["policies"]


def test_what_is_played_again_is_what_the_ledger_holds():
    judged = Renamed(PassiveTwoSided())
    case = Case(
        {1: named_universe(1, 4)}, {1: "forward"}, judged=judged,
        baselines=(Always(Action.HOLD), Shuffled(judged), RandomUniform()), used=Lineage.of(()),
        provenance={}, trading=RULES, evaluation=CONFIG,
    )  # fmt: skip
    found = gather(case, lambda _: None)
    walked = found.once(walks)
    assert set(walked.details) >= {"PPO", "Random"}
    for name, detail in walked.details.items():
        rows = found.ledger.filter(pc.equal(found.ledger["policy"], name))
        trace = detail.sessions[1].trace
        pnl = trace.equity_micro[trace.first[1:] - 1] - RULES.cash_start_micro
        assert pnl.tolist() == rows["pnl_micro"].to_pylist(), name


def test_a_baseline_that_follows_the_judged_policy_follows_it_again():
    judged = Renamed(PassiveTwoSided())
    case = Case(
        {1: named_universe(1, 4)}, {1: "forward"}, judged=judged, baselines=(Shuffled(judged),),
        used=Lineage.of(()), provenance={}, trading=RULES, evaluation=CONFIG,
    )  # fmt: skip
    found = gather(case, lambda _: None)
    shuffled = found.once(walks).details[case.baselines[0].name].sessions[1]
    rows = found.ledger.filter(pc.equal(found.ledger["policy"], case.baselines[0].name))
    pnl = shuffled.trace.equity_micro[shuffled.trace.first[1:] - 1] - RULES.cash_start_micro
    assert pnl.tolist() == rows["pnl_micro"].to_pylist()
    assert any(pnl)


# --- states


def test_states_of_a_market_by_hand():
    minute = 60_000
    books = [
        (0, (4_000, 100), (4_100, 100)),
        (1 * minute, (4_000, 100), (4_300, 100)),
        (2 * minute, (4_000, 100), None),
        (3 * minute, (4_000, 100), (4_400, 100)),
        (58 * minute, (4_000, 100), (5_500, 100)),
        (60 * minute, (4_000, 100), (4_100, 100)),
    ]
    universe = universe_from_books([books])
    features = universe.tape.features
    features[:, COLUMN["imbalance_touch"]] = (-0.9, -0.5, 1.0, 0.0, 0.6, 0.7)
    features[:, COLUMN["seconds_to_close"]] = np.log1p([3_601, 3_000, 30, 61, 0, 0]) / np.log1p(
        31_536_000.0
    )
    features[-1, COLUMN["seconds_to_close"]] = -1.0
    rate = np.log1p([1.0, 1.0, 4.0, 1.0, 0.2, 1.0]) / np.log1p(1_000.0)
    features[:, COLUMN["update_rate_10s"]] = rate
    dimensions = with_market_edges(DIMENSIONS, [np.array([0.0, 1.0])])
    codes = codes_of(universe, dimensions)
    names = {d.name: [d.buckets[c] for c in codes[d.name]] for d in dimensions}
    assert names["activity"] == ["high"] * 6
    assert names["spread"] == [
        "1 cent or less", "over 1 to 3 cents", "a side missing", "over 3 to 10 cents",
        "over 10 cents", "1 cent or less",
    ]  # fmt: skip
    assert names["imbalance"] == [
        "asks heavy, over 2/3", "asks heavier", "a side missing", "balanced", "bids heavier",
        "bids heavy, over 2/3",
    ]  # fmt: skip
    assert names["session_third"] == ["first"] * 4 + ["last"] * 2
    assert names["time_to_close"] == [
        "1 hour to 1 day", "15 minutes to 1 hour", "last minute", "1 to 5 minutes", "last minute",
        "not known",
    ]  # fmt: skip
    assert names["burst"] == ["usual", "usual", "burst", "usual", "quiet", "usual"]
    assert names["session_end"] == ["earlier"] * 4 + ["last 5 minutes"] * 2
    assert names["segment_end"] == ["earlier"] * 4 + ["1 to 5 minutes before", "last minute"]


def test_volatility_is_that_of_the_last_minute_of_the_same_segment():
    universe = named_universe(3, 6)
    tape, found = universe.tape, volatility_of(universe)
    times_ms = tape.time_ms[tape.step_row]
    bid, ask = tape.bid_bp[tape.step_row], tape.ask_bp[tape.step_row]
    for first, end in zip(tape.first_step, tape.end_step, strict=True):
        mids: list[float | None] = []
        for step in range(first, end):
            both = bid[step] > 0 and ask[step] < 10_000
            mids.append((bid[step] + ask[step]) / 200 if both else (mids[-1] if mids else None))
            total = 0.0
            for later in range(first + 1, step + 1):
                now, before = mids[later - first], mids[later - 1 - first]
                inside = times_ms[later - 1] >= times_ms[step] - 60_000
                if inside and now is not None and before is not None:
                    total += (now - before) ** 2
            assert found[step] == pytest.approx(total**0.5, abs=1e-6)
    assert found.any()


def test_every_dimension_has_a_bucket_for_every_value():
    for dimension in with_market_edges(DIMENSIONS, [np.arange(100.0)]):
        assert len(dimension.labels) == len(dimension.edges) + 1
        assert list(dimension.edges) == sorted(set(dimension.edges))
        values = np.concatenate([dimension.edges, [-1e9, 1e9]])
        assert dimension.codes(values).max() == len(dimension.labels) - 1
        if dimension.missing:
            assert dimension.codes(np.array([np.nan])) == [len(dimension.buckets) - 1]
    assert SPREAD.bounds(0) == (None, 1.0)
    assert SPREAD.bounds(4) == (None, None)


# --- what is said of the whole


def test_the_hash_of_actions_is_equal_on_repeat_and_changes_with_one_action(few):
    again = evidence({1: named_universe(1, 5), 2: named_universe(2, 4)}, RandomUniform())
    assert behaviour(few)["action_hash"] == behaviour(again)["action_hash"]
    other = evidence(
        {1: named_universe(1, 5), 2: named_universe(2, 4)}, RandomUniform(),
        evaluation=replace(CONFIG, seed=1),
    )  # fmt: skip
    assert behaviour(few)["action_hash"] != behaviour(other)["action_hash"]
    detail = few.once(walks).details["PPO"]
    action = detail.sessions[2].trace.action
    before = action[-1]
    action[-1] = (before + 1) % 7
    try:
        assert behaviour(few)["action_hash"] != behaviour(again)["action_hash"]
    finally:
        action[-1] = before


def test_a_policy_that_does_one_thing_raises_the_alarms_of_training(few):
    alarms = {a["alarm"]: a for a in behaviour(few)["collapse"]}
    assert not any(alarm["fires"] for alarm in alarms.values())
    held = behaviour(evidence({1: named_universe(1, 3)}, Always(Action.HOLD)))
    alarms = {a["alarm"]: a for a in held["collapse"]}
    assert all(alarm["fires"] for alarm in alarms.values())
    assert held["entropy"] == {"nats": 0.0, "share_of_most": 0.0, "episode_nats": 0.0}
    assert held["hold_share"] == 1.0
    assert held["inventory"]["time_in_position_share"] == 0.0
    for name, alarm in alarms.items():
        assert alarm["threshold"] == BY_NAME[name].threshold


def test_inventory_is_weighed_by_market_time():
    books = [(at, (4_000, 9_900), (4_100, 9_900)) for at in (0, 1_000, 2_000, 10_000)]
    found = evidence({1: universe_from_books([books])}, Always(Action.BUY_BEST), baselines=())
    held = behaviour(found)["inventory"]
    # bought at 0 and filled at 1,000 at the earliest: 9 of 10 seconds with at least one contract
    assert held["time_in_position_share"] == pytest.approx(0.9)
    assert (held["short_share"], held["held_at_end_share"]) == (0.0, 1.0)
    assert held["quantiles"][0] == {"quantile": 0.0, "contracts": 0.0}


def test_quantiles_of_what_lasts_longer_come_first():
    values, weights = np.array([300, 0, -200]), np.array([1, 90, 9])
    assert weighted_quantiles(values, weights) == [-200, -200, 0, 0, 0, 0, 300]
    assert weighted_quantiles(np.zeros(0, int), np.zeros(0, int)) == [0.0] * 7


def test_entropy_is_greatest_where_all_actions_are_alike():
    assert nats(np.full(7, 1 / 7)) == pytest.approx(np.log(7))
    assert nats(np.eye(7)[3]) == 0.0


# --- characteristics


def test_rank_correlation_is_that_of_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    pairs = np.round(rng.normal(size=(2, 5, 30)), 1)  # with ties
    expected = [spearmanr(a, b).statistic for a, b in zip(*pairs, strict=True)]
    np.testing.assert_allclose(rank_correlations(pairs), expected)


def test_a_planted_characteristic_is_found_and_noise_is_not():
    universe = named_universe(1, 60)
    walked = evidence({1: universe}, Always(Action.HOLD), baselines=()).once(walks)
    tape, features = universe.tape, universe.tape.features
    rng = np.random.default_rng(5)
    rate = rng.random(60)
    for episode in range(60):
        steps = slice(tape.first_step[episode], tape.end_step[episode])
        features[steps, COLUMN["update_rate_60s"]] = rate[episode]
    pnl_micro = 1e4 * (rate + 0.1 * rng.normal(size=60))
    found = market_characteristics({1: universe}, walked.markets, pnl_micro, CONFIG)
    rows = {(r["characteristic"], r["known"]): r for r in found["correlations"]}
    planted = rows.pop(("update_rate", "average over its steps"))
    assert planted["rank_correlation"] > 0.8
    assert planted["interval"][0] > 0.5
    assert planted["p_holm"] < 0.05
    assert all(row["p_holm"] > 0.05 for row in rows.values() if row["p_value"] is not None)
    thirds = [r for r in found["thirds"] if r["characteristic"] == "update_rate"]
    assert [r["events"] for r in thirds] == [20, 20, 20]
    assert thirds[0]["pnl_cents"] < thirds[1]["pnl_cents"] < thirds[2]["pnl_cents"]
    assert all(r["pnl_interval"] is None for r in thirds)  # 20 events each
    assert "xploratory" in found["note"]


def test_a_policy_of_which_no_step_was_kept_is_named(few, monkeypatch) -> None:
    module = importlib.import_module("kalshi_pipeline.evaluation.behaviour.walks")
    played = module.play
    monkeypatch.setattr(module, "play", lambda *args, detail: played(*args))
    with pytest.raises(EvaluationError, match="kept no step") as wrong:
        walks(few)
    assert (wrong.value.rule, wrong.value.value) == ("detail", few.case.judged.name)
