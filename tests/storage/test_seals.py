"""Sealed sessions: noted once, opened once, for one checkpoint."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kalshi_pipeline import sealed
from kalshi_pipeline.errors import AlreadyOpened, CorruptFile, SessionSealed
from kalshi_pipeline.sealed import (
    looks_at,
    open_for,
    refuse_sealed,
    seal_session,
    seals_of,
)
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.seals import (
    Opening,
    is_sealed_by_hand,
    looked_at_when_sealed,
    open_session,
    opening_of,
    seal,
)
from kalshi_pipeline.storage.trials import record_rows
from kalshi_pipeline.storage.whole_folder import write_folder
from tests.evaluation import past

OPENING = Opening(71, "a" * 16, "training_plan", "the end of the plan", 1_766_000_000_000)


@pytest.fixture
def warehouse(place, monkeypatch):
    monkeypatch.setattr(sealed, "plan_names", lambda: ())  # what is sealed here is sealed by hand
    return place.open()


def test_a_session_is_sealed_once(warehouse):
    assert seal(warehouse, 71, 5)
    assert not seal(warehouse, 71, 6)
    note = warehouse.root / "seals" / "session=71" / "sealed" / "seal.json"
    assert json.loads(note.read_bytes()) == {"session": 71, "sealed_ms": 5, "before": []}
    with pytest.raises(SessionSealed):
        refuse_sealed(warehouse, [71], "a training")


def test_an_opening_is_kept_with_its_date_checkpoint_and_reason(warehouse):
    seal(warehouse, 71, 5)
    assert opening_of(warehouse, 71) is None
    assert open_for(warehouse, 71, "a" * 16, "training_plan", " why ", 9) == Opening(
        71, "a" * 16, "training_plan", "why", 9
    )
    assert opening_of(warehouse, 71) == Opening(71, "a" * 16, "training_plan", "why", 9)
    refuse_sealed(warehouse, [71], "a training")


def test_opened_again_for_the_same_checkpoint_the_first_opening_stands(warehouse):
    open_session(warehouse, OPENING)
    later = replace(OPENING, opened_ms=OPENING.opened_ms + 1, reason="another")
    assert open_session(warehouse, later) == OPENING


def test_it_is_not_opened_for_a_second_checkpoint(warehouse):
    open_session(warehouse, OPENING)
    with pytest.raises(AlreadyOpened, match="one first look"):
        open_session(warehouse, replace(OPENING, checkpoint="b" * 16))
    assert opening_of(warehouse, 71) == OPENING


def test_of_many_who_open_it_at_once_one_does(warehouse):
    def attempt(number):
        try:
            return open_session(warehouse, replace(OPENING, checkpoint=f"{number:016x}"))
        except AlreadyOpened:
            return None

    with ThreadPoolExecutor(8) as pool:
        opened = [one for one in pool.map(attempt, range(16)) if one]
    assert opened == [opening_of(warehouse, 71)]


def test_an_opening_that_was_changed_is_no_opening(warehouse):
    open_session(warehouse, OPENING)
    path = warehouse.root / "seals" / "session=71" / "opened" / "opening.json"
    path.write_text(path.read_text().replace("aaaa", "bbbb"))
    with pytest.raises(CorruptFile):
        opening_of(warehouse, 71)


def test_only_a_sealed_session_is_opened_and_only_for_a_reason(warehouse):
    with pytest.raises(SessionSealed, match="nothing to open"):
        open_for(warehouse, 71, "a" * 16, "by_hand", "why", 9)
    seal(warehouse, 71, 5)
    with pytest.raises(SessionSealed, match="say why"):
        open_for(warehouse, 71, "a" * 16, "by_hand", "  ", 9)


def test_what_is_sealed_is_refused_until_it_is_opened(warehouse):
    refuse_sealed(warehouse, (70, 71), "a training")
    seal(warehouse, 71, 5)
    with pytest.raises(SessionSealed, match="session 71 is sealed") as refused:
        refuse_sealed(warehouse, (70, 71), "a training")
    assert refused.value.session == 71
    open_session(warehouse, OPENING)
    refuse_sealed(warehouse, (70, 71), "a training")


def test_a_look_is_the_first_only_for_the_checkpoint_it_was_opened_for(warehouse):
    seal(warehouse, 71, 5)
    (closed,) = seals_of(warehouse, (70, 71), "a" * 16).values()
    assert (closed.told()["status"], closed.first_look) == ("sealed, not opened", False)
    open_session(warehouse, OPENING)
    first, later = (seals_of(warehouse, (71,), checkpoint * 16)[71] for checkpoint in "ab")
    assert (first.first_look, later.first_look) == (True, False)
    assert later.told()["checkpoint"] == "a" * 16
    assert later.told()["opened_ms"] == OPENING.opened_ms


def test_a_plan_that_ships_seals_for_everyone(tmp_path):
    sealing = [name for name in sealed.plan_names() if sealed.load_plan(name).sealed]
    for name in sealing:
        for session in sealed.load_plan(name).sealed:
            with pytest.raises(SessionSealed):
                refuse_sealed(Warehouse(tmp_path), (session,), "a training")
    assert sealing == ["training_plan"]


@pytest.mark.parametrize(
    ("kind", "told"), [("evaluation", "judged by made_up"), ("validation", "validated by made_up")]
)
def test_a_session_that_was_scored_on_is_sealed_too_late_for_a_first_look(warehouse, kind, told):
    row = past.trial(1, [0.5], kind=kind, sessions=[71], recipe="a" * 16)
    record_rows(warehouse, past.table([row]))
    assert looks_at(warehouse, 70) == ()
    assert seal_session(warehouse, 71, 5) == (True, (told,))
    for path in (warehouse.root / "trials").glob("*.parquet"):
        path.unlink()  # the seal remembers
    opening = open_for(warehouse, 71, "a" * 16, "by_hand", "why", 9)
    assert opening.before == (told,)
    assert opening_of(warehouse, 71) == opening
    late = seals_of(warehouse, (71,), "a" * 16)[71]
    assert (late.first_look, late.told()["first_look"]) == (False, False)
    assert late.told()["status"] == f"looked at before it was sealed: {told}"


@pytest.mark.parametrize(("key", "told"), [("lineage", "trained on"), ("selected_on", "chosen by")])
def test_a_session_in_a_checkpoints_lineage_was_looked_at(warehouse, key, told):
    lineage = {"lineage": [], "selected_on": []} | {key: [{"session": 71}]}
    folder = warehouse.root / "quick" / "phase_1" / "seed_7"
    folder.mkdir(parents=True)
    (folder / "trainer.json").write_text(json.dumps(lineage))
    assert looks_at(warehouse, 70) == ()
    seal(warehouse, 71, 5)  # as a plan's file does: what looked is found at the opening
    assert open_for(warehouse, 71, "a" * 16, "by_hand", "why", 9).before == (told,)
    (folder / "trainer.json").write_text("{")
    with pytest.raises(CorruptFile, match="lineage"):
        seal_session(warehouse, 72, 5)


@pytest.mark.parametrize("home", [".", "sweeps/quick_phase_1_0123456789ab"])
def test_a_session_that_a_run_learns_from_was_looked_at_whatever_became_of_its_checkpoints(
    warehouse, home
):
    folder = warehouse.root / home / "trained_models" / "71_ppo_20261201T000000"
    (folder / "unusable_1").mkdir(parents=True)
    (folder / "unusable_1" / "trainer.json").write_text("{")
    (folder / "run.json").write_text(json.dumps({"key": {"sessions": [71]}}))
    assert looks_at(warehouse, 71) == ("trained on",)
    assert looks_at(warehouse, 72) == ()


def test_a_seal_that_was_changed_tells_nothing(warehouse):
    seal(warehouse, 71, 5, ["judged by made_up"])
    path = warehouse.root / "seals" / "session=71" / "sealed" / "seal.json"
    path.write_text(path.read_text().replace("made_up", "others"))
    with pytest.raises(CorruptFile):
        open_for(warehouse, 71, "a" * 16, "by_hand", "why", 9)


@pytest.mark.parametrize("content", [b"{", b"[]", b"5", b'{"before": 5}', b"\xff"])
def test_a_note_that_says_something_else_is_named(warehouse, content):
    home = warehouse.root / "seals" / "session=71"
    for folder, note in (("sealed", "seal.json"), ("opened", "opening.json")):
        home.mkdir(parents=True, exist_ok=True)
        write_folder(home / folder, {note: content}, warehouse.files)
    with pytest.raises(CorruptFile, match="the seal of a session cannot be read"):
        looked_at_when_sealed(warehouse, 71)
    with pytest.raises(CorruptFile, match="the opening of a session cannot be read"):
        opening_of(warehouse, 71)


def test_a_session_that_nobody_sealed_by_hand_was_not_looked_at_then(warehouse):
    assert looked_at_when_sealed(warehouse, 71) == ()
    assert not is_sealed_by_hand(warehouse, 71)
    seal(warehouse, 71, 5, ["judged by made_up"])
    assert looked_at_when_sealed(warehouse, 71) == ("judged by made_up",)
    assert is_sealed_by_hand(warehouse, 71)
