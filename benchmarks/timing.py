"""Interleaved timing: A B C A B C ..., so that what disturbs one contestant disturbs all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Effort:
    """How long a contestant is watched.

    Args:
        rounds: rounds after the warm-up; the median over them counts.
        seconds: least time of a contestant in a round; a short run is repeated until it is reached.
    """

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Contestant:
    """One way to do the work.

    Args:
        run: does it, with what `prepare` returned, and returns how many units were done.
        prepare: called before each run, outside the time; may be slow.
    """

    run: Callable[[Any], int]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Row:
    """One line of the table; every rate in `unit`.

    Args:
        name: stage and what was timed.
        value: the project's rate.
        unit: "deltas/s", "frames/s", ...
        peers: other ways to the same result, by name.
        floor: rate of the bare minimum of memory traffic or arithmetic; None where none is known.
    """

    name: str
    value: float
    unit: str
    peers: Mapping[str, float] = field(default_factory=dict)
    floor: float | None = None


def rates(contestants: Mapping[str, Contestant], effort: Effort) -> dict[str, float]:
    """Median units per second of each contestant, all timed in turn in every round.

    One run of each goes before, untimed: it compiles and fills caches.
    """
    for entry in contestants.values():
        entry.run(entry.prepare())
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(effort.rounds):
        for name, entry in contestants.items():
            found[name].append(_rate(entry, effort.seconds))
    return {name: median(values) for name, values in found.items()}


def row(
    name: str, unit: str, contestants: Mapping[str, Contestant], effort: Effort, floor: str = ""
) -> Row:
    """Time the contestants of one row.

    Args:
        name: of the row.
        unit: of the rates.
        contestants: the project's own first, then its peers and, anywhere, the floor.
        effort: how long to watch.
        floor: which contestant is the floor; empty = none is.
    """
    measured = rates(contestants, effort)
    own, *others = measured
    peers = {other: measured[other] for other in others if other != floor}
    return Row(name, measured[own], unit, peers, measured.get(floor))


def table_lines(entry: Row) -> Sequence[tuple[str, float, float]]:
    """(name, rate, how many times as fast the project is) of a row's peers and floor."""
    beside = [*entry.peers.items(), *([("floor", entry.floor)] if entry.floor else [])]
    return [(name, rate, entry.value / rate) for name, rate in beside]


def _rate(entry: Contestant, seconds: float) -> float:
    elapsed, units = 0.0, 0
    while elapsed < seconds or units == 0:
        prepared = entry.prepare()
        start = perf_counter()
        units += entry.run(prepared)
        elapsed += perf_counter() - start
    return units / elapsed
