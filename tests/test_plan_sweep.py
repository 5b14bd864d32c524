"""A sweep counts every trial, goes on after it was killed, and publishes nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="needs the extra: pip install .[ray]")

from kalshi_pipeline import cli
from kalshi_pipeline.config import A2CConfig, PPOConfig
from kalshi_pipeline.errors import (
    KalshiPipelineError,
    MissingParent,
    NotPublished,
    PlanError,
    SessionSealed,
    TrainingDiverged,
    TrainingStopped,
)
from kalshi_pipeline.plan_sweep import BEST, best_settings, open_sweep, search
from kalshi_pipeline.search_space import space_of
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.trials import read_trials
from tests.conftest import ROOT
from tests.drills.copies import made_at_once
from tests.sweeps import LEARNER, tiny_plan, tiny_sweep

TRIALS = 16


@pytest.fixture(scope="module")
def prepared(generated, tmp_path_factory):
    """A warehouse in which phase 1 of the quick plan can be trained."""
    root = tmp_path_factory.mktemp("prepared")
    for session in ("901", "902"):
        made_at_once(generated / session, Warehouse(root))
    return root


@pytest.fixture(scope="module")
def swept(prepared, tmp_path_factory):
    """A sweep that nothing disturbed."""
    root = tmp_path_factory.mktemp("swept") / "warehouse"
    shutil.copytree(prepared, root)
    sweep = tiny_sweep(root)
    search(sweep, TRIALS, now_ms=0)
    return sweep


@pytest.fixture
def fresh(prepared, tmp_path):
    root = tmp_path / "warehouse"
    shutil.copytree(prepared, root)
    return root


def ledger(sweep):
    """Every policy that was scored, once."""
    rows = read_trials(sweep.warehouse).to_pylist()
    return {(row["recipe"], row["timesteps"]): (row["weights"], row["pnl_micro"]) for row in rows}


def done(sweep):
    return [(t.state, t.score, dict(t.settings)) for t in sweep.trials() if t.state != "fail"]


def test_as_many_trials_as_asked_for_are_done_the_first_with_the_plans_own_settings(swept):
    found = swept.trials()
    assert len(found) == TRIALS
    assert {told.state for told in found} == {"complete", "pruned"}
    assert found[0].settings == {name: getattr(LEARNER, name) for name in found[0].settings}
    assert len({tuple(told.settings.items()) for told in found}) == TRIALS
    search(swept, TRIALS, now_ms=0)
    assert len(swept.trials()) == TRIALS


def test_every_policy_that_was_validated_is_in_the_ledger_pruned_trials_included(swept):
    from optuna import load_study

    study = load_study(
        study_name=swept.folder.name, storage=f"sqlite:///{swept.folder / 'study.sqlite'}"
    )
    scored = sum(len(trial.intermediate_values) for trial in study.trials)
    rows = read_trials(swept.warehouse).to_pylist()
    assert len(rows) == scored > TRIALS
    assert {(row["plan"], row["phase"], row["kind"]) for row in rows} == {
        ("quick", "phase_1_sweep", "validation")
    }
    assert len({row["recipe"] for row in rows}) == TRIALS
    assert {tuple(row["sessions"]) for row in rows} == {(902,)}
    assert any(trial.state.name == "PRUNED" for trial in study.trials)


def test_the_best_settings_are_told_as_they_go_into_the_plan_and_nothing_is_published(swept):
    best = swept.best()
    complete = [told for told in swept.trials() if told.state == "complete"]
    assert best.score == max(told.score for told in complete)
    told = tomllib.loads((swept.folder / BEST).read_text())
    assert told["phase"]["ppo"] == best.settings
    assert best_settings(swept) == (swept.folder / BEST).read_text()
    assert set(told["phase"]["ppo"]) < set(PPOConfig.__dataclass_fields__)
    with pytest.raises(NotPublished):
        swept.warehouse.current("quick/phase_1")
    assert not (swept.warehouse.root / "trained_models").exists()


def test_a_sweep_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(swept, fresh):
    command = [sys.executable, "-m", "tests.sweeps", str(fresh), str(TRIALS), str(20)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert [told.state for told in tiny_sweep(fresh).trials()][-1] == "running"
    sweep = tiny_sweep(fresh)
    search(sweep, TRIALS, now_ms=0)
    assert done(sweep) == done(swept)
    assert ledger(sweep) == ledger(swept)
    (killed,) = [told for told in sweep.trials() if told.state == "fail"]
    assert sweep.trials()[killed.number + 1].settings == killed.settings
    runs = list(sweep.folder.glob("trained_models/*/run.json"))
    assert len(runs) == TRIALS  # the killed one's was gone on with
    assert best_settings(sweep).split("steps.")[1] == best_settings(swept).split("steps.")[1]


@pytest.mark.parametrize("suggested", [0, 3])
def test_one_that_is_killed_while_a_trial_is_drawn_draws_it_again(
    swept, fresh, monkeypatch, suggested
):
    from optuna.trial import Trial

    draw, left = Trial._suggest, iter([*[True] * suggested, *[False] * 100])

    class Killed(BaseException):
        pass

    def ends(trial, *told):
        if not next(left):
            raise Killed
        return draw(trial, *told)

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "_suggest", ends)
        with pytest.raises(Killed):
            search(tiny_sweep(fresh), 2, now_ms=0)
    sweep = tiny_sweep(fresh)
    search(sweep, 2, now_ms=0)
    assert done(sweep) == done(swept)[:2]


def test_one_that_is_killed_between_giving_up_a_trial_and_asking_again_loses_none(
    swept, fresh, monkeypatch
):
    from optuna import Study

    sweep = tiny_sweep(fresh)
    with pytest.raises(TrainingStopped):
        search(sweep, 2, now_ms=0, stop=lambda: True)

    class Killed(BaseException):
        pass

    def ends(*_, **__):
        raise Killed

    for method in ("enqueue_trial", "tell"):
        with monkeypatch.context() as patch:
            patch.setattr(Study, method, ends)
            with pytest.raises(Killed):
                search(tiny_sweep(fresh), 2, now_ms=0)
    sweep = tiny_sweep(fresh)
    search(sweep, 2, now_ms=0)
    assert done(sweep) == done(swept)[:2]


def test_one_that_is_asked_to_stop_keeps_its_trial_to_go_on_with(swept, fresh):
    sweep = tiny_sweep(fresh)
    asked = iter([False] * 5 + [True] * 100)
    with pytest.raises(TrainingStopped):
        search(sweep, 2, now_ms=0, stop=lambda: next(asked))
    assert [told.state for told in sweep.trials()] == ["complete", "running"]
    search(sweep, 2, now_ms=0)
    assert done(sweep) == done(swept)[:2]


@pytest.mark.slow
def test_two_at_once_share_the_trials(fresh):
    command = [sys.executable, "-m", "tests.sweeps", str(fresh), "5"]
    other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    sweep = tiny_sweep(fresh)
    search(sweep, 5, now_ms=0)
    assert other.wait(60) == 0
    assert [told.state for told in sweep.trials() if told.state != "pruned"].count("fail") == 0
    assert len(sweep.trials()) == 5


def test_a_trial_that_diverges_is_counted_and_the_next_one_is_tried(fresh, monkeypatch):
    from kalshi_pipeline.learning import phase_run

    def diverges(*_, **__):
        raise TrainingDiverged("a weight is not finite")

    sweep = tiny_sweep(fresh)
    with monkeypatch.context() as patch:
        patch.setattr(phase_run, "train_run", diverges)
        search(sweep, 1, now_ms=0)
    search(sweep, 2, now_ms=0)
    assert [told.state for told in sweep.trials()] == ["fail", "complete"]
    assert sweep.best().number == 1


def test_the_space_is_that_of_the_plans_guide_widened_to_the_plans_own_settings():
    assert space_of(PPOConfig()) == {
        "learning_rate": (5e-5, 3e-4),
        "clip_range": (0.1, 0.2),
        "ent_coef": (0.05, 0.15),
        "batch_size": (256, 512),
        "n_epochs": (5, 10, 15),
        "n_steps": (32, 64),
    }
    assert space_of(LEARNER)["batch_size"] == (64,)
    wider = space_of(PPOConfig(learning_rate=1e-3, n_epochs=4))
    assert wider["learning_rate"] == (5e-5, 1e-3)
    assert wider["n_epochs"] == (4, 5, 10, 15)


def test_what_cannot_be_searched_is_refused(prepared, tmp_path, monkeypatch):
    warehouse, plan = Warehouse(prepared), tiny_plan()
    other = replace(plan.phases[0], learner=A2CConfig())
    with pytest.raises(PlanError, match="appendix B"):
        open_sweep(warehouse, replace(plan, phases=(other,)), "phase_1")
    with pytest.raises(PlanError, match="nothing validates phase_2"):
        open_sweep(warehouse, plan, "phase_2")
    with pytest.raises(NotPublished):
        open_sweep(Warehouse(tmp_path), plan, "phase_1")
    sealed = replace(plan.phases[0], sessions=(71,))
    with pytest.raises(SessionSealed):
        open_sweep(warehouse, replace(plan, phases=(sealed,)), "phase_1")
    later = replace(plan.phases[0], name="phase_2", parent="phase_1")
    with pytest.raises(MissingParent):
        open_sweep(warehouse, replace(plan, phases=(plan.phases[0], later)), "phase_2")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(KalshiPipelineError, match="pip install"):
        open_sweep(warehouse, plan, "phase_1")


def test_the_command_prints_the_settings_and_where_they_are_kept(fresh, monkeypatch, capsys):
    monkeypatch.setenv("KALSHI_WAREHOUSE", str(fresh))
    monkeypatch.setattr("kalshi_pipeline.cli.sweeping.load_plan", lambda _: tiny_plan())
    words = [
        "sweep",
        "--plan",
        "quick",
        "--trials",
        "2",
        "--timesteps",
        "256",
        "--save-freq",
        "128",
    ]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "[phase.ppo]" in printed
    kept = Path(printed.split("kept: ")[1].strip())
    assert kept.read_text() in printed
    assert cli.main([*words, "--side-by-side", "2"]) == 1
    assert "KALSHI_ENGINE=ray" in capsys.readouterr().err
    monkeypatch.setenv("KALSHI_ENGINE", "ray")
    monkeypatch.setenv("KALSHI_WAREHOUSE", "s3://bucket/prefix")
    assert cli.main([*words, "--side-by-side", "2"]) == 1
    assert "a folder that all nodes see" in capsys.readouterr().err
