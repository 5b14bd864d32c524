"""A session that arrives after a plan was trained: looked at once, counted, and learned from."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from kalshi_pipeline import plan_evaluation, plan_retraining, plan_stages, rules, sealed
from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.errors import NotPublished, PlanError, SessionSealed
from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.past import looked_forward
from kalshi_pipeline.plan_retraining import FORWARD_VALIDATION, due, newest_before
from kalshi_pipeline.plans import RETRAINED, Plan, Retrain, load_plan
from kalshi_pipeline.rules import OF_PHASES, Trained
from kalshi_pipeline.storage.checkpoints import load_seeds
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from kalshi_pipeline.storage.seals import seal
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.storage.trials import read_trials
from tests.sessions import arrives
from tests.test_seeds import ROLLOUTS, TINY, Told, plan_of, train
from tests.test_stages import materialize

STEPS = ROLLOUTS * TINY.rollout_steps


def goes_on(*, every_session: bool = False, first: int = 7) -> Plan:
    """A tiny plan that learned from 901, was chosen on 903, and goes on."""
    return replace(
        plan_of(1, first=first),
        roles={901: "what it learned from", 903: "validation"},
        evaluation=EvaluationConfig(resamples=500),
        retrain=Retrain(STEPS, every_session),
    )


@pytest.fixture(scope="module")
def trained(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan is trained, 904 and 905 have arrived."""
    place = tmp_path_factory.mktemp("retraining")
    warehouse = Warehouse(place / "warehouse")
    for folder in (
        generated / "901",
        generated / "903",
        arrives(place, 904),
        arrives(place, 905, "2026-06-13T20:00"),
    ):
        materialize(warehouse, folder)
    for phase in ("phase_1", "phase_2"):
        train(warehouse, goes_on(), phase)
    return warehouse.root


@pytest.fixture
def warehouse(trained: Path, tmp_path: Path) -> Warehouse:
    shutil.copytree(trained, tmp_path / "warehouse")
    return Warehouse(tmp_path / "warehouse")


def validate(warehouse: Warehouse, session: int = 904, plan: Plan | None = None) -> Generation:
    plan = plan or goes_on()
    return plan_retraining.validate_forward(warehouse, plan, session, lambda _: None)


def retrain(warehouse: Warehouse, session: int = 904, told=lambda *_: None) -> Generation:
    phase = goes_on().retraining(session)
    return plan_stages.train_phase(warehouse, goes_on(), phase, told, now_ms=0)


def cents_an_event(rows: list[dict]) -> float:
    """As the definition says it: totals of the events, meaned."""
    totals: dict = defaultdict(int)
    for row in rows:
        totals[row["event"]] += row["pnl_micro"]
    return sum(totals.values()) / len(totals) / 10_000


def test_a_new_session_is_played_once_beside_the_validation_sessions(warehouse: Warehouse) -> None:
    forward = validate(warehouse)
    told = forward.summary
    rows = read_table(forward.path("ledger.parquet"), JUDGED_SCHEMA).to_pylist()
    assert {row["session"] for row in rows} == {903, 904}
    assert {row["repeat"] for row in rows} == {0}  # the likeliest action plays a segment once
    assert all(row["fees_micro"] > 0 for row in rows if row["taker_fills"])
    by = {s: [row for row in rows if row["session"] == s] for s in (903, 904)}
    assert {row["label"] for row in by[904]} == {"clean_forward"}
    assert {row["label"] for row in by[903]} == {"selected_on"}
    assert told["pnl_cents"] == pytest.approx(cents_an_event(by[904]))
    assert told["validation_cents"] == pytest.approx(cents_an_event(by[903]))
    assert told["drop_cents"] == pytest.approx(told["validation_cents"] - told["pnl_cents"])
    low, high = told["pnl_interval"]
    assert low <= told["pnl_cents"] <= high
    assert told["labels"] == {"clean_forward": told["events"]}
    assert told["events"] >= 30
    assert told["validation_events"] >= 30
    assert told["decayed"] is (told["status"] == "decayed")
    assert (told["trained"], told["validation"]) == ("phase_2", [903])
    assert validate(warehouse).reused


