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

from benchmarks.flow import Flow
from benchmarks.timing import Contestant

NS_PER_MS = 1_000_000
FOREVER_NS = 10**18
BOTH = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT


def contestants(flow: Flow) -> dict[str, Contestant]:
    """Both depths of hftbacktest over the flow of one market, stepped to the end in one call."""
    events, deltas = depth_events(flow), len(flow.market)

    def run(backtest: Any) -> int:
        to_the_end(backtest)
        return deltas

    return {
        "hftbacktest_roivector": Contestant(run, lambda: _backtest(events, roi=True)),
        "hftbacktest_hashmap": Contestant(run, lambda: _backtest(events, roi=False)),
    }


def depth_events(flow: Flow) -> NDArray[Any]:
    """The flow of one market as hftbacktest's events: new size of a level, in the YES scale."""
    book, sizes = flow.books[0].copy(), np.empty(len(flow.market), np.int64)
    sides, places = np.nonzero(book)
    columns = zip(flow.side, flow.price_bp // 100, flow.size_centi, strict=True)
    for i, (side, place, change) in enumerate(columns):
        book[side, place] += change
        sizes[i] = book[side, place]
    result = np.zeros(len(sides) + len(sizes), event_dtype)
    time_ms = np.concatenate([np.full(len(sides), flow.time_ms[0]), flow.time_ms])
    side = np.concatenate([sides, flow.side])
    price_bp = np.concatenate([places * 100, flow.price_bp])
    result["ev"] = BOTH | np.where(side == 1, SELL_EVENT, BUY_EVENT)
    result["exch_ts"] = result["local_ts"] = time_ms * NS_PER_MS
    result["px"] = np.where(side == 1, 10_000 - price_bp, price_bp) / 10_000
    result["qty"] = np.concatenate([flow.books[0][sides, places], sizes]) / 100
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
