"""Every fault of the reliability page has a test of its name, and its outcome stands on a page."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source import ROOT, tree

# of training; T1 to T3, T8 and T9 are what tests/learning and tests/trading are about
TRAINING = ["t4", "t5", "t6", "t7", "t10", "t11"]
PROCESSES = [f"x{number:02}" for number in range(1, 15)]
FAULTS = [*(f"d{number:02}" for number in range(1, 26)), *TRAINING, *PROCESSES]
FOUND = [
    node.name
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for node in ast.walk(tree(path))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]
PAGE = (ROOT / "docs" / "FAULTS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_test_of_its_name(fault):
    assert any(name.startswith(f"test_{fault}_") for name in FOUND)


def test_no_test_is_named_after_a_fault_that_is_none():
    named = {match[1] for name in FOUND if (match := re.match(r"test_([dtx][0-9]+)_", name))}
    assert named == set(FAULTS)


@pytest.mark.parametrize("fault", PROCESSES)
def test_the_page_tells_the_outcome_of_every_process_fault_and_names_its_tests(fault):
    told = [line.split("|")[1:-1] for line in PAGE.splitlines()
            if line.startswith(f"| X{int(fault[1:])} |")]  # fmt: skip
    outcome, tests = told
    assert len(outcome) == 5
    assert all(cell.strip() for cell in outcome)
    assert set(re.findall(r"`(test_[a-z0-9_]+)`", tests[1])) == {
        name for name in FOUND if name.startswith(f"test_{fault}_")
    }
