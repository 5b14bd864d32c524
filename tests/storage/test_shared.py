"""A warehouse in an object store, from several machines: what is shared, fetched, refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kalshi_pipeline.errors import AlreadyOpened, CorruptFile, DiskFull, StorageError
from kalshi_pipeline.resources.environment import open_warehouse, warehouse_folder, warehouse_root
from kalshi_pipeline.storage.object_store import ObjectStore
from kalshi_pipeline.storage.publish import MANIFEST, Generation, Recipe, Warehouse, canonical_json
from kalshi_pipeline.storage.seals import open_session as open_sealed
from kalshi_pipeline.storage.seals import openings
from kalshi_pipeline.storage.shared import SharedWarehouse
from kalshi_pipeline.storage.trials import read_trials, record
from tests.storage.places import StorePlace
from tests.storage.test_publish import NEW, OLD, flip, publish, seen
from tests.storage.test_seals import OPENING
from tests.storage.test_trials import ONE, OTHER

pytestmark = pytest.mark.scale


@pytest.fixture
def place(object_store, tmp_path, request):
    return StorePlace(tmp_path, f"s3://kalshi/{request.node.name[:60]}-{tmp_path.name}")


def fetched(warehouse: Warehouse) -> set[str]:
    found = (path for path in warehouse.root.rglob("gen=*/**/*") if path.is_file())
    return {path.name for path in found}


# --- what another machine sees


def test_another_machine_finds_what_was_published_and_fetches_what_it_reads(place):
    publish(place.open(), "one")
    other = place.reader()
    found = other.made_from("books", "32", OLD)
    assert found is not None
    assert fetched(other) == {MANIFEST}
    assert found.path("table.txt").read_text() == "one"
    assert fetched(other) == {MANIFEST, "table.txt"}
    assert found.at_hand("more/rows.txt").read_text() == "oneone"
    assert fetched(other) == {MANIFEST, "table.txt", "rows.txt"}


def test_what_was_fetched_is_read_here_from_then_on(place, monkeypatch):
    publish(place.open(), "one")
    other = place.reader()
    folder = other.current("books", "32").verified()
    monkeypatch.setattr(ObjectStore, "download", lambda *_: pytest.fail("fetched again"))
    assert other.current("books", "32").verified() == folder
    assert other.current("books", "32").whole() == folder


def test_a_copy_that_is_damaged_or_removed_is_fetched_again(place):
    generation = publish(place.open(), "one")
    for damage in (flip, Path.unlink):
        damage(generation.folder / "table.txt")
        assert generation.path("table.txt").read_text() == "one"
    (generation.folder / MANIFEST).write_text("{")
    assert place.open().current("books", "32").verified()


def test_a_pointer_moved_by_one_machine_is_followed_by_the_others(place):
    one, other = place.open(), place.reader()
    publish(one, "one", OLD)
    assert seen(other) == "one"
    publish(other, "two", NEW)
    assert seen(one) == "two"
    assert one.names("books/session=*/CURRENT") == [one.root / "books/session=32/CURRENT"]
    assert one.names("*/*/CURRENT") == one.names("books/session=*/CURRENT")
    assert one.names("*/evaluation/CURRENT") == []


def test_equal_content_with_other_exports_never_mixes_them(place):
    def published(warehouse: Warehouse, export: str, recipe: Recipe) -> Generation:
        with warehouse.stage("books", "32", recipe) as staging:
            (staging.folder / "table.txt").write_text("one")
            (staging.folder / "exports").mkdir()
            (staging.folder / "exports" / "model.zip").write_text(export)
        return staging.generation

    first = published(place.open(), "made at nine", OLD)
    second = published(place.reader(), "made at ten", NEW)
    assert first.content_hash == second.content_hash
    told = {
        warehouse.current("books", "32").path("exports/model.zip").read_text()
        for warehouse in (place.open(), place.reader(), place.reader())
    }
    assert told == {"made at nine"}  # as in a folder: what is published already stays
    # two that put at once: whichever manifest is last names exports that are there
    late = place.reader()
    late._is_whole = lambda _: False
    published(late, "made at eleven", NEW)
    assert first.path("exports/model.zip").read_text() == "made at nine"
    flip(first.folder / "exports" / "model.zip")
    assert first.path("exports/model.zip").read_text() == "made at nine"
    new = place.reader().current("books", "32")
    assert new.path("exports/model.zip").read_text() == "made at eleven"


def test_every_machine_counts_every_trial(place):
    one, other = place.open(), place.reader()
    record(one, [ONE])
    record(other, [OTHER])
    record(other, [ONE])
    assert read_trials(one).equals(read_trials(other))
    assert read_trials(place.reader()).num_rows == 2


def test_a_trial_whose_writer_died_before_others_saw_it_is_shared_when_it_is_told_again(
    place, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(SharedWarehouse, "share", lambda *_: None)
        record(place.open(), [ONE])
    assert read_trials(place.reader()).num_rows == 0
    record(place.open(), [ONE])
    assert read_trials(place.reader()).num_rows == 1


def test_of_many_machines_that_open_a_session_at_once_one_does(place):
    def attempt(number):
        try:
            return open_sealed(place.reader(), replace(OPENING, checkpoint=f"{number:016x}"))
        except AlreadyOpened:
            return None

    with ThreadPoolExecutor(8) as pool:
        opened = [one for one in pool.map(attempt, range(12)) if one]
    assert opened == list(openings(place.reader()))


def test_a_claim_whose_answer_was_lost_is_known_for_ones_own(place):
    store = ObjectStore(place.url)
    assert store.create("seals/session=1/opened", b"mine")
    assert store.create("seals/session=1/opened", b"mine")
    assert not store.create("seals/session=1/opened", b"another's")
    assert store.read("seals/session=1/opened") == b"mine"


# --- what is damaged, or hostile


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff", b'{"files": {"opening.json": 5}}', b'{"files": {}}']
)
def test_a_claim_that_is_none_is_named(place, content):
    place.write("seals/session=71/opened", content)
    with pytest.raises(CorruptFile, match="claim") as caught:
        openings(place.open())
    assert caught.value.value == place.address("seals/session=71/opened")


@pytest.mark.parametrize("name", ["../../../escape", "/etc/escape", "a/../../../../escape"])
def test_a_manifest_that_names_files_elsewhere_reaches_none(place, name):
    from kalshi_pipeline.storage.generation import content_hash_of

    files = {name: {"sha256": "0" * 64, "bytes": 1}}
    content_hash = content_hash_of(files, {})
    manifest = {"files": files, "summary": {}, "recipe": {}}
    home = "books/session=32"
    place.write(f"{home}/gen={content_hash}/{MANIFEST}", canonical_json(manifest).encode())
    pointer = {"generation": content_hash, "recipe": OLD.digest}
    place.write(f"{home}/CURRENT", canonical_json(pointer).encode())
    before = {path for path in place.folder.parent.rglob("*") if path.name == "escape"}
    with pytest.raises(CorruptFile, match="elsewhere"):
        place.reader().current("books", "32").path(name)
    after = {path for path in place.folder.parent.rglob("*") if path.name == "escape"}
    assert before == after == set()


def test_an_object_larger_than_any_is_not_read_into_memory(place, monkeypatch):
    monkeypatch.setattr("kalshi_pipeline.storage.object_store.LARGEST_READ_BYTES", 10)
    publish(place.open(), "one")
    with pytest.raises(CorruptFile, match="larger than any"):
        place.reader().current("books", "32")


def test_a_large_object_is_fetched_in_pieces_each_a_request_of_its_own(place, monkeypatch):
    store = ObjectStore(f"{place.url}/pieces")
    content = bytes(range(40))
    store.put("large", content)
    monkeypatch.setattr("kalshi_pipeline.storage.object_store._CHUNK_BYTES", 7)
    asked = []
    get = store._client.get
    proxy = SimpleNamespace(
        head=store._client.head,
        get=lambda key, options: asked.append(options["range"]) or get(key, options=options),
    )
    monkeypatch.setattr(store, "_client", proxy)
    found = store.download("large", place.folder / "here")
    assert (place.folder / "here").read_bytes() == content
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert asked == [(0, 7), (7, 14), (14, 21), (21, 28), (28, 35), (35, 40)]
    monkeypatch.undo()
    store.put("empty", b"")
    assert store.download("empty", place.folder / "there").sha256 == hashlib.sha256().hexdigest()
    assert store.download("none", place.folder / "nowhere") is None


def test_no_room_for_what_is_fetched_is_said(place, monkeypatch):
    publish(place.open(), "one")
    generation = place.reader().current("books", "32")

    def full(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr(ObjectStore, "download", full)
    with pytest.raises(DiskFull, match="no room to fetch"):
        generation.path("table.txt")
    monkeypatch.undo()
    assert generation.path("table.txt").read_text() == "one"


# --- a store that is away or refuses


@pytest.mark.parametrize(
    ("status", "told"),
    [("503 Slow Down", "asked too often"), ("403 Forbidden", "refuses these credentials"),
     ("500 Oh", "answers 500"), ("401 Who", "does not know these credentials")],
)  # fmt: skip
def test_a_store_that_refuses_is_named_and_what_was_asked_then_succeeds(
    place, object_store, status, told
):
    warehouse = place.open()
    publish(warehouse, "old", OLD)
    object_store.refuse.write_text(status)
    try:
        for ask in (
            lambda: warehouse.current("books", "32"),
            lambda: warehouse.names("*/*/CURRENT"),
            lambda: publish(warehouse, "new", NEW),
            lambda: record(warehouse, [ONE]),
            lambda: open_sealed(warehouse, OPENING),
        ):
            with pytest.raises(StorageError, match=told) as caught:
                ask()
            shown = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
            assert place.url in shown
            assert "canary" not in shown
            assert object_store.endpoint not in shown
    finally:
        object_store.refuse.unlink()
    assert seen(warehouse) == "old"
    assert publish(warehouse, "new", NEW)
    assert seen(place.reader()) == "new"


def test_a_store_that_is_away_is_named(place, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        publish(place.open(), "one")
    assert place.url in str(caught.value)
    monkeypatch.undo()
    assert publish(place.open(), "one")


def test_a_bucket_that_is_not_there_is_no_empty_warehouse(object_store, tmp_path):
    warehouse = SharedWarehouse(ObjectStore("s3://nowhere/at", patience_s=1), tmp_path)
    for ask in (
        lambda: warehouse.current("books", "32"),
        lambda: publish(warehouse, "one"),
        lambda: warehouse.notes("trials/*.parquet"),
    ):
        with pytest.raises(StorageError, match="no such bucket"):
            ask()


# --- where it is


def test_a_root_in_a_store_is_opened_with_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("KALSHI_CACHE", str(tmp_path))
    monkeypatch.setenv("KALSHI_WAREHOUSE", "s3://kalshi/One/two/")
    root = warehouse_root()
    warehouse = open_warehouse(root)
    assert isinstance(warehouse, SharedWarehouse)
    assert warehouse.address == "s3://kalshi/One/two"
    assert warehouse.root == warehouse_folder(root)
    assert warehouse.root.parent == tmp_path
    assert warehouse_folder("s3://kalshi/one/two") != warehouse.root
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert warehouse_folder(root) != warehouse.root


@pytest.mark.parametrize(
    "root",
    ["s3://key:secret@bucket/a", "s3://bucket/a?token=secret", "s3://", "ftp://bucket/secret",
     "s3://bucket/a b", "https://bucket/secret"],
)  # fmt: skip
def test_a_root_that_is_neither_is_refused_and_not_repeated(monkeypatch, root):
    monkeypatch.setenv("KALSHI_WAREHOUSE", root)
    for ask in (warehouse_root, lambda: open_warehouse(root), lambda: warehouse_folder(root)):
        with pytest.raises(StorageError, match="neither a folder nor an address") as caught:
            ask()
        assert "secret" not in str(caught.value)


def test_a_folder_needs_no_client_of_a_store(tmp_path):
    asked = (
        "import sys; from kalshi_pipeline.resources.environment import open_warehouse; "
        f"open_warehouse({str(tmp_path)!r}).sweep(0); "
        "sys.exit(any(name.split('.')[0] == 'obstore' for name in sys.modules) "
        "or 'kalshi_pipeline.storage.shared' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
