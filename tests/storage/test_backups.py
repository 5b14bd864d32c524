"""A deployment is backed up while it is used, lost, and restored: a run then finds everything."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.backups import Deployed, back_up, restore
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import StorageError
from kalshi_pipeline.storage.publish import CURRENT, MANIFEST, Recipe, Warehouse
from tests.postgres import ENCODED, PASSWORD

RAW = "raw_messages"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, pipeline_home, monkeypatch):
    """Where Dagster's state lies; gives it an empty database, as a new machine has."""
    if request.param == "sqlite":
        return lambda name: None
    server = request.getfixturevalue("postgres")
    monkeypatch.setenv("PATH", f"{server.programs}{os.pathsep}{os.environ['PATH']}")

    def anew(name: str) -> None:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.create_owned(name))

    return anew


def ingest(root: Path) -> dg.ExecuteInProcessResult:
    """Session 903, on the instance and warehouse the environment names."""
    job = build_definitions([], str(root)).resolve_job_def("session_data")
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("session", ["903"])
        return job.execute_in_process(
            instance=instance, partition_key="903", asset_selection=[dg.AssetKey(RAW)]
        )


@pytest.mark.drill
def test_a_lost_deployment_is_restored_and_a_run_finds_everything(
    database, pipeline_home, tmp_path, capsys
):
    database("backed_up")
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    first = ingest(warehouse)
    made = Warehouse(warehouse).current(RAW, "903")
    backup = tmp_path / "backup"
    assert cli.main(["backup", "make", str(backup)]) == 0
    before = {path: path.stat().st_mtime_ns for path in (backup / "warehouse").rglob("*.parquet")}
    assert before
    assert cli.main(["backup", "make", str(backup)]) == 0, "again: only what is new"
    assert " 0 new files" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert oct(backup.stat().st_mode)[-3:] == "700"
    for path in backup.rglob("*"):
        assert not path.is_file() or not any(
            mark.encode() in path.read_bytes() for mark in (PASSWORD, ENCODED)
        )

    shutil.rmtree(home)
    shutil.rmtree(warehouse)
    database("restored")
    assert cli.main(["backup", "restore", str(backup)]) == 0
    with dg.DagsterInstance.get() as instance:
        assert instance.get_run_by_id(first.run_id).is_success
        assert instance.get_dynamic_partitions("session") == ["903"]
        record = instance.get_latest_data_version_record(dg.AssetKey(RAW), partition_key="903")
        assert record.run_id == first.run_id
    again = Warehouse(warehouse).current(RAW, "903")
    assert again.verified()
    assert again.content_hash == made.content_hash
    written = (again.folder / "messages.parquet").stat().st_ino
    second = ingest(warehouse)
    assert (again.folder / "messages.parquet").stat().st_ino == written, "it was not made again"
    with dg.DagsterInstance.get() as instance:
        assert len(instance.get_runs()) == 2
        told = [entry.user_message for entry in instance.all_logs(second.run_id)]
    assert any("unchanged, nothing was computed" in text for text in told)


def test_nothing_is_restored_over_anything(pipeline_home, tmp_path):
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    warehouse.mkdir()
    (warehouse / "note.txt").write_text("x")
    backup = tmp_path / "backup"
    with pytest.raises(StorageError, match="no backup lies here"):
        restore(backup, Deployed(home, warehouse))
    back_up(Deployed(home, warehouse), backup)
    with pytest.raises(StorageError, match="something is here already"):
        restore(backup, Deployed(home, warehouse))
    with pytest.raises(StorageError, match="something is here already"):
        restore(backup, Deployed(tmp_path / "new", warehouse))
    with pytest.raises(StorageError, match="lies in SQLite"):
        restore(backup, Deployed(tmp_path / "new", tmp_path / "other", {"PGDATABASE": "x"}))
    restore(backup, Deployed(tmp_path / "new", tmp_path / "other"))
    assert (tmp_path / "other" / "note.txt").read_text() == "x"
    assert (tmp_path / "new" / "dagster.yaml").is_file()


