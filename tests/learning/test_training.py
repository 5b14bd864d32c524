"""A phase: repeatable, continued, resumed, refused; and honest about what it did."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import PPOConfig, TradingConfig, WatchConfig
from kalshi_pipeline.errors import (
    IncompatibleCheckpoint,
    NoSuitableMarket,
    PlanError,
    TrainingDiverged,
    TrainingStopped,
)
from kalshi_pipeline.learning import training
from kalshi_pipeline.learning.records import Snapshot, TrainingProgress, TrainingResult
from kalshi_pipeline.learning.training import lineage_of, train_phase
from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry, load, save
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe
from tests.tapes import random_universe

# episodes of 30 steps and rollouts of 16: lanes end and restart inside and across rollouts
UNIVERSE = random_universe(np.random.default_rng(7), episodes=6, steps=30)
CONFIG = PPOConfig(n_envs=4, n_steps=16, batch_size=32, n_epochs=2, hidden=(16, 16, 8))
ROLLOUT = 64
VALIDATION = (LineageEntry(9, "V", "V-1", 1, 2),)


def train(universe: Universe = UNIVERSE, **changes: Any) -> TrainingResult:
    arguments: dict[str, Any] = {
        "phase": "phase_1",
        "timesteps": 3 * ROLLOUT,
        "config": CONFIG,
        "trading": TradingConfig(),
        "seed": 0,
        "clock": count().__next__,
    }
    return train_phase(universe, **{**arguments, **changes})


@pytest.fixture(scope="module")
def phase_1() -> TrainingResult:
    return train()


def test_a_seed_fixes_a_phase_bit_for_bit(phase_1: TrainingResult) -> None:
    again = train()
    assert again.final.content_hash == phase_1.final.content_hash
    assert again.records == phase_1.records
    assert again.market_draws == phase_1.market_draws


def test_another_seed_gives_other_weights(phase_1: TrainingResult) -> None:
    assert differ(train(seed=1).final, phase_1.final)


def test_timesteps_are_rounded_up_to_whole_rollouts_and_the_truth_is_told() -> None:
    result = train(timesteps=ROLLOUT + 1)
    assert result.timesteps == result.final.state.timesteps == 2 * ROLLOUT
    assert result.records[-1].timesteps == 2 * ROLLOUT


def test_a_child_continues_from_its_parents_weights_optimiser_and_counter(
    phase_1: TrainingResult,
) -> None:
    parent = phase_1.final
    child = train(phase="phase_2", parent=parent, timesteps=ROLLOUT).final
    assert child.state.timesteps == ROLLOUT
    assert child.state.timesteps_total == 4 * ROLLOUT
    assert child.state.parent == parent.content_hash
    # 2 epochs of 2 minibatches a rollout: Adam's own counter goes on as well
    assert child.optimizer["step.action_net.bias"] == 4 * 4
    # a small step away from the parent, not another network
    moved = np.abs(child.policy["action_net.weight"] - parent.policy["action_net.weight"]).max()
    assert 0 < moved < 4 * 3 * CONFIG.learning_rate


def test_a_child_draws_other_numbers_than_its_parent(phase_1: TrainingResult) -> None:
    child = train(phase="phase_2", parent=phase_1.final).final
    assert child.state.generators["torch"] != phase_1.final.state.generators["torch"]


def test_the_lineage_holds_every_market_and_the_parents(phase_1: TrainingResult) -> None:
    first = phase_1.final.state.lineage
    assert {entry.market for entry in first} == {e.market for e in UNIVERSE.episodes}
    renamed = Universe(
        UNIVERSE.tape, tuple(replace(episode, session=2) for episode in UNIVERSE.episodes)
    )
    second = train(
        renamed, phase="phase_2", parent=phase_1.final, timesteps=1, validate=lambda _: 0.0,
        selected_on=VALIDATION,
    ).final  # fmt: skip
    assert set(second.state.lineage) == set(first) | set(lineage_of(renamed))
    assert second.state.selected_on == VALIDATION
    third = train(phase="phase_3", parent=second, timesteps=1).final
    assert set(third.state.lineage) == set(second.state.lineage)
    assert third.state.selected_on == VALIDATION


def test_lineage_spans_all_segments_of_a_market() -> None:
    episode = UNIVERSE.episodes[0]
    parts = (
        replace(episode, start_ms=5, end_ms=9),
        replace(episode, segment=1, start_ms=20, end_ms=30),
    )
    (entry,) = lineage_of(Universe(UNIVERSE.tape, parts))
    assert (entry.market, entry.start_ms, entry.end_ms) == (episode.market, 5, 30)


@pytest.mark.parametrize("curriculum", [True, False])
def test_a_resumed_phase_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, curriculum: bool
) -> None:
    kept: list[Snapshot] = []
    arguments: dict[str, Any] = {"timesteps": 5 * ROLLOUT, "curriculum": curriculum}
    whole = train(**arguments, keep=kept.append, checkpoint_every=ROLLOUT)
    assert [point.checkpoint.state.timesteps for point in kept] == [
        ROLLOUT * n for n in range(1, 6)
    ]
    for place in (0, 3):
        folder = tmp_path / str(place)
        folder.mkdir()
        save(kept[place].checkpoint, folder)
        resumed = train(**arguments, resume=replace(kept[place], checkpoint=load(folder)))
        assert resumed.final.content_hash == whole.final.content_hash
        assert resumed.market_draws == whole.market_draws
        assert resumed.records == whole.records
        assert resumed.timesteps == whole.timesteps


def test_resuming_a_child_phase_needs_the_same_parent(phase_1: TrainingResult) -> None:
    kept: list[Snapshot] = []
    arguments: dict[str, Any] = {"phase": "phase_2", "timesteps": 2 * ROLLOUT}
    whole = train(**arguments, parent=phase_1.final, keep=kept.append, checkpoint_every=ROLLOUT)
    resumed = train(**arguments, parent=phase_1.final, resume=kept[0])
    assert resumed.final.content_hash == whole.final.content_hash
    with pytest.raises(IncompatibleCheckpoint):
        train(**arguments, resume=kept[0])


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"phase": "other"}, {"config": replace(CONFIG, gamma=0.9)}]
)
def test_a_checkpoint_of_another_phase_is_not_resumed(change: dict[str, Any]) -> None:
    kept: list[Snapshot] = []
    train(keep=kept.append, checkpoint_every=ROLLOUT)
    with pytest.raises(IncompatibleCheckpoint):
        train(**change, resume=kept[0])


def test_a_phase_asked_to_stop_keeps_what_it_learned_and_is_continued_as_if_it_had_not() -> None:
    whole = train(keep=lambda _: None)
    kept: list[Snapshot] = []
    asked = iter([False, True])
    with pytest.raises(TrainingStopped) as caught:
        train(keep=kept.append, checkpoint_every=10**6, stop=lambda: next(asked))
    assert caught.value.row == 2 * ROLLOUT
    resumed = train(keep=lambda _: None, resume=kept[-1])
    assert resumed.final.content_hash == whole.final.content_hash
    assert resumed.records == whole.records


def test_a_phase_asked_to_stop_after_its_last_update_is_over() -> None:
    asked = iter([False, False, True])
    assert train(stop=lambda: next(asked)).timesteps == 3 * ROLLOUT


def test_a_final_checkpoint_is_no_point_to_resume_from(phase_1: TrainingResult) -> None:
    with pytest.raises(IncompatibleCheckpoint):
        train(resume=Snapshot(phase_1.final))


def test_records_say_what_happened(phase_1: TrainingResult) -> None:
    assert [record.timesteps for record in phase_1.records] == [64, 128, 192]
    for record in phase_1.records:
        assert sum(record.diagnostics.action_shares) == pytest.approx(1)
        assert 0 < record.entropy <= np.log(7) + 1e-6
        assert record.value_loss >= 0
        assert record.steps_per_second == ROLLOUT  # the test's clock ticks once a rollout
    ended = sum(r.diagnostics.ended.episodes for r in phase_1.records if r.diagnostics.ended)
    assert ended > 0
    assert ended <= sum(phase_1.market_draws.values())


@pytest.mark.parametrize("most", [3, 4, 6, 7])
def test_records_stay_bounded_and_keep_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(training, "MAX_RECORDS", most)
    told: list[TrainingProgress] = []
    records = train(timesteps=7 * ROLLOUT, progress=told.append).records
    assert len(records) <= most
    assert (records[0].timesteps, records[-1].timesteps) == (ROLLOUT, 7 * ROLLOUT)
    assert [p.record for p in told if p.kept] == list(records)


def always(action: Action, parent: Checkpoint) -> Checkpoint:
    """A policy that all but always does the same."""
    bias = parent.policy["action_net.bias"].copy()
    bias[action] += 20
    return replace(parent, policy={**parent.policy, "action_net.bias": bias})


def test_a_policy_that_always_holds_raises_the_alarm_and_explores_more(
    tmp_path: Path, phase_1: TrainingResult
) -> None:
    arguments: dict[str, Any] = {
        "phase": "phase_2", "timesteps": 18 * ROLLOUT, "parent": always(Action.HOLD, phase_1.final),
        "watching": WatchConfig(alerts="act"),
    }  # fmt: skip
    kept: list[Snapshot] = []
    whole = train(**arguments, keep=kept.append, checkpoint_every=ROLLOUT)
    alarms = [firing for firing in whole.firings if "dominates" in firing.rule]
    assert [firing.rule for firing in alarms] == ["hold_dominates", "action_dominates"]
    assert {firing.timesteps for firing in alarms} == {16 * ROLLOUT}  # 1,000 steps
    assert whole.final.state.knobs["ent_coef"] == 0.15
    for place in (9, 16):  # before the alarm and after it
        folder = tmp_path / str(place)
        folder.mkdir()
        save(kept[place].checkpoint, folder)
        resumed = train(**arguments, resume=replace(kept[place], checkpoint=load(folder)))
        assert resumed.final.content_hash == whole.final.content_hash
        assert resumed.firings == whole.firings
    watched = train(**arguments | {"watching": WatchConfig(alerts="record")})
    assert {"hold_dominates", "action_dominates"} <= {firing.rule for firing in watched.firings}
    assert watched.final.state.knobs["ent_coef"] == CONFIG.ent_coef
    assert differ(watched.final, whole.final)


def test_a_policy_that_always_sells_raises_the_alarm_and_explores_more(
    phase_1: TrainingResult,
) -> None:
    done = train(
        phase="phase_2", timesteps=18 * ROLLOUT, parent=always(Action.SELL_BEST, phase_1.final),
        watching=WatchConfig(alerts="act"),
    )  # fmt: skip
    (alarm,) = [firing for firing in done.firings if "dominates" in firing.rule]
    assert (alarm.rule, alarm.acted) == ("action_dominates", True)
    assert "SELL_BEST" in alarm.cause
    assert alarm.changed == {"ent_coef": (CONFIG.ent_coef, 0.1)}
    assert done.final.state.knobs["ent_coef"] == 0.1


def test_falling_validation_stops_and_the_best_is_what_counts(tmp_path: Path) -> None:
    watching = WatchConfig(validation_min=3, validation_patience=2)
    scores = {64: 0.5, 128: 1.0, 192: 0.6, 256: 0.5, 320: 0.4}

    def stopped(begin: int = 0, **changes: Any) -> TrainingResult:
        turns = iter(list(scores.values())[begin:])
        return train(
            timesteps=9 * ROLLOUT, validate=lambda _: next(turns), selected_on=VALIDATION,
            checkpoint_every=ROLLOUT, **{"watching": watching, **changes},
        )  # fmt: skip

    kept: list[Snapshot] = []
    told: list[TrainingProgress] = []
    whole = stopped(keep=kept.append, progress=told.append)
    assert whole.stopped
    assert whole.timesteps == 4 * ROLLOUT
    assert whole.best.state.timesteps == 2 * ROLLOUT
    assert whole.records[-1].timesteps == 4 * ROLLOUT
    assert [p.score for p in told] == [0.5, 1.0, 0.6, 0.5]
    assert [firing.rule for firing in told[-1].firings] == ["validation_drop"]
    for place in range(4):  # before the best, at it, after it, and once stopped
        folder = tmp_path / str(place)
        folder.mkdir()
        save(kept[place].checkpoint, folder)
        resumed = stopped(place + 1, resume=replace(kept[place], checkpoint=load(folder)))
        assert resumed.stopped
        assert resumed.final.content_hash == whole.final.content_hash
        assert resumed.best.content_hash == whole.best.content_hash
        assert resumed.validations == whole.validations
    with pytest.raises(StopIteration):  # nothing but the alert ends it
        stopped(watching=replace(watching, alerts="off"))


def test_what_is_kept_of_the_best_is_the_best() -> None:
    scores = iter([0.1, 0.5, 0.3])
    kept: list[Snapshot] = []
    result = train(
        validate=lambda _: next(scores), selected_on=VALIDATION, checkpoint_every=ROLLOUT,
        keep=kept.append,
    )  # fmt: skip
    of_then = replace(kept[1].checkpoint, environment={})
    assert result.best.content_hash == of_then.content_hash


def test_markets_are_told_with_what_was_earned_there(phase_1: TrainingResult) -> None:
    assert set(phase_1.market_returns) == set(phase_1.market_draws)
    told = [pnl for pnl in phase_1.market_returns.values() if pnl is not None]
    assert told
    assert np.isfinite(told).all()


def test_progress_is_told_after_each_rollout(phase_1: TrainingResult) -> None:
    told: list[TrainingProgress] = []
    train(phase="phase_2", parent=phase_1.final, timesteps=130, progress=told.append)
    assert [p.timesteps for p in told] == [64, 128, 192]
    assert [p.timesteps_total for p in told] == [256, 320, 384]
    assert {(p.phase, p.target) for p in told} == {("phase_2", 192)}


def test_the_best_checkpoint_is_kept_by_validation_score_the_earliest_of_equals() -> None:
    scores = iter([0.1, 0.5, 0.5, 0.2])
    result = train(
        timesteps=4 * ROLLOUT, validate=lambda _: next(scores), selected_on=VALIDATION,
        checkpoint_every=ROLLOUT,
    )  # fmt: skip
    assert [score for _, score in result.validations] == [0.1, 0.5, 0.5, 0.2]
    assert result.best.state.timesteps == 2 * ROLLOUT
    assert result.final.state.timesteps == 4 * ROLLOUT


def test_validation_looks_at_the_policy_of_that_moment_and_changes_nothing(
    phase_1: TrainingResult,
) -> None:
    seen: list[np.ndarray] = []

    def validate(policy: Any) -> float:
        seen.append(policy.probabilities(np.zeros((1, 52), np.float32)))
        return 0.0

    result = train(validate=validate, selected_on=VALIDATION, checkpoint_every=ROLLOUT)
    assert len(seen) == 3
    assert not np.array_equal(seen[0], seen[2])
    assert not differ(result.final, phase_1.final)


def test_without_validation_the_best_is_the_last(phase_1: TrainingResult) -> None:
    assert phase_1.best is phase_1.final


def test_validation_that_is_not_a_number_stops() -> None:
    with pytest.raises(TrainingDiverged, match="validation"):
        train(validate=lambda _: float("nan"), selected_on=VALIDATION)


def test_validating_on_unnamed_markets_is_refused() -> None:
    with pytest.raises(PlanError, match="validation"):
        train(validate=lambda _: 0.0)


@pytest.mark.parametrize("timesteps", [0, -1])
def test_a_phase_without_timesteps_is_refused(timesteps: int) -> None:
    with pytest.raises(PlanError):
        train(timesteps=timesteps)


def test_an_empty_universe_is_refused_with_its_counts() -> None:
    with pytest.raises(NoSuitableMarket, match="0 episodes"):
        train(Universe(UNIVERSE.tape, ()))


def test_a_parent_with_another_network_is_refused_and_both_are_named(
    phase_1: TrainingResult,
) -> None:
    with pytest.raises(IncompatibleCheckpoint) as caught:
        train(parent=phase_1.final, config=replace(CONFIG, hidden=(8, 8)))
    assert "(16, 16, 8)" in str(caught.value)
    assert "(8, 8)" in str(caught.value)


def test_an_impossible_reward_stops_training_and_names_its_market(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "reward_bound", lambda *_: 1e-9)
    with pytest.raises(TrainingDiverged, match="breaks its bound") as caught:
        train(timesteps=10 * ROLLOUT)
    assert caught.value.market in {episode.market for episode in UNIVERSE.episodes}


def test_a_feature_that_is_not_finite_stops_training_and_names_its_market() -> None:
    features = UNIVERSE.tape.features.copy()
    spoiled = UNIVERSE.episodes[2]
    features[UNIVERSE.tape.first_step[2] + 1, 3] = np.nan
    universe = Universe(UNIVERSE.tape._replace(features=features), UNIVERSE.episodes)
    with pytest.raises(TrainingDiverged, match="microprice_offset") as caught:
        train(universe, timesteps=20 * ROLLOUT)
    assert caught.value.market == spoiled.market


def test_a_saved_phase_trains_a_child_as_the_one_in_memory_does(
    tmp_path: Path, phase_1: TrainingResult
) -> None:
    save(phase_1.final, tmp_path)
    parents = (phase_1.final, load(tmp_path))
    children = [train(phase="phase_2", parent=parent, timesteps=1).final for parent in parents]
    assert children[0].content_hash == children[1].content_hash


def differ(one: Checkpoint, other: Checkpoint) -> bool:
    return any(not np.array_equal(one.policy[name], other.policy[name]) for name in one.policy)


def test_one_suitable_market_is_enough_to_train_on() -> None:
    result = train(random_universe(np.random.default_rng(1), episodes=1, steps=30))
    assert list(result.market_draws) == [(1, result.final.state.lineage[0].market)]
    assert result.timesteps == 3 * ROLLOUT
