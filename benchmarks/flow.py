"""A compiled maker of order flow: valid deltas over many markets, as fast as they are replayed.

Zipf-distributed markets (s = 1: of 1,000 the busiest has 13.4 % of the deltas), whole cents, two
bid ladders, half of the deltas take from a level, never more than is there, and no book is ever
crossed. Where the changes come is as in the recorded sessions: a quarter at the touch, three
quarters within five cents of it; one in eight adds or removes a level,
one in thirty moves the touch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind

LEVELS = 101
ROW_GROUP = 1 << 16  # as ingest writes them


class Flow(NamedTuple):
    """N deltas in the order of time, and the books they begin with."""

    market: NDArray[np.int32]
    side: NDArray[np.uint8]
    price_bp: NDArray[np.int32]
    size_centi: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    books: NDArray[np.int64]  # [M, 2, 101] sizes at the start


def order_flow(deltas: int, markets: int = 1_000, seed: int = 1, rate_hz: float = 40.0) -> Flow:
    """Make a flow; equal arguments give an equal flow."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, markets + 1)
    order = rng.permutation(markets)
    alias, threshold = _alias_table(share / share.sum())
    books = np.zeros((markets, 2, LEVELS), np.int64)
    middle = rng.integers(8, 93, markets)
    for side in range(2):
        best = np.where(side == 0, middle, 100 - middle) - rng.integers(1, 3, markets)
        for depth in range(40):
            place = best - depth
            rows = np.flatnonzero(place > 0)
            sizes = rng.integers(5, 2_000, len(rows)) * 100
            books[rows, side, place[rows]] = sizes * (rng.random(len(rows)) < 0.9)
    flow = Flow(
        np.empty(deltas, np.int32), np.empty(deltas, np.uint8), np.empty(deltas, np.int32),
        np.empty(deltas, np.int64), np.empty(deltas, np.int64), books.copy(),
    )  # fmt: skip
    _fill(
        flow, books, middle, alias, threshold, order,
        np.uint64(seed), 1_780_000_000_000, 1_000 / rate_hz,
    )  # fmt: skip
    return flow


