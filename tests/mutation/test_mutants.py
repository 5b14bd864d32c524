"""What is tried of a module, and that a mutant is told from the module itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mutation.runner import outcome
from tests.uncompiled import ROOT

MODULE = '''"""A module."""
from __future__ import annotations


def part(function):
    return function


@part
def clipped(value: int | None, most: int) -> int | None:
    if value is None:
        return None
    while value > most:
        value -= 1
    return value
'''
TESTS = """
from clipping import clipped

def test_it_stops_at_the_most():
    assert [clipped(value, 3) for value in (None, 2, 3, 5)] == [None, 2, 3, 3]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "clipping.py").write_text(MODULE)
    (tmp_path / "test_clipping.py").write_text(TESTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "clipping.py"


def test_every_operator_and_number_is_changed_and_no_annotation_or_compiler(module):
    pytest.importorskip("cosmic_ray")
    from tests.mutation.mutants import mutants

    found = {(mutant.line, mutant.before, mutant.after) for mutant in mutants(module)}
    changed = {line for line, _, _ in found}
    assert (11, "if value is None:", "if value is not None:") in found
    assert (13, "while value > most:", "while value >= most:") in found
    assert (14, "value -= 1", "value -= 2") in found
    assert changed == {11, 13, 14}  # neither `int | None` nor `@part`
    assert len({mutant.code for mutant in mutants(module)}) == len(found)


@pytest.mark.parametrize(
    ("before", "after", "result"),
    [
        ("value > most", "value > most", "survived"),
        ("value > most", "value > most + 0", "survived"),
        ("value > most", "value >= most", "killed"),
        ("value -= 1", "value -= 0", "killed"),  # it loops for ever
        ("def clipped", "def capped", "killed"),  # it cannot be imported
    ],
)
def test_a_mutant_lives_where_no_test_fails_in_time(module, before, after, result):
    code, folder = MODULE.replace(before, after), str(module.parent)
    limit_s = 5 if after == "value -= 0" else 120
    told, _ = outcome("clipping", module, code, [f"--rootdir={folder}", folder], limit_s)
    assert told == result
    assert module.read_text() == MODULE


def test_without_the_compiler_a_test_that_takes_too_long_is_left_and_the_next_one_runs(tmp_path):
    (tmp_path / "test_long.py").write_text(
        "from tests import uncompiled\n"
        "uncompiled.MOST_CPU_S = 0.3\n"
        f"uncompiled.OURS = ({str(tmp_path)!r},)\n"
        "def test_long():\n    while True: pass\n"
        "def test_short(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.uncompiled", "-p", "no:cacheprovider", "-q",
         "-rs", f"--rootdir={tmp_path}", "-c", "/dev/null", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "too slow without the compiler" in done.stdout
