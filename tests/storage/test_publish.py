"""A partition a reader can see is whole: crashes, full disks, races, damage and odd names."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.errors import CorruptFile, DiskFull, InvalidName, NotPublished
from kalshi_pipeline.names import is_ticker, session_id
from kalshi_pipeline.storage.publish import (
    CURRENT,
    MANIFEST,
    STAGING,
    Files,
    Generation,
    Recipe,
    Warehouse,
    canonical_json,
)
from tests.storage.places import FailingFiles, Place, StorePlace

OLD, NEW = Recipe("1", {"k": 1}, {"up": "a"}), Recipe("1", {"k": 1}, {"up": "b"})
DAY_MS = 86_400_000


class Crash(Exception):
    """Stands for the end of the process."""


class Unflushed(Files):
    """Quick calls, for tests of what other processes see rather than of what a disk keeps."""

    def write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def sync(self, path: Path) -> None:
        pass


def fill(folder: Path, text: str) -> None:
    (folder / "table.txt").write_text(text)
    (folder / "more").mkdir()
    (folder / "more" / "rows.txt").write_text(text * 2)


def publish(
    warehouse: Warehouse, text: str, recipe: Recipe = OLD, partition: str | None = "32"
) -> Generation:
    with warehouse.stage("books", partition, recipe) as staging:
        fill(staging.folder, text)
        staging.summary["rows"] = len(text)
    return staging.generation


def publish_half(warehouse: Warehouse, error: Exception) -> None:
    with warehouse.stage("books", "32", OLD) as staging:
        with pytest.raises(NotPublished):
            _ = staging.generation
        fill(staging.folder, "half")
        raise error


def seen(warehouse: Warehouse) -> str | None:
    """What a reader sees now; fails if that is not whole."""
    try:
        generation = warehouse.current("books", "32")
    except NotPublished:
        return None
    folder = generation.verified()
    text = (folder / "table.txt").read_text()
    assert (folder / "more" / "rows.txt").read_text() == text * 2
    assert generation.summary == {"rows": len(text)}
    return text


def unfinished(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.parent.name == STAGING]


def finished(place: Place, name: str = ".") -> set[str]:
    return {path.split("/")[0] for path in place.files(name, "books/session=32")}


def calls_of_one_publication(place: Place) -> int:
    files = FailingFiles(0, lambda: None)
    publish(place.open("counted", files), "new")
    return files.calls


# a store's put counts twice: it may fail before it or after it
CALLS = {"folder": 10, "store": 18}
EVERY_CALL = pytest.mark.parametrize(
    ("place", "k"),
    [
        pytest.param(kind, k, marks=pytest.mark.scale if kind == "store" else ())
        for kind, calls in CALLS.items()
        for k in range(1, calls + 1)
    ],
    indirect=["place"],
)


# --- the usual way


def test_what_was_published_is_what_is_read(place):
    warehouse = place.open()
    published = publish(warehouse, "one")
    read = warehouse.current("books", "32")
    assert not published.reused
    assert read.reused
    assert (read.content_hash, read.summary) == (published.content_hash, published.summary)
    assert read.path("table.txt").read_text() == "one"
    assert finished(place) == {CURRENT, f"gen={published.content_hash}"}
    assert not unfinished(place.folder)


def test_nothing_published_says_what_to_materialize(place):
    with pytest.raises(NotPublished, match="books of session 32 has not been materialized"):
        place.open().current("books", "32")
    with pytest.raises(NotPublished, match="quick/phase_1 has not been materialized"):
        place.open().current("quick/phase_1")


def test_an_error_inside_the_block_publishes_nothing(place):
    warehouse = place.open()
    with pytest.raises(ZeroDivisionError):
        publish_half(warehouse, ZeroDivisionError())
    assert seen(warehouse) is None
    assert not unfinished(place.folder)


def test_equal_content_is_one_generation_and_new_content_moves_the_pointer(place):
    warehouse = place.open()
    first, again = publish(warehouse, "one", OLD), publish(warehouse, "one", NEW)
    assert again.folder == first.folder
    other = publish(warehouse, "two")
    assert warehouse.current("books", "32").content_hash == other.content_hash
    assert first.verified() == first.folder  # a reader that began before keeps what it read


def test_partitions_do_not_touch_each_other(place):
    warehouse = place.open()
    publish(warehouse, "one", partition="32")
    publish(warehouse, "two", partition="33")
    publish(warehouse, "none", partition=None)
    read = [warehouse.current("books", p).path("table.txt").read_text() for p in ("32", "33", None)]
    assert read == ["one", "two", "none"]


# --- what the content hash is of


def test_the_hash_covers_files_names_and_summary(place):
    warehouse = place.open()

    def published(name: str, text: str, rows: int) -> str:
        with warehouse.stage("books", "32", OLD) as staging:
            (staging.folder / name).write_text(text)
            staging.summary["rows"] = rows
        return staging.generation.content_hash

    hashes = [
        published(*what) for what in (("a", "x", 1), ("b", "x", 1), ("a", "y", 1), ("a", "x", 2))
    ]
    assert len(set(hashes)) == 4
    assert published("a", "x", 1) == hashes[0]


def test_exports_are_kept_and_checked_but_not_hashed(tmp_path):
    warehouse = Warehouse(tmp_path)

    def published(root: Warehouse, export: str) -> Generation:
        with root.stage("books", "32", OLD) as staging:
            (staging.folder / "table.txt").write_text("one")
            (staging.folder / "exports").mkdir()
            (staging.folder / "exports" / "model.zip").write_text(export)
        return staging.generation

    one = published(warehouse, "made at nine")
    other = published(Warehouse(tmp_path / "other"), "made at ten")
    assert one.content_hash == other.content_hash
    one.path("exports/model.zip").write_text("made by somebody else")
    with pytest.raises(CorruptFile):
        one.path("exports/model.zip")


def test_the_summary_returned_is_the_summary_read_later(place):
    warehouse = place.open()
    with warehouse.stage("books", "32", OLD) as staging:
        staging.summary.update(pair=(1, 2), sessions={10: "a", 9: "b"})
    assert staging.generation.summary == warehouse.current("books", "32").summary
    assert staging.generation.summary["sessions"] == {"10": "a", "9": "b"}


# --- the memo


def test_only_an_equal_recipe_is_found_again(place):
    warehouse = place.open()
    recipe = Recipe("1", {"a": 1, "b": {"c": 2}}, {"x": "h", "y": "i"})
    publish(warehouse, "one", recipe)
    reordered = Recipe("1", {"b": {"c": 2}, "a": 1}, {"y": "i", "x": "h"})
    found = warehouse.made_from("books", "32", reordered)
    assert found is not None
    assert found.reused
    others = [
        Recipe("2", recipe.config, recipe.inputs),
        Recipe("1", {"a": 1, "b": {"c": 3}}, recipe.inputs),
        Recipe("1", recipe.config, {"x": "h", "y": "j"}),
        Recipe("1", recipe.config, {"x": "h"}),
    ]
    assert [warehouse.made_from("books", "32", other) for other in others] == [None] * 4
    assert warehouse.made_from("books", "33", recipe) is None


def test_an_equal_output_of_another_recipe_is_remembered_for_the_later_one(place):
    warehouse = place.open()
    publish(warehouse, "one", OLD)
    publish(warehouse, "one", NEW)
    assert warehouse.made_from("books", "32", NEW)
    assert warehouse.made_from("books", "32", OLD) is None


# --- crash and disk faults at the k-th call


@pytest.mark.parametrize(
    ("place", "calls"),
    [pytest.param(k, n, marks=pytest.mark.scale if k == "store" else ()) for k, n in CALLS.items()],
    indirect=["place"],
)
def test_one_publication_is_a_handful_of_calls(place, calls):
    # in a folder: two files, one folder, manifest, staging, rename, home, pointer, replace, home;
    # in a store: two files, one folder, manifest, staging, what is there, four puts that count
    # twice (two files, manifest, pointer) and, before the last, three files moved, home
    assert calls_of_one_publication(place) == calls


@pytest.mark.parametrize("before", [None, "old"])
@EVERY_CALL
def test_x01_a_crash_at_any_call_leaves_the_old_or_the_new_whole(place, k, before):
    expected = publish(place.open("elsewhere"), "new", NEW).content_hash
    if before:
        publish(place.open(), before, OLD)

    def crash() -> None:
        raise Crash

    with pytest.raises(Crash):
        publish(place.open(files=FailingFiles(k, crash)), "new", NEW)
    assert seen(place.reader()) in {before, "new"}
    assert publish(place.open(), "new", NEW).content_hash == expected
    assert seen(place.reader()) == "new"
    assert not unfinished(place.folder)


KILLED = """
import os, sys
from pathlib import Path
from tests.storage.places import Place, StorePlace
from tests.storage.test_publish import NEW, FailingFiles, publish
folder, calls, url = sys.argv[1:]
place = StorePlace(Path(folder), url) if url else Place(Path(folder))
for k in range(1, int(calls) + 1):
    child = os.fork()
    if child == 0:
        publish(place.open(str(k), FailingFiles(k, lambda: os._exit(9))), "new", NEW)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, k
