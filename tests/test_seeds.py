"""Several seeds a phase: each on its own, none trained twice, each from its own parent."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kalshi_pipeline import plan_evaluation, plan_stages
from kalshi_pipeline.config import EvaluationConfig, PPOConfig
from kalshi_pipeline.errors import CorruptCheckpoint, MissingParent, NotPublished
from kalshi_pipeline.past import courses_of
from kalshi_pipeline.plans import Phase, Plan, load_plan
from kalshi_pipeline.rules import weights_are_sound
from kalshi_pipeline.storage.checkpoints import load_seeds
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.storage.trials import read_trials
from tests.test_stages import materialize

TINY = PPOConfig(hidden=(8, 8), n_envs=4, n_steps=16, batch_size=32, n_epochs=1)
ROLLOUTS = 3


@pytest.fixture(scope="module")
def data(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one session and nothing trained."""
    warehouse = Warehouse(tmp_path_factory.mktemp("data"))
    materialize(warehouse, generated / "901")
    return warehouse.root


@pytest.fixture
def warehouse(data: Path, tmp_path: Path) -> Warehouse:
    shutil.copytree(data, tmp_path / "warehouse")
    return Warehouse(tmp_path / "warehouse")


def plan_of(seeds: int, first: int = 7) -> Plan:
    """Two tiny phases on one session."""
    steps = ROLLOUTS * TINY.rollout_steps
    phases = (
        Phase("phase_1", (901,), steps, None, TINY),
        Phase("phase_2", (901,), steps, "phase_1", TINY),
    )
    return replace(
        load_plan("quick"), phases=phases, seed=first, seeds=seeds,
        save_every=TINY.rollout_steps, roles={901: "what it learned from"},
    )  # fmt: skip


