"""What made the touch thinner: trades or cancels, decrease by decrease, and how sure that is.

A delta says that a level lost size, not why. A *decrease* here is a delta that takes size from the
best level of its ladder, as it stood before. It is split into a traded part and a cancelled rest:

* With trade frames. A taker buying YES at p consumes the NO ladder at 1 - p, a taker buying NO at
  YES price p the YES ladder at p. Trades take decreases of the same level and segment in four
  passes, each over all trades in order, the nearest in time first: same exchange time and size;
  same exchange time; within the window and the same size; within the window. A trade may take
  several decreases and the reverse. The window is on exchange time where both say it, otherwise on
  receive time.
* Without, where tickers come. The volume between two tickers is shared among the decreases between
  them: to the only one that has exactly this size, otherwise in proportion to their sizes.
* Otherwise nothing is known, and confidence is 0.

Confidence, 0 to 100, is that of the split; where several trades share a decrease, the lowest
counts. Source: `domain.md` section 10; in the recordings of August 2026 every trade has a decrease
of its level with the same exchange millisecond.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import allocating_kernel, kernel
from kalshi_pipeline.market.replay_tables import RowKind


class Confidence(IntEnum):
    """How sure a split is, by what it rests on."""

    UNKNOWN = 0
    TICKER_SHARE = 90  # times (1 - 2 s)^2, s the share of the decreases that was traded
    WINDOW = 60  # a trade within the window, of another size
    TICKER_SIZE = 90  # the only decrease as large as the volume between two tickers
    TICKER_QUIET = 90  # nothing was traded between two tickers
    WINDOW_AND_SIZE = 85
    NO_TRADE = 95  # trades are recorded, and none takes it
    TIME = 95  # a trade in the same exchange millisecond, of another size
    TIME_AND_SIZE = 100


class Candidates(NamedTuple):
    """Decreases of the touch and trades, in the order of the book table, whole markets."""

    row: NDArray[np.int64]  # [N] of the book table
    market: NDArray[np.int32]  # [N] market code
    segment: NDArray[np.int32]  # [N]
    recv_ms: NDArray[np.int64]  # [N]
    exchange_ms: NDArray[np.int64]  # [N] -1 = not said
    is_trade: NDArray[np.bool_]  # [N] otherwise a decrease
    side: NDArray[np.uint8]  # [N] ladder that lost size
    price_bp: NDArray[np.int32]  # [N] in the scale of that ladder
    size_centi: NDArray[np.int64]  # [N] traded, or lost; positive


class BookBatch(NamedTuple):
    """Consecutive rows of the book table."""

    market: NDArray[np.int32]
    segment: NDArray[np.int32]
    frame: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    side: NDArray[np.uint8]
    price_bp: NDArray[np.int32]
    size_centi: NDArray[np.int64]
    bid_bp: NDArray[np.int32]
    ask_bp: NDArray[np.int32]


class Evidence(NamedTuple):
    """What is known of the traded size of M markets.

    The tickers of market m are the entries `first_ticker[m]` to `first_ticker[m + 1]`, ascending
    in time; `volume_centi` is what was traded since the one before (of the first: 0).
    """

    has_trades: NDArray[np.bool_]  # [M] trade frames of it are, or would be, recorded
    first_ticker: NDArray[np.int64]  # [M + 1]
    by_exchange: NDArray[np.bool_]  # [M] whether its tickers are timed by the exchange
    ticker_ms: NDArray[np.int64]  # [K]
    volume_centi: NDArray[np.int64]  # [K]


class Window(NamedTuple):
    """How far a trade may lie from the decrease it made; see `config.DepletionConfig`."""

    recv_ms: int
    exchange_ms: int
    candidates: int


_DELTA, _TRADE = int(RowKind.DELTA), int(RowKind.TRADE)
_NONE = -1
_LOST, _EQUAL, _SEEN, _GIVEN = range(4)  # of the decreases between two tickers
_UNSET = 101
_PASSES = 4
_PASS_CONFIDENCE = np.array(
    [
        Confidence.TIME_AND_SIZE, Confidence.TIME,
        Confidence.WINDOW_AND_SIZE, Confidence.WINDOW,
    ],
    dtype=np.uint8,
)  # fmt: skip
_UNKNOWN, _NO_TRADE = int(Confidence.UNKNOWN), int(Confidence.NO_TRADE)
_QUIET, _SIZE = int(Confidence.TICKER_QUIET), int(Confidence.TICKER_SIZE)
_SHARE = int(Confidence.TICKER_SHARE)


@kernel
def collect(
    batch: BookBatch,
    first_row: int,
    delay_ms: NDArray[np.int32],
    before: NDArray[np.int64],
    out: Candidates,
) -> int:
    """Decreases of the touch and trades among some rows.

    Args:
        batch: rows of the book table.
        first_row: place of the batch's first row in it.
        delay_ms: `[frames]` exchange time less receive time of each frame; the smallest int32
            where the exchange did not say its time.
        before: `[3]` segment, best bid and best ask of the row before; left as those of the last.
        out: room for one candidate more than there are rows.

    Returns:
        How many were found.
    """
    found = 0
    segment, bid, ask = before[0], before[1], before[2]
    for i in range(len(batch.kind)):
        kind, price = batch.kind[i], batch.price_bp[i]
        touch = bid if batch.side[i] == 0 else 10_000 - ask
        # no branches: half of all deltas are decreases, in no order a processor could guess
        lost = (kind == _DELTA) & (batch.size_centi[i] < 0) & (price == touch)
        taken = (kind == _TRADE) | (lost & (batch.segment[i] == segment))
        out.row[found] = i
        found += taken & (batch.segment[i] >= 0)
        segment, bid, ask = batch.segment[i], batch.bid_bp[i], batch.ask_bp[i]
    before[0], before[1], before[2] = segment, bid, ask
    for n in range(found):
        _copy(batch, out.row[n], first_row, delay_ms, out, n)
    return found


@kernel
def _copy(batch, i, first_row, delay_ms, out, n):  # type: ignore[no-untyped-def]
    unsaid = np.iinfo(np.int32).min
    frame = batch.frame[i]
    delay = delay_ms[frame] if frame < len(delay_ms) else unsaid
    is_trade = batch.kind[i] == _TRADE
    out.row[n] = first_row + i
    out.market[n] = batch.market[i]
    out.segment[n] = batch.segment[i]
    out.recv_ms[n] = batch.recv_ms[i]
    out.exchange_ms[n] = _NONE if delay == unsaid else batch.recv_ms[i] + delay
    out.is_trade[n] = is_trade
    # the taker's outcome is bought from the ladder of the other outcome
    side = 1 - batch.side[i] if is_trade else batch.side[i]
    mirrored = is_trade and side == 1
    out.side[n] = side
    out.price_bp[n] = 10_000 - batch.price_bp[i] if mirrored else batch.price_bp[i]
    out.size_centi[n] = abs(batch.size_centi[i])


@allocating_kernel
def attribute(
    candidates: Candidates,
    evidence: Evidence,
    window: Window,
    traded_centi: NDArray[np.int64],
    confidence: NDArray[np.uint8],
) -> None:
    """Split every decrease of some whole markets.

    Args:
        candidates: of those markets.
        evidence: of every market of the session.
        window: tolerances.
        traded_centi: `[N]` zeros; becomes the traded part of a decrease, and of a trade the part
            that decreases explain.
        confidence: `[N]` output.
    """
    first = 0
    while first < len(candidates.row):
        market = candidates.market[first]
        end = first
        while end < len(candidates.row) and candidates.market[end] == market:
            end += 1
        if evidence.has_trades[market]:
            _match_trades(candidates, first, end, window, traded_centi, confidence)
        else:
            tickers = evidence.first_ticker[market + 1] - evidence.first_ticker[market]
            held = np.zeros((tickers + 1, 4), dtype=np.int64)
            _share_volume(candidates, first, end, evidence, held, traded_centi, confidence)
        first = end


@kernel
def _match_trades(candidates, first, end, window, traded, confidence):  # type: ignore[no-untyped-def]
    for i in range(first, end):
        confidence[i] = _UNSET
    for stage in range(_PASSES):
        for i in range(first, end):
            if not candidates.is_trade[i]:
                continue
            if stage < 2 and candidates.exchange_ms[i] == _NONE:
                continue
            while traded[i] < candidates.size_centi[i]:
                j = _decrease_for(candidates, first, end, i, stage, window, traded)
                if j == _NONE:
                    break
                part = min(
                    candidates.size_centi[i] - traded[i], candidates.size_centi[j] - traded[j]
                )
                traded[i] += part
                traded[j] += part
                confidence[i] = min(confidence[i], _PASS_CONFIDENCE[stage])
                confidence[j] = min(confidence[j], _PASS_CONFIDENCE[stage])
    for i in range(first, end):
        if confidence[i] == _UNSET:
            # a trade that nothing explains is no split at all
            confidence[i] = _UNKNOWN if candidates.is_trade[i] else _NO_TRADE


@kernel
def _decrease_for(candidates, first, end, trade, stage, window, traded):  # type: ignore[no-untyped-def]
    # the decrease nearest in time that this pass gives to a trade; of those as near, one before it
    # in the table rather than after, and the one fewest rows away
    missing = candidates.size_centi[trade] - traded[trade]
    best, best_ms = _NONE, np.int64(1) << 62
    for step in (-1, 1):
        j, seen = trade + step, 0
        while best_ms > 0 and first <= j < end and seen < window.candidates:
            apart_ms = abs(candidates.recv_ms[j] - candidates.recv_ms[trade])
            if candidates.segment[j] != candidates.segment[trade] or apart_ms > window.recv_ms:
                break
            left = candidates.size_centi[j] - traded[j]
            if (
                not candidates.is_trade[j]
                and left > 0
                and candidates.price_bp[j] == candidates.price_bp[trade]
                and candidates.side[j] == candidates.side[trade]
                and (stage % 2 == 1 or left == missing)
            ):
                limit_ms = window.recv_ms
                timed = candidates.exchange_ms[j] != _NONE
                if timed and candidates.exchange_ms[trade] != _NONE:
                    apart_ms = abs(candidates.exchange_ms[j] - candidates.exchange_ms[trade])
                    limit_ms = window.exchange_ms
                if stage < 2:
                    limit_ms = 0 if timed else _NONE
                if apart_ms <= limit_ms and apart_ms < best_ms:
                    best, best_ms = j, apart_ms
            seen += 1
            j += step
    return best


@kernel
def _share_volume(candidates, first, end, evidence, held, traded, confidence):  # type: ignore[no-untyped-def]
    market = candidates.market[first]
    start = evidence.first_ticker[market]
    k = 0
    for i in range(first, end):
        if not candidates.is_trade[i]:
            k = _interval(candidates, i, evidence, k)
            size = candidates.size_centi[i]
            held[k, _LOST] += size
            if k < len(held) - 1 and size == evidence.volume_centi[start + k]:
                held[k, _EQUAL] += 1
    for i in range(first, end):
        confidence[i] = _UNKNOWN
        k = _interval(candidates, i, evidence, k)
        if candidates.is_trade[i] or k == 0 or k == len(held) - 1:
            continue
        volume, size = evidence.volume_centi[start + k], candidates.size_centi[i]
        if volume == 0:
            confidence[i] = _QUIET
        elif held[k, _EQUAL] == 1:
            traded[i] = size if size == volume else 0
            confidence[i] = _SIZE
        else:
            # so much of the volume is due up to here, in proportion to what the touch has lost
            share = min(1.0, volume / held[k, _LOST])
            held[k, _SEEN] += size
            due = min(int(share * held[k, _SEEN]), volume)
            if held[k, _SEEN] == held[k, _LOST]:
                due = min(volume, held[k, _LOST])
            traded[i] = max(0, min(size, due - held[k, _GIVEN]))
            held[k, _GIVEN] += traded[i]
            confidence[i] = np.uint8(_SHARE * (1.0 - 2.0 * share) ** 2)


@kernel
def _interval(candidates, i, evidence, k):  # type: ignore[no-untyped-def]
    # place of the first ticker at or after a decrease, from a guess; 0 = before the first ticker,
    # their number = after the last, or at an unknown time
    market = candidates.market[i]
    start, end = evidence.first_ticker[market], evidence.first_ticker[market + 1]
    time_ms = candidates.exchange_ms[i] if evidence.by_exchange[market] else candidates.recv_ms[i]
    if time_ms == _NONE:
        return end - start
    while start + k < end and evidence.ticker_ms[start + k] < time_ms:
        k += 1
    while k > 0 and evidence.ticker_ms[start + k - 1] >= time_ms:
        k -= 1
    return k
