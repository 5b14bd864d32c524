"""The plan's failure modes: each is seen where its figures say so, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.failure_modes import failure_modes
from tests.evaluation.past import alert, course, past, trial, validations
from tests.evaluation.test_selection import GOOD, evidence

MODES = ("Overfitting", "HOLD", "Catastrophic", "Reward", "Market")


def session(number: int, pnl: float, interval: list[float] | None, *labels: str) -> dict[str, Any]:
    return {"session": number, "policies": [{"pnl_cents": pnl, "pnl_interval": interval}],
            "labels": dict.fromkeys(labels or ["clean_forward"])}  # fmt: skip


def mode(name: str, one: Evidence, **report: Any) -> dict[str, Any]:
    told = {"sessions": [session(1, 0.0, [-1.0, 1.0])], "selection": None, "grid": None, **report}
    (found,) = (entry for entry in failure_modes(one, told) if entry["mode"].startswith(name))
    return found


def judged(pnl_cents: np.ndarray = GOOD, *rows: Any, courses: Any = (), **columns: int) -> Evidence:
    one = evidence(pnl_cents, past(rows, courses))
    ledger = one.ledger
    for name, value in columns.items():
        place = ledger.schema.get_field_index(name)
        ledger = ledger.set_column(
            place, ledger.schema.field(place), pa.array([value] * len(ledger), pa.int64())
        )
    return Evidence(one.case, ledger, one.progress)


@pytest.mark.parametrize(
    ("courses", "pbo", "status"),
    [
        ([course(validations=validations(0.1, 0.2))], 0.2, "not seen"),
        ([course(validations=validations(0.1, 0.2))], 0.6, "seen"),
        ([course(validations=validations(0.1, -0.2))], None, "seen"),
        ([course(validations=validations(0.1), alerts=[alert("overfitting")])], None, "seen"),
        ([course()], None, "not assessable"),
        ([], None, "not assessable"),
    ],
)
def test_overfitting(courses, pbo, status) -> None:
    found = mode("Overfitting", judged(courses=courses), selection={"pbo": pbo})
    assert found["status"] == status


@pytest.mark.parametrize(("held", "status"), [(950, "seen"), (80, "not seen")])
def test_holding(held, status) -> None:
    found = mode("HOLD", judged(action_hold=held))
    assert found["status"] == status
    assert found["figures"][0]["value"] == pytest.approx(held / (held + 10))


@pytest.mark.parametrize(
    ("last", "status"), [(10.0, "not seen"), (7.5, "not seen"), (6.5, "seen"), (-5.0, "seen")]
)
def test_forgetting_is_the_last_phase_far_below_an_earlier_ones_best(last, status) -> None:
    earlier = [trial(1, [4.0] * 20), trial(2, [10.0] * 20)]
    final = [trial(3, [20.0] * 10, phase="phase_3"), trial(4, [last] * 10, phase="phase_3")]
    superseded = [trial(5, [90.0] * 20, recipe="old")]
    courses = [course(), course("phase_3")]
    found = mode("Catastrophic", judged(GOOD, *earlier, *final, *superseded, courses=courses))
    assert found["status"] == status
    figures = {figure["name"]: figure["value"] for figure in found["figures"]}
    assert figures["best of an earlier phase, an event"] == 10.0
    assert figures["end of the last phase, the same events"] == last
    assert figures["events"] == 10  # those that both were scored on


def test_one_phase_has_nothing_to_forget() -> None:
    one = judged(GOOD, trial(1, [1.0]), courses=[course()])
    assert mode("Catastrophic", one)["status"] == "not assessable"


def cell(pnl: float, **changes: Any) -> dict[str, Any]:
    return {"policy": "PPO", "fill_model": "touch", "mark": "liquidation", "fees": True,
            "pnl_cents": pnl, **changes}  # fmt: skip


@pytest.mark.parametrize(
    ("pnl", "grid", "columns", "status"),
    [
        (-5.0, [cell(3.0)], {}, "seen"),  # touch alone pays
        (-5.0, [cell(-1.0)], {}, "not seen"),
        (-5.0, [cell(3.0, policy="Hold")], {}, "not seen"),
        (-5.0, None, {"pnl_mid_micro": 20_000}, "seen"),  # the mid alone pays
        (5.0, [cell(50.0)], {}, "not seen"),
        (5.0, None, {"invalid_actions": 30}, "seen"),  # of 100 decisions
    ],
)
def test_reward_hacking(pnl, grid, columns, status) -> None:
    found = mode("Reward", judged(np.full(40, pnl), **columns), grid=grid)
    assert found["status"] == status


@pytest.mark.parametrize(
    ("headline", "status"), [(-5.0, "seen"), (2.0, "not seen"), (None, "not assessable")]
)
def test_a_case_judged_by_touch_is_held_to_the_headlines_cell(headline, status) -> None:
    one = judged(np.full(40, 5.0))
    case = replace(one.case, trading=TradingConfig(fill_model="touch"))
    grid = None if headline is None else [cell(5.0), cell(headline, fill_model="cross")]
    found = mode("Reward", Evidence(case, one.ledger, one.progress), grid=grid)
    assert found["status"] == status
    figures = {figure["name"]: figure["value"] for figure in found["figures"]}
    assert figures["P&L an event, headline's cell"] == headline
    own = "the same, in the cell that was judged: fill model touch, liquidation mark, fees on"
    assert figures[own] == 5.0
    assert own not in {figure["name"] for figure in mode("Reward", one)["figures"]}


@pytest.mark.parametrize(
    ("sessions", "status"),
    [
        ([session(1, 5.0, [3.0, 7.0]), session(2, -5.0, [-7.0, -3.0])], "seen"),
        ([session(1, 5.0, [3.0, 7.0]), session(2, 2.0, [-1.0, 4.0])], "not seen"),
        ([session(1, 5.0, [3.0, 7.0]), session(2, -5.0, None)], "not assessable"),
        # in-sample against clean is overfitting; what is mixed stands against nothing
        (
            [session(1, 5.0, [3.0, 7.0], "in_sample"), session(2, -5.0, [-7.0, -3.0])],
            "not assessable",
        ),
        (
            [
                session(1, 5.0, [3.0, 7.0], "in_sample", "backward"),
                session(2, -5.0, [-7.0, -3.0], "in_sample", "backward"),
            ],
            "not assessable",
        ),
        (
            [
                session(1, 5.0, [3.0, 7.0], "in_sample"),
                session(2, -5.0, [-7.0, -3.0], "in_sample"),
                session(3, 0.0, [-1.0, 1.0]),
            ],
            "seen",
        ),
    ],
)
def test_regime_change(sessions, status) -> None:
    assert mode("Market", judged(), sessions=sessions)["status"] == status


def test_every_mode_of_the_plan_has_a_line_with_rule_figures_and_mitigation() -> None:
    found = failure_modes(judged(), {"sessions": [session(1, 0.0, None)]})
    assert [entry["mode"].split()[0].split("-")[0] for entry in found] == [
        name.split("-")[0] for name in MODES
    ]
    assert all(entry["rule"] and entry["figures"] and entry["mitigation"] for entry in found)
