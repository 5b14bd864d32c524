"""Old generations go; what is current, lately superseded, named or made from stays."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading

import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.errors import CorruptFile, StorageError
from kalshi_pipeline.storage.checkpoints import TRAINER
from kalshi_pipeline.storage.folder_lock import locked
from kalshi_pipeline.storage.object_store import ObjectStore
from kalshi_pipeline.storage.prune import prunable, remove
from kalshi_pipeline.storage.publish import CURRENT, MANIFEST, Recipe, Warehouse
from kalshi_pipeline.storage.shared import SharedWarehouse

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(tmp_path / "warehouse")


def publish(warehouse, asset, content, *, days_ago, session="7", made_from=(), inside="data.txt"):
    """Publish as if so many days before `NOW_MS`; the generation."""
    recipe = Recipe("1", {"content": content}, {f"input {n}": h for n, h in enumerate(made_from)})
    with warehouse.stage(asset, session, recipe) as staging:
        (staging.folder / inside).parent.mkdir(exist_ok=True)
        (staging.folder / inside).write_text(content)
    made = staging.generation
    when = (NOW_MS - days_ago * DAY_MS) / 1000
    for path in (made.folder / MANIFEST, warehouse.home(asset, session) / CURRENT):
        os.utime(path, (when, when))
    return made


def old(warehouse, days=7, keep=0):
    return [
        (entry.asset, entry.partition, entry.generation)
        for entry in prunable(warehouse, days * DAY_MS, NOW_MS, keep=keep)
    ]


def test_only_what_is_superseded_and_old_goes(warehouse):
    first = publish(warehouse, "books", "1", days_ago=90)
    second = publish(warehouse, "books", "2", days_ago=30)
    third = publish(warehouse, "books", "3", days_ago=10)
    assert old(warehouse) == sorted(("books", "7", g.content_hash) for g in (first, second))
    assert old(warehouse, keep=1) == [("books", "7", first.content_hash)]
    assert old(warehouse, keep=2) == []
    (entry,) = prunable(warehouse, 7 * DAY_MS, NOW_MS, keep=1)
    assert entry.since_ms == NOW_MS - 10 * DAY_MS, "it was current until the pointer last moved"
    assert remove(warehouse, entry)
    assert not first.folder.exists()
    assert second.verified()
    assert warehouse.current("books", "7").content_hash == third.content_hash
    assert not remove(warehouse, entry), "it is gone already"
    assert not list(warehouse.root.rglob(".staging/*"))


def test_a_reader_that_resolved_the_pointer_keeps_what_it_found(warehouse):
    """Made long ago, current until yesterday: a run may have begun to read it then."""
    publish(warehouse, "books", "1", days_ago=300)
    publish(warehouse, "books", "2", days_ago=1)
    assert old(warehouse, days=7) == []
    assert len(old(warehouse, days=1)) == 1


def test_a_generation_whose_pointer_is_yet_to_come_is_no_older_than_itself(warehouse):
    made = publish(warehouse, "books", "1", days_ago=3)
    (warehouse.home("books", "7") / CURRENT).unlink()
    assert old(warehouse, days=7) == []
    assert old(warehouse, days=2) == [("books", "7", made.content_hash)]


def test_what_a_present_checkpoint_and_evaluation_were_made_from_stays(warehouse):
    raw = publish(warehouse, "raw_messages", "1", days_ago=90)
    books = publish(warehouse, "books", "1", days_ago=90, made_from=[raw.content_hash])
    other = publish(warehouse, "books", "unused", days_ago=80)
    for stage, content in (("raw_messages", "2"), ("books", "2")):
        publish(warehouse, stage, content, days_ago=60)
    phase = publish(
        warehouse, "quick/phase_1", "1", days_ago=50, session=None, made_from=[books.content_hash]
    )
    publish(warehouse, "quick/phase_1", "2", days_ago=40, session=None)
    publish(
        warehouse, "quick/evaluation", "1", days_ago=40, session=None,
        made_from=[phase.content_hash],
    )  # fmt: skip
    assert old(warehouse) == [("books", "7", other.content_hash)]
    # judged anew, by what learned from the new books: now all of the old goes
    publish(warehouse, "quick/evaluation", "2", days_ago=30, session=None)
    gone = {generation for _, _, generation in old(warehouse)}
    assert {raw.content_hash, books.content_hash, phase.content_hash} < gone


def test_every_checkpoint_stays_and_what_an_old_one_was_made_from_goes(warehouse):
    books = publish(warehouse, "books", "1", days_ago=90)
    phase = publish(
        warehouse, "quick/phase_1", "1", days_ago=50, session=None, made_from=[books.content_hash],
        inside=f"seed_7/{TRAINER}",
    )  # fmt: skip
    publish(warehouse, "books", "2", days_ago=40)
    publish(warehouse, "quick/phase_1", "2", days_ago=40, session=None)
    assert old(warehouse) == [("books", "7", books.content_hash)]
    assert phase.verified()


def test_where_what_stays_cannot_say_what_it_was_made_from_nothing_goes(warehouse):
    raw = publish(warehouse, "raw_messages", "1", days_ago=90)
    publish(warehouse, "raw_messages", "2", days_ago=80)
    present = publish(warehouse, "books", "1", days_ago=70, made_from=[raw.content_hash])
    assert old(warehouse) == []
    (present.folder / MANIFEST).unlink()
    with pytest.raises(CorruptFile, match=present.content_hash):
        old(warehouse)


def test_content_made_twice_from_different_inputs_keeps_the_inputs_of_both(warehouse):
    raw = [publish(warehouse, "raw_messages", str(n), days_ago=91 - n) for n in range(2)]
    publish(warehouse, "raw_messages", "2", days_ago=60)
    books = [
        publish(
            warehouse,
            "books",
            "1",
            days_ago=85,
            session=str(n + 1),
            made_from=[raw[n].content_hash],
        )
        for n in range(2)
    ]
    assert books[0].content_hash == books[1].content_hash
    for n in range(2):
        publish(warehouse, "books", "2", days_ago=60, session=str(n + 1))
    publish(warehouse, "notes", "1", days_ago=50, session=None, made_from=[books[0].content_hash])
    assert old(warehouse) == []


def test_a_store_is_not_pruned_from_one_machine(tmp_path):
    shared = SharedWarehouse(ObjectStore("s3://bucket/prefix"), tmp_path)
    with pytest.raises(StorageError, match="is not pruned"):
        prunable(shared, 0, 0, keep=0)


def test_where_the_pointer_is_damaged_everything_stays(warehouse):
    publish(warehouse, "books", "1", days_ago=90)
    publish(warehouse, "books", "2", days_ago=80)
    (warehouse.home("books", "7") / CURRENT).write_text("nonsense")
    assert old(warehouse) == []
    with pytest.raises(CorruptFile):
        warehouse.current("books", "7")


def test_a_damaged_generation_goes_and_folders_of_others_do_not(warehouse):
    damaged = publish(warehouse, "books", "1", days_ago=90)
    publish(warehouse, "books", "2", days_ago=80)
    (damaged.folder / MANIFEST).write_text("{}")
    os.utime(damaged.folder / MANIFEST, (0, 0))
    foreign = warehouse.root / "My Folder" / "gen=0123456789abcdef"
    foreign.mkdir(parents=True)
    assert old(warehouse) == [("books", "7", damaged.content_hash)]


def test_a_generation_made_current_meanwhile_stays(warehouse):
    first = publish(warehouse, "books", "1", days_ago=90)
    publish(warehouse, "books", "2", days_ago=30)
    (entry,) = prunable(warehouse, 7 * DAY_MS, NOW_MS, keep=0)
    publish(warehouse, "books", "1", days_ago=0)  # equal content is the same generation
    assert not remove(warehouse, entry)
    assert warehouse.current("books", "7").content_hash == first.content_hash


def test_pruning_waits_for_a_writer_that_is_publishing(warehouse):
    publish(warehouse, "books", "1", days_ago=90)
    publish(warehouse, "books", "2", days_ago=30)
    (entry,) = prunable(warehouse, 7 * DAY_MS, NOW_MS, keep=0)
    removing = threading.Thread(target=remove, args=(warehouse, entry))
    with locked(warehouse.home("books", "7")):
        removing.start()
        removing.join(0.3)
        assert removing.is_alive()
        assert entry.folder(warehouse).exists()
    removing.join(30)
    assert not entry.folder(warehouse).exists()


def _write(root):
    warehouse = Warehouse(root)
    for turn in range(150):
        with warehouse.stage("books", "7", Recipe("1", {"turn": turn})) as staging:
            (staging.folder / "data.txt").write_text(str(turn % 2))
        assert warehouse.current("books", "7").verified()


def test_what_is_published_again_and_again_is_never_pruned_away(warehouse):
    """Two contents in turn, and whatever is superseded pruned at once: the pointer always holds."""
    writing = multiprocessing.get_context("spawn").Process(target=_write, args=(warehouse.root,))
    writing.start()
    removed = 0
    while writing.is_alive():
        for entry in prunable(warehouse, 0, 2 * NOW_MS, keep=0):
            removed += remove(warehouse, entry)
    writing.join()
    assert writing.exitcode == 0
    assert removed > 0
    assert warehouse.current("books", "7").verified()


def test_the_command_lists_and_removes_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KALSHI_WAREHOUSE", str(tmp_path))
    warehouse = Warehouse(tmp_path)
    made = [publish(warehouse, "notes", str(n), days_ago=10_000 - n) for n in range(3)]
    assert cli.main(["warehouse", "prune"]) == 0
    said = capsys.readouterr().out
    assert made[0].content_hash in said
    assert made[1].content_hash not in said, "the newest before the current one stays"
    assert "nothing was removed" in said
    assert made[0].folder.exists()
    assert cli.main(["warehouse", "prune", "--keep", "0", "--apply", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] is True
    assert {entry["generation"] for entry in told["generations"]} == {
        generation.content_hash for generation in made[:2]
    }
    assert [path.name for path in made[2].folder.parent.glob("gen=*")] == [made[2].folder.name]
    assert (tmp_path / "kalshi.duckdb").exists()
    with pytest.raises(SystemExit):
        cli.main(["warehouse", "prune", "--older-than-days", "0"])
