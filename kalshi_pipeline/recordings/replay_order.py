"""The message table -> what its sequence numbers say, and the order of the replay.

Order is (epoch, sid, seq), never the clock. Frames without a seq (trades, tickers) keep their place
in the order of receipt: a subscription whose frames arrived out of order is sorted within the
places its frames hold. A session without such a subscription is read as it lies, a batch at a time;
one with is put in order in memory first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.integrity import SegmentEnd
from kalshi_pipeline.market.replay_tables import FrameKind
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.order_kernel import (
    FINENESS,
    HAS_BOOK,
    KEY,
    LAST_BOOK,
    LAST_SEQ,
    MARKET_WIDTH,
    RECORDS,
    SUBSCRIPTION_WIDTH,
    Batch,
    Event,
    Rest,
    find_subscription,
    survey_batch,
)

Columns = dict[str, NDArray[Any]]
# some columns of the message table, a batch at a time, from its beginning at every call
Batches = Callable[[Sequence[str]], Iterable[pa.Table]]

MAX_REORDERED_ROWS = 20_000_000  # of a session whose frames came out of order: 2 GiB
_ABSENT = {"seq": -1, "exchange_ms": -1, "sid": -1, "side": 0, "price_bp": 0, "size_centi": 0}
_ALL_COLUMNS = (*Batch._fields, *Rest._fields)
_EVERY = -1  # in place of a subscription
_EVENTS = 1 << 12  # looked at in one go


@dataclass(frozen=True)
class Survey:
    """What one pass over a session tells.

    Args:
        batches: the message table in replay order; its `frame` is a frame's position there.
        frame_of: `[F]` position -> ordinal in the recording; None = they are the same.
        tickers: of the markets the replay concerns, sorted.
        codes: ticker -> code in the order of appearance, of every market.
        subscriptions: `[S, 2]` epoch and sid by code.
        accusations: `[A, 3]` see `AccusationColumn`.
        marks: `[K, 2]` position and `FrameKind` of frames whose number has been seen before.
        markets: `[codes, 3]` what is known of each market; columns of `order_kernel`.
        table: hash table of the subscriptions.
        known: `[S, 6]` what is known of each.
        kinds: rows by `MessageKind`.
        times: first and last receive time of each interval in which something came, ascending.
        gaps: holes in the counters of subscriptions that count only what is recorded.
        lost: sequence numbers missing in those holes.
    """

    batches: Batches
    frame_of: NDArray[np.int64] | None
    tickers: tuple[str, ...]
    codes: Mapping[str, int]
    subscriptions: NDArray[np.int32]
    accusations: NDArray[np.int64]
    marks: NDArray[np.int64]
    markets: NDArray[np.int64]
    table: NDArray[np.int64]
    known: NDArray[np.int64]
    kinds: Mapping[MessageKind, int]
    times: NDArray[np.int64]
    gaps: int
    lost: int

    @property
    def epochs(self) -> int:
        """How many connections there were."""
        return len(np.unique(self.subscriptions[:, 0]))

    def of_tickers(self, column: int) -> NDArray[np.int64]:
        """`[M]` a column of what is known of each concerned market."""
        rows = np.array([self.codes[ticker] for ticker in self.tickers], dtype=np.int64)
        values: NDArray[np.int64] = self.markets[rows, column]
        return values

    def observed_step_bp(self) -> NDArray[np.int64]:
        """`[M]` the coarsest uniform tick that holds every price a market showed."""
        return np.take(np.array([100, 10, 1]), self.of_tickers(FINENESS))


def survey(
    batches: Batches,
    rejected: pa.Table,
    info: SessionInfo,
    clock_jump_ms: int,
    *,
    continuous: bool = False,
) -> Survey:
    """Find gaps, duplicates, conflicts, losses and clock jumps, and the order of the frames.

    Args:
        batches: the message table, in order of receipt.
        rejected: what decoding put into quarantine; a line whose connection could not be read has
            no row among the messages.
        info: `sequence` decides whether a hole in a counter is a loss.
        clock_jump_ms: a receive clock that jumps further between two frames of a subscription
            cannot be trusted.
        continuous: losses are counted but held against nobody.

    Raises:
        RecordingError: frames came out of order in a session too large to be put in order.
    """
    scan = _Scan(batches, clock_jump_ms)
    unread = rejected["frame"].filter(pc.is_null(rejected["epoch"])).to_numpy()
    lost = np.concatenate([unread, scan.positions(Event.UNNUMBERED) + 1])
    frame_of = None
    if len(scan.positions(Event.BACKWARD)):
        batches, receipt, frame_of = _in_order(batches, scan, info)
        lost = np.searchsorted(receipt, lost)
        scan = _Scan(batches, clock_jump_ms)
    lost = lost[lost <= scan.last_position]
    has_book = scan.known[:, HAS_BOOK] == 1
    gaps = scan.events[(scan.events[:, 0] == Event.GAP) & has_book[scan.events[:, 2]]]
    if info.sequence != "complete":
        gaps = gaps[:0]
    # a complete counter tells whether a lost line was a book's, and polls replace what they lost
    if info.sequence != "shared":
        lost = lost[:0]
    held = slice(0, 0) if continuous else slice(None)
    accusations = _accusations(
        (SegmentEnd.GAP, np.stack([lost, np.full(len(lost), _EVERY)], axis=1)[held]),
        (SegmentEnd.GAP, gaps[held, 1:3]),
        (SegmentEnd.CLOCK_JUMP, scan.of(Event.JUMP)[:, 1:3]),
        (SegmentEnd.REJECTED_ROW, scan.of(Event.REJECTED)[:, 1:3]),
    )
    repeats = scan.of(Event.REPEAT)
    tickers = [name for name, code in scan.codes.items() if scan.markets[code, RECORDS]]
    return Survey(
        batches=batches,
        frame_of=frame_of,
        tickers=tuple(sorted(tickers)),
        codes=scan.codes,
        subscriptions=scan.subscriptions(),
        accusations=accusations,
        marks=_marks(repeats[has_book[repeats[:, 2]]], batches, scan.codes),
        markets=scan.markets,
        table=scan.table,
        known=scan.known,
        kinds={kind: int(scan.kinds[kind]) for kind in MessageKind},
        times=scan.times(),
        gaps=len(gaps),
        lost=int(gaps[:, 3].sum()),
    )


class MarketCodes:
    """Codes of markets in the order in which they appear.

    Args:
        codes: those known already; grows.
    """

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes = codes
        self._dictionary: pa.Array | None = None
        self._table = np.zeros(0, np.int32)

    def of(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """The code of each row; -1 = none."""
        parts = [self._of(chunk) for chunk in column.chunks]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int32), *parts])

    def _of(self, chunk: pa.DictionaryArray) -> NDArray[np.int32]:
        # batch after batch comes with the same dictionary
        if self._dictionary is None or not chunk.dictionary.equals(self._dictionary):
            names = chunk.dictionary.to_pylist()
            known = self.codes
            codes = [-1 if name is None else known.setdefault(name, len(known)) for name in names]
            self._dictionary, self._table = chunk.dictionary, np.array([*codes, -1], np.int32)
        indices = chunk.indices
        if indices.null_count:
            indices = indices.fill_null(len(self._table) - 1)
        codes_of_rows: NDArray[np.int32] = np.take(self._table, indices.to_numpy())
        return codes_of_rows


def batch_columns(table: pa.Table, names: Sequence[str], markets: MarketCodes) -> Columns:
    """Columns of a batch as plain arrays; markets get codes as they appear."""
    columns: Columns = {}
    for name in names:
        values = table[name]
        if name == "market":
            columns[name] = markets.of(values)
            continue
        if values.null_count:
            values = values.fill_null(_ABSENT[name])
        columns[name] = values.to_numpy()
    return columns


@dataclass
class _Scan:
    # one pass in order of receipt
    batches: Batches
    clock_jump_ms: int
    codes: dict[str, int] = field(default_factory=dict)
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(8, np.int64))

    def __post_init__(self) -> None:
        self.known = np.zeros((0, SUBSCRIPTION_WIDTH), np.int64)
        self.markets = np.zeros((0, MARKET_WIDTH), np.int64)
        self._spans: dict[int, tuple[int, int]] = {}
        self._counts = np.array([0, 0, 0, -1], dtype=np.int64)
        self._grow()
        found = [np.zeros((0, 4), np.int64)]
        events, times = np.zeros((_EVENTS, 4), np.int64), np.zeros((_EVENTS, 3), np.int64)
        markets = MarketCodes(self.codes)
        for table in ahead(self.batches(Batch._fields)):
            rows = Batch(**batch_columns(table, Batch._fields, markets))
            new = np.zeros((len(self.codes) - len(self.markets), MARKET_WIDTH), np.int64)
            new[:, LAST_BOOK] = -1
            self.markets = np.concatenate([self.markets, new])
            row = 0
            while row < len(rows.kind):
                self._counts[1:3] = 0
                row = survey_batch(
                    rows, row, self.clock_jump_ms, self.table, self.known, self.markets,
                    self.kinds, events, times, self._counts,
                )  # fmt: skip
                found.append(events[: self._counts[1]].copy())
                self._remember(times[: self._counts[2]])
                if self._counts[0] == len(self.known):
                    self._grow()
        self.last_position = int(self._counts[3])
        self.known = self.known[: self._counts[0]]
        self.events = np.concatenate(found)

    def of(self, event: Event) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self.events[self.events[:, 0] == event]
        return rows

    def positions(self, event: Event) -> NDArray[np.int64]:
        return self.of(event)[:, 1]

    def subscriptions(self) -> NDArray[np.int32]:
        key = self.known[:, KEY]
        both: NDArray[np.int64] = np.stack([key >> 32, key & 0xFFFFFFFF], axis=1)
        codes: NDArray[np.int32] = both.astype(np.uint32).view(np.int32)
        return codes

    def times(self) -> NDArray[np.int64]:
        spans = [self._spans[bucket] for bucket in sorted(self._spans)]
        return np.array(spans, dtype=np.int64).reshape(-1, 2)

    def _grow(self) -> None:
        # room for as many subscriptions again, and a hash table at most half full
        count = len(self.known)
        more = np.zeros((max(count, 64), SUBSCRIPTION_WIDTH), np.int64)
        more[:, LAST_SEQ] = -1
        self.known = np.concatenate([self.known, more])
        self.table = np.full(1 << (2 * len(self.known)).bit_length(), -1, np.int64)
        for code in range(count):
            slot = find_subscription(int(self.known[code, KEY]), self.table, self.known)
            self.table[slot] = code

    def _remember(self, times: NDArray[np.int64]) -> None:
        for bucket, first, last in times.tolist():
            known = self._spans.get(bucket)
            self._spans[bucket] = (
                (first, last) if known is None else (min(first, known[0]), max(last, known[1]))
            )


def _accusations(*found: tuple[SegmentEnd, NDArray[np.int64]]) -> NDArray[np.int64]:
    # by position; at one position in the order given
    parts = [
        np.column_stack([rows, np.full(len(rows), why, dtype=np.int64)]) for why, rows in found
    ]
    together = np.concatenate(parts).astype(np.int64)
    order = np.argsort(together[:, 0], kind="stable")
    ordered: NDArray[np.int64] = np.ascontiguousarray(together[order])
    return ordered


def _in_order(
    batches: Batches, scan: _Scan, info: SessionInfo
) -> tuple[Batches, NDArray[np.int64], NDArray[np.int64]]:
    # the table in replay order, positions in place of ordinals; ordinals as received and replayed
    rows = int(scan.kinds.sum())
    if rows > MAX_REORDERED_ROWS:
        raise RecordingError(
            f"frames came out of order in a session of {rows:,} rows; up to {MAX_REORDERED_ROWS:,} "
            "can be put in order",
            session=info.session,
            rule="replay_order",
            value=rows,
        )
    table = pa.concat_tables([*batches(_ALL_COLUMNS)]).unify_dictionaries().combine_chunks()
    column = batch_columns(table, ("kind", "frame", "epoch", "sid", "seq"), MarketCodes({}))
    heads = np.flatnonzero(column["kind"] != MessageKind.LEVEL)
    epoch, sid, seq, frame = (column[name][heads] for name in ("epoch", "sid", "seq", "frame"))
    key = epoch.astype(np.int64) << 32 | (sid.astype(np.int64) & 0xFFFFFFFF)
    order = _replay_order(np.unique(key, return_inverse=True)[1], seq)
    lengths = np.diff(np.append(heads, len(column["kind"])))
    ordered = table.take(pa.array(_ranges(heads[order], lengths[order])))
    places = pa.array(np.repeat(np.arange(len(order)), lengths[order]))
    ordered = ordered.set_column(ordered.schema.get_field_index("frame"), "frame", places)
    return in_memory(ordered), frame, frame[order]


def ahead(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same batches, the next one being decoded while one is looked at."""
    waiting = iter(batches)
    with ThreadPoolExecutor(1, "batches") as beside:
        coming = beside.submit(next, waiting, None)
        while (batch := coming.result()) is not None:
            coming = beside.submit(next, waiting, None)
            yield batch