def test_a_server_that_does_not_answer_leaves_the_backup_before(
    pipeline_home, tmp_path, postgres, monkeypatch, capsys
):
    backup = tmp_path / "backup"
    (pipeline_home / "warehouse").mkdir()
    monkeypatch.setenv("PATH", f"{postgres.programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres.create_owned("there"))
    assert cli.main(["backup", "make", str(backup)]) == 0
    dumped = (backup / "dagster" / "dagster.dump").read_bytes()
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres.url("absent"))
    capsys.readouterr()
    assert cli.main(["backup", "make", str(backup)]) == 1
    told = capsys.readouterr().err
    assert '"absent" does not exist' in told
    assert "canary" not in told
    assert (backup / "dagster" / "dagster.dump").read_bytes() == dumped
    assert sorted(path.name for path in backup.iterdir()) == ["dagster", "warehouse"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["backup", "make", str(backup)]) == 1
    assert "pg_dump is not on the PATH" in capsys.readouterr().err


def test_what_is_unfinished_is_left_out_and_what_changed_is_copied_again(pipeline_home, tmp_path):
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    (warehouse / "books" / ".staging" / "x").mkdir(parents=True)
    (warehouse / "books" / ".staging" / "x" / "half.parquet").write_text("half")
    (warehouse / "trials.jsonl").write_text("1\n")
    backup = tmp_path / "backup"
    assert back_up(Deployed(home, warehouse), backup) == 1
    (warehouse / "trials.jsonl").write_text("1\n2\n")
    assert back_up(Deployed(home, warehouse), backup) == 1
    files = [path.name for path in (backup / "warehouse").rglob("*") if path.is_file()]
    assert files == ["trials.jsonl"]
    assert (backup / "warehouse" / "trials.jsonl").read_text() == "1\n2\n"


def publish(root: Path, content: str) -> str:
    with Warehouse(root).stage("notes", "7", Recipe("1", {"content": content})) as staging:
        (staging.folder / "seed_1").mkdir()
        (staging.folder / "seed_1" / "note.txt").write_text(content)
    return staging.generation.content_hash


def test_wherever_a_backup_is_interrupted_what_it_points_to_is_whole(
    pipeline_home, tmp_path, monkeypatch
):
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    publish(warehouse, "0")
    interrupted = 0
    for count in range(20):
        backup = tmp_path / f"backup_{count}"
        back_up(Deployed(home, warehouse), backup)
        before = Warehouse(backup / "warehouse").current("notes", "7").content_hash
        new = publish(warehouse, f"{count + 1}")
        left = iter(range(count))
        replace = Path.replace

        def replace_or_die(
            source: Path, target: Path, *, left=left, backup=backup, replace=replace
        ) -> Path:
            if backup in target.parents and next(left, None) is None:
                raise KeyboardInterrupt
            return replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_or_die)
            try:
                back_up(Deployed(home, warehouse), backup)
            except KeyboardInterrupt:
                interrupted += 1
        copied = Warehouse(backup / "warehouse").current("notes", "7")
        assert copied.verified()
        assert copied.content_hash in {before, new}
        for manifest in backup.rglob(MANIFEST):
            assert (manifest.parent / "seed_1" / "note.txt").is_file()
        if copied.content_hash == new:
            break
    assert interrupted == 3, "before the note, before its manifest, before the pointer"
    assert not list(backup.rglob(".*")), "nothing half is left"


