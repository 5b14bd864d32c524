"""A session that arrives is registered and asked for once, whatever happens to the sensor."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from itertools import count
from types import SimpleNamespace

import dagster as dg
import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.assets import sensors
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import MissingFile, SourceUnavailable
from kalshi_pipeline.recordings.folder import RecordingFolders
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.resources.recordings import Recordings
from tests.recordings.collector_tables import DDL, add_session


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def clock(monkeypatch):
    """Every look is a minute after the one before."""
    minutes = count(1)
    monkeypatch.setattr(sensors.time, "time_ns", lambda: next(minutes) * 60_000_000_000)


@pytest.fixture
def home(tmp_path, monkeypatch, clock):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL_POOLED", raising=False)
    (tmp_path / "recordings").mkdir()
    return tmp_path


class Sensor:
    """A sensor over an instance: what a daemon does with it, tick by tick."""

    def __init__(self, sensor, instance, home):
        self.sensor, self.instance, self.home, self.cursor = sensor, instance, home, None

    def tick(self):
        """What is asked for; runs are known by their keys, partitions are registered."""
        resources = Recordings(
            roots=[str(self.home / "recordings")], warehouse=str(self.home / "warehouse")
        )
        context = dg.build_sensor_context(
            self.instance, self.cursor, resources={"recordings": resources}
        )
        with context:
            result = self.sensor(context)
        if isinstance(result, dg.SkipReason):
            return result.skip_message
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions("session", request.partition_keys)
        return result.run_requests or result.skip_reason.skip_message

    def asked(self):
        """Sessions two ticks ask for: the first look and the one after the quiet."""
        told = [self.tick(), self.tick()]
        return [
            request.partition_key for each in told if isinstance(each, list) for request in each
        ]


@pytest.fixture
def folders(instance, home):
    return Sensor(sensors.recording_folders, instance, home)


def record(home, session, text=b'{"recv_ms": 1, "conn": 1, "event": {}}\n'):
    folder = home / "recordings" / str(session)
    folder.mkdir(exist_ok=True)
    (folder / "session.json").write_text(json.dumps({"session_id": session}))
    (folder / "messages.ndjson").write_bytes(text)
    return folder


def ingest(home, instance, session):
    """What a run of the session does, and what it tells the instance."""
    recording = RecordingFolders([home / "recordings"]).open(session)
    made = stages.ingest_session(open_warehouse(str(home / "warehouse")), recording)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "raw_messages",
            partition=str(session),
            tags={"dagster/data_version": made.content_hash},
        )
    )


def test_a_folder_is_registered_and_asked_for_once_it_has_come_to_rest(folders, home, instance):
    record(home, 7)
    assert "session 7 waits for quiet" in folders.tick()
    assert instance.get_dynamic_partitions("session") == []
    (request,) = folders.tick()
    assert request.partition_key == "7"
    assert request.tags == {"kalshi/session": "7"}
    assert instance.get_dynamic_partitions("session") == ["7"]
    assert folders.tick() == "nothing new"


def test_a_cursor_that_was_reset_asks_with_the_same_key(folders, home):
    record(home, 7)
    folders.tick()
    (first,) = folders.tick()
    folders.cursor = None
    folders.tick()
    (second,) = folders.tick()
    assert second.run_key == first.run_key


def test_what_was_ingested_is_not_asked_for_again(folders, home, instance):
    record(home, 7)
    assert folders.asked() == ["7"]
    ingest(home, instance, 7)
    folders.cursor = None
    assert folders.asked() == []
    assert folders.tick() == "nothing new"


def test_equal_data_again_is_nothing_and_changed_data_is_a_request(folders, home, instance):
    folder = record(home, 7)
    assert folders.asked() == ["7"]
    ingest(home, instance, 7)
    os.utime(folder / "messages.ndjson", ns=(1, 1))  # copied again: other times, equal bytes
    assert folders.asked() == []
    record(home, 7, b"recorded anew\n")
    assert folders.asked() == ["7"]


@pytest.mark.parametrize("read_of_one", [sensors.READ_OF_ONE, 1])
def test_content_that_comes_back_is_asked_for_however_often(
    folders, home, instance, monkeypatch, read_of_one
):
    monkeypatch.setattr(sensors, "READ_OF_ONE", read_of_one)
    keys = []
    for text in (b"one\n", b"two\n", b"one\n", b"two\n", b"one\n"):
        folder = record(home, 7, text)
        for file in folder.iterdir():
            os.utime(file, ns=(1, 1))  # restored with its times
        folders.cursor = None
        folders.tick()
        (request,) = folders.tick()
        keys.append(request.run_key)
        ingest(home, instance, 7)
    assert len({*keys}) == 5


def test_an_instance_that_lost_its_history_is_told_again(folders, home, instance):
    record(home, 7)
    assert folders.asked() == ["7"]
    ingest(home, instance, 7)
    with dg.DagsterInstance.ephemeral() as fresh:
        assert Sensor(sensors.recording_folders, fresh, home).asked() == ["7"]


def test_a_session_is_not_asked_for_while_a_run_of_it_is_under_way(folders, home, instance):
    record(home, 7)
    record(home, 8)
    running = instance.create_run_for_job(
        build_definitions([], str(home)).resolve_job_def("session_data"),
        tags={"dagster/partition": "7"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert folders.asked() == ["8"]
    instance.delete_run(running.run_id)
    assert folders.asked() == ["7"]


@pytest.mark.parametrize("header", ["{", "[]", '{"session_id": 8}'])
def test_a_folder_that_cannot_be_read_is_asked_for_so_that_its_run_says_why(
    folders, home, instance, header
):
    (record(home, 7) / "session.json").write_text(header)
    record(home, 9)
    assert folders.asked() == ["7", "9"]
    assert folders.tick() == "nothing new"  # and is not asked for again until it changes
    folders.cursor = None
    assert folders.asked() == ["7", "9"]
    record(home, 7)
    assert folders.asked() == ["7"]


def test_hundreds_of_sessions_are_asked_for_in_parts(folders, home, instance):
    for session in range(1, 2 * sensors.OFFERED_AT_ONCE + 6):
        record(home, session)
    asked = [folders.tick() for _ in range(5)][1:4]
    assert [len(each) for each in asked] == [sensors.OFFERED_AT_ONCE] * 2 + [5]
    assert sorted(int(r.partition_key) for each in asked for r in each) == list(range(1, 46))
    assert folders.tick() == "nothing new"
    assert len(instance.get_dynamic_partitions("session")) == 45


def test_a_tick_reads_only_so_much(folders, home, monkeypatch):
    monkeypatch.setattr(sensors, "READ_AT_ONCE", 10)
    for session in (1, 2):
        record(home, session, b"ten bytes\n")
    folders.tick()
    assert [request.partition_key for request in folders.tick()] == ["1"]
    assert [request.partition_key for request in folders.tick()] == ["2"]


def test_a_disk_too_slow_for_one_tick_holds_up_no_session_for_ever(folders, home, monkeypatch):
    for session in (1, 2, 3):
        record(home, session)
    seconds = count()
    monkeypatch.setattr(sensors, "READ_FOR_S", 6)
    slow = SimpleNamespace(time_ns=sensors.time.time_ns, monotonic=lambda: next(seconds))
    monkeypatch.setattr(sensors, "time", slow)
    asked = [folders.tick() for _ in range(4)][1:]
    assert [[request.partition_key for request in each] for each in asked] == [["1"], ["2"], ["3"]]
    monkeypatch.setattr(sensors, "READ_FOR_S", 1)  # not enough for a single one
    folders.cursor = None
    again = [folders.tick() for _ in range(4)][1:]
    assert [[request.partition_key for request in each] for each in again] == [["1"], ["2"], ["3"]]
    assert all(was[0].run_key != now[0].run_key for was, now in zip(asked, again, strict=True))


def test_a_huge_recording_is_known_without_being_read(folders, home, monkeypatch):
    monkeypatch.setattr(sensors, "READ_OF_ONE", 9)
    folder = record(home, 7, b"ten bytes\n")
    folders.tick()
    (first,) = folders.tick()
    os.utime(folder / "messages.ndjson", ns=(1, 1))
    folders.tick()
    (second,) = folders.tick()
    assert first.run_key != second.run_key


def test_a_folder_that_goes_away_and_comes_back_is_the_same_one(folders, home):
    folder = record(home, 7)
    folders.tick()
    (first,) = folders.tick()
    shutil.move(folder, home / "elsewhere")
    assert folders.tick() == "nothing new"
    shutil.move(home / "elsewhere", folder)
    folders.tick()
    (second,) = folders.tick()
    assert second.run_key == first.run_key


def test_generated_sessions_are_not_looked_for(folders, home, instance):
    (home / "warehouse" / "generated").mkdir(parents=True)
    record(home, 7)
    shutil.move(home / "recordings" / "7", home / "warehouse" / "generated" / "7")
    assert folders.asked() == []


def test_a_root_that_is_not_there_fails_the_tick_and_not_the_next(folders, home):
    record(home, 7)
    (home / "recordings").rename(home / "unmounted")
    with pytest.raises(MissingFile, match="names a folder that does not exist"):
        folders.tick()
    (home / "unmounted").rename(home / "recordings")
    assert folders.asked() == ["7"]


@pytest.fixture
def database(postgres, instance, home, monkeypatch):
    """The sensor over a database with an ended and an active session."""
    name = postgres.create("arrivals", DDL)
    with postgres.admin(name) as rows:
        add_session(rows, 12)
        add_session(rows, 13, status="active")
        monkeypatch.setenv("DATABASE_URL", postgres.url(name))
        sensor = Sensor(sensors.database_sessions, instance, home)
        sensor.rows = rows
        yield sensor


def test_sessions_of_the_database_are_asked_for_when_their_collector_is_done(database):
    (request,) = database.tick()
    assert request.partition_key == "12"
    assert "session 13 waits for its collector" in database.tick()
    database.rows.execute(
        "UPDATE rl_orderbook_sessions SET status = 'closed' WHERE session_id = 13"
    )
    database.rows.commit()
    (request,) = database.tick()
    assert request.partition_key == "13"
    assert database.tick() == "nothing new"


def test_a_reset_cursor_of_the_database_asks_with_the_same_key(database):
    (first,) = database.tick()
    database.cursor = None
    (second,) = database.tick()
    assert second.run_key == first.run_key


def test_a_folder_wins_over_the_database(database, home):
    record(home, 12)
    assert "session 13 waits" in database.tick()


def test_a_folder_on_a_disk_that_is_not_mounted_is_not_replaced_by_the_database(
    database, home, instance
):
    record(home, 12)
    ingest(home, instance, 12)
    shutil.move(home / "recordings", home / "unmounted")
    (home / "recordings").mkdir()
    assert "session 12 waits for its folder" in database.tick()
    shutil.move(home / "unmounted" / "12", home / "recordings")
    assert "session 12" not in database.tick()


def test_a_session_that_was_generated_is_asked_for_once_the_database_has_it(
    database, home, instance
):
    folder = record(home, 12)
    (folder / "session.json").write_text('{"session_id": 12, "generated": true}')
    ingest(home, instance, 12)
    shutil.rmtree(folder)
    (request,) = database.tick()
    assert request.partition_key == "12"


def test_a_database_that_is_down_fails_the_tick_without_its_password(database, monkeypatch):
    up = os.environ["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2secret@127.0.0.1:1/none")
    with pytest.raises(SourceUnavailable, match="the database cannot be read") as failed:
        database.tick()
    told = "".join(traceback.format_exception(failed.value))
    assert "hunter2secret" not in told
    monkeypatch.setenv("DATABASE_URL", up)
    (request,) = database.tick()
    assert request.partition_key == "12"


def test_without_a_database_there_is_nothing_to_ask_for(instance, home):
    sensor = Sensor(sensors.database_sessions, instance, home)
    assert sensor.tick() == "DATABASE_URL is not set"
