"""Sessions are found in folders first and generated where that is the only way to have them."""

from __future__ import annotations

import json

import pytest

from kalshi_pipeline.errors import InvalidName, MissingFile, SessionNotFound
from kalshi_pipeline.recordings.generator import PROFILES, QUICK_PROFILES
from kalshi_pipeline.recordings.sources import SessionSources


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


def test_a_session_id_is_never_a_path(tmp_path):
    with pytest.raises(InvalidName):
        SessionSources([tmp_path], tmp_path).open("../1")  # type: ignore[arg-type]
