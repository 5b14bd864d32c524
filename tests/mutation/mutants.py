"""Which mutants of a module are tried: operators of cosmic-ray, without those that change nothing.

Left out is what no test could see: type annotations, which are never evaluated, and the decorators
of kernels, which are the identity where the compiler is off. An arithmetic operator is replaced by
two others instead of all eleven.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import parso.tree  # noqa: F401 - before cosmic-ray, which imports it in a circle
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

# `a | b` of two flags or sets and `2**64` are rare here
ARITHMETIC = {
    "Add": {"Sub", "Mul"},
    "Sub": {"Add", "Mul"},
    "Mul": {"Add", "FloorDiv"},
    "Div": {"Mul", "FloorDiv"},
    "FloorDiv": {"Mul", "Div"},
    "Mod": {"FloorDiv", "Mul"},
    "Pow": {"Mul", "FloorDiv"},
    "BitOr": {"BitAnd", "BitXor"},
    "BitAnd": {"BitOr", "BitXor"},
}
# of small numbers and of names `is` is `==`
IDENTITY = {"Is", "IsNot"}
COMPILERS = {"kernel", "part", "allocating_kernel", "lane_kernel", "lane_part"}


@dataclass(frozen=True)
class Mutant:
    """One changed line of a module.

    Args:
        before: the line, or several in one.
        after: what stands there instead; empty where it is gone.
        line: number of the first.
        code: the whole module with it.
    """

    before: str
    after: str
    line: int
    code: str = field(repr=False)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a module, each text once."""
    source = path.read_text(encoding="utf-8")
    silent = _without_effect(source)
    seen = {ast.dump(ast.parse(source))}
    for name in sorted(plugins.operator_names()):
        operator_class = plugins.get_operator(name)
        if operator_class.arguments() or not _chosen(name.partition("/")[2]):
            continue
        operator = operator_class()
        places = [
            start
            for node in ast_nodes(get_ast(source))
            for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, place in enumerate(places):
            if any(begin <= place < end for begin, end in silent):
                continue
            code = mutate_code(source, operator, occurrence)
            if code is None or (meaning := _meaning(code)) in seen:
                continue
            seen.add(meaning)
            yield _mutant(source, code)


def _chosen(operator: str) -> bool:
    kind, _, change = operator.partition("_")
    old, _, new = change.partition("_")
    if kind == "ReplaceComparisonOperator":
        return old in IDENTITY or new not in IDENTITY
    return kind != "ReplaceBinaryOperator" or new in ARITHMETIC.get(old, ())


def _meaning(code: str) -> str:
    try:
        return ast.dump(ast.parse(code))
    except SyntaxError:
        return code  # found at import


def _without_effect(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end, (line, column), of the annotations and of what names a compiler."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        found += [
            a for a in (getattr(node, "annotation", None), getattr(node, "returns", None)) if a
        ]
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Name) and decorator.id in COMPILERS:
                found.append(decorator)
    return [
        # the decorator begins at its @
        ((node.lineno, node.col_offset - 1), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
    ]


def _mutant(source: str, code: str) -> Mutant:
    old, new = source.splitlines(), code.splitlines()
    begin = _equal(old, new)
    end = _equal(old[begin:][::-1], new[begin:][::-1])
    before, after = (
        " ".join(line.strip() for line in text[begin : len(text) - end]) for text in (old, new)
    )
    return Mutant(before, after, begin + 1, code)


def _equal(one: list[str], other: list[str]) -> int:
    """How many lines from the first on are equal."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
