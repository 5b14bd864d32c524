"""hftbacktest replaying one market's book; importable only where hftbacktest is installed."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numpy.typing import NDArray

from benchmarks.timing import Contestant
from kalshi_pipeline.market.replay_tables import FrameKind, Frames

NS_PER_MS = 1_000_000
FOREVER_NS = 10**18
BOTH = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT


def contestants(frames: Frames) -> dict[str, Contestant]:
    """Both depths of hftbacktest over the frames of one market, stepped to the end in one call."""
    events = depth_events(frames)
    deltas = int((frames.kind == FrameKind.DELTA).sum())

    def run(backtest: Any) -> int:
        to_the_end(backtest)
        return deltas

    return {
        "hftbacktest, ROIVector depth": Contestant(run, lambda: _backtest(events, roi=True)),
        "hftbacktest, HashMap depth": Contestant(run, lambda: _backtest(events, roi=False)),
    }


def depth_events(frames: Frames) -> NDArray[Any]:
    """Frames of one market as hftbacktest's events: new size of a level, in the YES scale.

    A snapshot becomes an event for each level it changes.
    """
    book: dict[tuple[int, int], int] = {}
    events: list[tuple[int, int, int, int]] = []  # time, side, price_bp, size
    for f, kind in enumerate(frames.kind.tolist()):
        time_ms = int(frames.time_ms[f])
        if kind == FrameKind.DELTA:
            level = int(frames.side[f]), int(frames.price_bp[f])
            book[level] = book.get(level, 0) + int(frames.size_centi[f])
            events.append((time_ms, *level, book[level]))
        elif kind == FrameKind.SNAPSHOT:
            shown = {
                (int(frames.level_side[v]), int(frames.level_price_bp[v])): int(
                    frames.level_size_centi[v]
                )
                for v in range(frames.first_level[f], frames.first_level[f + 1])
            }
            changed = [level for level in book | shown if book.get(level) != shown.get(level)]
            events += [(time_ms, *level, shown.get(level, 0)) for level in changed]
            book = shown
    result = np.zeros(len(events), event_dtype)
    times, sides, prices, sizes = np.array(events, dtype=np.int64).T
    result["ev"] = BOTH | np.where(sides == 1, SELL_EVENT, BUY_EVENT)
    result["exch_ts"] = result["local_ts"] = np.maximum.accumulate(times) * NS_PER_MS
    result["px"] = np.where(sides == 1, 10_000 - prices, prices) / 10_000
    result["qty"] = sizes / 100
    return result


@numba.njit
def to_the_end(backtest: Any) -> float:
    """Let all events pass; the best bid keeps the work alive."""
    backtest.elapse(FOREVER_NS)
    best_bid: float = backtest.depth(0).best_bid
    return best_bid


def _backtest(events: NDArray[Any], *, roi: bool) -> Any:
    asset = (
        BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .power_prob_queue_model(2.0)
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(0.01)
        .lot_size(0.01)
        .last_trades_capacity(0)
    )
    if roi:
        return ROIVectorMarketDepthBacktest([asset.roi_lb(0.01).roi_ub(0.99)])
    return HashMapMarketDepthBacktest([asset])
