"""What the counters of a session say, compiled: one pass over its frames, a batch at a time.

Memory is a few numbers a subscription and a market, whatever the length of the session.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.market.replay_tables import FrameKind
from kalshi_pipeline.recordings.messages import MessageKind

u = np.uint64
IDLE_BUCKET_MS = 600_000  # times are remembered as the first and last of each such interval
_NO_KEY = np.int64(-(1 << 63))
# what is known of a subscription
KEY, LAST_SEQ, FIRST_OF_NUMBER, LAST_MS, HAS_BOOK, HAS_FRAMES = range(6)
SUBSCRIPTION_WIDTH = 6
# what is known of a market
RECORDS, LAST_BOOK, FINENESS = range(3)
MARKET_WIDTH = 3
_LEVEL, _DELTA, _SNAPSHOT = (
    int(MessageKind.LEVEL),
    int(MessageKind.DELTA),
    int(MessageKind.SNAPSHOT),
)
_TRADE, _REJECTED = int(MessageKind.TRADE), int(MessageKind.REJECTED)
# message kind -> frame kind
_FRAME_KIND = np.array(
    [
        FrameKind.SNAPSHOT, FrameKind.LEVEL, FrameKind.DELTA, FrameKind.TRADE, FrameKind.OTHER,
        FrameKind.OTHER, FrameKind.OTHER, FrameKind.REJECTED,
    ],
    dtype=np.uint8,
)  # fmt: skip
_OTHER = int(FrameKind.OTHER)


class Event(IntEnum):
    """What the survey found; its value tells more."""

    GAP = 0  # how many numbers are missing
    REPEAT = 1  # position of the first frame of the number
    JUMP = 2
    REJECTED = 3  # a book frame of nobody knows which market
    UNNUMBERED = 4  # a refused book frame without a subscription
    BACKWARD = 5  # a number lower than the one before


_GAP, _REPEAT, _JUMP = int(Event.GAP), int(Event.REPEAT), int(Event.JUMP)
_NOBODY, _UNNUMBERED = int(Event.REJECTED), int(Event.UNNUMBERED)
_BACKWARD = int(Event.BACKWARD)


class Batch(NamedTuple):
    """N rows of the message table; -1 = null."""

    frame: NDArray[np.int64]
    epoch: NDArray[np.int32]
    sid: NDArray[np.int32]
    seq: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    market: NDArray[np.int32]  # code, in order of appearance
    kind: NDArray[np.uint8]
    price_bp: NDArray[np.int32]


class Rest(NamedTuple):
    """The columns of the same rows that the records hold beside."""

    exchange_ms: NDArray[np.int64]
    side: NDArray[np.uint8]
    size_centi: NDArray[np.int64]
    file: NDArray[np.int16]
    offset: NDArray[np.int64]


@kernel
def find_subscription(key: int, table: NDArray[np.int64], known: NDArray[np.int64]) -> int:
    """Slot of a (epoch, sid) in a hash table of codes, or where it belongs.

    Args:
        key: epoch and sid.
        table: `[power of two]` codes; -1 = free.
        known: `[S, 6]` subscriptions.
    """
    mask = len(table) - 1
    mixed = (key >> 32) * 40_503 + (key & 0xFFFFFFFF) * 30_011
    slot = (mixed ^ (mixed >> 15)) & mask
    while table[u(slot)] >= 0 and known[u(table[u(slot)]), KEY] != key:
        slot = (slot + 1) & mask
    return slot


@part
def _key(epoch, sid):  # type: ignore[no-untyped-def]
    return np.int64(epoch) << 32 | (np.int64(sid) & 0xFFFFFFFF)


@kernel
def survey_batch(
    batch: Batch,
    first: int,
    clock_jump_ms: int,
    table: NDArray[np.int64],
    known: NDArray[np.int64],
    markets: NDArray[np.int64],
    kinds: NDArray[np.int64],
    events: NDArray[np.int64],
    times: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Look at a batch in order of receipt, until it ends or one of the arrays is full.

    Args:
        batch: its rows.
        first: the row to begin with.
        clock_jump_ms: a receive clock going further between two frames of a subscription jumps.
        table: hash table of subscriptions, twice as long as `known` at least.
        known: `[S, 6]` subscriptions.
        markets: `[M, 3]` markets by code.
        kinds: `[8]` counts of rows by message kind.
        events: `[E, 4]` output: event, position, subscription, value.
        times: `[T, 3]` output: intervals of receive times: number, first, last.
        counts: subscriptions, events, times so far; the last frame's position.

    Returns:
        The next row.
    """
    code, last_key, bucket = np.int64(-1), _NO_KEY, np.int64(-1)
    for i in range(first, len(batch.kind)):
        if counts[0] >= len(known) or counts[1] + 5 > len(events) or counts[2] >= len(times):
            return i
        kind, market = np.int64(batch.kind[u(i)]), np.int64(batch.market[u(i)])
        kinds[u(kind)] += 1
        if market >= 0 and _FRAME_KIND[u(kind)] != _OTHER:
            _count_market(i, kind, market, batch, markets)
        if kind == _LEVEL:
            continue
        position, seq, now = batch.frame[u(i)], batch.seq[u(i)], batch.recv_ms[u(i)]
        counts[3] = position
        key = _key(batch.epoch[u(i)], batch.sid[u(i)])
        if key != last_key:
            slot = find_subscription(key, table, known)
            if table[u(slot)] < 0:
                table[u(slot)] = counts[0]
                known[u(counts[0]), KEY] = key
                counts[0] += 1
            code, last_key = table[u(slot)], key
        sub = known[u(code)]
        is_book = kind in (_SNAPSHOT, _DELTA, _REJECTED)
        if is_book:
            sub[HAS_BOOK] = 1
        if kind == _REJECTED:
            if market < 0:
                _tell(_NOBODY, position, code, 0, events, counts)
            if batch.sid[u(i)] < 0:
                _tell(_UNNUMBERED, position, code, 0, events, counts)
        if sub[HAS_FRAMES] == 1 and abs(now - sub[LAST_MS]) > clock_jump_ms:
            _tell(_JUMP, position, code, 0, events, counts)
        if seq >= 0:
            _count_number(position, seq, code, sub, events, counts)
        sub[HAS_FRAMES], sub[LAST_MS] = 1, now
        if now // IDLE_BUCKET_MS != bucket or counts[2] == 0:
            bucket = now // IDLE_BUCKET_MS
            times[u(counts[2]), 0] = bucket
            times[u(counts[2]), 1] = times[u(counts[2]), 2] = now
            counts[2] += 1
        span = times[u(counts[2] - 1)]
        span[1], span[2] = min(span[1], now), max(span[2], now)
    return len(batch.kind)


