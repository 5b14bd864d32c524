"""Every fault of feed, file and evaluation of the reliability page has a test of its name."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source import ROOT, tree

# of training; T1 to T3, T8 and T9 are what tests/learning and tests/trading are about
TRAINING = ["t4", "t5", "t6", "t7", "t10", "t11"]
FAULTS = [*(f"d{number:02}" for number in range(1, 26)), *TRAINING]
FOUND = [
    node.name
    for path in sorted((ROOT / "tests" / "faults").glob("test_*.py"))
    for node in ast.walk(tree(path))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_test_of_its_name(fault):
    assert any(name.startswith(f"test_{fault}_") for name in FOUND)


def test_no_test_is_named_after_a_fault_that_is_none():
    named = {match[1] for name in FOUND if (match := re.match(r"test_([dt][0-9]+)_", name))}
    assert named == set(FAULTS)
