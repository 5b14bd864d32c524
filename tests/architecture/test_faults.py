"""Every feed and file fault of the reliability page has a test that bears its name."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import ROOT, tree

FAULTS = [f"d{number:02}" for number in range(1, 26)]
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
    named = {name[5:8] for name in FOUND if name[5:6] == "d" and name[6:8].isdigit()}
    assert named == set(FAULTS)
