"""Helpers to play hand-made and random episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.market.fees import fees_of
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.portfolio import Account, available_micro
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Tape, Universe

NO_LATENCY = TradingConfig(latency_ms=0)


def simulator(universe: Universe, config: TradingConfig = NO_LATENCY) -> Simulator:
    """A simulator with every episode started in a lane of its own."""
    lanes = np.arange(len(universe))
    started = Simulator(universe, len(universe), config)
    started.reset(lanes, lanes)
    return started


def play(
    universe: Universe, actions: Sequence[int], config: TradingConfig = NO_LATENCY
) -> Simulator:
    """Play the first episode; HOLD once the actions are used up, to the end."""
    started = Simulator(universe, 1, config)
    started.reset(np.array([0]), np.array([0]))
    for action in actions:
        started.step(np.array([int(action)]))
    return started


def summary_of(
    universe: Universe, actions: Sequence[int], config: TradingConfig = NO_LATENCY
) -> EpisodeSummary:
    """Play the first episode to its end, holding once the actions are used up."""
    started = play(universe, actions, config)
    while not (started.terminated[0] or started.truncated[0]):
        started.step(np.array([int(Action.HOLD)]))
    return started.summary(0)


def column(started: Simulator, name: Account, lane: int = 0) -> int:
    """One column of a lane's account."""
    return int(started.state.account[lane, name])


def available(started: Simulator, lane: int = 0) -> int:
    """Cash free for new orders."""
    account = started.state.account[lane]
    fees = fees_of(started.tape.fee_schedule[account[Account.EPISODE]])
    return int(available_micro(account, started.state.orders[lane], fees))


def mirror(universe: Universe) -> Universe:
    """The same markets with YES and NO exchanged (for grids symmetric about 50 cents)."""
    tape = universe.tape
    trades = tape.kind == 2
    return Universe(
        Tape(
            **{
                **tape._asdict(),
                "side": 1 - tape.side,
                "price_bp": np.where(trades, 10_000 - tape.price_bp, tape.price_bp),
                "bid_bp": 10_000 - tape.ask_bp,
                "ask_bp": 10_000 - tape.bid_bp,
                "bid_size_centi": tape.ask_size_centi,
                "ask_size_centi": tape.bid_size_centi,
                "level_side": 1 - tape.level_side,
                "settlement_bp": np.where(
                    tape.settlement_bp >= 0, 10_000 - tape.settlement_bp, -1
                ).astype(np.int32),
            }
        ),
        universe.episodes,
    )


MIRRORED = np.array([0, 4, 5, 6, 1, 2, 3])  # action -> the same action described from NO
