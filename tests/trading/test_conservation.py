"""Ten million random steps on generated and recorded sessions: nothing is minted, nothing lost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.portfolio import FLIGHT, Account, Order
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.universe import build_universe
from tests.sessions import replayed
from tests.tapes import random_universe
from tests.trading.test_universe import data_of

LANES = 512
STEPS = 10_000_000
MODELS = ("cross", "queue", "touch")
SESSIONS = ("random", "generated", "recorded")
RULES = (
    {},
    {"cash_start_micro": 2_000_000, "order_size_centi": 37, "latency_ms": 0},
    {"cash_start_micro": 900_000, "latency_ms": 1_000, "daily_loss_limit_micro": 200_000},
)


@pytest.fixture(scope="module", params=SESSIONS)
def universe(request):
    if request.param == "random":
        return random_universe(np.random.default_rng(1), episodes=600, steps=80)
    if request.param == "generated":
        return build_universe([data_of(replayed(request.getfixturevalue("generated") / "901"))], 2)[
            0
        ]
    recordings = request.getfixturevalue("recordings")
    return build_universe([data_of(replayed(recordings / "112", head=True))], 2)[0]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_ten_million_random_steps_conserve_money(universe, model):
    each = math.ceil(STEPS / len(MODELS) / len(SESSIONS) / len(RULES) / LANES)
    traded = np.zeros(2, dtype=np.int64)
    for index, rules in enumerate(RULES):
        config = TradingConfig(fill_model=model, queue_alpha=0.5, **rules)
        traded += soak(universe, config, each, np.random.default_rng([index, len(model)]))
    assert (traded > 1_000).all()


def test_a_few_random_steps_conserve_money():
    universe = random_universe(np.random.default_rng(2), episodes=64, steps=40)
    for model in MODELS:
        for rules in RULES:
            soak(universe, TradingConfig(fill_model=model, **rules), 20, np.random.default_rng(3))


def soak(universe, config, steps, rng):
    """Fills of takers and makers."""
    simulator = Simulator(universe, LANES, config)
    everyone = np.arange(LANES)
    simulator.reset(everyone, rng.integers(0, len(universe), LANES))
    fills = np.zeros(2, dtype=np.int64)
    for _ in range(steps):
        # mostly holding, or no order would rest long enough to fill
        actions = rng.integers(0, 7, LANES) * (rng.random(LANES) < 0.3)
        simulator.step(actions)
        assert_conserved(simulator, config)
        finished = np.flatnonzero(simulator.terminated | simulator.truncated)
        account = simulator.state.account[finished]
        fills += account[:, [Account.TAKER_FILLS, Account.MAKER_FILLS]].sum(axis=0)
        simulator.reset(finished, rng.integers(0, len(universe), len(finished)))
    return fills + simulator.state.account[:, [Account.TAKER_FILLS, Account.MAKER_FILLS]].sum(
        axis=0
    )


def assert_conserved(simulator, config):
    account = simulator.state.account
    position, cash = account[:, Account.POSITION], account[:, Account.CASH]
    long = np.maximum(position, 0)
    short = np.maximum(-position, 0)
    basis, realised, fees = (
        account[:, column] for column in (Account.BASIS, Account.REALISED, Account.FEES)
    )
    # all cash there ever was: the start, what closed contracts made, what open ones cost, fees
    made = config.cash_start_micro + realised - np.sign(position) * basis - fees
    assert np.array_equal(cash, made)
    assert (fees >= 0).all()
    assert (basis[position == 0] == 0).all()
    assert (basis <= 10_000 * np.abs(position)).all()
    # full collateral: what rests and the position are paid for, so no equity is below zero
    free = cash - 10_000 * short
    reserved = reserves(simulator, position)
    assert (free - reserved >= 0).all()
    assert (np.abs(position) <= config.position_limit_centi).all()
    # E = A + V with V walked anew
    value = values(simulator, long, short)
    assert np.array_equal(simulator.equity_micro, free + value)
    assert ((value >= 0) & (value <= 10_000 * np.abs(position))).all()


def schedules(simulator):
    return simulator.tape.fee_schedule[simulator.state.account[:, Account.EPISODE]].T


def reserves(simulator, position):
    orders = simulator.state.orders
    _, maker, multiplier, rule = schedules(simulator)
    total = np.zeros(len(orders), dtype=np.int64)
    for side in (0, 1):
        price, left = orders[:, side, Order.PRICE], orders[:, side, Order.REMAINING]
        assert ((left > 0) == (price > 0)).all()
        opening = left - np.minimum(left, np.maximum(-position if side == 0 else position, 0))
        product = maker * multiplier * left * price * (10_000 - price)
        fee = np.where(
            rule == 0, -(-product // 10**14) * 10_000, -(-product // 10**12) * 100 + 10_000
        )
        unit = price if side == 0 else 10_000 - price
        total += np.where((price > 0) & (opening > 0), opening * unit + fee, 0)
    assert (orders[:, FLIGHT, Order.REMAINING] >= 0).all()
    return total


def values(simulator, long, short):
    """What the positions bring: settlement, or the bids of their outcome less the taker fee."""
    state, tape = simulator.state, simulator.tape
    account = state.account
    episode = account[:, Account.EPISODE]
    taker, _, multiplier, _ = schedules(simulator)
    proceeds = np.zeros(len(account), dtype=np.int64)
    product = np.zeros(len(account), dtype=np.int64)
    held = np.flatnonzero(long + short)
    side = (short[held] > 0).astype(np.int64)
    shown = (state.ladder[held, side] - state.consumed[held, side])[:, ::-1]
    spacing = tape.grid_step_bp[tape.grid[episode[held]]].astype(np.int64)
    prices = np.arange(shown.shape[1])[::-1] * spacing[:, None]
    wanted = (long + short)[held][:, None]
    before = np.cumsum(shown, axis=1) - shown
    taken = np.clip(wanted - before, 0, shown)
    taken[:, -1] = 0
    proceeds[held] = (taken * prices).sum(axis=1)
    product[held] = (taken * prices * (10_000 - prices)).sum(axis=1)
    fee = -(-product * taker * multiplier // 10**14) * 10_000
    value = np.maximum(proceeds - fee, 0)
    row = tape.step_row[account[:, Account.STEP]]
    nothing = (tape.bid_bp[row] == 0) & (tape.ask_bp[row] == 10_000)
    value[nothing & ~simulator.truncated] = 0
    settlement = tape.settlement_bp[episode].astype(np.int64)
    settled = long * settlement + short * (10_000 - settlement)
    return np.where(simulator.terminated, settled, value)