"""


def test_x01_a_killed_process_leaves_the_old_or_the_new_whole(place):
    calls = calls_of_one_publication(place)
    for k in range(1, calls + 1):
        publish(place.open(str(k)), "old", OLD)
    url = place.url if isinstance(place, StorePlace) else ""
    subprocess.run(
        [sys.executable, "-c", KILLED, str(place.folder), str(calls), url], check=True, timeout=120
    )
    outcomes = []
    generations = {publish(place.open("x"), text).content_hash for text in ("old", "new")}
    expected = publish(place.open("elsewhere"), "new", NEW).content_hash
    for k in range(1, calls + 1):
        outcomes.append(seen(place.reader(str(k))))
        warehouse = place.open(str(k))
        assert publish(warehouse, "new", NEW).content_hash == expected
        assert finished(place, str(k)) <= {CURRENT, *(f"gen={name}" for name in generations)}
        warehouse.sweep(now_ms=2**53, older_than_ms=0)
        assert not unfinished(warehouse.root)
    # the pointer's replacement is the one moment at which new takes the place of old
    assert outcomes == sorted(outcomes, key=["old", "new"].index)
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@EVERY_CALL
def test_x06_a_full_disk_at_any_call_is_said_and_harms_nothing(place, k, code):
    publish(place.open(), "old", OLD)

    def full() -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(DiskFull, match=r"bytes written so far, [0-9,]+ free|room to fetch"):
        publish(place.open(files=FailingFiles(k, full)), "new", NEW)
    assert seen(place.reader()) in {"old", "new"}
    assert not unfinished(place.folder)
    assert publish(place.open(), "new", NEW).verified()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EROFS])
@EVERY_CALL
def test_x06_a_failed_call_is_never_taken_for_success(place, k, code):
    publish(place.open(), "old", OLD)

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    files = FailingFiles(k, fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        publish(place.open(files=files), "new", NEW)
    assert files.calls == k  # nothing is tried again
    assert seen(place.reader()) in {"old", "new"}


def test_x06_a_disk_that_fills_while_the_stage_writes_is_said(place):
    warehouse = place.open()
    with pytest.raises(DiskFull):
        publish_half(warehouse, OSError(errno.ENOSPC, "no space"))
    assert seen(warehouse) is None
    assert not unfinished(place.folder)


# --- races


def together(count: int, work: Callable[[int], None]) -> None:
    """Run in threads that start at once; errors come out."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("same", [True, False], ids=["equal content", "unequal content"])
