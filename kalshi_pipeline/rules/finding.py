"""What a rule found, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SHOWN = 25  # facts a finding tells; the rest are counted


@dataclass(frozen=True)
class Fact:
    """One thing that is not as it should be.

    Args:
        value: what was found.
        rule: what should be.
        session: session id, where one is concerned.
        market: ticker, where one is concerned.
        row: of a table, a seed, a policy: what of the output it is about.
    """

    value: Any
    rule: str
    session: int | None = None
    market: str | None = None
    row: int | str | None = None


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule.

    Args:
        holds: whether it does.
        says: one sentence with the figures.
        facts: what does not hold, or what is worth knowing; the first `SHOWN`.
    """

    holds: bool
    says: str
    facts: tuple[Fact, ...] = ()


def faultless(facts: Iterable[Fact], looked_at: str) -> Finding:
    """A rule that holds where nothing is found against it.

    Args:
        facts: what was found.
        looked_at: what was looked at, with how many of it.
    """
    found = tuple(facts)
    if not found:
        return Finding(True, f"{looked_at}: nothing against it")
    first = found[0]
    named = {"session": first.session, "market": first.market, "row": first.row}
    place = "".join(f", {name} {value}" for name, value in named.items() if value is not None)
    more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    return Finding(
        False, f"{looked_at}: {first.rule}, was {first.value}{place}{more}", found[:SHOWN]
    )
