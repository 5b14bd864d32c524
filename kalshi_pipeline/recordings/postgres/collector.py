"""What a collector would have stored of a session's frames: the faulty one, or the one after it.

The world of the tables is whole cents and whole contracts. A bid between two cents is counted at
the cent below it (below one cent: not at all), levels that fall together are added up, and a level
shows its whole contracts; a change that moves no whole contract was never sent. So the exchange is
the one of December 2025, and what it sent is the truth both collectors are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel
from kalshi_pipeline.config import CENTI_PER_CONTRACT
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.postgres.ladders import HALF_CENTS

ACTIONS = ("add", "update", "remove")
_LEVELS = 101
_SNAPSHOT, _DELTA = int(MessageKind.SNAPSHOT), int(MessageKind.DELTA)
_CENT_BP = 100


class Frames(NamedTuple):
    """Snapshots and changes of a session in the order of connection and counter (`[F]`)."""

    kind: NDArray[np.uint8]
    market: NDArray[np.int32]
    epoch: NDArray[np.int32]
    side: NDArray[np.uint8]
    cents: NDArray[np.int64]  # whole cents, rounded down
    size_centi: NDArray[np.int64]
    first_level: NDArray[np.int64]  # [F]
    end_level: NDArray[np.int64]  # [F]


class Levels(NamedTuple):
    """Levels of the snapshots (`[V]`)."""

    side: NDArray[np.uint8]
    cents: NDArray[np.int64]
    size_centi: NDArray[np.int64]


class Stored(NamedTuple):
    """Rows the collector wrote (`[F]` of room)."""

    frame: NDArray[np.int64]  # index into the frames
    old: NDArray[np.int64]
    new: NDArray[np.int64]
    action: NDArray[np.uint8]  # index into ACTIONS; changes
    ladder: NDArray[np.int64]  # [S, 2, 101] true bids of the snapshots that were stored


@dataclass(frozen=True)
class Collected:
    """The rows of one session.

    Args:
        deltas: columns of the changes, in order.
        snapshots: columns of the snapshots, in order, and their true bids as `[S, 2, 101]`.
        ladders: those bids, contracts by side and cent.
        left_out: changes that moved no whole contract, or a level below one cent.
    """

    deltas: dict[str, NDArray[Any]]
    snapshots: dict[str, NDArray[Any]]
    ladders: NDArray[np.int64]
    left_out: int


def collect(messages: pa.Table, *, sequence: str, faulty: bool) -> Collected:
    """The rows a collector would have written.

    The numbers of a subscription are given anew, without what the tables do not hold (control
    frames, changes left out, markets that are not recorded), and with the holes that are losses. A
    market may have each number once in a session, so earlier connections count from higher up.

    Args:
        messages: the session's message table.
        sequence: what its counters count; where it is `complete`, holes are losses and stay.
        faulty: as before 17 December 2025: levels above 50 cents are looked for in the wrong place.
    """
    column = _columns(messages)
    frames, levels, head = _frames(column)
    count = len(frames.kind)
    snapshots = int(np.count_nonzero(frames.kind == _SNAPSHOT))
    stored = Stored(
        np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64),
        np.zeros(count, np.uint8), np.zeros((snapshots, 2, _LEVELS), np.int64),
    )  # fmt: skip
    markets = int(frames.market.max(initial=-1)) + 1
    rows, kept = record(frames, levels, markets, faulty, stored)
    picked = stored.frame[:rows]
    lost = head["lost"] if sequence == "complete" else np.zeros(count, dtype=np.int64)
    seq = _numbers(frames.epoch, picked, lost)
    shared = {
        "market": frames.market[picked],
        "recv_ms": head["recv_ms"][picked],
        "seq": seq,
        "epoch": frames.epoch[picked],
    }
    changes = frames.kind[picked] == _DELTA
    deltas = {name: values[changes] for name, values in shared.items()} | {
        "side": frames.side[picked][changes],
        "cents": frames.cents[picked][changes],
        "old": stored.old[:rows][changes],
        "new": stored.new[:rows][changes],
        "action": stored.action[:rows][changes],
    }
    books = {name: values[~changes] for name, values in shared.items()}
    left_out = int(np.count_nonzero(frames.kind == _DELTA) - np.count_nonzero(changes))
    return Collected(deltas, books, stored.ladder[:kept], left_out)


@allocating_kernel
def record(
    frames: Frames, levels: Levels, markets: int, faulty: bool, stored: Stored
) -> tuple[int, int]:
    """Follow the collector's book through the frames.

    Args:
        frames: in order.
        levels: of the snapshots.
        markets: how many there are.
        faulty: which collector.
        stored: output.

    Returns:
        How many rows, and how many snapshots among them, were written.
    """
    true_centi = np.zeros((markets, 2, _LEVELS), dtype=np.int64)
    held = np.zeros((markets, 2, _LEVELS), dtype=np.int64)  # what the collector's book says
    epoch = np.full(markets, -1, dtype=np.int64)
    rows, kept = 0, 0
    for f in range(len(frames.kind)):
        m = frames.market[f]
        is_first = epoch[m] != frames.epoch[f]
        if is_first:  # a new connection begins with an empty book
            true_centi[m] = 0
            held[m] = 0
            if frames.kind[f] == _SNAPSHOT:
                epoch[m] = frames.epoch[f]
        if frames.kind[f] == _SNAPSHOT:
            true_centi[m] = 0
            for v in range(frames.first_level[f], frames.end_level[f]):
                true_centi[m, levels.side[v], levels.cents[v]] += levels.size_centi[v]
            true_centi[m, :, 0] = 0
            for side in range(2):
                for cents in range(1, _LEVELS):
                    contracts = true_centi[m, side, cents] // CENTI_PER_CONTRACT
                    is_mislaid = faulty and cents > HALF_CENTS
                    held[m, side, cents] = 0 if is_mislaid else contracts
                    if is_first:
                        stored.ladder[kept, side, cents] = contracts
            if is_first:  # one snapshot a market and connection
                kept += 1
                stored.frame[rows] = f
                rows += 1
            continue
        side, cents = frames.side[f], frames.cents[f]
        if cents == 0:
            continue
        before = true_centi[m, side, cents]
        after = max(0, before + frames.size_centi[f])
        true_centi[m, side, cents] = after
        change = after // CENTI_PER_CONTRACT - before // CENTI_PER_CONTRACT
        if change == 0:
            continue
        old = held[m, side, cents]
        new = max(0, old + change)
        held[m, side, cents] = new
        stored.frame[rows], stored.old[rows], stored.new[rows] = f, old, new
        stored.action[rows] = 0 if change > 0 and old == 0 else (2 if new == 0 else 1)
        rows += 1
    return rows, kept


def _columns(messages: pa.Table) -> dict[str, NDArray[Any]]:
    absent = {"seq": -1, "sid": -1, "side": 0, "price_bp": 0, "size_centi": 0}
    columns = {}
    for name in ("epoch", "recv_ms", "kind", *absent):
        values = messages[name]
        columns[name] = (values.fill_null(absent[name]) if name in absent else values).to_numpy()
    codes = messages["market"].unify_dictionaries().combine_chunks()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    columns["market"] = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return columns


def _frames(column: dict[str, NDArray[Any]]) -> tuple[Frames, Levels, dict[str, NDArray[Any]]]:
    # heads of the book's frames by (connection, subscription, counter), and what came before each
    heads = np.flatnonzero(column["kind"] != MessageKind.LEVEL)
    ends = np.append(heads[1:], len(column["kind"]))
    head = {name: values[heads] for name, values in column.items()}
    lost = _lost_before(head)
    is_book = np.isin(head["kind"], (_SNAPSHOT, _DELTA))
    chosen = np.flatnonzero(is_book)
    order = np.lexsort((head["seq"][chosen], head["sid"][chosen], head["epoch"][chosen]))
    order = chosen[order]
    head = {name: values[order] for name, values in head.items()} | {"lost": lost[order]}
    frames = Frames(
        head["kind"], head["market"].astype(np.int32), head["epoch"], head["side"],
        (head["price_bp"] // _CENT_BP).astype(np.int64), head["size_centi"],
        heads[order] + 1, ends[order],
    )  # fmt: skip
    levels = Levels(
        column["side"],
        (column["price_bp"] // _CENT_BP).astype(np.int64),
        column["size_centi"],
    )
    return frames, levels, head


def _lost_before(head: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    # numbers of the subscription that are missing right before each frame; one that was seen but
    # refused is missing from the tables too
    lost = np.zeros(len(head["seq"]), dtype=np.int64)
    counted = np.flatnonzero(head["seq"] >= 0)
    order = counted[
        np.lexsort((head["seq"][counted], head["sid"][counted], head["epoch"][counted]))
    ]
    same = (np.diff(head["epoch"][order]) == 0) & (np.diff(head["sid"][order]) == 0)
    holes = np.where(same, np.diff(head["seq"][order]) - 1, 0).clip(0)
    refused = head["kind"][order] == MessageKind.REJECTED
    total = np.cumsum(np.concatenate([[0], holes]) + refused)
    book = np.isin(head["kind"][order], (_SNAPSHOT, _DELTA))
    lost[order[book]] = np.diff(np.concatenate([[0], total[book]]))
    return lost


def _numbers(
    epoch: NDArray[np.int32], picked: NDArray[np.int64], lost: NDArray[np.int64]
) -> NDArray[np.int64]:
    missing = np.cumsum(lost)[picked]
    number = np.arange(1, len(picked) + 1) + missing
    own = epoch[picked]
    connections, first = np.unique(own, return_index=True)
    starts = number[first] - 1
    spans = np.diff(np.append(starts, number[-1] if len(number) else 0))
    # the last connection counts from 1, the one before it from above the last
    base = np.concatenate([np.cumsum(spans[::-1])[::-1][1:], [0]]).astype(np.int64)
    place = np.searchsorted(connections, own)
    numbers: NDArray[np.int64] = number - starts[place] + base[place]
    return numbers