def test_x07_writers_at_once_need_no_lock_and_readers_never_fail(place, same):
    for repeat in range(place.few(100)):
        name = str(repeat)
        warehouse = place.open(name, Unflushed())
        publish(warehouse, "old", OLD)
        writing = threading.Event()

        def work(number: int, warehouse=warehouse, writing=writing, name=name) -> None:
            if number < 4:
                publish(warehouse, f"new {name}" if same else f"new {name} {number}", NEW)
                writing.set()
            else:
                while not writing.is_set():
                    assert seen(place.reader(name)).startswith(("old", "new"))

        together(6, work)
        assert seen(warehouse).startswith("new")
        assert seen(place.reader(name)) == seen(warehouse)
        generations = {name for name in finished(place, name) if name != CURRENT}
        assert len(generations) == (2 if same else 5)
        assert not unfinished(place.folder)


def _publish_in_a_process(place: Place, text: str) -> str:
    return publish(place.open(files=Unflushed()), text, NEW).content_hash


def test_x07_writers_in_several_processes_agree(place):
    context = multiprocessing.get_context("forkserver")
    count = place.few(50)
    with context.Pool(2) as pool:
        same = pool.starmap(_publish_in_a_process, [(place, "new")] * count)
        assert len(set(same)) == 1
        texts = [f"new {number}" for number in range(count)]
        unequal = pool.starmap(_publish_in_a_process, [(place, text) for text in texts])
        pool.close()  # a pool that is left terminates its processes, which some ignore: whoever
        pool.join()  # started this one ignored SIGINT, and Dagster made SIGTERM the same
    assert seen(place.reader()) in texts
    assert finished(place) == {CURRENT, *(f"gen={name}" for name in {*same, *unequal})}


