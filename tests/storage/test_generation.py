"""Files of a generation that lie elsewhere are brought here when they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage.publish import MANIFEST, Generation, Warehouse
from tests.storage.test_publish import publish


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Generation, list[str]]:
    """A generation of which only the manifest is here, and what was asked for."""
    whole = publish(Warehouse(tmp_path / "there"), "one")
    folder = tmp_path / "here" / whole.folder.name
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes((whole.folder / MANIFEST).read_bytes())
    asked: list[str] = []

    def fetch(name: str) -> None:
        asked.append(name)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((whole.folder / name).read_bytes())

    return replace(whole, folder=folder, fetch=fetch), asked


def test_a_file_is_fetched_when_it_is_first_read(elsewhere):
    generation, asked = elsewhere
    assert generation.path("table.txt").read_text() == "one"
    assert generation.path("table.txt") == generation.at_hand("table.txt")
    assert asked == ["table.txt"]


def test_a_folder_is_whole_once_every_file_was_fetched(elsewhere):
    generation, asked = elsewhere
    assert generation.at_hand("table.txt").is_file()
    assert {path.name for path in generation.whole().rglob("*.txt")} == {"table.txt", "rows.txt"}
    assert sorted(asked) == ["more/rows.txt", "table.txt"]
    assert generation.verified() == generation.folder
    assert len(asked) == 2


def test_a_damaged_copy_is_fetched_again_and_a_missing_file_of_this_machine_is_damage(elsewhere):
    generation, asked = elsewhere
    generation.whole()
    (generation.folder / "table.txt").write_text("two")
    assert generation.path("table.txt").read_text() == "one"
    assert asked.count("table.txt") == 2
    (generation.folder / "table.txt").unlink()
    with pytest.raises(CorruptFile, match="missing"):
        replace(generation, fetch=None).path("table.txt")
