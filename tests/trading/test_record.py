"""Whole episodes with detail: what one lane stepped alone shows, and nothing else changed by it."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import play
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.trading import record
from kalshi_pipeline.trading.actions import Action, limit_price_bp
from kalshi_pipeline.trading.ledger import replay
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator
from tests.checkpoints import small_checkpoint
from tests.tapes import random_universe

UNIVERSE = random_universe(np.random.default_rng(7), episodes=12, steps=60)
EVALUATION = EvaluationConfig(n_envs=5, stochastic_repeats=2)
RULES = (
    {},
    {"fill_model": "queue", "latency_ms": 0},
    {"fill_model": "touch", "cash_start_micro": 2_000_000, "daily_loss_limit_micro": 100_000},
)


class StepByStep(NetworkPolicy):
    """A network that may not play on its own, and draws on chance."""

    play = None


def policies():
    checkpoint = small_checkpoint(1)
    return (
        Always(Action.BUY_IMPROVE), Always(Action.SELL_BEST), RandomUniform(), PassiveTwoSided(),
        NetworkPolicy(checkpoint), NetworkPolicy(checkpoint, stochastic=True),
        StepByStep(checkpoint, stochastic=True),
    )  # fmt: skip


def played(policy, config, *, detail=True):
    return play(UNIVERSE, policy, config, EVALUATION, np.random.default_rng(3), detail=detail)


def jobs(found):
    """Each job: its summary, the slice of its steps, its fills."""
    for job, summary in enumerate(found.summaries):
        yield (
            summary,
            slice(*found.trace.first[job : job + 2]),
            np.flatnonzero(found.fills.job == job),
        )


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("policy", policies(), ids=lambda policy: type(policy).__name__)
def test_every_step_is_what_a_lane_stepped_alone_shows(policy, rules):
    config, seen = TradingConfig(**rules), 0
    found = played(policy, config)
    simulator = Simulator(UNIVERSE, 1, config)
    for summary, steps, _ in jobs(found):
        simulator.reset([0], [summary.episode])
        first, most = int(UNIVERSE.tape.first_step[summary.episode]), 0
        for at in range(steps.start, steps.stop):
            assert found.trace.step[at] == first + at - steps.start
            simulator.step([found.trace.action[at]])
            assert found.trace.equity_micro[at] == simulator.equity_micro[0]
            assert found.trace.equity_mid_micro[at] == simulator.equity_mid_micro[0]
            position = simulator.state.account[0, Account.POSITION]
            assert found.trace.position_centi[at] == position
            most = max(most, int(found.trace.capital_micro[at]))
            seen += 1
        assert simulator.terminated[0] or simulator.truncated[0]
        assert simulator.summary(0) == summary
        assert most == summary.max_capital_micro
        assert found.trace.equity_micro[at] - config.cash_start_micro == summary.pnl_micro
    assert seen == len(found.trace.action) == sum(s.steps for s in found.summaries)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("policy", policies(), ids=lambda policy: type(policy).__name__)
def test_fills_are_those_of_the_ledger(policy, rules):
    config, seen = TradingConfig(**rules), 0
    found, tape = played(policy, config), UNIVERSE.tape
    for summary, steps, which in jobs(found):
        actions = found.trace.action[steps].tolist()
        ledger = replay(UNIVERSE, {summary.episode: actions}, config)
        first = int(tape.first_step[summary.episode])
        fills = found.fills
        assert ledger.fills["order"].to_pylist() == (fills.step[which] - first).tolist()
        for name in ("time_ms", "price_bp", "size_centi", "fee_micro"):
            assert ledger.fills[name].to_pylist() == getattr(fills, name)[which].tolist()
        assert ledger.fills["is_buy"].to_pylist() == (fills.side[which] == 0).tolist()
        assert ledger.fills["is_taker"].to_pylist() == fills.taker[which].tolist()
        assert (tape.time_ms[fills.row[which]] == fills.time_ms[which]).all()
        assert len(which) == summary.taker_fills + summary.maker_fills
        for fill in which:
            action = Action(found.trace.action[steps][fills.step[fill] - first])
            row, grid = tape.step_row[fills.step[fill]], tape.grid[summary.episode]
            bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
            ticks = int(tape.tick_up_bp[grid, bid]), int(tape.tick_down_bp[grid, ask])
            price = limit_price_bp(action, bid, ask, *ticks)
            improves = {Action.BUY_IMPROVE: price > bid, Action.SELL_IMPROVE: price < ask}
            assert fills.improved[fill] == improves.get(action, False)
            if not fills.taker[fill]:
                assert price == fills.price_bp[fill]
            assert fills.row[fill] > row
            seen += 1
    assert seen == len(found.fills.job) > 0


@pytest.mark.parametrize("policy", policies(), ids=lambda policy: type(policy).__name__)
def test_without_detail_the_same_comes_of_it_and_nothing_is_kept(policy):
    plain, detailed = (played(policy, TradingConfig(), detail=detail) for detail in (False, True))
    assert plain.summaries == detailed.summaries
    assert plain.trace is None
    for mine, other in zip(plain.fills, detailed.fills, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_fills_without_room_are_played_again_with_room(monkeypatch):
    config = TradingConfig(fill_model="touch")
    expected = [played(policy, config) for policy in policies()]
    monkeypatch.setattr(record, "_fill_room", lambda steps: 1)
    for before, policy in zip(expected, policies(), strict=True):
        after = played(policy, config)
        assert after.summaries == before.summaries
        for part in ("trace", "fills"):
            for mine, other in zip(getattr(after, part), getattr(before, part), strict=True):
                np.testing.assert_array_equal(mine, other)


def test_a_step_never_writes_more_entries_than_its_journal_has_room_for():
    config = TradingConfig(order_size_centi=3, fill_model="queue", latency_ms=0)
    simulator = Simulator(UNIVERSE, 1, config, journal=4_096)
    rng, most = np.random.default_rng(0), 0
    for episode in range(len(UNIVERSE)):
        simulator.reset([0], [episode])
        ended = 0
        while not ended:
            ended = simulator.step([rng.choice(np.flatnonzero(simulator.mask[0]))])
            most = max(most, int(simulator.state.account[0, Account.JOURNALLED]))
            simulator.state.account[0, Account.JOURNALLED] = 0
    assert 3 < most <= record._journal_room(config)