# --- damage


def flip(path: Path, place: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def damages() -> dict[str, Callable[[Generation], Path]]:
    """Ways to damage a generation; each returns the path an error must name."""

    def flipped(generation: Generation) -> Path:
        flip(generation.folder / "table.txt")
        return generation.folder / "table.txt"

    def shortened(generation: Generation) -> Path:
        (generation.folder / "more" / "rows.txt").write_text("")
        return generation.folder / "more" / "rows.txt"

    def removed(generation: Generation) -> Path:
        (generation.folder / "table.txt").unlink()
        return generation.folder / "table.txt"

    def manifest_gone(generation: Generation) -> Path:
        (generation.folder / MANIFEST).unlink()
        return generation.folder / MANIFEST

    def manifest_cut(generation: Generation) -> Path:
        path = generation.folder / MANIFEST
        path.write_bytes(path.read_bytes()[:-9])
        return path

    def manifest_of_another_kind(generation: Generation) -> Path:
        (generation.folder / MANIFEST).write_text("[1, 2]")
        return generation.folder / MANIFEST

    def summary_changed(generation: Generation) -> Path:
        path = generation.folder / MANIFEST
        manifest = json.loads(path.read_text())
        manifest["summary"]["rows"] += 1
        path.write_text(canonical_json(manifest))
        return path

    def file_and_manifest_changed(generation: Generation) -> Path:
        path = generation.folder / MANIFEST
        text = path.read_text()
        place = text.index('"sha256":"') + 10
        path.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
        return path

    cases = [flipped, shortened, removed, manifest_gone, manifest_cut, manifest_of_another_kind]
    return {case.__name__: case for case in (*cases, summary_changed, file_and_manifest_changed)}


@pytest.mark.parametrize("damage", damages())
def test_damage_is_named_and_publishing_again_repairs_it(place, damage):
    warehouse = place.open()
    good = publish(warehouse, "one")
    damaged = damages()[damage](good).relative_to(warehouse.root)
    place.spread(good)
    reader = place.reader()
    with pytest.raises(CorruptFile) as caught:
        reader.current("books", "32").verified()
    assert caught.value.value == place.address(damaged.as_posix())
    assert reader.made_from("books", "32", OLD) is None  # so the stage computes it again
    repaired = publish(reader, "one")
    assert repaired.content_hash == good.content_hash
    assert seen(reader) == seen(place.reader()) == "one"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        "{}",
        '{"generation": 3}',
        '{"generation": "../../../etc"}',
        "\x00",
    ],
)
def test_a_damaged_pointer_is_named_and_publishing_again_repairs_it(place, content):
    warehouse = place.open()
    publish(warehouse, "one")
    pointer = f"books/session=32/{CURRENT}"
    place.write(pointer, content.encode())
    with pytest.raises(CorruptFile) as caught:
        warehouse.current("books", "32")
    assert caught.value.value == place.address(pointer)
    assert warehouse.made_from("books", "32", OLD) is None
    publish(warehouse, "one")
    assert seen(place.reader()) == "one"


def test_a_pointer_to_a_generation_that_is_gone_is_named(place):
    generation = publish(place.open(), "one")
    generation.folder.rename(place.folder / "away")
    place.spread(generation)
    with pytest.raises(CorruptFile, match="no readable manifest"):
        place.reader().current("books", "32")


def test_runs_that_repair_at_once_all_succeed(place):
    for repeat in range(place.few(10)):
        warehouse = place.open(str(repeat), Unflushed())
        flip(publish(warehouse, "one").folder / "table.txt")
        together(3, lambda _, warehouse=warehouse: publish(warehouse, "one") and None)
        assert seen(warehouse) == "one"


class Overtaken(Files):
    """Another run moves the damaged generation away just before this one does."""

    def rename(self, source: Path, target: Path) -> None:
        if source.name.startswith("gen="):
            super().rename(source, target.with_name("moved by another run"))
        super().rename(source, target)


