"""The same script in the project's simulator, one message a step."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.actions import BUY, SELL, Action, takes
from kalshi_pipeline.trading.portfolio import Account, Order
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from tests.crosscheck.convert import Script

WITHOUT_BOUNDS = {
    "cash_start_micro": 10**12,
    "position_limit_centi": 10**6,
    "fees": False,
}


Fill = tuple[int, int, int]  # row, signed size, change of cash in micro-dollars


def play(universe: Universe, script: Script, config: TradingConfig) -> list[list[Fill]]:
    """The fills of every order of the script.

    A script only takes or only rests, so that a fill has one order it can belong to.
    """
    simulator = Simulator(universe, 1, config)
    simulator.reset(np.zeros(1, np.int64), np.zeros(1, np.int64))
    account, orders = simulator.state.account[0], simulator.state.orders[0]
    fills: list[list[Fill]] = [[] for _ in script.row]
    due = dict(zip(script.row.tolist(), range(len(script.row)), strict=True))
    resting = {BUY: -1, SELL: -1}
    sent = -1
    for row in range(len(universe.tape.kind) - 1):
        action = int(Action.HOLD)
        if row in due:
            sent = due[row]
            action = int(script.action[sent])
            assert simulator.mask[0, action], "the script has only orders that can be sent"
        position, cash = int(account[Account.POSITION]), int(account[Account.CASH])
        simulator.step(np.array([action]))
        moved = int(account[Account.POSITION]) - position
        if moved:
            whose = sent if takes(script.action[sent]) else resting[BUY if moved > 0 else SELL]
            fills[whose].append((row + 1, moved, int(account[Account.CASH]) - cash))
        for side in (BUY, SELL):
            if orders[side, Order.PRICE] and orders[side, Order.ROW] == row + 1:
                resting[side] = sent
    return fills
