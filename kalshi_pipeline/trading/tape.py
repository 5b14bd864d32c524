"""What the simulator replays: the messages, steps and features of many market segments, as arrays.

A tape holds no strings and no objects, so that a compiled kernel reads it directly; `Universe` adds
the names. Nothing on a tape after the current row is ever read by the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.market.fees import Fees
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.trading.marks import mark_mids

__all__ = ["Episode", "Reel", "RowKind", "Tape", "Universe", "reel_of"]


class Tape(NamedTuple):
    """R message rows, T steps, E episodes, S snapshots, V snapshot levels, G grids.

    An episode is one market segment. Rows of one episode are contiguous, in replay order; so are
    its steps. Prices are YES-scale 1/10,000 dollar unless said otherwise, sizes 1/100 contract.
    """

    # rows [R]
    time_ms: NDArray[np.int64]  # receive time, never decreasing within an episode
    kind: NDArray[np.uint8]  # RowKind
    side: NDArray[
        np.uint8
    ]  # DELTA: ladder, 0 YES bids / 1 NO bids; TRADE: taker bought 0 YES / 1 NO
    price_bp: NDArray[np.int32]  # DELTA: in the ladder's own scale; TRADE: YES scale
    change_centi: NDArray[
        np.int64
    ]  # DELTA: signed; TRADE: size; SNAPSHOT: its index in snapshot_first
    bid_bp: NDArray[np.int32]  # best bid after the row; 0 = no bids
    ask_bp: NDArray[np.int32]  # best ask after the row; 10,000 = no asks
    bid_size_centi: NDArray[np.int64]
    ask_size_centi: NDArray[np.int64]
    # snapshots: levels of snapshot s are snapshot_first[s] .. snapshot_first[s + 1]
    snapshot_first: NDArray[np.int64]  # [S + 1]
    level_side: NDArray[np.uint8]  # [V] 0 YES bids, 1 NO bids
    level_price_bp: NDArray[np.int32]  # [V] in the ladder's own scale
    level_size_centi: NDArray[np.int64]  # [V]
    # steps [T]
    step_row: NDArray[np.int64]  # last row known when the agent acts
    features: NDArray[np.float32]  # [T, 35] market and temporal features at that row
    # episodes [E]
    first_row: NDArray[np.int64]  # always a SNAPSHOT row
    end_row: NDArray[np.int64]  # exclusive; the closing snapshot of the market is not a row
    first_step: NDArray[np.int64]  # step_row[first_step] >= first_row
    end_step: NDArray[np.int64]  # exclusive; step_row[end_step - 1] == end_row - 1; >= 2 steps
    settlement_bp: NDArray[np.int32]  # 0 or 10,000 where the segment ends at the market's close and
    # the result is known (terminated); -1 otherwise (truncated)
    grid: NDArray[np.int32]  # index into the grid arrays
    fee_schedule: NDArray[np.int64]  # [E, 4] taker rate, maker rate (1/10,000 each), multiplier
    # (1/100), rounding rule (0: the order's fee up to the cent, to 28 May 2026; 1: per fill, after)
    # grids [G]
    grid_step_bp: NDArray[np.int32]  # spacing of the dense ladder
    tick_up_bp: NDArray[np.int32]  # [G, 10001] to the next valid price above; 0 = none
    tick_down_bp: NDArray[np.int32]  # [G, 10001] to the next valid price below; 0 = none


@dataclass(frozen=True)
class Episode:
    """The names behind one episode of a tape."""

    session: int
    market: str
    event: str  # Kalshi's event: the unit of inference
    segment: int
    start_ms: int
    end_ms: int
    steps: int
    tier: str  # activity tier of its market: high, medium, low
    settles: bool  # ends at the market's close with a known result
    pattern: str = "even"  # where in its life its market is active: `suitability.temporal_pattern`


class Reel(NamedTuple):
    """A tape as kernels read it: what is looked at together lies together.

    A message is half a cache line, so that a lane that moves on waits for memory once and not once
    a column.
    """

    rows: NDArray[Any]  # [R] of REEL_ROW
    snapshot_first: NDArray[np.int64]  # as on the tape
    levels: NDArray[Any]  # [V] of REEL_LEVEL
    step_row: NDArray[np.int64]  # as on the tape, as the next
    features: NDArray[np.float32]
    episodes: NDArray[Any]  # [E] of REEL_EPISODE
    tick_up_bp: NDArray[np.int32]  # as on the tape, as the next
    tick_down_bp: NDArray[np.int32]


REEL_ROW = np.dtype(
    [
        ("time_ms", np.int64),
        ("change_centi", np.int64),
        ("price_bp", np.int32),
        ("bid_bp", np.int32),
        ("ask_bp", np.int32),
        ("kind", np.uint8),
        ("side", np.uint8),
    ],
    align=True,
)
REEL_LEVEL = np.dtype(
    [("size_centi", np.int64), ("price_bp", np.int32), ("side", np.uint8)], align=True
)
REEL_EPISODE = np.dtype(
    [
        ("first_row", np.int64),
        ("first_step", np.int64),
        ("end_step", np.int64),
        ("fees", np.int64, len(Fees._fields)),
        ("settlement_bp", np.int32),
        ("grid", np.int32),
        ("grid_step_bp", np.int32),
    ],
    align=True,
)


def reel_of(tape: Tape) -> Reel:
    """Pack a tape; its steps, features and ticks are shared, not copied."""
    rows = _packed(REEL_ROW, {name: getattr(tape, name) for name in _names(REEL_ROW)})
    levels = {name: getattr(tape, f"level_{name}") for name in _names(REEL_LEVEL)}
    spans = ("first_row", "first_step", "end_step", "settlement_bp", "grid")
    episodes = {name: getattr(tape, name) for name in spans}
    episodes["fees"] = tape.fee_schedule
    episodes["grid_step_bp"] = tape.grid_step_bp[tape.grid]
    return Reel(
        rows, tape.snapshot_first, _packed(REEL_LEVEL, levels), tape.step_row, tape.features,
        _packed(REEL_EPISODE, episodes), tape.tick_up_bp, tape.tick_down_bp,
    )  # fmt: skip


_PER_EPISODE = ("first_row", "end_row", "settlement_bp", "grid", "fee_schedule")


def _names(record: np.dtype[Any]) -> tuple[str, ...]:
    return record.names or ()


def _packed(record: np.dtype[Any], columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    packed = np.zeros(len(next(iter(columns.values()))), record)
    for name, values in columns.items():
        packed[name] = values
    return packed


@dataclass(frozen=True)
class Universe:
    """A tape and the names of its episodes, `len(episodes) == E`, same order."""

    tape: Tape
    episodes: tuple[Episode, ...]

    def __len__(self) -> int:
        return len(self.episodes)

    @cached_property
    def reel(self) -> Reel:
        """The tape as kernels read it, packed once for all simulators."""
        return reel_of(self.tape)

    @cached_property
    def mid2_bp(self) -> NDArray[np.int64]:
        """`[R]` twice the mid that marks positions after each message; see `marks`."""
        tape, mid2 = self.tape, np.zeros(len(self.tape.time_ms), np.int64)
        mark_mids(tape.first_row, tape.end_row, tape.bid_bp, tape.ask_bp, mid2)
        return mid2


def excerpt(universe: Universe, episodes: NDArray[np.int64]) -> Universe:
    """Some episodes with steps of their own; the messages are shared.

    Args:
        universe: of all.
        episodes: `[K]` which, in the order they shall have.
    """
    tape = universe.tape
    counts = (tape.end_step - tape.first_step)[episodes]
    end = np.cumsum(counts)
    steps = np.repeat(tape.first_step[episodes] - (end - counts), counts) + np.arange(counts.sum())
    spans = {name: getattr(tape, name)[episodes] for name in _PER_EPISODE}
    return Universe(
        tape._replace(
            **spans, first_step=end - counts, end_step=end,
            step_row=tape.step_row[steps], features=tape.features[steps],
        ),
        tuple(universe.episodes[episode] for episode in episodes),
    )  # fmt: skip
