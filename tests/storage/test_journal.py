"""A journal is as long as it may be and never longer."""

from __future__ import annotations

from kalshi_pipeline.storage.journal import append_line


def test_lines_are_kept_in_their_order(tmp_path):
    for line in ("first", "sécond", "third"):
        append_line(tmp_path / "warehouse" / "journal.jsonl", line)
    lines = (tmp_path / "warehouse" / "journal.jsonl").read_text().splitlines()
    assert lines == ["first", "sécond", "third"]


def test_a_journal_that_is_full_is_set_aside_and_the_one_before_goes(tmp_path):
    path = tmp_path / "journal.jsonl"
    for number in range(10):
        append_line(path, f"{number:04}", largest_bytes=15)  # three lines
    assert path.read_text() == "0009\n"
    assert (tmp_path / "journal.jsonl.1").read_text() == "0006\n0007\n0008\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_line_longer_than_a_journal_may_be_is_told_all_the_same(tmp_path):
    append_line(tmp_path / "journal", "x" * 100, largest_bytes=10)
    assert (tmp_path / "journal").read_text() == "x" * 100 + "\n"
