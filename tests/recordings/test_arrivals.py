"""A session is taken once it is complete and has come to rest, and again when it changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.recordings.arrivals import Sight, Watch, database_sights, folder_sights
from kalshi_pipeline.recordings.folder import session_info

QUIET_MS = 10_000


def record(root: Path, session: int | str, messages: bytes = b"{}\n") -> Path:
    folder = root / str(session)
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"session_id": session}))
    (folder / "messages.ndjson").write_bytes(messages)
    return folder


def test_a_folder_is_ready_when_nothing_changed_for_long_enough(tmp_path):
    record(tmp_path, 7)
    watch = Watch()
    assert watch.ready(folder_sights([tmp_path]), 0, QUIET_MS) == []
    assert watch.ready(folder_sights([tmp_path]), QUIET_MS - 1, QUIET_MS) == []
    assert watch.ready(folder_sights([tmp_path]), QUIET_MS, QUIET_MS) == [7]
    assert watch.ready(folder_sights([tmp_path]), QUIET_MS, QUIET_MS) == [7]  # until it is taken
    watch.take(7)
    assert watch.ready(folder_sights([tmp_path]), 10 * QUIET_MS, QUIET_MS) == []


def test_a_folder_that_is_still_being_written_is_left_alone(tmp_path):
    folder = record(tmp_path, 7)
    watch = Watch()
    for look in range(5):
        with (folder / "messages.ndjson").open("ab") as file:
            file.write(b"{}\n")
        assert watch.ready(folder_sights([tmp_path]), look * QUIET_MS, QUIET_MS) == []
    assert watch.ready(folder_sights([tmp_path]), 5 * QUIET_MS, QUIET_MS) == [7]


def test_bytes_of_the_same_length_are_a_change_too(tmp_path):
    folder = record(tmp_path, 7, b"one\n")
    before = folder_sights([tmp_path])[7].mark
    (folder / "messages.ndjson").write_bytes(b"two\n")
    os.utime(folder / "messages.ndjson", ns=(1, 1))
    assert folder_sights([tmp_path])[7].mark != before


@pytest.mark.parametrize(
    "name", [".messages.ndjson.gz.x1Yz2a", "messages-2.ndjson.part", "markets.json.filepart"]
)
def test_a_copy_under_way_is_waited_for_however_quiet_it_is(tmp_path, name):
    folder = record(tmp_path, 7)
    (folder / name).write_bytes(b"half")
    watch = Watch()
    for now_ms in (0, QUIET_MS, 9 * QUIET_MS):
        assert watch.ready(folder_sights([tmp_path]), now_ms, QUIET_MS) == []
    assert name in folder_sights([tmp_path])[7].waits_for


def test_a_folder_without_its_header_or_messages_says_what_it_waits_for(tmp_path):
    (record(tmp_path, 7) / "session.json").unlink()
    (record(tmp_path, 8) / "messages.ndjson").unlink()
    found = folder_sights([tmp_path])
    assert found[7].waits_for == "session.json"
    assert found[8].waits_for.startswith("messages")
    assert Watch().ready(found, 0, 0) == []


def test_what_is_no_session_is_not_seen(tmp_path):
    for name in ("007", "notes", "-1", ".generating-abc"):
        record(tmp_path, name)
    (tmp_path / "9").write_text("a file")
    assert folder_sights([tmp_path]) == {}


def test_a_desktop_s_own_files_keep_no_session_waiting(tmp_path):
    (record(tmp_path, 7) / ".DS_Store").write_bytes(b"")
    assert folder_sights([tmp_path])[7].waits_for == ""


def test_the_first_root_that_has_a_session_wins(tmp_path):
    record(tmp_path / "first", 7)
    record(tmp_path / "second", 7, b"other messages\n")
    record(tmp_path / "second", 8)
    first, both = (
        folder_sights([tmp_path / "first"]),
        folder_sights([tmp_path / "first", tmp_path / "second"]),
    )
    assert both[7] == first[7]
    assert sorted(both) == [7, 8]


def test_a_folder_that_cannot_be_listed_keeps_no_other_waiting(tmp_path, monkeypatch):
    record(tmp_path, 7)
    record(tmp_path, 8)
    listed = Path.iterdir

    def refused(path):
        if path.name == "7":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    found = folder_sights([tmp_path])
    assert "Permission denied" in found[7].waits_for
    assert Watch().ready(found, 0, 0) == [8]


def test_a_session_of_a_database_is_ready_when_its_collector_is_done():
    def info(session, **declared):
        return session_info(session, declared)

    over = database_sights([info(1, status="closed"), info(2, status="active"), info(3)])
    assert Watch().ready(over, 0, 0) == [1, 3]
    again = database_sights([info(1, status="closed", declared_counters={"deltas": 5})])
    assert again[1].mark != over[1].mark


def test_a_cursor_is_small_and_says_the_same_when_read_back():
    watch = Watch(dict.fromkeys(range(1, 501), "0123456789ab"), {501: ("ba9876543210", 5)})
    assert Watch.from_text(watch.to_text()) == watch
    assert len(watch.to_text()) < 500 * 24


@pytest.mark.parametrize("text", [None, "", "{", "7", "[]", '{"taken": 3}', '{"taken": {"a": 1}}'])
def test_a_cursor_somebody_broke_is_a_new_beginning(text):
    assert Watch.from_text(text) == Watch()


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(1, 4), st.sampled_from("abc"), max_size=4),
            st.integers(0, 3 * QUIET_MS),
        ),
        max_size=12,
    )
)
def test_whatever_comes_a_mark_is_taken_once_and_only_after_its_quiet(looks):
    watch, now_ms = Watch(), 0
    since: dict[int, tuple[str, int]] = {}
    taken: dict[int, str] = {}
    for marks, step_ms in looks:
        now_ms += step_ms
        for gone in {*since, *taken} - {*marks}:
            since.pop(gone, None)
            taken.pop(gone, None)
        for key, mark in marks.items():
            if taken.get(key) == mark:
                since.pop(key, None)
            elif since.get(key, ("",))[0] != mark:
                since[key] = (mark, now_ms)
        watch = Watch.from_text(watch.to_text())
        ready = watch.ready({key: Sight(mark) for key, mark in marks.items()}, now_ms, QUIET_MS)
        wanted = [
            key
            for key in sorted(marks)
            if taken.get(key) != marks[key] and now_ms - since[key][1] >= QUIET_MS
        ]
        assert ready == wanted
        for key in ready:
            watch.take(key)
            taken[key] = since.pop(key)[0]
