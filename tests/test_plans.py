"""The plans that ship with the project, and what a plan's file may not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kalshi_pipeline import plans
from kalshi_pipeline.config import A2CConfig, PPOConfig, StepConfig, TradingConfig
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.plans import DEFAULT_PLAN, load_plan, plan_names, steps_of

GOOD = """
title = "A plan"
[[phase]]
name = "phase_1"
sessions = [1]
timesteps = 100
[[phase]]
name = "phase_2"
sessions = [1, 2]
timesteps = 200
parent = "phase_1"
[[evaluate]]
session = 3
role = "forward test"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of plans."""
    monkeypatch.setattr(plans, "FOLDER", tmp_path)
    load_plan.cache_clear()
    yield tmp_path
    load_plan.cache_clear()


def load(folder: Path, content: str) -> plans.Plan:
    (folder / "made_up.toml").write_text(content)
    load_plan.cache_clear()
    return load_plan("made_up")


# --- the plans that ship


def test_three_plans_ship_and_one_is_the_default():
    assert plan_names() == ("quick", "recorded", "training_plan")
    assert DEFAULT_PLAN in plan_names()
    assert all(load_plan(name).name == name for name in plan_names())


def phases_of(name: str) -> list[tuple]:
    return [(p.name, p.sessions, p.timesteps, p.parent) for p in load_plan(name).phases]


def test_the_training_plan_has_the_sessions_budgets_and_roles_of_the_plan():
    assert phases_of("training_plan") == [
        ("phase_1", (32,), 500_000, None),
        ("phase_2", (32, 25, 10), 2_000_000, "phase_1"),
        ("phase_3", (70,), 100_000, "phase_2"),
    ]
    roles = load_plan("training_plan").roles
    assert list(roles) == [70, 41, 9, 6, 71]
    assert [session for session, role in roles.items() if role == "forward test"] == [71]
    assert load_plan("training_plan").sessions == (32, 25, 10, 70, 41, 9, 6, 71)


def test_the_recorded_plan_has_the_sessions_budgets_and_roles_of_the_plan():
    assert phases_of("recorded") == [
        ("phase_1", (102,), 500_000, None),
        ("phase_2", (102, 101, 103), 2_000_000, "phase_1"),
        ("phase_3", (104,), 100_000, "phase_2"),
    ]
    roles = load_plan("recorded").roles
    assert list(roles) == [105, 111, 112, 113]
    assert roles[105] == "validation"
    assert all("other underlying" in roles[session] for session in (111, 112, 113))
    assert load_plan("recorded").steps == StepConfig(min_step_ms=250)


def test_the_quick_plan_is_small_and_generated():
    plan = load_plan("quick")
    assert plan.sessions == (901, 902, 903)
    assert sum(phase.timesteps for phase in plan.phases) < 50_000


@pytest.mark.parametrize("name", ["quick", "recorded", "training_plan"])
def test_a_plan_leaves_the_account_alone_and_a_forward_test_unseen(name):
    plan = load_plan(name)
    assert plan.trading == TradingConfig()
    trained = {session for phase in plan.phases for session in phase.sessions}
    forward = {session for session, role in plan.roles.items() if role == "forward test"}
    assert not trained & forward
    assert plan.phases[0].parent is None
    assert [phase.parent for phase in plan.phases[1:]] == [phase.name for phase in plan.phases[:-1]]


def test_full_budgets_use_the_hyper_parameters_of_the_plan():
    for name in ("training_plan", "recorded"):
        plan = load_plan(name)
        assert {phase.learner for phase in plan.phases} == {PPOConfig()}
        assert (plan.curriculum, plan.save_every) == (True, 10_000)


# --- step clocks


def test_a_session_has_the_step_clock_of_its_plan():
    assert steps_of(102) == StepConfig(min_step_ms=250)
    assert steps_of(32) == StepConfig(min_step_ms=0)
    assert steps_of(999) == StepConfig()  # no plan uses it


def test_two_plans_may_share_a_session_but_not_with_two_clocks(folder):
    (folder / "one.toml").write_text(GOOD)
    (folder / "same.toml").write_text(GOOD)
    assert steps_of(1) == StepConfig()
    (folder / "other.toml").write_text(GOOD + "[steps]\nmin_step_ms = 100\n")
    with pytest.raises(PlanError, match="different step clocks") as caught:
        steps_of(1)
    assert caught.value.session == 1
    assert "other" in str(caught.value)
    assert steps_of(4) == StepConfig()


# --- files that say something wrong


def test_a_good_plan_is_read(folder):
    plan = load(
        folder, GOOD + "[ppo]\nhidden = [8, 8]\nlearning_rate = 1\n[evaluation]\nn_envs = 4\n"
    )
    assert plan.phase("phase_2").parent == "phase_1"
    assert plan.sessions == (1, 2, 3)
    assert {phase.learner.hidden for phase in plan.phases} == {(8, 8)}
    assert {phase.algorithm for phase in plan.phases} == {"ppo"}
    assert plan.learners["ppo"] == plan.phases[0].learner
    assert plan.evaluation.n_envs == 4
    with pytest.raises(PlanError, match="no such phase"):
        plan.phase("phase_9")


def test_a_phase_has_its_algorithm_and_its_own_settings(folder):
    content = GOOD.replace(
        "timesteps = 200\n", 'timesteps = 200\nalgorithm = "a2c"\n[phase.a2c]\nn_steps = 8\n'
    ).replace('parent = "phase_1"\n', "")
    first, second = load(folder, content + "[a2c]\nn_envs = 32\nn_steps = 4\n").phases
    assert first.learner == PPOConfig()
    assert second.learner == A2CConfig(n_envs=32, n_steps=8)
    assert second.algorithm == "a2c"


def test_a_plan_says_how_it_trains_once_for_all_phases(folder):
    plan = load(
        folder,
        "seed = 5\nseeds = 3\ncurriculum = false\nsave_every = 5_000\nmask_actions = true\n"
        + GOOD
        + "[a2c]\nmask_actions = false\n",
    )
    assert plan.trained_seeds == (5, 6, 7)
    assert (plan.curriculum, plan.save_every) == (False, 5_000)
    assert all(phase.learner.mask_actions for phase in plan.phases)
    assert not plan.learners["a2c"].mask_actions


def test_an_unknown_plan_says_which_there_are():
    with pytest.raises(PlanError, match="there are quick, recorded, training_plan"):
        load_plan("../secret")


PHASE_2 = 'name = "phase_2"'
ONE_TEST = '[[evaluate]]\nsession = 1\nrole = "x"\n'
BAD = {
    "not TOML": ("title =", "Invalid value"),
    "no title": (GOOD.replace("title", "titel"), "lacks title"),
    "no phases": ('title = "x"\nphase = []\n' + ONE_TEST, "one phase or more"),
    "no tests": ("evaluate = []\n" + GOOD.partition("[[evaluate]]")[0], "one session or more"),
    "a phase that is no table": ('title = "x"\nphase = ["a"]\nevaluate = []', "is a table"),
    "one phase, not a list": ('title = "x"\nevaluate = []\n[phase]\nname = "a"', "is a table"),
    "a phase without a budget": (GOOD.replace("timesteps = 200", ""), "lacks timesteps"),
    "no steps": (GOOD.replace("200", "0"), "positive number of timesteps"),
    "steps that are no number": (GOOD.replace("= 200", '= "many"'), "many"),
    "a phase without sessions": (GOOD.replace("[1, 2]", "[]"), "needs sessions"),
    "an odd session": (GOOD.replace("[1, 2]", '["../2"]'), "session id"),
    "an odd name": (GOOD.replace(PHASE_2, 'name = "../x"'), "phases are called"),
    "a name twice": (GOOD.replace(PHASE_2, 'name = "phase_1"'), "twice"),
    "the evaluation's name": (GOOD.replace(PHASE_2, 'name = "evaluation"'), "are called"),
    "a later parent": (GOOD.replace('parent = "phase_1"', 'parent = "phase_2"'), "not precede"),
    "a misspelt parent": (GOOD.replace("parent", "parnet"), "unknown keys: parnet"),
    "a misspelt section": (GOOD + "[trainng]\nseed = 1\n", "unknown keys: trainng"),
    "a misspelt setting": (GOOD + "[ppo]\nlearningrate = 1.0\n", "unknown keys: learningrate"),
    "a setting of another kind": (GOOD + '[steps]\nmin_step_ms = "fast"\n', "min_step_ms"),
    "a fraction of an epoch": (GOOD + "[ppo]\nn_epochs = 1.5\n", "n_epochs"),
    "settings that are no table": ("steps = 5\n" + GOOD, "is a table"),
    "a word where a switch belongs": ('curriculum = "yes"\n' + GOOD, "curriculum of the plan"),
    "a seed that is no whole number": ("seed = 1.5\n" + GOOD, "seed of the plan"),
    "no seeds": ("seeds = 0\n" + GOOD, "seeds is 1 or more"),
    "a negative seed": ("seed = -1\n" + GOOD, "seed is 0 or more"),
    "no saving": ("save_every = 0\n" + GOOD, "save_every is 1 or more"),
    "no such algorithm": (GOOD.replace("[[evaluate]]", 'algorithm = "dqn"\n[[evaluate]]'),
                          "phase_2 learns by ppo, a2c.*not by 'dqn'"),
    "settings of another algorithm": (
        GOOD.replace("[[evaluate]]", "[phase.a2c]\nn_envs = 8\n[[evaluate]]"),
        r"phase_2 learns by ppo: its \[phase.a2c\] means nothing"),
    "a misspelt setting of a phase": (
        GOOD.replace("[[evaluate]]", "[phase.ppo]\nn_env = 8\n[[evaluate]]"),
        r"\[phase.ppo\] of phase_2 has unknown keys: n_env"),
    "another network than the parent's": (
        GOOD.replace("[[evaluate]]", "[phase.ppo]\nhidden = [8]\n[[evaluate]]"),
        r"phase_2 has hidden layers \(8,\), phase_1"),
    "a misspelt wish to go on": (GOOD + "[retrain]\ntimestep = 1\n", "unknown keys: timestep"),
    "going on without a step": (GOOD + "[retrain]\ntimesteps = 0\n", "timesteps of .retrain. is 1"),
    "going on by another clock": (
        GOOD + "[retrain]\n[steps]\nmin_step_ms = 250\n", "needs the default .steps."),
    "a session tested twice": (GOOD + '[[evaluate]]\nsession = 3\nrole = "x"\n', "each once"),
    "a test without a role": (GOOD.replace("role", "rule"), "lacks role"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_plan_that_cannot_be_right_is_refused_with_its_file_and_the_reason(folder, what):
    content, reason = BAD[what]
    with pytest.raises(PlanError, match=reason) as caught:
        load(folder, content)
    assert "plans/made_up.toml" in str(caught.value)


def test_a_phase_validates_on_what_neither_it_nor_a_phase_before_it_learns_from() -> None:
    def validated(name: str) -> list[tuple[int, ...]]:
        plan = load_plan(name)
        return [plan.validation_sessions(phase) for phase in plan.phases]

    assert validated("training_plan") == [(70, 41), (70, 41), (41,)]
    assert validated("recorded") == [(105,)] * 3
    assert validated("quick") == [(902,), (), ()]
    plan = load_plan("quick")
    later = replace(plan.phases[0], name="phase_4", parent="phase_2")
    assert plan.validation_sessions(later) == ()  # its parent has learned from it


def test_a_session_can_be_sealed(folder):
    found = load(folder, GOOD + "sealed = true\n")
    assert found.sealed == (3,)
    assert load(folder, GOOD).sealed == ()


def test_a_plan_may_go_on_with_new_sessions(folder):
    assert load(folder, GOOD).retrain is None
    found = load(folder, GOOD + "[retrain]\n")
    assert (found.retrain.timesteps, found.retrain.every_session) == (200, False)
    found = load(folder, GOOD + "[retrain]\ntimesteps = 50\nevery_session = true\n")
    phase = found.retraining(4)
    assert (phase.name, phase.parent, phase.sessions) == ("retrained", "phase_2", (4,))
    assert (phase.timesteps, phase.partition) == (50, "4")
    assert phase.learner == found.phases[-1].learner
    assert found.phases[-1].partition is None
    for used in (1, 3):
        with pytest.raises(PlanError, match="it has a role in"):
            found.retraining(used)


def test_a_retraining_validates_on_what_the_last_phase_does():
    plan = load_plan("training_plan")
    assert plan.validation_sessions(plan.retraining(72)) == (41,)
    assert plan.retraining(72).timesteps == 100_000
    assert not plan.retrain.every_session
    with pytest.raises(PlanError, match="it has a role in quick"):
        plan.retraining(901)
    with pytest.raises(PlanError, match="has no"):
        load_plan("recorded").retraining(72)


def test_the_training_plans_forward_test_is_sealed():
    assert load_plan("training_plan").sealed == (71,)
    assert load_plan("quick").sealed == load_plan("recorded").sealed == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + 'sealed = "yes"\n', "true or false"),
        (GOOD.replace("forward test", "validation") + "sealed = true\n", "cannot validate"),
        (GOOD.replace("session = 3", "session = 2") + "sealed = true\n", "phase_2 cannot train"),
    ],
)
def test_what_is_sealed_is_only_for_the_end(folder, content, message):
    with pytest.raises(PlanError, match=message):
        load(folder, content)


@pytest.mark.parametrize(
    "setting",
    ["min_units = 29", "confidence = 0.9", "confidence = 1.0", "confidence = nan", "min_seeds = 4",
     "embargo_ms = -1", "embargo_ms = 3_599_999", "stochastic_repeats = 0"],
)  # fmt: skip
def test_a_plan_cannot_judge_more_laxly_than_the_rules(folder, setting):
    with pytest.raises(PlanError, match=setting.split()[0]):
        load(folder, GOOD + f"[evaluation]\n{setting}\n")


def test_a_plan_may_judge_more_strictly(folder):
    stricter = load(folder, GOOD + "[evaluation]\nmin_units = 100\nconfidence = 0.99\n").evaluation
    assert (stricter.min_units, stricter.confidence) == (100, 0.99)