def _alias_table(share: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # Walker's method: a draw costs one comparison
    count = len(share)
    scaled, alias = share * count, np.arange(count)
    small = [i for i in range(count) if scaled[i] < 1]
    large = [i for i in range(count) if scaled[i] >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        scaled[rich] -= 1 - scaled[poor]
        if scaled[rich] < 1:
            small.append(large.pop())
    return alias, scaled


@numba.njit(cache=True)
def _fill(flow, books, middle, alias, threshold, order, seed, start_ms, gap_ms):  # type: ignore[no-untyped-def]
    state = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    markets, now = len(alias), 0.0
    for i in range(len(flow.market)):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        bits = np.int64(state >> np.uint64(11))
        draw = np.int64((state * np.uint64(0xD1342543DE82EF95)) >> np.uint64(11))
        fraction = ((state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) / 2.0**53
        column = bits % markets
        m = order[column if fraction < threshold[column] else alias[column]]
        now -= gap_ms * np.log(1.0 - fraction)
        side, add, move, whole = draw & 1, draw & 2, (draw >> 2) & 127, (draw >> 9) & 15
        draw >>= 13
        distance = 0
        while distance < 20 and draw & 3 != 0:
            draw >>= 2
            distance += 1
        if move == 0:
            middle[m] = min(max(middle[m] + (bits & 2) - 1, 5), 95)
        book, other = books[m, side], books[m, 1 - side]
        size = 100 * (1 + (bits >> 12) % 300)
        place = 0 if add else _level(book, distance)
        if place > 0:
            change = -book[place] if whole < 2 else -(book[place] * (1 + size % 7) // 20 + 1)
            change = max(change, -book[place])
        else:
            anchor = (middle[m] if side == 0 else 100 - middle[m]) - 1
            place = max(1, min(anchor - distance, 99 - _level(other, 0)))
            change = size
        book[place] += change
        flow.market[i], flow.side[i] = m, side
        flow.price_bp[i], flow.size_centi[i] = place * 100, change
        flow.time_ms[i] = start_ms + np.int64(now)


@numba.njit(cache=True)
def _level(book, rank):  # type: ignore[no-untyped-def]
    # place of the level of that rank from the best, or the lowest; 0 = the side is empty
    found = 0
    for place in range(LEVELS - 2, 0, -1):
        if book[place] > 0:
            found = place
            rank -= 1
            if rank < 0:
                break
    return found


def write_messages(deltas: int, folder: Path, markets: int = 1_000) -> None:
    """Write the message table of a flow, as a capture of one connection would have left it.

    Args:
        deltas: how many.
        folder: gets `messages.parquet` and an empty `quarantine.parquet`.
        markets: how many.
    """
    names = pa.array([f"KXFLOW-26NOV22-{market:04}" for market in range(markets)])
    empty = QUARANTINE_SCHEMA.empty_table()
    pq.write_table(empty, folder / "quarantine.parquet")
    with pq.ParquetWriter(
        folder / "messages.parquet", MESSAGE_SCHEMA, compression="zstd",
        use_dictionary=["market", "epoch", "sid", "kind", "side", "price_bp", "file", "detail"],
        column_encoding=dict.fromkeys(
            ("frame", "seq", "recv_ms", "exchange_ms", "offset"), "DELTA_BINARY_PACKED"
        ),
    ) as writer:  # fmt: skip
        flow = order_flow(deltas, markets)
        writer.write_batch(_snapshots(flow, names))
        for start in range(0, deltas, ROW_GROUP):
            writer.write_batch(_deltas(flow, names, start, min(start + ROW_GROUP, deltas)))


def _snapshots(flow: Flow, names: pa.Array) -> pa.RecordBatch:
    market, side, place = np.nonzero(flow.books)
    levels = np.bincount(market, minlength=len(names))
    heads = np.cumsum(np.concatenate([[0], levels[:-1] + 1]))
    count = len(market) + len(names)
    head = np.zeros(count, np.bool_)
    head[heads] = True
    frame = np.cumsum(head) - 1
    values = {"side": side, "price_bp": place * 100, "size_centi": flow.books[market, side, place]}
    columns = {name: np.zeros(count, np.int64) for name in values}
    for name, column in columns.items():
        column[~head] = values[name]
    kind = np.where(head, MessageKind.SNAPSHOT, MessageKind.LEVEL)
    return _batch(
        names, frame, frame, kind, np.full(count, flow.time_ms[0]), columns["side"],
        columns["price_bp"], columns["size_centi"], head,
    )  # fmt: skip


def _deltas(flow: Flow, names: pa.Array, start: int, end: int) -> pa.RecordBatch:
    part = slice(start, end)
    frame = np.arange(start, end) + len(names)
    kind = np.full(end - start, MessageKind.DELTA)
    none = np.zeros(end - start, np.bool_)
    return _batch(
        names, frame, flow.market[part], kind, flow.time_ms[part], flow.side[part],
        flow.price_bp[part], flow.size_centi[part], none,
    )  # fmt: skip


def _batch(
    names: pa.Array, frame: Any, market: Any, kind: Any, time_ms: Any, side: Any, price_bp: Any,
    size_centi: Any, is_head: Any,
) -> pa.RecordBatch:  # fmt: skip
    count = len(frame)
    fixed = {
        "frame": frame, "epoch": np.ones(count), "sid": np.ones(count), "seq": frame + 1,
        "recv_ms": time_ms, "exchange_ms": time_ms - 30, "kind": kind, "file": np.zeros(count),
        "offset": frame * 180,
    }  # fmt: skip
    said = {"side": side, "price_bp": price_bp, "size_centi": size_centi}
    arrays = []
    for field in MESSAGE_SCHEMA:
        if field.name == "market":
            codes = pa.array(np.asarray(market, np.int32))
            arrays.append(pa.DictionaryArray.from_arrays(codes, names))
        elif field.name == "detail":
            arrays.append(pa.nulls(count, pa.string()))
        else:
            values = np.asarray({**fixed, **said}[field.name], field.type.to_pandas_dtype())
            missing = is_head if field.name in said else None
            arrays.append(pa.array(values, field.type, mask=missing))
    return pa.record_batch(arrays, schema=MESSAGE_SCHEMA)
