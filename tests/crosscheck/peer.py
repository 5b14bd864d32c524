"""A scripted strategy in hftbacktest: run by the interpreter of `.venv-peers`, as a process.

    .venv-peers/bin/python tests/crosscheck/peer.py QUESTION.npz ANSWER.npz [QUESTION.npz ...]

Prices are ticks and sizes hundredths of a contract, tick and lot are 1: every number is a whole one
and the binary floating point of hftbacktest exact. Nothing of the project is imported.
"""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    NEW,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.order import IOC
from hftbacktest.types import event_dtype

BOTH = EXCH_EVENT | LOCAL_EVENT
LOOK, SUBMIT, ARRIVED, FED = range(4)
HOLD, BUY_BEST, BUY_IMPROVE, BUY_PASSIVE, SELL_BEST, SELL_IMPROVE, SELL_PASSIVE = range(7)


def main(question: str, answer: str) -> None:
    """Read the events and the script, play, write what happened."""
    asked = np.load(question, allow_pickle=False)
    events = _events(asked)
    latency_ns = int(asked["latency_ns"])
    backtest = HashMapMarketDepthBacktest([_asset(events, latency_ns)])
    moments, what, which = _timeline(asked, latency_ns)
    orders, fills = play(
        backtest, moments, what, which,
        asked["action"], int(asked["size_centi"]), int(asked["top_tick"]),
    )  # fmt: skip
    backtest.close()
    np.savez(answer, orders=orders, fills=fills)


def _events(asked: Any) -> Any:
    """hftbacktest's event array, closed by one event that changes nothing."""
    count = len(asked["time_ns"])
    events = np.zeros(count + 1, event_dtype)
    kind = np.where(asked["is_trade"], TRADE_EVENT, DEPTH_EVENT)
    side = np.where(asked["is_sell"], SELL_EVENT, BUY_EVENT)
    events["ev"][:count] = BOTH | kind | side
    events["ev"][count] = BOTH | DEPTH_EVENT | BUY_EVENT
    times = np.append(asked["time_ns"], asked["time_ns"][-1] + 10**10)
    events["exch_ts"] = events["local_ts"] = times
    events["px"][:count] = asked["price_tick"]
    events["qty"][:count] = asked["size_centi_shown"]
    events["px"][count] = 1.0
    # the level of the closing event keeps the size it has
    last = np.flatnonzero(~asked["is_trade"] & ~asked["is_sell"] & (asked["price_tick"] == 1))
    events["qty"][count] = asked["size_centi_shown"][last[-1]] if len(last) else 0.0
    return events


def _asset(events: Any, latency_ns: int) -> Any:
    return (
        BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(latency_ns, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()  # the other one credits no partial fill: its issue 316
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(1.0)
        .lot_size(1.0)
        .last_trades_capacity(0)
    )


def _timeline(asked: Any, latency_ns: int) -> tuple[Any, Any, Any]:
    """When the strategy looks, submits, and looks what has filled; in time order."""
    fed = np.unique(asked["time_ns"])
    count = len(asked["action"])
    moments = np.concatenate(
        [asked["look_ns"], asked["submit_ns"], asked["submit_ns"] + latency_ns + 1, fed + 1]
    )
    what = np.repeat([LOOK, SUBMIT, ARRIVED, FED], [count, count, count, len(fed)])
    which = np.concatenate([np.arange(count)] * 3 + [np.arange(len(fed))])
    order = np.lexsort((what, moments))
    return moments[order], what[order], which[order]


@numba.njit
def play(
    backtest: Any,
    moments: Any,
    what: Any,
    which: Any,
    action: Any,
    size_centi: int,
    top_tick: int,
) -> tuple[Any, Any]:
    """Play the script.

    Args:
        backtest: of hftbacktest, one asset.
        moments: `[M]` ns, in order.
        what: `[M]` LOOK, SUBMIT, ARRIVED or FED.
        which: `[M]` the order a moment belongs to.
        action: `[K]`, as the project numbers them.
        size_centi: of every order.
        top_tick: the tick of one dollar.

    Returns:
        `[K, 4]` best bid and ask seen, limit, status; all in ticks, 0 = none; and `[F, 4]` fills:
        ns, order, signed size, change of cash in ticks times size.
    """
    orders = np.zeros((len(action), 4), np.int64)
    fills = np.zeros((4 * len(action) + 16, 4), np.int64)
    filled = 0
    resting = np.full(2, -1)
    position, cash = 0, 0
    backtest.elapse(0)  # only now it has a time
    for index in range(len(moments)):
        wait = moments[index] - backtest.current_timestamp
        if wait > 0:
            failed = backtest.elapse(wait)
            if failed != 0:
                raise RuntimeError("hftbacktest stopped")
        k = which[index]
        if what[index] == LOOK:
            depth = backtest.depth(0)
            orders[k, 0] = max(0, depth.best_bid_tick)
            orders[k, 1] = depth.best_ask_tick if depth.best_ask_tick < top_tick else 0
            orders[k, 2] = limit_tick(action[k], orders[k, 0], orders[k, 1], top_tick)
        elif what[index] == SUBMIT:
            if orders[k, 2] > 0:
                submit(backtest, orders, resting, k, action[k], size_centi)
        else:
            if what[index] == ARRIVED and orders[k, 2] > 0:
                takes = action[k] in (BUY_BEST, SELL_BEST)
                resting[0 if action[k] <= BUY_PASSIVE else 1] = -1 if takes else k
            values = backtest.state_values(0)
            moved = round(values.position) - position
            if moved != 0:
                paid = round(values.balance) - cash
                maker = resting[0] if moved > 0 else resting[1]
                fills[filled, 0] = moments[index]
                fills[filled, 1] = k if what[index] == ARRIVED else maker
                fills[filled, 2] = moved
                fills[filled, 3] = paid
                filled += 1
                position += moved
                cash += paid
    backtest.elapse(10**9)
    own = backtest.orders(0)
    for k in range(len(action)):
        if orders[k, 2] > 0 and k + 1 in own:
            orders[k, 3] = own.get(k + 1).status
    return orders, fills[:filled]


@numba.njit
def limit_tick(action: int, bid: int, ask: int, top_tick: int) -> int:
    """The price of an action on the book seen, 0 = no such order."""
    of_ask = action in (BUY_BEST, BUY_IMPROVE, SELL_PASSIVE)
    if (ask if of_ask else bid) == 0:
        return 0
    if action == BUY_IMPROVE:
        return ask - 1
    if action == SELL_IMPROVE:
        return bid + 1 if bid + 1 < top_tick else 0
    return ask if of_ask else bid


@numba.njit
def submit(backtest: Any, orders: Any, resting: Any, k: int, action: int, size_centi: int) -> None:
    """Send one order; a post-only one replaces what rests on its side."""
    takes = action in (BUY_BEST, SELL_BEST)
    side = 0 if action <= BUY_PASSIVE else 1
    if resting[side] >= 0 and backtest.orders(0).get(resting[side] + 1).status == NEW:
        backtest.cancel(0, resting[side] + 1, False)
    terms = IOC if takes else GTX
    price, size = float(orders[k, 2]), float(size_centi)
    if side == 0:
        backtest.submit_buy_order(0, k + 1, price, size, terms, LIMIT, False)
    else:
        backtest.submit_sell_order(0, k + 1, price, size, terms, LIMIT, False)


if __name__ == "__main__":
    for question, answer in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(question, answer)