@part
def _count_market(i, kind, market, batch, markets):  # type: ignore[no-untyped-def]
    known = markets[u(market)]
    known[RECORDS] += 1
    if kind in (_SNAPSHOT, _DELTA):
        known[LAST_BOOK] = batch.frame[u(i)]
    price = np.int64(batch.price_bp[u(i)])
    known[FINENESS] = max(known[FINENESS], np.int64(price % 100 != 0) + np.int64(price % 10 != 0))


@kernel
def _count_number(position, seq, code, sub, events, counts):  # type: ignore[no-untyped-def]
    if sub[LAST_SEQ] >= 0:
        step = seq - sub[LAST_SEQ]
        if step > 1:
            _tell(_GAP, position, code, step - 1, events, counts)
        elif step == 0:
            _tell(_REPEAT, position, code, sub[FIRST_OF_NUMBER], events, counts)
            return
        elif step < 0:
            _tell(_BACKWARD, position, code, 0, events, counts)
    sub[LAST_SEQ], sub[FIRST_OF_NUMBER] = seq, position


@kernel
def _tell(event, position, code, value, events, counts):  # type: ignore[no-untyped-def]
    n = counts[1]
    events[u(n), 0] = event
    events[u(n), 1] = position
    events[u(n), 2] = code
    events[u(n), 3] = value
    counts[1] = n + 1


@kernel
def count_groups(
    kind: NDArray[np.uint8],
    market: NDArray[np.int32],
    group_of: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Add how many records each group gets to `counts`."""
    for i in range(len(kind)):
        code = np.int64(market[u(i)])
        if code >= 0 and _FRAME_KIND[u(kind[u(i)])] != _OTHER:
            counts[u(group_of[u(code)])] += 1


@kernel
def scatter_rows(
    batch: Batch,
    rest: Rest,
    market_of: NDArray[np.int32],
    group_of: NDArray[np.int32],
    table: NDArray[np.int64],
    known: NDArray[np.int64],
    marks: NDArray[np.int64],
    cursor: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Write the records of a batch to the places of their groups.

    Args:
        batch: its rows.
        rest: the other columns.
        market_of: `[codes]` final code of each market.
        group_of: `[codes]` group of each market.
        table: hash table of subscriptions.
        known: `[S, 6]` subscriptions.
        marks: `[K, 2]` position and kind of frames that come with a number seen before, ascending,
            none before the batch.
        cursor: `[G]` next free record of each group; advanced.
        out: records.
    """
    code, last_key = np.int64(-1), _NO_KEY
    mark = 0
    for i in range(len(batch.kind)):
        kind, market = np.int64(_FRAME_KIND[u(batch.kind[u(i)])]), np.int64(batch.market[u(i)])
        position = batch.frame[u(i)]
        while mark < len(marks) and marks[u(mark), 0] < position:
            mark += 1
        if market < 0 or kind == _OTHER:
            continue
        key = _key(batch.epoch[u(i)], batch.sid[u(i)])
        if key != last_key:
            code, last_key = table[u(find_subscription(key, table, known))], key
        if mark < len(marks) and marks[u(mark), 0] == position and kind <= 1:
            kind = marks[u(mark), 1]
        group = group_of[u(market)]
        record = out[u(cursor[u(group)])]
        cursor[u(group)] += 1
        record["position"] = position
        record["seq"] = batch.seq[u(i)]
        record["time_ms"] = batch.recv_ms[u(i)]
        record["exchange_ms"] = rest.exchange_ms[u(i)]
        record["size_centi"] = rest.size_centi[u(i)]
        record["offset"] = rest.offset[u(i)]
        record["price_bp"] = batch.price_bp[u(i)]
        record["subscription"] = code
        record["market"] = market_of[u(market)]
        record["file"] = rest.file[u(i)]
        record["kind"] = kind
        record["side"] = rest.side[u(i)]


@kernel
def sort_records(
    records: NDArray[Any], first_market: int, cursor: NDArray[np.int64], out: NDArray[Any]
) -> None:
    """Write records to the places of their markets, each market's in the order they come.

    Args:
        records: `[N]` of markets from `first_market` on.
        first_market: code of the first.
        cursor: next free record of each market; advanced.
        out: records.
    """
    for i in range(len(records)):
        market = np.int64(records[u(i)]["market"]) - first_market
        out[u(cursor[u(market)])] = records[u(i)]
        cursor[u(market)] += 1
