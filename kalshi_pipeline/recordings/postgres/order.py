"""Snapshots, changes and trades of a session in one order, cut into connections.

The tables have no connection, and ids say only roughly what came first: rows were written in
batches, and a batch that failed was put back into the queue. The counter of the subscription says
more: it starts anew with each connection. Source: `domain.md` section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel
from kalshi_pipeline.recordings.postgres.rows import (
    DELTA_FILE,
    Block,
    empty_block,
    joined,
    taken,
)

_LAST = np.iinfo(np.int64).max


def in_order(
    deltas: Iterable[Block], others: list[Iterable[Block]], window: int
) -> Iterator[Block]:
    """Rows of all tables in replay order, with their connection as column `epoch`.

    Args:
        deltas: blocks of changes, by id.
        others: snapshots, trades and what else there is; each by id.
        window: a row written late finds its place among so many rows.
    """
    state = np.array([0, -1, 0, 0, 0], dtype=np.int64)
    streams = [_Stream(blocks) for blocks in others]
    held = empty_block() | {"epoch": np.zeros(0, dtype=np.int32)}
    for arrived in _merged(deltas, streams):
        arrived["epoch"] = np.zeros(len(arrived["id"]), dtype=np.int32)
        number_connections(
            arrived["file"], arrived["seq"], arrived["recv_ms"], window, state, arrived["epoch"]
        )
        held = _sorted(joined([held, arrived]))
        ready = max(0, len(held["id"]) - window)
        yield taken(held, slice(0, ready))
        held = taken(held, slice(ready, None))
    yield held


@allocating_kernel
def number_connections(
    file: NDArray[np.int16],
    seq: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    window: int,
    state: NDArray[np.int64],
    epoch: NDArray[np.int32],
) -> None:
    """Number the connections of rows in order of arrival.

    A counter that falls back begins a new connection if the row was received after the one with
    the connection's highest number; received no later, the row was written late. A row received
    before its connection began was written late by the one before it.

    Args:
        file: `[R]` only snapshots and changes (0, 1) carry the counter.
        seq: `[R]` -1 = none.
        time_ms: `[R]` receive time.
        window: rows after the start of a connection in which late ones of the last may come.
        state: connection, its highest number, when that was received, when the connection began,
            rows since; carried from block to block.
        epoch: output `[R]`.
    """
    for i in range(len(seq)):
        state[4] += 1
        epoch[i] = state[0]
        if file[i] > 1 or seq[i] < 0:
            continue
        if state[0] > 0 and time_ms[i] < state[3] and state[4] < window:
            epoch[i] = state[0] - 1
        elif seq[i] > state[1]:
            if state[1] < 0:
                state[3] = time_ms[i]
            state[1], state[2] = seq[i], time_ms[i]
        elif time_ms[i] > state[2]:
            state[0] += 1
            state[1], state[2], state[3], state[4] = seq[i], time_ms[i], time_ms[i], 0
            epoch[i] = state[0]


class _Stream:
    # rows of one table up to a time

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = iter(blocks)
        self._rest = _clocked(empty_block(), 0)
        self._latest: int = 0

    def take(self, until_ms: int) -> Block:
        while self._latest <= until_ms:
            block = next(self._blocks, None)
            if block is None:
                break
            clocked = _clocked(block, self._latest)
            self._latest = int(clocked["clock"][-1]) if len(clocked["clock"]) else self._latest
            self._rest = joined([self._rest, clocked])
        end = int(np.searchsorted(self._rest["clock"], until_ms, side="right"))
        head, self._rest = taken(self._rest, slice(0, end)), taken(self._rest, slice(end, None))
        return head


def _clocked(block: Block, since: int) -> Block:
    # a clock that never goes back: a row written late stays where it was written
    clock = np.maximum.accumulate(np.concatenate([[since], block["recv_ms"]]))[1:]
    return block | {"clock": clock.astype(np.int64)}


def _merged(deltas: Iterable[Block], streams: list[_Stream]) -> Iterator[Block]:
    latest = 0
    for block in deltas:
        if not len(block["id"]):
            continue
        clocked = _clocked(block, latest)
        latest = int(clocked["clock"][-1])
        yield _by_clock([clocked, *(stream.take(latest) for stream in streams)])
    yield _by_clock([stream.take(_LAST) for stream in streams])


def _by_clock(parts: list[Block]) -> Block:
    block = joined(parts)
    order = np.lexsort((block["file"], block["clock"]))
    del block["clock"]
    return taken(block, order)


def _sorted(block: Block) -> Block:
    # counted rows by (connection, counter) within the places they hold; the others stay
    places = np.flatnonzero((block["file"] <= DELTA_FILE) & (block["seq"] >= 0))
    seq, epoch = block["seq"][places], block["epoch"][places]
    order = np.arange(len(block["seq"]))
    order[places] = places[np.lexsort((seq, epoch))]
    return taken(block, order)
