"""A plan's sealed session: left out until it is opened, judged once, and never clean again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kalshi_pipeline import plan_evaluation, plan_stages
from kalshi_pipeline.assets.evaluations import EvaluationRun, open_sealed
from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.errors import SessionSealed
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.rules.evaluations import no_used_session_is_clean
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.storage.seals import seal
from kalshi_pipeline.storage.trials import read_trials
from tests.test_seeds import plan_of, train
from tests.test_stages import materialize


@pytest.fixture(scope="module")
def warehouse(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    store = Warehouse(tmp_path_factory.mktemp("sealed"))
    for session in ("901", "903"):
        materialize(store, generated / session)
    return store


def plan(first_seed: int) -> Plan:
    made = plan_of(1, first=first_seed)
    return replace(
        made, phases=made.phases[:1], roles={901: "what it learned from", 903: "forward test"},
        sealed=(903,), evaluation=EvaluationConfig(resamples=200, stochastic_repeats=1),
    )  # fmt: skip


def judge(store: Warehouse, judged: Plan) -> tuple[Generation, dict]:
    train(store, judged)
    done = plan_evaluation.evaluate_plan(store, judged, lambda _: None)
    assert no_used_session_is_clean(done).holds
    return done, json.loads(done.path("report.json").read_bytes())


@pytest.mark.slow
def test_a_sealed_session_is_judged_once_and_on_purpose(warehouse: Warehouse) -> None:
    first = plan(7)
    closed, report = judge(warehouse, first)
    assert "session 903 is sealed, not opened" in report["verdict"]["sentence"]
    assert [table["session"] for table in report["sessions"]] == [901]
    assert {"session": 903, "reason": "sealed, not opened", "count": 1} in report["exclusions"]
    assert report["headline"] is None
    assert closed.summary["sealed"] == [903]  # so that `kalshi run` says how to open it
    assert any("Open session 903 once" in one["advice"] for one in report["recommendations"])
    assert judge(warehouse, first)[0].reused
    rows = read_trials(warehouse).to_pylist()
    assert {tuple(row["sessions"]) for row in rows} == {(901,)}

    trained = warehouse.current(plan_stages.phase_name(first, "phase_1")).content_hash
    seal(warehouse, 903, 1)
    open_sealed(warehouse, first, EvaluationRun(open_sealed=[903], reason="the end"))
    opened, report = judge(warehouse, first)
    assert opened.content_hash != closed.content_hash
    assert opened.summary["sealed"] == []
    (told,) = report["sealed"]
    assert (told["status"], told["reason"]) == ("opened for this checkpoint", "the end")
    assert told["opened_ms"] > 1_700_000_000_000
    assert told["checkpoint"] == trained
    assert report["headline"]["events"] == report["labels"]["clean_forward"]["events"] > 0
    before = report["selection"]["trials"]
    assert judge(warehouse, first)[0].reused

    later, report = judge(warehouse, plan(8))
    (told,) = report["sealed"]
    assert (told["status"], told["first_look"]) == ("opened before", False)
    assert "looked_at" in report["labels"]
    assert "clean_forward" not in report["labels"]
    assert report["headline"] is None
    assert report["selection"]["trials"] == before + 2  # sampled, and its likeliest actions
    assert not later.reused


def test_a_phase_that_wants_a_sealed_session_is_refused(warehouse: Warehouse, tmp_path) -> None:
    store = Warehouse(tmp_path)
    seal(store, 901, 1)
    with pytest.raises(SessionSealed, match="901"):
        train(store, plan(7))
