"""The benchmarks run and report what they promise; nothing here depends on how fast."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from benchmarks import (
    books,
    cost,
    curriculum,
    environment,
    evaluation,
    features,
    ingest,
    learning,
    plan_training,
    scale,
)
from benchmarks.__main__ import STAGES, stages_of, write_results
from benchmarks.data import material
from benchmarks.plain_environment import assert_same_rewards
from benchmarks.timing import Contestant, Effort, Row, rates, row, table_lines
from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.recordings.generator import QUICK_PROFILES
from tests.tapes import FEES_PER_FILL, random_universe

ONCE = Effort(rounds=1, seconds=0.0)
SMALL_PPO = PPOConfig(n_envs=4, n_steps=16, batch_size=32, n_epochs=1, hidden=(8, 8))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    profile = replace(QUICK_PROFILES[902], deltas=2_000)
    return material(profile, tmp_path_factory.mktemp("session"))


@pytest.mark.parametrize(
    ("measure", "unit", "settings"),
    [
        (books.measure, "deltas/s", {"deltas": 3_000}),
        (ingest.measure, "frames/s", {"frames": 1_000}),
        (features.measure, "rows/s", {"flow_deltas": 3_000}),
        (environment.measure, "env steps/s", {"lanes": (1, 3)}),
        (learning.measure, "env steps/s", {"config": SMALL_PPO}),
        (evaluation.measure, "env steps/s", {"config": SMALL_PPO}),
    ],
)
def test_a_stage_reports_rates_beside_a_floor(session, measure, unit, settings):
    rows = measure(session, ONCE, **settings)
    assert {entry.unit for entry in rows} == {unit}
    assert any(entry.peers for entry in rows)
    assert any(entry.floor for entry in rows)
    for entry in rows:
        rates_seen = [entry.value, *entry.peers.values(), *([entry.floor] if entry.floor else [])]
        assert all(np.isfinite(rate) and rate > 0 for rate in rates_seen)


def test_the_plans_training_is_taken_phase_by_phase(session):
    (found,) = plan_training.measure(session, ONCE, SMALL_PPO, share=0.0001)
    assert found.name == "plan_training_s, from 0.0001 of it"
    assert list(found.peers) == ["phase_1", "phase_2", "phase_3"]
    assert found.value == sum(found.peers.values()) > 0


def test_sizes_are_taken_in_fresh_processes_with_their_peak_of_memory():
    sizes = {"a thousand": 1_000, "three thousand": 3_000}
    rows = scale.measure(None, ONCE, sizes, QUICK_PROFILES[903])
    assert [(entry.name, entry.unit, [*entry.peers]) for entry in rows] == [
        ("scale_0m", "deltas/s", ["a thousand"]),
        ("scale_0m, peak memory", "GiB", ["a thousand"]),
        ("small_session", "s", ["imports", "ingest", "books", "tensors", "suitable markets"]),
        ("small_session, peak memory", "GiB", []),
    ]
    assert all(value > 0 for entry in rows for value in (entry.value, *entry.peers.values()))


def test_a_billion_deltas_cost_what_those_that_were_measured_do_times_over():
    row = cost.of_flow(3_000)
    assert {"books, processor, s", "tensors, wall, s", "feature_tensors, bytes"} <= row.keys()
    assert all(value > 0 for value in row.values())
    row = {"deltas": 500_000_000, "books, processor, s": 3.0, "books, bytes": 2e9, "peak, GiB": 1.0}
    assert cost.a_billion(row) == {"books, processor, s": 6.0, "books, GB": 4.0}


@pytest.mark.parametrize(
    "config",
    [
        TradingConfig(),
        TradingConfig(latency_ms=0, mark="mid"),
        TradingConfig(cash_start_micro=3_000_000, order_size_centi=250, position_limit_centi=600),
    ],
)
def test_the_plain_environment_gives_the_same_rewards(config):
    rng = np.random.default_rng(3)
    universe = random_universe(rng, episodes=6, steps=40, fee_schedule=FEES_PER_FILL)
    assert_same_rewards(universe, config, np.arange(len(universe)), seed=4)


def test_a_difference_of_rewards_is_found():
    rng = np.random.default_rng(3)
    universe = random_universe(rng, episodes=2, steps=40)

    def others(*_):
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.plain_environment.PlainKalshiEnv._liquidation", others)
        with pytest.raises(AssertionError):
            assert_same_rewards(universe, TradingConfig(latency_ms=0), np.arange(2), seed=4)


def test_contestants_are_timed_in_turn_after_a_warm_up():
    calls = []

    def contestant(name):
        return Contestant(lambda _: calls.append(name) or 1)

    found = rates({"a": contestant("a"), "b": contestant("b")}, Effort(rounds=2, seconds=0.0))
    assert calls == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_preparation_goes_before_each_run():
    prepared = iter(range(10))
    seen = []
    contestant = Contestant(lambda given: seen.append(given) or 1, lambda: next(prepared))
    rates({"a": contestant}, Effort(rounds=3, seconds=0.0))
    assert seen == [0, 1, 2, 3]


def test_the_floor_of_a_row_is_not_a_peer():
    work = Contestant(lambda _: 1)
    found = row("stage", "x/s", {"ours": work, "theirs": work, "least": work}, ONCE, "least")
    assert set(found.peers) == {"theirs"}
    assert found.floor is not None


def test_results_are_a_list_of_rows(tmp_path):
    rows = [Row("stage", 2.0, "x/s", {"peer": 1.0}, 4.0), Row("other", 1.0, "x/s")]
    write_results(rows, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == [
        {"name": "stage", "value": 2.0, "unit": "x/s", "peers": {"peer": 1.0}, "floor": 4.0},
        {"name": "other", "value": 1.0, "unit": "x/s", "peers": {}, "floor": None},
    ]
    assert table_lines(rows[0]) == [("peer", 1.0, 2.0), ("floor", 4.0, 0.5)]


def test_every_stage_can_be_asked_for():
    assert tuple(stages_of(quick=True)) == tuple(stages_of(quick=False)) == STAGES


def test_the_curriculum_experiment_pairs_seeds_and_claims_nothing_from_noise():
    def trials(*pairs: tuple[float, float]) -> list[curriculum.Trial]:
        return [
            curriculum.Trial(on, seed, 1.0, 3, {"test, best": dollars})
            for seed, pair in enumerate(pairs)
            for on, dollars in zip((True, False), pair, strict=True)
        ]

    # Student's interval of (1, 2, 3) at 95 %: 2 -+ 4.303 / sqrt(3)
    assert curriculum.interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(
        (2, -0.484, 4.484), abs=1e-3
    )
    assert "no difference shown" in curriculum.table(trials((1, 0), (0, 1), (1, 1)))
    assert "helps" in curriculum.table(trials((1.0, 0), (1.1, 0), (1.05, 0)))
    assert "hurts" in curriculum.table(trials((0, 1.0), (0, 1.1), (0, 1.05)))


def test_a_trial_of_the_curriculum_trains_and_judges_both_checkpoints():
    universe = random_universe(np.random.default_rng(2), episodes=4, steps=30)
    done = curriculum.trial(
        universe, universe, universe, curriculum=True, seed=0, timesteps=128, save_every=64,
        config=SMALL_PPO,
    )  # fmt: skip
    assert set(done.dollars) == {"validation, best", "validation, last", "test, best", "test, last"}
    assert all(np.isfinite(value) for value in done.dollars.values())
    assert done.markets == 4
