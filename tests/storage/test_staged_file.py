"""Files that are hashed and flushed while they are written."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from kalshi_pipeline.storage import files, publish, staged_file
from kalshi_pipeline.storage.publish import Recipe, Warehouse
from kalshi_pipeline.storage.staged_file import StagedFile, Written

RECIPE = Recipe("1")


def write(path: Path, *parts: object) -> tuple[Written, bytes]:
    told: dict[str, Written] = {}
    with StagedFile(path, told, path.name) as file:
        for part in parts:
            file.write(part)
    return told[path.name], path.read_bytes()


def test_a_file_is_hashed_as_it_is_written(tmp_path):
    told, content = write(
        tmp_path / "a", b"one", np.arange(5, dtype=np.int32), b"", np.zeros((0, 3))
    )
    assert content == b"one" + np.arange(5, dtype=np.int32).tobytes()
    assert told.sha256 == hashlib.sha256(content).hexdigest()
    assert (told.bytes, told.describes(tmp_path / "a")) == (23, True)


def test_what_is_closed_may_be_closed_again(tmp_path):
    told: dict[str, Written] = {}
    file = StagedFile(tmp_path / "a", told, "a")
    file.write(b"one")
    file.close()
    before = told["a"]
    file.close()
    assert told == {"a": before}
    assert before.bytes == 3


def test_it_is_flushed_meanwhile(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(staged_file, "_FLUSH_BYTES", 10)
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    write(tmp_path / "a", *[b"12345"] * 9)
    assert flushed


@pytest.mark.parametrize("refused", [False, True])
def test_room_is_asked_for_and_what_is_not_needed_given_back(tmp_path, monkeypatch, refused):
    asked = []

    def reserve(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        if refused:
            raise OSError(errno.ENOSPC, "device")
        os.truncate(descriptor, size)

    monkeypatch.setattr(staged_file, "_RESERVE_BYTES", 80)
    monkeypatch.setattr(os, "posix_fallocate", reserve)
    told, content = write(tmp_path / "a", b"123", b"4567890", *[b"12345"] * 15)
    assert asked[0] == 80
    assert (len(asked) == 2) is not refused
    assert content == b"1234567890" + b"12345" * 15
    assert (told.bytes, told.describes(tmp_path / "a")) == (85, True)
    assert told.sha256 == hashlib.sha256(content).hexdigest()


def test_a_flush_that_failed_is_an_error_of_the_file(tmp_path, monkeypatch):
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "device")

    monkeypatch.setattr(staged_file, "_FLUSH_BYTES", 4)
    monkeypatch.setattr(os, "fdatasync", failing)
    told: dict[str, Written] = {}
    file = StagedFile(tmp_path / "a", told, "a")
    file.write(b"12345")
    with pytest.raises(OSError, match="device"):
        file.close()
    assert told == {}


def test_a_file_is_not_written_over_another(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        StagedFile(tmp_path / "a", {}, "a")


def test_what_a_writer_told_is_published_without_reading_it_again(tmp_path, monkeypatch):
    warehouse = Warehouse(tmp_path)
    with warehouse.stage("plain", None, RECIPE) as staging:
        (staging.folder / "data").write_bytes(b"content")
    with warehouse.stage("told", None, RECIPE) as staging:
        with staging.open("data") as file:
            file.write(b"content")
        monkeypatch.setattr(publish, "file_sha256", lambda _: pytest.fail("read again"))
    assert staging.generation.content_hash == warehouse.current("plain").content_hash
    # nor by whoever reads it next in this process
    assert staging.generation.path("data").read_bytes() == b"content"
    monkeypatch.undo()
    files._known.clear()
    assert staging.generation.verified() == staging.generation.folder


def test_a_file_changed_after_its_writer_told_is_read_again(tmp_path):
    with Warehouse(tmp_path).stage("told", None, RECIPE) as staging:
        with staging.open("data") as file:
            file.write(b"content")
        os.utime(staging.folder / "data", ns=(0, 0))
        (staging.folder / "data").write_bytes(b"another")
    files._known.clear()
    assert staging.generation.path("data").read_bytes() == b"another"
