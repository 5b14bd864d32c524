"""Sessions are found in folders first and generated where that is the only way to have them."""

from __future__ import annotations

import json

import pytest

from kalshi_pipeline.errors import InvalidName, MissingFile, SessionNotFound
from kalshi_pipeline.recordings.generator import EXTRA_PROFILES, PROFILES, QUICK_PROFILES
from kalshi_pipeline.recordings.sources import SessionSources
from tests.recordings.collector_tables import DDL, add_session


def record(root, session: int) -> None:
    folder = root / str(session)
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"session_id": session, "title": "recorded"}))
    (folder / "messages.ndjson").write_bytes(b"")


def test_a_root_that_does_not_exist_is_refused_not_generated_around(tmp_path):
    with pytest.raises(MissingFile, match="does not exist") as missing:
        SessionSources([tmp_path / "typo"], tmp_path / "generated")
    assert missing.value.value == str(tmp_path / "typo")


def test_a_session_nobody_recorded_is_generated_once(tmp_path):
    (tmp_path / "recorded").mkdir()
    sources = SessionSources([tmp_path / "recorded"], tmp_path / "generated")
    assert sources.sessions() == []
    said: list[str] = []
    first = sources.open(903, said.append)
    assert first.info.generated
    assert sources.sessions() == [903]
    written = {path: path.stat().st_mtime_ns for path in first.files}
    again = sources.open(903)
    assert {path: path.stat().st_mtime_ns for path in again.files} == written


def test_a_recording_wins_over_the_generator(tmp_path):
    record(tmp_path / "recorded", 903)
    sources = SessionSources([tmp_path / "recorded"], tmp_path / "generated")
    assert sources.open(903).info.title == "recorded"
    assert not (tmp_path / "generated").exists()


def test_a_broken_recording_is_not_replaced_by_a_generated_session(tmp_path):
    (tmp_path / "recorded" / "903").mkdir(parents=True)
    sources = SessionSources([tmp_path / "recorded"], tmp_path / "generated")
    with pytest.raises(MissingFile) as missing:
        sources.open(903)
    assert missing.value.session == 903


def test_an_unknown_session_is_told_what_there_is_and_what_could_be(tmp_path):
    record(tmp_path / "recorded", 12)
    sources = SessionSources([tmp_path / "recorded"], tmp_path / "generated")
    with pytest.raises(SessionNotFound) as unknown:
        sources.open(999_999)
    assert unknown.value.session == 999_999
    text = str(unknown.value)
    assert "so far: 12;" in text
    assert str(tmp_path / "recorded") in text
    for session in {*PROFILES, *QUICK_PROFILES}:
        assert str(session) in text
    with pytest.raises(SessionNotFound, match="KALSHI_RECORDINGS is not set"):
        SessionSources([], tmp_path / "generated").open(999_999)


def test_extra_sessions_are_made_when_asked_for_and_not_offered(tmp_path):
    sources = SessionSources([], tmp_path)
    assert sources.open(9099).info.generated
    assert (tmp_path / "9099" / "faults.json").is_file()
    with pytest.raises(SessionNotFound) as unknown:
        sources.open(999_999)
    assert not any(str(session) in str(unknown.value) for session in {*EXTRA_PROFILES} - {9099})


def test_a_session_id_is_never_a_path(tmp_path):
    with pytest.raises(InvalidName):
        SessionSources([tmp_path], tmp_path).open("../1")  # type: ignore[arg-type]


@pytest.fixture
def with_database(postgres, tmp_path):
    """Sources with a folder that has session 12 and a database that has 12 and 13."""
    record(tmp_path / "recorded", 12)
    name = postgres.create("sources", DDL)
    with postgres.admin(name) as rows:
        add_session(rows, 12)
        add_session(rows, 13, status="active")
    return SessionSources([tmp_path / "recorded"], tmp_path / "generated", postgres.url("sources"))


def test_a_folder_wins_over_the_database_and_the_database_over_the_generator(with_database):
    assert with_database.sessions() == [12, 13]
    assert with_database.completed() == [12]
    assert with_database.open(12).info.title == "recorded"
    assert with_database.open(13).info.title == "database session 13"
    assert with_database.find(13).info.declared["status"] == "active"


def test_the_plan_s_sessions_are_not_made_up_where_there_is_a_database(with_database):
    with pytest.raises(SessionNotFound, match="the database has no such session") as absent:
        with_database.open(32)
    assert absent.value.session == 32
    assert with_database.open(903).info.generated
