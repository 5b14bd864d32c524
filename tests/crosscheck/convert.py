"""A market segment and a script of orders, as hftbacktest is asked to play them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.trading.actions import (
    BUY,
    SELL,
    Action,
    limit_price_bp,
    side_of,
    takes,
)
from kalshi_pipeline.trading.tape import RowKind, Universe

NS_PER_MS = 1_000_000
BETWEEN_ROWS_NS = 10  # rows of one millisecond follow each other in these steps


@dataclass(frozen=True)
class Script:
    """What is done when: `[K]` each, rows in rising order."""

    row: np.ndarray  # the last message seen when the order is decided
    action: np.ndarray
    limit_bp: np.ndarray
    arrival: np.ndarray  # the message it reaches the book with


def every_row(universe: Universe, episode: int) -> Universe:
    """One episode, with a step at each of its messages: fills are seen where they happen."""
    tape = universe.tape
    rows = slice(int(tape.first_row[episode]), int(tape.end_row[episode]))
    kind, change = tape.kind[rows], tape.change_centi[rows].copy()
    shots = change[kind == RowKind.SNAPSHOT]
    levels = [slice(*tape.snapshot_first[shot : shot + 2]) for shot in shots]
    change[kind == RowKind.SNAPSHOT] = np.arange(len(shots))
    count = len(kind)
    one = tape._replace(
        **{
            name: getattr(tape, name)[rows]
            for name in (
                "time_ms", "kind", "side", "price_bp", "bid_bp", "ask_bp",
                "bid_size_centi", "ask_size_centi",
            )
        },
        change_centi=change,
        snapshot_first=np.cumsum([0, *(part.stop - part.start for part in levels)]),
        **{
            name: np.concatenate([getattr(tape, name)[part] for part in levels])
            for name in ("level_side", "level_price_bp", "level_size_centi")
        },
        step_row=np.arange(count),
        features=np.zeros((count, TENSOR_WIDTH), np.float32),
        first_row=np.zeros(1, np.int64),
        end_row=np.full(1, count),
        first_step=np.zeros(1, np.int64),
        end_step=np.full(1, count),
        settlement_bp=tape.settlement_bp[episode : episode + 1],
        grid=tape.grid[episode : episode + 1],
        fee_schedule=tape.fee_schedule[episode : episode + 1],
    )  # fmt: skip
    return Universe(one, (universe.episodes[episode],))


def row_times_ns(universe: Universe) -> np.ndarray:
    """`[R]` a time of its own for each row, in replay order and within its millisecond."""
    time_ms = universe.tape.time_ms
    nth = np.arange(len(time_ms)) - np.searchsorted(time_ms, time_ms)
    assert nth.max() * BETWEEN_ROWS_NS < NS_PER_MS // 2
    return time_ms * NS_PER_MS + nth * BETWEEN_ROWS_NS


def arrival_rows(universe: Universe, rows: np.ndarray, latency_ms: int) -> np.ndarray:
    """`[K]` the message an order decided after a row arrives with: R where none is left."""
    time_ms = universe.tape.time_ms
    due = np.searchsorted(time_ms, time_ms[rows] + latency_ms)
    return np.maximum(due, rows + 1)


def script(
    universe: Universe,
    rng: np.random.Generator,
    actions: tuple[Action, ...],
    *,
    latency_ms: int,
    every: int,
) -> Script:
    """Orders at random moments, one in flight at a time, each at another price than the last one.

    An order at the price of the one before it on its side is left out, because the project would
    keep that one, and so whether it counts would depend on what has filled: each order here lives
    from its arrival until the next one of its side arrives, whatever the simulator.
    """
    tape, count = universe.tape, len(universe.tape.time_ms)
    rows = np.sort(rng.choice(count, count // every, replace=False))
    arrivals = arrival_rows(universe, rows, latency_ms)
    drawn = rng.choice(actions, len(rows))
    chosen: list[tuple[int, int, int, int]] = []
    last_limit, free_from = {BUY: 0, SELL: 0}, 0
    for row, arrival, action in zip(rows.tolist(), arrivals.tolist(), drawn.tolist(), strict=True):
        bid, ask, grid = int(tape.bid_bp[row]), int(tape.ask_bp[row]), int(tape.grid[0])
        limit = limit_price_bp(
            action, bid, ask, int(tape.tick_up_bp[grid, bid]), int(tape.tick_down_bp[grid, ask])
        )
        same = not takes(action) and limit == last_limit[side_of(action)]
        if limit and not same and row >= free_from and arrival < count - 1:
            chosen.append((row, action, limit, arrival))
            last_limit[side_of(action)], free_from = limit, arrival
    return Script(*np.array(chosen).T)


def events(universe: Universe) -> dict[str, np.ndarray]:
    """The episode as changes of one YES-scale book, and trades.

    A snapshot becomes the levels it changes. The NO bid at q is the ask at 1 - q. Price in ticks of
    the ladder, size in hundredths of a contract, of a level: what it shows afterwards.
    """
    tape = universe.tape
    step_bp = int(tape.grid_step_bp[tape.grid[0]])
    ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})
    times = row_times_ns(universe)
    found: list[tuple[int, bool, bool, int, int]] = []
    for row in range(len(tape.kind)):
        kind, side, price = int(tape.kind[row]), int(tape.side[row]), int(tape.price_bp[row])
        change = int(tape.change_centi[row])
        if kind == RowKind.TRADE:
            found.append((times[row], True, side == 1, price // step_bp, change))
            continue
        if kind == RowKind.DELTA:
            changed = {(side, price): ladders[side].get(price, 0) + change}
        else:
            shot = slice(*tape.snapshot_first[change : change + 2])
            changed = {(s, p): 0 for s in (0, 1) for p in ladders[s]}
            changed |= {
                (int(s), int(p)): int(size)
                for s, p, size in zip(
                    tape.level_side[shot], tape.level_price_bp[shot],
                    tape.level_size_centi[shot], strict=True,
                )
            }  # fmt: skip
        # what goes comes before what is put, so that no book is crossed half-way
        for (s, p), size in sorted(changed.items(), key=lambda item: item[1] > 0):
            if ladders[s].get(p, 0) != size:
                ladders[s][p] = size
                yes = p if s == 0 else BP_PER_DOLLAR - p
                found.append((times[row], False, s == 1, yes // step_bp, size))
    columns = ("time_ns", "is_trade", "is_sell", "price_tick", "size_centi_shown")
    return {
        name: np.array(values)
        for name, values in zip(columns, zip(*found, strict=True), strict=True)
    }


def question(
    universe: Universe, script: Script, *, size_centi: int, latency_ms: int, aligned: bool
) -> dict[str, Any]:
    """Everything hftbacktest needs.

    Its order meets the book as it stands when the latency is over; the project's waits for the next
    message. Aligned, the order is submitted as much later as makes it arrive right after that
    message; otherwise as soon as it is decided.
    """
    times = row_times_ns(universe)
    step_bp = int(universe.tape.grid_step_bp[universe.tape.grid[0]])
    latency_ns = latency_ms * NS_PER_MS - NS_PER_MS // 2  # rows have whole milliseconds
    look = times[script.row] + 2
    arrive = times[script.arrival] + 4
    return {
        **events(universe),
        "look_ns": look,
        "submit_ns": arrive - latency_ns if aligned else look + 1,
        "action": script.action,
        "size_centi": size_centi,
        "latency_ns": latency_ns,
        "top_tick": BP_PER_DOLLAR // step_bp,
    }