class Told:
    """Which seed was trained, rollout by rollout; fails where it is told to."""

    def __init__(self, fail_at: tuple[int, int] | None = None) -> None:
        self.rollouts: list[tuple[int, int]] = []
        self._fail_at = fail_at

    def __call__(self, seed: int, progress) -> None:
        self.rollouts.append((seed, progress.timesteps // TINY.rollout_steps))
        if self.rollouts[-1] == self._fail_at:
            raise KeyboardInterrupt


def train(warehouse: Warehouse, plan: Plan, phase: str = "phase_1", told=lambda *_: None):
    return plan_stages.train_phase(warehouse, plan, plan.phase(phase), told, now_ms=0)


def hashes(generation: Generation) -> dict[int, str]:
    found = load_seeds(generation.verified())
    return {seed: checkpoint.content_hash for seed, checkpoint in found.items()}


def test_each_seed_is_what_it_would_be_alone(warehouse, tmp_path, data) -> None:
    both = train(warehouse, plan_of(2))
    shutil.copytree(data, tmp_path / "alone")
    alone = train(Warehouse(tmp_path / "alone"), plan_of(1, first=8))
    assert set(hashes(both)) == {7, 8}
    assert hashes(both)[8] == hashes(alone)[8] != hashes(both)[7]
    assert [entry["seed"] for entry in both.summary["trained"]] == [7, 8]
    assert both.summary["seeds"] == 2
    for seed in (7, 8):
        records = json.loads(both.path(f"exports/seed_{seed}/training.json").read_bytes())
        assert records[-1]["timesteps"] == ROLLOUTS * TINY.rollout_steps
        assert both.path(f"exports/seed_{seed}/model.zip").stat().st_size > 1_000
    finding = weights_are_sound(both)
    assert finding.holds, finding.says


def test_one_seed_has_a_folder_of_its_own_too(warehouse) -> None:
    generation = train(warehouse, plan_of(1))
    inside = {path.name for path in generation.folder.iterdir()}
    assert inside == {"seed_7", "exports", "manifest.json"}


def test_a_seed_that_was_done_when_the_process_died_is_not_trained_again(warehouse, tmp_path, data):
    with pytest.raises(KeyboardInterrupt):
        train(warehouse, plan_of(3), told=Told(fail_at=(8, 2)))
    told = Told()
    resumed = train(warehouse, plan_of(3), told=told)
    # of seed 8 the rollout it died in, which had not been saved, and what remained
    assert told.rollouts == [(8, 2), (8, 3), (9, 1), (9, 2), (9, 3)]
    shutil.copytree(data, tmp_path / "whole")
    whole = train(Warehouse(tmp_path / "whole"), plan_of(3))
    assert resumed.content_hash == whole.content_hash
    assert train(warehouse, plan_of(3)).reused


def test_seeds_trained_one_by_one_in_any_order_are_found_and_published(warehouse, tmp_path, data):
    plan = plan_of(2)
    for seed in reversed(plan.trained_seeds):
        plan_stages.train_seed(warehouse, plan, plan.phase("phase_1"), seed, now_ms=0)
    with pytest.raises(NotPublished):
        warehouse.current("quick/phase_1")
    told = Told()
    published = train(warehouse, plan, told=told)
    assert told.rollouts == []
    shutil.copytree(data, tmp_path / "whole")
    whole = train(Warehouse(tmp_path / "whole"), plan)
    assert published.content_hash == whole.content_hash
    runs = sorted((warehouse.root / "trained_models").glob("*/run.json"))
    plan_stages.train_seed(warehouse, plan, plan.phase("phase_1"), 7, now_ms=0)
    assert sorted((warehouse.root / "trained_models").glob("*/run.json")) == runs


def test_a_seed_continues_from_its_own_parent(warehouse) -> None:
    parents = hashes(train(warehouse, plan_of(2)))
    children = load_seeds(train(warehouse, plan_of(2), "phase_2").verified())
    assert {seed: child.state.parent for seed, child in children.items()} == parents
    total = 2 * ROLLOUTS * TINY.rollout_steps
    assert {child.state.timesteps_total for child in children.values()} == {total}


def test_a_seed_without_a_parent_says_what_to_materialize(warehouse) -> None:
    train(warehouse, plan_of(1))
    with pytest.raises(MissingParent, match=r"seed 8 of phase_2.*materialize quick/phase_1 first"):
        train(warehouse, plan_of(2), "phase_2")


def test_the_evaluation_shows_every_seed_and_their_ensemble(warehouse) -> None:
    plan = replace(plan_of(2), roles={901: "in-sample"}, evaluation=EvaluationConfig(resamples=50))
    for phase in ("phase_1", "phase_2"):
        train(warehouse, plan, phase)
    evaluation = plan_evaluation.evaluate_plan(warehouse, plan, lambda _: None)
    report = json.loads(evaluation.path("report.json").read_bytes())
    assert [row["policy"] for row in report["sessions"][0]["policies"]][:6] == [
        "Learned", "Learned, likeliest action", "Learned, seed 8",
        "Ensemble of 2", "Ensemble of 2, likeliest action", "Hold",
    ]  # fmt: skip
    assert [(seed, row["policy"]) for seed, row in report["seeds"]["seeds"]] == [
        (7, "Learned"), (8, "Learned, seed 8"),
    ]  # fmt: skip
    assert report["provenance"]["seed"] == 7
    assert [entry["seed"] for entry in report["provenance"]["trained"]] == [7, 8]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [((None, None, None), 7), ((0.1, 0.3, 0.2), 8), ((0.3, 0.3, 0.1), 7), ((None, -1.0, None), 8)],
)
def test_the_judged_seed_is_the_best_validated_and_the_first_of_equals(scores, chosen) -> None:
    trained = [{"seed": 7 + n, "validation": score} for n, score in enumerate(scores)]
    generation = Generation(Path(), "", {"trained": trained}, "")
    assert plan_evaluation.chosen_seed(generation) == chosen


def test_earlier_phases_that_cannot_be_found_are_named(tmp_path) -> None:
    network = SimpleNamespace(state=SimpleNamespace(seed=7, parent="a" * 16))
    found = plan_evaluation._parents(Warehouse(tmp_path), load_plan("quick"), network)
    assert found == ([], ["After phase_1", "After phase_2"])


def test_a_phase_without_any_seed_is_damaged(tmp_path) -> None:
    with pytest.raises(CorruptCheckpoint, match="no checkpoint of any seed"):
        load_seeds(tmp_path)


def test_a_phase_is_validated_watched_and_publishes_its_best(warehouse, generated) -> None:
    plan = replace(plan_of(1), roles={902: "validation"})
    with pytest.raises(NotPublished, match="902"):
        train(warehouse, plan)
    materialize(warehouse, generated / "902")
    generation = train(warehouse, plan)
    state = load_seeds(generation.verified())[7].state
    assert {entry.session for entry in state.selected_on} == {902}
    assert {entry.session for entry in state.lineage} == {901}
    course = json.loads(generation.path("exports/seed_7/course.json").read_bytes())
    (told,) = courses_of("phase_1", generation)
    assert told["recipe"] == course["recipe"]
    assert {course["recipe"]} == set(read_trials(warehouse)["recipe"].to_pylist())
    scores = {entry["timesteps"]: entry["score"] for entry in course["validations"]}
    assert list(scores) == [n * TINY.rollout_steps for n in range(1, ROLLOUTS + 1)]
    best = max(scores.values())
    assert state.timesteps == min(at for at, score in scores.items() if score == best)
    assert generation.summary["trained"][0]["validation"] == best
    assert sum(market["draws"] for market in course["markets"]) >= TINY.n_envs
    (run,) = warehouse.root.glob("trained_models/*_ppo_*")
    assert (run / "m10_diagnostics" / "rollouts.jsonl").read_text().count("\n") == ROLLOUTS
    assert list(run.glob("tensorboard/events*"))
    (log,) = run.glob("training_*.log")
    assert "validation" in log.read_text()


def test_what_validates_is_an_input_and_what_a_terminal_shows_is_none(warehouse, generated) -> None:
    plan = replace(plan_of(1), roles={902: "validation"})
    materialize(warehouse, generated / "902")
    train(warehouse, plan)
    quiet = replace(plan, watch=replace(plan.watch, console_steps=10**6))
    assert train(warehouse, quiet).reused
    watching = replace(plan, watch=replace(plan.watch, alerts="off"))
    assert not train(warehouse, watching).reused
    assert not train(warehouse, plan_of(1)).reused