def in_memory(table: pa.Table, batch_rows: int = 1 << 18) -> Batches:
    """The batches of a message table that lies in memory."""

    def batches(columns: Sequence[str]) -> Iterator[pa.Table]:
        chosen = table.select(list(columns))
        for start in range(0, chosen.num_rows, batch_rows):
            yield chosen.slice(start, batch_rows)

    return batches


def _replay_order(subscription: NDArray[np.int64], seq: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.arange(len(seq))
    counted = np.flatnonzero(seq >= 0)
    by_subscription = counted[np.argsort(subscription[counted], kind="stable")]
    same = np.diff(subscription[by_subscription]) == 0
    backward = same & (np.diff(seq[by_subscription]) < 0)
    for code in np.unique(subscription[by_subscription[1:][backward]]):
        places = counted[subscription[counted] == code]
        order[places] = places[np.argsort(seq[places], kind="stable")]
    return order


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    # start_0, start_0 + 1, ... for each run
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    positions: NDArray[np.int64] = np.arange(total) + np.repeat(starts - (ends - counts), counts)
    return positions


def _marks(
    repeats: NDArray[np.int64], batches: Batches, codes: Mapping[str, int]
) -> NDArray[np.int64]:
    # a number with one content marks all but its first frame, one with several all of them
    if not len(repeats):
        return np.zeros((0, 2), np.int64)
    wanted = np.unique(repeats[:, [1, 3]])
    contents = _contents(wanted, batches, dict(codes))
    differs = {
        first for _, place, _, first in repeats.tolist() if contents[place] != contents[first]
    }
    marks = dict.fromkeys(differs, FrameKind.CONFLICT)
    for _, place, _, first in repeats.tolist():
        marks[place] = FrameKind.CONFLICT if first in differs else FrameKind.DUPLICATE
    return np.array(sorted(marks.items()), dtype=np.int64)


def _contents(
    wanted: NDArray[np.int64], batches: Batches, codes: dict[str, int]
) -> dict[int, tuple[tuple[int, ...], ...]]:
    # what frames say, level by level
    names = ("frame", "market", "kind", "side", "price_bp", "size_centi")
    contents: dict[int, tuple[tuple[int, ...], ...]] = dict.fromkeys(wanted.tolist(), ())
    markets = MarketCodes(codes)
    for table in batches(names):
        columns = batch_columns(table, names, markets)
        place = np.searchsorted(wanted, columns["frame"])
        place[place == len(wanted)] = 0
        rows = np.flatnonzero(wanted[place] == columns["frame"])
        parts = (columns[name][rows].tolist() for name in names)
        for frame, *content in zip(*parts, strict=True):
            contents[frame] += (tuple(content),)
    return contents
