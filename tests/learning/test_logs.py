"""The logs of a run: bounded, the same after a resume, readable by their usual tools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.learning import training
from kalshi_pipeline.learning.alert_rules import RULES, Firing
from kalshi_pipeline.learning.alerts import REST_STEPS
from kalshi_pipeline.learning.diagnostics import diagnose
from kalshi_pipeline.learning.logs import (
    ALERTS,
    DIAGNOSTICS,
    ROLLOUTS,
    TENSORBOARD,
    VALIDATIONS,
    training_logs,
)
from kalshi_pipeline.learning.records import RolloutRecord, TrainingProgress
from tests.learning.test_diagnostics import seen, summary
from tests.learning.test_training import ROLLOUT, VALIDATION, train

MEBIBYTE = 1 << 20
FIRING = Firing(512, "low_reward", "-0.71 $ an episode over 7", -0.71, False, "review", {})


def wordy(timesteps: int, target: int, **changes: Any) -> TrainingProgress:
    """As much as there can be to tell of a rollout."""
    rng = np.random.default_rng(timesteps)
    shown = diagnose(
        rng.integers(0, 7, 500), rng.normal(size=500),
        [summary(int(n), steps=7, flat_trips=3) for n in rng.integers(-1e8, 1e8, 9)],
        seen(rng.integers(0, 6, 500), two_sided=rng.random(500) < 0.7),
    )  # fmt: skip
    shown = replace(shown, constant_columns=tuple(feature.name for feature in FEATURES))
    figures = rng.random(6)
    record = RolloutRecord(
        *figures.tolist(), timesteps=timesteps, diagnostics=shown, steps_per_second=12_345.6
    )
    knobs = {"learning_rate": 1e-4, "ent_coef": 0.05, "clip_range": 0.2, "n_epochs": 10.0}
    return TrainingProgress("phase_2", timesteps, target, timesteps, record, knobs=knobs, **changes)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / DIAGNOSTICS / name).read_text().splitlines()]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("rollout", [500, 4_096])
def test_logs_of_the_plans_2_6_million_steps_stay_under_20_mb(tmp_path: Path, rollout: int) -> None:
    whole = 2_600_000
    total = 0
    # one phase a tenth of the plan's longest, with all there can be in it, and the bound of each
    target = 200_000
    count = target // rollout
    with training_logs(tmp_path, tmp_path / "training.log", 500) as logs:
        before = {}
        for done in range(1, count + 1):
            firings = tuple(replace(FIRING, rule=rule.name, action=rule.action) for rule in RULES)
            due = done * rollout % REST_STEPS < rollout
            logs(wordy(done * rollout, target, firings=firings if due else (), score=0.1))
            if done == count // 2:
                before = {path: path.stat().st_size for path in tmp_path.rglob("*.jsonl")}
    assert before
    records = tmp_path / DIAGNOSTICS / ROLLOUTS
    a_record = records.stat().st_size / count
    curves = size(tmp_path / TENSORBOARD) / count
    others = size(tmp_path) - records.stat().st_size - size(tmp_path / TENSORBOARD)
    total = 3 * training.MAX_RECORDS * (a_record + curves) + others * whole / target
    assert total < 20 * MEBIBYTE


def test_a_block_comes_every_so_many_steps_and_each_rollout_where_that_is_longer(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    with training_logs(tmp_path, tmp_path / "a.log", 500, console=said.append) as logs:
        for step in range(100, 2_100, 100):
            logs(wordy(step, 10_000))
    steps = [text.split("step ")[1].split(" of")[0] for text in said]
    assert steps == ["500", "1,000", "1,500", "2,000"]
    assert max(len(line) for line in "\n".join(said).splitlines()) <= 100
    assert (tmp_path / "a.log").read_text() == "".join(f"{text}\n" for text in said)
    said.clear()
    with training_logs(tmp_path, tmp_path / "b.log", 500, console=said.append) as logs:
        for step in range(4_096, 5 * 4_096, 4_096):
            logs(wordy(step, 100_000))
    assert len(said) == 4


def test_what_fired_and_what_was_scored_is_told_to_people_and_machines(tmp_path: Path) -> None:
    acted = replace(FIRING, acted=True, changed={"ent_coef": (0.05, 0.1)})
    with training_logs(tmp_path, tmp_path / "a.log", 500) as logs:
        logs(wordy(512, 1_024, firings=(FIRING, acted), score=-0.25))
    told = (tmp_path / "a.log").read_text()
    assert "advice: review" in told
    assert "done: ent_coef 0.05 -> 0.1" in told
    assert "validation -0.2500 $" in told
    assert [line["acted"] for line in lines(tmp_path, ALERTS)] == [False, True]
    assert lines(tmp_path, VALIDATIONS) == [{"timesteps": 512, "score": -0.25}]


def test_only_records_that_outlive_the_phase_become_lines(tmp_path: Path) -> None:
    with training_logs(tmp_path, tmp_path / "a.log", 500) as logs:
        logs(wordy(500, 1_500))
        logs(wordy(1_000, 1_500, kept=False))
        logs(wordy(1_500, 1_500))
    assert [line["timesteps"] for line in lines(tmp_path, ROLLOUTS)] == [500, 1_500]


def test_curves_open_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with training_logs(tmp_path, tmp_path / "a.log", 500) as logs:
        for step in (500, 1_000):
            logs(wordy(step, 2_000, score=step / 1_000))
    events = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
    assert [point.step for point in events.Scalars("actions/hold")] == [500, 1_000]
    scores = [point.value for point in events.Scalars("validation/dollars_an_episode")]
    assert scores == [0.5, 1.0]


def test_lines_of_a_resumed_run_equal_those_of_one_that_never_stopped(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "timesteps": 6 * ROLLOUT, "checkpoint_every": 2 * ROLLOUT, "selected_on": VALIDATION,
        "validate": lambda policy: float(policy.probabilities(np.zeros((1, 52), np.float32))[0, 0]),
    }  # fmt: skip
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    kept = []
    sizes: list[dict[str, int]] = []

    def keep(snapshot: Any) -> None:
        kept.append(snapshot)
        diagnostics = (whole / DIAGNOSTICS).iterdir()
        sizes.append({path.name: path.stat().st_size for path in diagnostics})

    for folder in (whole, resumed):
        folder.mkdir()
    with training_logs(whole, whole / "a.log", 64) as logs:
        train(**arguments, progress=logs, keep=keep)
    (resumed / DIAGNOSTICS).mkdir()
    for name, length in sizes[0].items():  # as a run cuts its folder back
        content = (whole / DIAGNOSTICS / name).read_bytes()[:length]
        (resumed / DIAGNOSTICS / name).write_bytes(content)
    with training_logs(resumed, resumed / "a.log", 64, resumed_at=2 * ROLLOUT) as logs:
        train(**arguments, progress=logs, resume=kept[0])
    for path in (whole / DIAGNOSTICS).iterdir():
        assert (resumed / DIAGNOSTICS / path.name).read_bytes() == path.read_bytes()
    assert "resumed at step 128" in (resumed / "a.log").read_text()
