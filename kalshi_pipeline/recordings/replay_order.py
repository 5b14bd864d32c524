"""The message table -> frames in replay order, with what their sequence numbers say.

Order is (epoch, sid, seq), never the clock. Frames without a seq (trades, tickers) keep their place
in the order of receipt: a subscription whose frames arrived out of order is sorted within the
places its frames hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.market.replay_tables import FrameFlag, FrameKind, Frames
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.messages import MessageKind

Columns = dict[str, NDArray[Any]]

_KINDS = {
    MessageKind.SNAPSHOT: FrameKind.SNAPSHOT,
    MessageKind.DELTA: FrameKind.DELTA,
    MessageKind.TRADE: FrameKind.TRADE,
    MessageKind.REJECTED: FrameKind.REJECTED,
}


@dataclass(frozen=True)
class SessionFrames:
    """Frames for the kernel, and where each came from (`[F]`, replay order).

    Args:
        gaps: holes in the counters of subscriptions that count only what is recorded.
        lost: sequence numbers missing in those holes.
    """

    frames: Frames
    tickers: tuple[str, ...]  # market code -> ticker, sorted
    frame: NDArray[np.int64]
    epoch: NDArray[np.int32]
    sid: NDArray[np.int32]
    seq: NDArray[np.int64]  # -1 = none
    file: NDArray[np.int16]
    offset: NDArray[np.int64]
    epochs: int
    gaps: int
    lost: int

    def observed_step_bp(self) -> NDArray[np.int64]:
        """`[M]` the coarsest uniform tick that holds every price a market showed.

        For markets whose metadata are missing: whole cents, tenths, hundredths of a cent.
        """
        frames = self.frames
        owner = np.repeat(frames.market, np.diff(frames.first_level))
        owner = np.concatenate([owner, frames.market])
        price = np.concatenate([frames.level_price_bp, frames.price_bp])
        fineness = (price % 100 != 0).astype(np.int64) + (price % 10 != 0)
        finest = np.zeros(len(self.tickers), dtype=np.int64)
        known = owner >= 0
        np.maximum.at(finest, owner[known], fineness[known])
        return np.take(np.array([100, 10, 1]), finest)


def frames_of(
    messages: pa.Table, rejected: pa.Table, info: SessionInfo, clock_jump_ms: int
) -> SessionFrames:
    """Order the frames of a session and flag gaps, duplicates, conflicts, losses and clock jumps.

    Args:
        messages: message table, in order of receipt.
        rejected: what decoding put into quarantine; a line whose connection could not be read has
            no row among the messages.
        info: `sequence` decides whether a hole in a counter is a loss.
        clock_jump_ms: a receive clock that jumps further between two frames of a subscription
            cannot be trusted.
    """
    column = _columns(messages)
    heads = np.flatnonzero(column["kind"] != MessageKind.LEVEL)
    first_row = np.append(heads, len(column["kind"]))
    head = {name: values[heads] for name, values in column.items()}
    subscription = _subscriptions(head["epoch"], head["sid"])
    lost_before = _lost_before(head, rejected, info)
    order = _replay_order(subscription, head["seq"])
    head = {name: values[order] for name, values in head.items()}
    subscription = subscription[order]
    levels = first_row[1:][order] - first_row[:-1][order] - 1
    first_level = np.concatenate([[0], np.cumsum(levels)]).astype(np.int64)
    level_rows = _ranges(first_row[:-1][order] + 1, levels)
    level = {name: column[name][level_rows] for name in ("side", "price_bp", "size_centi")}
    flag, gaps, lost = _sequence_flags(subscription, head, first_level, level, info)
    flag[lost_before] |= np.uint8(FrameFlag.LINE_LOST)
    flag[_clock_jumps(subscription, head["recv_ms"], clock_jump_ms)] |= np.uint8(
        FrameFlag.CLOCK_JUMP
    )
    kind = np.full(len(order), FrameKind.OTHER, dtype=np.uint8)
    for message_kind, frame_kind in _KINDS.items():
        kind[head["kind"] == message_kind] = frame_kind
    tickers, market = _market_codes(messages, head["market"], kind != FrameKind.OTHER)
    frames = Frames(
        kind, flag, market, subscription, head["recv_ms"], head["exchange_ms"],
        head["side"], head["price_bp"], head["size_centi"],
        first_level, level["side"], level["price_bp"], level["size_centi"],
    )  # fmt: skip
    return SessionFrames(
        frames=frames,
        tickers=tickers,
        frame=head["frame"],
        epoch=head["epoch"],
        sid=head["sid"],
        seq=head["seq"],
        file=head["file"],
        offset=head["offset"],
        epochs=len(np.unique(head["epoch"])),
        gaps=gaps,
        lost=lost,
    )


def _columns(messages: pa.Table) -> Columns:
    absent = {"seq": -1, "exchange_ms": -1, "sid": -1, "side": 0, "price_bp": 0, "size_centi": 0}
    columns = {}
    for name in ("frame", "epoch", "recv_ms", "kind", "file", "offset", *absent):
        values = messages[name]
        if name in absent and values.null_count:
            values = values.fill_null(absent[name])
        columns[name] = values.to_numpy()
    unified = messages["market"].unify_dictionaries().combine_chunks()
    codes = unified.indices if isinstance(unified, pa.DictionaryArray) else unified
    columns["market"] = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return columns


def _market_codes(
    messages: pa.Table,
    codes: NDArray[np.int32],
    concerned: NDArray[np.bool_],
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    # codes in the order of the tickers, so that equal sessions give equal tables
    names = messages["market"].unify_dictionaries().combine_chunks().dictionary.to_pylist()
    used = np.unique(codes[concerned & (codes >= 0)])
    tickers = sorted(names[code] for code in used)
    rank = {ticker: place for place, ticker in enumerate(tickers)}
    table = np.full(len(names) + 1, -1, dtype=np.int32)
    for code in used:
        table[code] = rank[names[code]]
    return tuple(tickers), np.where(concerned, table[codes], -1).astype(np.int32)


def _subscriptions(epoch: NDArray[np.int32], sid: NDArray[np.int32]) -> NDArray[np.int32]:
    key = epoch.astype(np.int64) << 32 | (sid.astype(np.int64) & 0xFFFFFFFF)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))
    codes: NDArray[np.int32] = appearance[inverse].astype(np.int32)
    return codes


def _replay_order(subscription: NDArray[np.int32], seq: NDArray[np.int64]) -> NDArray[np.int64]:
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


def _lost_before(head: Columns, rejected: pa.Table, info: SessionInfo) -> NDArray[np.int64]:
    # places of the frames (in order of receipt) before which a line was lost that no counter
    # misses: a complete counter tells whether it was a book's, and polls replace what they lost
    if info.sequence != "shared":
        return np.zeros(0, dtype=np.int64)
    unread = rejected["frame"].filter(pc.is_null(rejected["epoch"])).to_numpy()
    without_sid = head["frame"][(head["kind"] == MessageKind.REJECTED) & (head["sid"] < 0)]
    lost = np.concatenate([unread, without_sid + 1])
    places: NDArray[np.int64] = np.searchsorted(head["frame"], lost)
    return places[places < len(head["frame"])]


def _clock_jumps(
    subscription: NDArray[np.int32], recv_ms: NDArray[np.int64], furthest_ms: int
) -> NDArray[np.int64]:
    grouped = np.argsort(subscription, kind="stable")
    far = np.abs(np.diff(recv_ms[grouped])) > furthest_ms
    jumps: NDArray[np.int64] = grouped[1:][far & (np.diff(subscription[grouped]) == 0)]
    return jumps


def _sequence_flags(
    subscription: NDArray[np.int32],
    head: Columns,
    first_level: NDArray[np.int64],
    level: Columns,
    info: SessionInfo,
) -> tuple[NDArray[np.uint8], int, int]:
    flag = np.zeros(len(subscription), dtype=np.uint8)
    book_kinds = (MessageKind.SNAPSHOT, MessageKind.DELTA, MessageKind.REJECTED)
    book_streams = np.unique(subscription[np.isin(head["kind"], book_kinds)])
    counted = np.flatnonzero((head["seq"] >= 0) & np.isin(subscription, book_streams))
    grouped = counted[np.argsort(subscription[counted], kind="stable")]
    step = np.diff(head["seq"][grouped])
    same = np.diff(subscription[grouped]) == 0
    gaps = np.flatnonzero(same & (step > 1)) if info.sequence == "complete" else np.zeros(0, int)
    flag[grouped[gaps + 1]] |= np.uint8(FrameFlag.GAP_BEFORE)
    lost = int((step[gaps] - 1).sum())
    repeats = np.flatnonzero(same & (step == 0))
    for run in np.split(repeats, np.flatnonzero(np.diff(repeats) > 1) + 1) if len(repeats) else ():
        first, *others = (int(f) for f in grouped[run[0] : run[-1] + 2])
        if all(_equal_content(first, other, head, first_level, level) for other in others):
            flag[others] |= np.uint8(FrameFlag.DUPLICATE)
        else:
            flag[[first, *others]] |= np.uint8(FrameFlag.CONFLICT)
    return flag, len(gaps), lost


def _equal_content(
    one: int,
    other: int,
    head: Columns,
    first_level: NDArray[np.int64],
    level: Columns,
) -> bool:
    names = ("market", "kind", "side", "price_bp", "size_centi")
    if any(head[name][one] != head[name][other] for name in names):
        return False
    ranges = [slice(first_level[f], first_level[f + 1]) for f in (one, other)]
    return all(np.array_equal(values[ranges[0]], values[ranges[1]]) for values in level.values())
