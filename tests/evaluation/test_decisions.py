"""The plan's decision points: each outcome by its figures, and none without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.evaluation.decisions import close, decisions
from tests.evaluation.past import alert, course, past, trial, validations
from tests.evaluation.test_selection import GOOD, evidence

ANSWER = {
    "status": "pass", "value": 2.0, "threshold": 1.0, "interval": None, "discriminates": True,
}  # fmt: skip
STEADY = np.tile([1.0, 1.2], 20)


def report(answers: list[dict[str, Any]] = (), *, claim: bool = False) -> dict[str, Any]:
    return {"criteria": list(answers), "verdict": {"claim": claim, "sentence": "..."}}


def point(number: int, *courses: dict[str, Any], trials: Any = (), **told: Any) -> dict[str, Any]:
    one = evidence(GOOD, past(trials, courses))
    return decisions(one, report(**told))[number - 1]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "continue"),
        ({"win_rate": 0.39}, "adjust"),
        ({"win_rate": 0.41}, "continue"),
        ({"hold_share": 0.96}, "adjust"),
        ({"hold_share": 0.94}, "continue"),
        ({"alerts": [alert("unstable")]}, "continue"),  # something was left to lower
        ({"alerts": [alert("unstable"), alert("still_unstable")]}, "switch"),
        ({"alerts": [alert("still_unstable")], "win_rate": 0.1}, "switch"),
        ({"win_rate": None, "hold_share": None, "dollars": None}, "not assessable"),
    ],
)
def test_continue_or_pivot(changes: dict[str, Any], outcome: str) -> None:
    found = point(1, course(**changes), course("phase_2", win_rate=0.0, hold_share=1.0))
    assert found["outcome"] == outcome
    assert found["when"] == "Day 4, phase_1"


def test_exploration_is_what_a_holding_policy_is_told_and_a_losing_one_is_not() -> None:
    assert "exploration" in point(1, course(hold_share=0.99, win_rate=0.1))["action"]
    assert "exploration" not in point(1, course(win_rate=0.1))["action"]
    assert "A2C" in point(1, course(alerts=[alert("still_unstable")]))["action"]


def test_no_course_decides_nothing() -> None:
    one, two, _ = decisions(evidence(GOOD, past()), report())
    assert one["outcome"] == two["outcome"] == "not assessable"


@pytest.mark.parametrize(
    ("changes", "best", "outcome", "word"),
    [
        ({"validations": validations(0.1, 0.2)}, STEADY, "scale", "more sessions"),
        ({"validations": validations(0.1, 0.2)}, GOOD[:40], "refine", "not above 0.5"),
        ({"validations": validations(-0.2, -0.1), "dollars": -0.1}, STEADY, "refine", "tuning"),
        ({"validations": validations(0.2, -0.1)}, STEADY, "refine", "regularisation"),
        ({"validations": validations(0.2, 0.1), "alerts": [alert("overfitting")]}, STEADY,
         "refine", "regularisation"),
        ({}, None, "not assessable", "validated"),
    ],
)  # fmt: skip
def test_scale_or_refine(changes, best, outcome, word) -> None:
    rows = [] if best is None else [trial(1, best, phase="phase_2")]
    found = point(2, course(), course("phase_2", **changes), trials=rows)
    assert (found["outcome"], found["when"]) == (outcome, "Day 10, phase_2")
    assert word in found["action"]


def test_what_a_superseded_training_scored_is_not_this_ones() -> None:
    steady, old = trial(1, STEADY, phase="phase_2"), {"recipe": "old"}
    current = course("phase_2", validations=validations(0.1, 0.2))
    rows = [trial(2, GOOD[:40] - 20, phase="phase_2"), steady | old, steady | {"seed": 2}]
    assert point(2, course(), current, trials=rows)["outcome"] == "refine"
    assert point(2, course(), current, trials=[*rows, steady])["outcome"] == "scale"
    # published without a recipe: by the steps at which it validated, 1 and 2
    unnamed = current | {"recipe": None}
    assert point(2, course(), unnamed, trials=[steady | old])["outcome"] == "scale"
    assert point(2, course(), unnamed, trials=[steady | {"timesteps": 3}])["outcome"] == "refine"


@pytest.mark.parametrize(
    ("answers", "claim", "outcome", "word"),
    [
        ([ANSWER], True, "deploy-prepare", "paper"),
        ([ANSWER], False, "iterate", "no evidence"),
        ([ANSWER, ANSWER | {"status": "fail", "value": 0.9}], False, "iterate", "close"),
        ([ANSWER | {"status": "fail", "value": 0.2}], False, "iterate", "significant gaps"),
        ([ANSWER | {"status": "not assessable"}], False, "iterate", "too few"),
    ],
)
def test_deploy_or_iterate(answers, claim, outcome, word) -> None:
    found = point(3, course(), answers=answers, claim=claim)
    assert found["outcome"] == outcome
    assert word in found["action"]


def test_close_is_within_a_fifth_or_inside_the_interval() -> None:
    failed = ANSWER | {"status": "fail"}
    assert close(failed | {"value": 0.8})
    assert not close(failed | {"value": 0.79})
    assert close(failed | {"value": -3.0, "threshold": 0.0, "interval": [-7.0, 1.0]})
    assert not close(failed | {"value": -3.0, "threshold": 0.0, "interval": [-7.0, -1.0]})
    assert not close(failed | {"value": None})


def test_every_decision_shows_its_figures_and_whether_its_rule_held() -> None:
    found = decisions(evidence(GOOD, past([], [course(win_rate=0.3)])), report([ANSWER]))
    assert [one["point"] for one in found] == [1, 2, 3]
    (wins,) = (figure for figure in found[0]["figures"] if "won" in figure["name"])
    assert wins == {
        "name": "round trips won, last tenth of the phase", "value": 0.3, "unit": "share",
        "comparison": "<", "threshold": 0.4, "holds": True,
    }  # fmt: skip
