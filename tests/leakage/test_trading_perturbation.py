"""Noise after t leaves observations, masks, fills and equity up to t unchanged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.tape import RowKind
from tests.tapes import Message, random_messages, universe_from_messages
from tests.trading.play import simulator

STEPS = 30


def later(messages, start_ms):
    """The messages moved in time, so that the first, a snapshot, comes at `start_ms`."""
    shift = start_ms - messages[0].time_ms
    return [
        Message(m.time_ms + shift, m.kind, m.side, m.price_bp, m.change_centi, m.ladders)
        for m in messages
    ]


def two_futures(seed):
    """Two universes with one past of `STEPS` steps and different endings and results."""
    past = random_messages(np.random.default_rng(seed), STEPS)
    universes = []
    for branch, settlement in ((1, 0), (2, 10_000)):
        future = random_messages(np.random.default_rng([seed, branch]), 10)
        future = later(future, past[-1].time_ms + branch)
        assert future[0].kind == RowKind.SNAPSHOT
        universes.append(
            universe_from_messages(
                [past + future], settlement_bp=settlement, rng=np.random.default_rng(seed)
            )
        )
    first, second = universes
    # random features differ only where the future may show
    second.tape.features[:STEPS] = first.tape.features[:STEPS]
    return first, second


def assert_same_past(first, second, seed, latency_ms, fill_model="cross"):
    config = TradingConfig(latency_ms=latency_ms, fill_model=fill_model)
    left, right = simulator(first, config), simulator(second, config)
    rng = np.random.default_rng(seed)
    for step in range(STEPS):
        np.testing.assert_array_equal(left.observation, right.observation)
        np.testing.assert_array_equal(left.mask, right.mask)
        np.testing.assert_array_equal(left.state.account, right.state.account)
        np.testing.assert_array_equal(left.state.orders, right.state.orders)
        if step < STEPS - 1:
            action = rng.integers(0, 7, size=1)
            left.step(action)
            right.step(action)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    latency_ms=st.sampled_from((0, 250)),
    fill_model=st.sampled_from(("cross", "queue", "touch")),
)
def test_the_future_does_not_reach_back(seed, latency_ms, fill_model):
    first, second = two_futures(seed)
    assert_same_past(first, second, seed, latency_ms, fill_model)


def peek_in_a_feature(tape):
    tape.features[:-1, 0] = tape.features[1:, 0]  # the next best bid


def peek_at_the_book(tape):
    for column in (tape.bid_bp, tape.ask_bp):
        column[:-1] = column[1:].copy()  # what the touch will be after the next message


def peek_at_a_trade(tape):
    for column in (tape.kind, tape.side, tape.price_bp, tape.change_centi):
        known = np.flatnonzero(tape.kind != RowKind.SNAPSHOT)
        column[known[:-1]] = column[known[1:]].copy()


@pytest.mark.parametrize("peek", [peek_in_a_feature, peek_at_the_book, peek_at_a_trade])
def test_a_planted_look_ahead_is_caught(peek):
    caught = 0
    for seed in range(7, 17):
        first, second = two_futures(seed)
        for universe in (first, second):
            peek(universe.tape)
        try:
            assert_same_past(first, second, seed, 0)
        except AssertionError:
            caught += 1
    assert caught > 0
