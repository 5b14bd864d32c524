"""Profiles and expectations as data, and the few kinds of expectation there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Expectation:
    """One thing that must hold of a profile.

    Args:
        says: it, in words, with the rule it comes from.
        column: of the profile; the first of two where two must agree.
        kind: its class in `great_expectations.expectations`.
        limits: that class's further arguments.
        warns: True where a failure is worth a look but stops nothing.
    """

    says: str
    column: str
    kind: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    warns: bool = False


class Place(NamedTuple):
    """The first row that something is wrong with."""

    row: int  # of the published table, from 0
    market: str | None = None  # where the row of the profile does not say it


@dataclass(frozen=True)
class Profile:
    """Figures of a published output, and what is expected of them.

    Args:
        title: names it on the page.
        columns: name -> one value a row; the first column says what a row is about.
        expectations: its suite.
        places: column -> for each row, where what it counts begins in the published table; None
            where there is nothing.
    """

    title: str
    columns: Mapping[str, Sequence[Any]]
    expectations: tuple[Expectation, ...]
    places: Mapping[str, Sequence[Place | None]] = field(default_factory=dict)


def none(column: str, says: str, *, warns: bool = False) -> Expectation:
    """A count of what must not be: 0 in every row."""
    return Expectation(says, column, "ExpectColumnValuesToBeInSet", {"value_set": [0]}, warns)


def between(
    column: str, low: float | None, high: float | None, says: str, *, warns: bool = False
) -> Expectation:
    """A figure within limits, the limits included."""
    limits = {"min_value": low, "max_value": high}
    return Expectation(says, column, "ExpectColumnValuesToBeBetween", limits, warns)


def equal(column: str, other: str, says: str, *, warns: bool = False) -> Expectation:
    """Two figures that are one, counted in two ways."""
    limits = {"column_A": column, "column_B": other, "ignore_row_if": "neither"}
    return Expectation(says, column, "ExpectColumnPairValuesToBeEqual", limits, warns)


def one_of(column: str, values: Sequence[str], says: str) -> Expectation:
    """A word of a closed vocabulary."""
    return Expectation(says, column, "ExpectColumnValuesToBeInSet", {"value_set": list(values)})


def unique(column: str, says: str) -> Expectation:
    """No value twice."""
    return Expectation(says, column, "ExpectColumnValuesToBeUnique")


def absent(column: str, says: str) -> Expectation:
    """Nothing is told."""
    return Expectation(says, column, "ExpectColumnValuesToBeNull")


def one_row(**figures: Any) -> dict[str, list[Any]]:
    """Figures of a whole session as a profile's columns."""
    return {name: [value] for name, value in figures.items()}
