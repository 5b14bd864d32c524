"""A folder is whole or absent, and believes no byte its manifest does not vouch for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage import whole_folder
from kalshi_pipeline.storage.publish import MANIFEST, STAGING, Files
from kalshi_pipeline.storage.whole_folder import (
    drop_files,
    read_folder,
    remove_folder,
    replace_file,
    write_folder,
    write_folder_once,
)

CONTENTS = {"a.bin": b"one", "b.bin": b"", "c.bin": bytes(range(256))}


class Dying(Files):
    """The k-th call fails."""

    def __init__(self, at):
        self.left = at

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise OSError(5, "input/output error")

    def write(self, path, content):
        self._count()
        super().write(path, content)

    def sync(self, path):
        self._count()
        super().sync(path)

    def rename(self, source, target):
        self._count()
        super().rename(source, target)

    def replace(self, source, target):
        self._count()
        super().replace(source, target)


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "kept"
    write_folder(target, CONTENTS, Files())
    return target


def test_what_was_written_is_read(folder):
    assert read_folder(folder) == CONTENTS
    write_folder(folder, {"d.bin": b"another"}, Files())
    assert read_folder(folder) == {"d.bin": b"another"}
    assert not any((folder.parent / STAGING).iterdir())


def test_of_several_who_write_it_once_one_is_told_so(tmp_path):
    def attempt(number):
        return write_folder_once(tmp_path / "once", {"who": b"%d" % number}, Files())

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(attempt, range(8)))
    assert written.count(True) == 1
    assert read_folder(tmp_path / "once") == {"who": b"%d" % written.index(True)}
    assert not any((tmp_path / STAGING).iterdir())


@pytest.mark.parametrize("k", range(1, 8))
def test_a_call_that_fails_leaves_the_folder_whole_or_absent(tmp_path, k):
    target = tmp_path / "once"
    # three files and the manifest, the folder, the rename, the folder above
    with pytest.raises(OSError, match="input/output"):
        write_folder_once(target, CONTENTS, Dying(k))
    assert target.exists() == (k == 7)
    if target.exists():
        assert read_folder(target) == CONTENTS
    write_folder(target, CONTENTS, Files())
    assert read_folder(target) == CONTENTS


@pytest.mark.parametrize("name", ["sub/file", "../file", "/file", ""])
def test_a_name_of_another_folder_is_not_written(tmp_path, name):
    with pytest.raises(CorruptFile, match="could be written and not be read again"):
        write_folder(tmp_path / "kept", {name: b"x"}, Files())
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"files": 5}', '{"files": {"a.bin": 5}}',
        '{"files": {"a.bin": {"sha256": "0"}}}', '{"file": {}}', "[" * 100_000, "\xff",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_manifest_that_is_none_is_named(folder, text):
    (folder / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(CorruptFile, match="no readable manifest") as wrong:
        read_folder(folder)
    assert wrong.value.value == str(folder / MANIFEST)


def test_a_manifest_is_small_there_and_names_files_beside_it(folder, monkeypatch):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    entry = manifest["files"]["a.bin"]
    odd_ones = (
        {"../a.bin": entry},
        {"a.bin": entry | {"bytes": "3"}},
        {"a.bin": entry | {"sha256": 3}},
    )
    for odd in odd_ones:
        (folder / MANIFEST).write_text(json.dumps({"files": odd}))
        with pytest.raises(CorruptFile, match="files of other folders"):
            read_folder(folder)
    monkeypatch.setattr(whole_folder, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(CorruptFile, match="larger than any"):
        read_folder(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(CorruptFile, match="no readable manifest"):
        read_folder(folder)


def test_a_file_that_is_not_what_was_written_is_named(folder):
    path = folder / "a.bin"
    path.write_bytes(b"onE")
    with pytest.raises(CorruptFile, match=r"a\.bin is not the bytes") as wrong:
        read_folder(folder)
    assert wrong.value.rule == "sha256"
    path.write_bytes(b"ones")
    with pytest.raises(CorruptFile, match=r"a\.bin is not as long") as wrong:
        read_folder(folder)
    assert (wrong.value.rule, wrong.value.value) == ("3 bytes", 4)
    path.unlink()
    with pytest.raises(CorruptFile, match=r"a\.bin cannot be read"):
        read_folder(folder)


def test_a_file_beyond_the_limit_is_neither_written_nor_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(whole_folder, "MAX_FILE_BYTES", 255)
    with pytest.raises(CorruptFile, match="not as long"):
        read_folder(folder)  # though it is as long as declared
    with pytest.raises(CorruptFile, match=r"c\.bin could be written"):
        write_folder(tmp_path / "other", CONTENTS, Files())


def test_files_leave_the_manifest_before_they_go(folder):
    drop_files(folder, ["a.bin", "never there"], Files())
    assert read_folder(folder) == {name: CONTENTS[name] for name in ("b.bin", "c.bin")}
    assert not (folder / "a.bin").exists()
    for k in (1, 2):  # the new manifest is written, then takes the old one's place
        with pytest.raises(OSError, match="input/output"):
            drop_files(folder, ["b.bin"], Dying(k))
        assert (folder / "b.bin").exists()
        assert set(read_folder(folder)) == {"b.bin", "c.bin"}


def test_a_folder_goes_at_once(folder):
    remove_folder(folder, Files())
    assert not folder.exists()
    assert not any((folder.parent / STAGING).iterdir())


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "pointer"
    replace_file(path, b"old", Files())
    for k in (1, 2):
        with pytest.raises(OSError, match="input/output"):
            replace_file(path, b"new", Dying(k))
        assert path.read_bytes() == b"old"
    replace_file(path, b"new", Files())
    assert path.read_bytes() == b"new"