def test_each_look_is_counted_and_its_session_never_clean_forward_again(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_trials(warehouse).num_rows
    forward = validate(warehouse)
    rows = read_trials(warehouse).to_pylist()
    assert len(rows) == before + 1
    (look,) = (row for row in rows if row["kind"] == "forward")
    assert (look["sessions"], look["policy"]) == ([904], "likeliest action")
    assert sum(look["pnl_micro"]) / len(look["events"]) == pytest.approx(
        forward.summary["pnl_cents"] * 10_000, abs=1
    )
    assert rules.retraining.look_is_counted(warehouse, forward).holds
    assert looked_forward(warehouse, (903, 904, 905)) == {904}
    assert sealed.looks_at(warehouse, 904) == ("validated by quick",)

    judged = replace(goes_on(), roles={904: "forward test", 905: "forward test"})
    found = {}

    def evaluate(case, _):
        found[0] = case
        raise KeyboardInterrupt

    monkeypatch.setattr("kalshi_pipeline.evaluation.evaluate.evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        plan_evaluation.evaluate_plan(warehouse, judged, lambda _: None)
    labels = {
        session: {
            found[0].used.label(session, e.event, e.market, e.start_ms) for e in universe.episodes
        }
        for session, universe in found[0].universes.items()
    }
    assert labels == {904: {Label.LOOKED_AT}, 905: {Label.CLEAN_FORWARD}}


def test_a_look_that_is_not_in_the_ledger_any_more_is_noticed(warehouse: Warehouse) -> None:
    forward = validate(warehouse)
    shutil.rmtree(warehouse.root / "trials")
    finding = rules.retraining.look_is_counted(warehouse, forward)
    assert not finding.holds
    assert "0 rows" in finding.says


def test_a_retraining_is_the_last_phase_gone_on_with_on_one_session_alone(
    warehouse: Warehouse,
) -> None:
    parent = load_seeds(warehouse.current("quick/phase_2").verified())[7]
    made = retrain(warehouse)
    assert made.folder.parent == warehouse.root / "quick" / RETRAINED / "session=904"
    state = load_seeds(made.verified())[7].state
    assert state.parent == parent.content_hash
    assert state.timesteps_total == parent.state.timesteps_total + state.timesteps
    assert {e.session for e in state.lineage} == {901, 904}
    assert {e.session for e in state.selected_on} == {903}
    looked_at = Trained(warehouse, goes_on(), goes_on().retraining(904))
    assert all(rule(looked_at).holds for rule, blocks in OF_PHASES.items() if blocks)
    assert retrain(warehouse).reused
    assert not retrain(warehouse, 905).reused
    assert warehouse.current(f"quick/{RETRAINED}", "904").content_hash == made.content_hash


def test_a_retraining_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(
    warehouse: Warehouse, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        retrain(warehouse, told=Told(fail_at=(7, 2)))
    told = Told()
    resumed = retrain(warehouse, told=told)
    assert told.rollouts == [(7, 2), (7, 3)]
    shutil.copytree(trained, tmp_path / "whole")
    assert retrain(Warehouse(tmp_path / "whole")).content_hash == resumed.content_hash


def test_the_newest_checkpoint_is_the_last_retraining_that_ended_before_the_session(
    warehouse: Warehouse,
) -> None:
    plan = goes_on()
    base = warehouse.current("quick/phase_2").content_hash
    assert newest_before(warehouse, plan, 905).generation.content_hash == base
    made = retrain(warehouse, 904)
    newest = newest_before(warehouse, plan, 905)
    assert newest.generation.content_hash == made.content_hash
    assert newest.name == "retrained on 904"
    assert newest_before(warehouse, plan, 904).name == "phase_2"  # it has learned from it
    forward = validate(warehouse, 905)
    assert forward.summary["trained"] == "retrained on 904"
    assert forward.summary["labels"] == {"clean_forward": forward.summary["events"]}
    assert rules.retraining.session_was_not_seen(warehouse, forward).holds
    hour_ms = 3_600_000
    strict = replace(plan, evaluation=replace(plan.evaluation, embargo_ms=10_000 * hour_ms))
    assert newest_before(warehouse, strict, 905).name == "phase_2"


def test_sealed_sessions_and_those_with_a_role_are_refused(warehouse: Warehouse) -> None:
    seal(warehouse, 904, 1)
    for ask in (validate, retrain):
        with pytest.raises(SessionSealed, match="904"):
            ask(warehouse)
        for used in (901, 902, 903):  # 902 and 903 are the shipped plan's
            with pytest.raises(PlanError, match="it has a role in quick"):
                ask(warehouse, used)
    with pytest.raises(PlanError, match="has no"):
        validate(warehouse, plan=replace(goes_on(), retrain=None))
    with pytest.raises(NotPublished, match="906"):
        validate(warehouse, 906)
    assert not (warehouse.root / "quick" / FORWARD_VALIDATION).exists()
    assert looked_forward(warehouse, (901, 903, 904)) == set()


def test_a_plan_without_a_validation_session_can_show_no_decay(warehouse: Warehouse) -> None:
    plan = replace(goes_on(), roles={901: "what it learned from"})
    told = validate(warehouse, plan=plan).summary
    assert (told["status"], told["decayed"]) == ("not assessable", False)
    assert told["validation_cents"] is None
    assert told["pnl_interval"] is not None


def outcome(warehouse: Warehouse, *, decayed: bool) -> None:
    """Publish the forward validation of 904 with another outcome."""
    found = validate(warehouse)
    manifest = json.loads((found.folder / "manifest.json").read_bytes())
    recipe = Recipe(**manifest["recipe"])
    with warehouse.stage(f"quick/{FORWARD_VALIDATION}", "904", recipe) as staging:
        shutil.copy(found.path("ledger.parquet"), staging.folder)
        staging.summary.update(found.summary, decayed=decayed, says="planted")


@pytest.mark.parametrize("every_session", [False, True])
def test_a_session_waits_for_its_look_and_then_for_training_where_it_is_wanted(
    warehouse: Warehouse, *, every_session: bool
) -> None:
    plan = goes_on(every_session=every_session)
    asked = due(warehouse, plan, 904)
    assert asked
    assert asked.output == FORWARD_VALIDATION
    assert due(warehouse, plan, 904) == asked  # the same key: never asked for twice
    outcome(warehouse, decayed=False)
    later = due(warehouse, plan, 904)
    if every_session:
        assert later
        assert (later.output, later.because) == (RETRAINED, "the plan learns from every session")
    else:
        assert later is None
    outcome(warehouse, decayed=True)
    asked = due(warehouse, plan, 904)
    assert asked
    assert (asked.output, asked.because) == (RETRAINED, "validation has decayed: planted")
    retrain(warehouse)
    assert due(warehouse, plan, 904) is None


def test_no_session_waits_that_a_plan_may_not_or_need_not_look_at(warehouse: Warehouse) -> None:
    plan = goes_on()
    assert due(warehouse, plan, 903) is None  # a role
    assert due(warehouse, plan, 906) is None  # not there
    assert due(warehouse, replace(plan, retrain=None), 904) is None
    assert due(warehouse, replace(load_plan("training_plan")), 904) is None  # not trained
    after = replace(plan, roles={**plan.roles, 905: "validation"})
    assert due(warehouse, after, 904) is None  # it began before 905, which chooses, had ended
    recorded = warehouse.current("books", "901")
    manifest = json.loads((recorded.folder / "manifest.json").read_bytes())
    with warehouse.stage("books", "901", Recipe(**manifest["recipe"])) as staging:
        for name in manifest["files"]:
            shutil.copy(recorded.folder / name, staging.folder / name)
        staging.summary.update(recorded.summary, generated=False)
    assert due(warehouse, plan, 904) is None  # the plan learned from recordings
    seal(warehouse, 905, 1)
    assert due(warehouse, plan, 905) is None


def test_a_checkpoint_trained_anew_is_looked_at_anew(warehouse: Warehouse) -> None:
    first = due(warehouse, goes_on(), 904)
    validate(warehouse)
    assert due(warehouse, goes_on(), 904) is None
    retrain(warehouse)
    other = goes_on(first=8)
    for phase in ("phase_1", "phase_2"):
        train(warehouse, other, phase)
    again = due(warehouse, other, 904)
    assert first
    assert again
    assert again.output == FORWARD_VALIDATION
    assert again.key != first.key
    assert newest_before(warehouse, other, 905).name == "phase_2"  # not of the one before