def test_a_pointer_that_is_moved_while_its_generations_are_copied_is_copied_as_it_was(
    pipeline_home, tmp_path, monkeypatch
):
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    first = publish(warehouse, "1")
    backup = tmp_path / "backup"
    iterdir = Path.iterdir
    moved = []

    def listed(folder: Path):
        inside = list(iterdir(folder))
        if folder.name == "session=7" and warehouse in folder.parents and not moved:
            moved.append(publish(warehouse, "2"))
        return iter(inside)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", listed)
        back_up(Deployed(home, warehouse), backup)
    assert moved
    copied = Warehouse(backup / "warehouse")
    assert copied.current("notes", "7").content_hash == first
    assert copied.current("notes", "7").verified()
    assert back_up(Deployed(home, warehouse), backup) == 3
    assert copied.current("notes", "7").content_hash == moved[0]
    assert (backup / "warehouse" / "notes" / "session=7" / CURRENT).is_file()


def test_the_events_of_a_run_that_is_pruned_meanwhile_are_not_made_again(pipeline_home, tmp_path):
    """A name that is listed and leads nowhere when it is opened; SQLite would make a new file."""
    home = pipeline_home / "dagster_home"
    runs = home / "history" / "runs"
    runs.mkdir(parents=True)
    with closing(sqlite3.connect(runs / "50% #1?.db")) as kept:
        kept.execute("CREATE TABLE event (told TEXT)")
        kept.execute("INSERT INTO event VALUES ('it ran')")
        kept.commit()
    pruned = runs / "pruned"
    (runs / "listed.db").symlink_to(pruned)
    backup = tmp_path / "backup"
    back_up(Deployed(home, pipeline_home / "warehouse"), backup)
    assert not pruned.exists()
    copies = backup / "dagster" / "history" / "runs"
    assert [path.name for path in copies.iterdir()] == ["50% #1?.db"]
    with closing(sqlite3.connect(copies / "50% #1?.db")) as copied:
        assert copied.execute("SELECT told FROM event").fetchall() == [("it ran",)]


@pytest.mark.parametrize(
    "place",
    ["warehouse", "warehouse/backup", "dagster_home", "dagster_home/history/backup", "."],
)
def test_a_backup_within_what_it_is_of_is_refused(pipeline_home, place):
    """The last: its `warehouse` would be the warehouse itself."""
    home, warehouse = pipeline_home / "dagster_home", pipeline_home / "warehouse"
    publish(warehouse, "1")
    before = sorted(pipeline_home.rglob("*"))
    with pytest.raises(StorageError, match="must lie apart"):
        back_up(Deployed(home, warehouse), pipeline_home / place)
    assert sorted(pipeline_home.rglob("*")) == before


def test_interrupted_as_the_state_is_replaced_the_one_before_is_restored(
    pipeline_home, tmp_path, monkeypatch
):
    deployed = Deployed(pipeline_home / "dagster_home", pipeline_home / "warehouse")
    publish(deployed.warehouse, "1")
    backup = tmp_path / "backup"
    back_up(deployed, backup)
    (backup / "dagster" / "mark").write_text("before")
    rename = Path.rename

    def rename_or_die(source: Path, target: Path) -> Path:
        if target == backup / "dagster":
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        with pytest.raises(KeyboardInterrupt):
            back_up(deployed, backup)
    restore(backup, Deployed(tmp_path / "new", tmp_path / "other"))
    assert (tmp_path / "new" / "mark").read_text() == "before"
    back_up(deployed, backup)
    assert sorted(path.name for path in backup.iterdir()) == ["dagster", "warehouse"]
    assert not (backup / "dagster" / "mark").exists()


def test_into_a_folder_that_everybody_reads_a_backup_is_its_owners(pipeline_home, tmp_path):
    backup = tmp_path / "mounted"
    (backup / "warehouse").mkdir(parents=True)
    for path in (backup, backup / "warehouse"):
        path.chmod(0o755)
    back_up(Deployed(pipeline_home / "dagster_home", pipeline_home / "warehouse"), backup)
    modes = {path.name: oct(path.stat().st_mode)[-3:] for path in (backup, *backup.iterdir())}
    assert modes == {"mounted": "755", "dagster": "700", "warehouse": "700"}
