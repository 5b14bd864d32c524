"""Event totals from a ledger, by the words of the definition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction


def event_totals(
    rows: Iterable[Mapping[str, object]], column: str
) -> dict[tuple[str, int, str], Fraction]:
    """(policy, session, event) -> sum over market segments of the mean over repeats."""
    repeats: dict[tuple[str, int, str, str, int], list[int]] = defaultdict(list)
    for row in rows:
        key = (row["policy"], row["session"], row["event"], row["market"], row["segment"])
        repeats[key].append(int(row[column]))  # type: ignore[index, call-overload]
    totals: dict[tuple[str, int, str], Fraction] = defaultdict(Fraction)
    for (policy, session, event, _, _), values in repeats.items():
        totals[policy, session, event] += Fraction(sum(values), len(values))
    return dict(totals)
