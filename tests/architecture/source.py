"""The project's own source files, for tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"kalshi_pipeline": ROOT / "kalshi_pipeline", "kalshi_pipeline.assets": ROOT / "assets",
            "kalshi_pipeline.resources": ROOT / "resources"}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


@cache
def tree(path: Path) -> ast.Module:
    """A parsed module."""
    return ast.parse(path.read_text())


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Dotted names a module imports; `lazy=False` leaves out those inside functions."""
    found: set[str] = set()
    stack: list[ast.AST] = [tree(path)]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        skipped = not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not skipped:
            stack.extend(ast.iter_child_nodes(node))
    return found