def test_a_repair_that_another_run_begins_first_succeeds(tmp_path):
    warehouse = Warehouse(tmp_path, Overtaken())
    flip(publish(warehouse, "one").folder / "table.txt")
    publish(warehouse, "one")
    assert seen(warehouse) == "one"


def test_a_file_that_was_not_published_cannot_be_read(place):
    warehouse = place.open()
    generation = publish(warehouse, "one")
    (generation.folder / "later.txt").write_text("slipped in")
    (place.folder / "secret").write_text("outside")
    for name in ("later.txt", "../../../secret", str(place.folder / "secret"), ""):
        with pytest.raises(CorruptFile):
            generation.path(name)


# --- names

ODD = [
    "../32", "..", "%2e%2e", "32\x00", "3" * 300, "٣٢", "³", "-1", "0", "032", "3 2", "32/..", "",
]  # fmt: skip
ODD_ASSETS = [
    "../x", "/etc", "a/../b", "a//b", "books/", "%2e%2e/x", "a\x00b", "a" * 300, "Books",
    ".staging", "session=1", "böcher", "٣", "", "a/b/c/d/e",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_session_id_never_becomes_a_path(tmp_path, name):
    with pytest.raises(InvalidName):
        session_id(name)
    with pytest.raises(InvalidName):
        Warehouse(tmp_path).home("books", name)
    with pytest.raises(InvalidName):
        Warehouse(tmp_path).current("books", name)


@pytest.mark.parametrize("asset", ODD_ASSETS)
def test_what_is_no_asset_name_never_becomes_a_path(tmp_path, asset):
    with pytest.raises(InvalidName):
        Warehouse(tmp_path).home(asset)
    with pytest.raises(InvalidName), Warehouse(tmp_path).stage(asset, None, OLD):
        pass
    assert not any(tmp_path.iterdir())


@given(st.text("./\\ab_=%~\x00", max_size=12), st.text("./12=%\x00", max_size=6))
def test_no_text_leads_out_of_the_warehouse(asset, partition):
    root = Path("/srv/warehouse")
    try:
        home = Warehouse(root).home(asset, partition)
    except InvalidName:
        return
    assert home.parent.parent == root or home.parent.is_relative_to(root)
    assert ".." not in home.parts


def test_a_link_out_of_the_warehouse_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "books").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidName):
        publish(Warehouse(tmp_path / "warehouse"), "one")
    assert not any((tmp_path / "outside").iterdir())


def test_ids_and_tickers_of_the_exchange_are_taken():
    assert [session_id(text) for text in ("1", "32", 999_999_999)] == [1, 32, 999_999_999]
    assert is_ticker("KXBTC15M-26MAY131245-45")
    for odd in ("", "../X", "kx", "A\x00", "A" * 101, "A/B", "А", 5, None):
        assert not is_ticker(odd)


# --- sweeping


def test_sweep_removes_only_what_is_old(tmp_path):
    warehouse = Warehouse(tmp_path)
    publish(warehouse, "one")
    now_ms = 10 * DAY_MS
    for name, age_ms in itertools.product(("folder", "file"), (0, DAY_MS - 1_000, DAY_MS + 1_000)):
        path = tmp_path / "books" / STAGING / f"{name}{age_ms}"
        if name == "folder":
            path.mkdir()
            (path / "table.txt").write_text("half")
        else:
            path.write_text("half")
        os.utime(path, ((now_ms - age_ms) / 1000,) * 2)
    assert warehouse.sweep(now_ms) == 2
    left = {path.name for path in unfinished(tmp_path)}
    assert left == {f"{name}{age}" for name in ("folder", "file") for age in (0, DAY_MS - 1_000)}
    assert seen(warehouse) == "one"


def test_what_another_sweep_took_first_is_not_counted(tmp_path, monkeypatch):
    warehouse = Warehouse(tmp_path)
    staging = tmp_path / "books" / STAGING
    staging.mkdir(parents=True)
    for name in ("first", "second"):
        (staging / name).write_text("half")
        os.utime(staging / name, (0, 0))
    unlink = Path.unlink

    def taken(path, *args, **kwargs):
        unlink(path)
        if path.name == "first":
            raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "unlink", taken)
    assert warehouse.sweep(now_ms=10 * DAY_MS) == 1
    assert not unfinished(tmp_path)


def test_an_empty_warehouse_is_swept_without_ado(tmp_path):
    assert Warehouse(tmp_path / "not there").sweep(now_ms=DAY_MS) == 0
