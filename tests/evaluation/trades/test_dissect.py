"""An episode's profit in parts, and what is said of each fill, against a plain second look."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import play
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform
from kalshi_pipeline.evaluation.trades.dissect import HORIZONS_S, NO_MID, Flag, dissect
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.rollout import play as play_script_of
from kalshi_pipeline.trading.scripts import Rule, Script
from kalshi_pipeline.trading.universe import build_universe
from tests.sessions import replayed
from tests.tapes import (
    FEES_PER_FILL,
    TAPERED_GRID,
    book,
    random_universe,
    trade,
    universe_from_messages,
)
from tests.trading.test_universe import data_of

EVALUATION = EvaluationConfig(n_envs=5, stochastic_repeats=2)
RULES = ({}, {"fill_model": "queue", "latency_ms": 0}, {"fill_model": "touch", "fees": False})


def dissected(universe, policy, config):
    played = play(universe, policy, config, EVALUATION, np.random.default_rng(1), detail=True)
    return played, dissect(universe, played, config)


def parts_of(split, job):
    return (
        split.spread_micro[job]
        - split.fees_micro[job]
        + split.drift_micro[job]
        + (split.settlement_micro[job])
    )


def twin_split(universe, found, job, pnl):
    """Twice each part, walking the fills; the mid is worked out message by message."""
    tape, fills = universe.tape, found.fills
    episode = found.episode[job]
    mid2, mids = None, {}
    for row in range(tape.first_row[episode], tape.end_row[episode]):
        bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
        if bid > 0 and ask < 10_000:
            mid2 = bid + ask
        elif bid > 0 or ask < 10_000:
            mid2 = bid + ask if mid2 is None else min(max(mid2, 2 * bid), 2 * ask)
        mids[row] = mid2
    spread, drift, cash, position, last = 0, 0, 0, 0, None
    for fill in np.flatnonzero(fills.job == job):
        met = int(fills.row[fill]) - (0 if fills.taker[fill] else 1)
        signed = int(fills.size_centi[fill]) * (1 if fills.side[fill] == 0 else -1)
        price = int(fills.price_bp[fill])
        drift += 0 if last is None else position * (mids[met] - last)
        spread += signed * (mids[met] - 2 * price)
        cash -= signed * price + int(fills.fee_micro[fill])
        position, last = position + signed, mids[met]
    end = mids[int(tape.end_row[episode]) - 1]
    drift += 0 if last is None else position * (end - last)
    return spread, drift, 2 * (pnl - cash) - (position * end if position else 0)


@pytest.mark.parametrize("rules", RULES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_parts_of_every_episode_are_right_and_add_up_to_its_profit(rules, seed):
    rng = np.random.default_rng(seed)
    universe = random_universe(
        rng, episodes=3, steps=30, grid=TAPERED_GRID,
        fee_schedule=FEES_PER_FILL if seed % 2 else (700, 0, 100, 0),
    )  # fmt: skip
    config = TradingConfig(**rules, order_size_centi=37 if seed % 3 == 0 else 100)
    played = play_script_of(universe, Script(Rule.ANY), config, [0, 1, 2, 1], rng)
    found = dissect(universe, played, config)
    for job, summary in enumerate(played.summaries):
        assert parts_of(found.split, job) == summary.pnl_micro
        assert found.split.fees_micro[job] == summary.fees_micro
        spread2, drift2, settlement2 = twin_split(universe, found, job, summary.pnl_micro)
        assert found.split.spread_micro[job] == spread2 // 2
        assert found.split.settlement_micro[job] == settlement2 // 2
        assert abs(2 * found.split.drift_micro[job] - drift2) <= 2
        mine = found.lots.job == job
        assert found.lots.gain_micro[mine].sum() == summary.pnl_micro


@pytest.mark.parametrize(
    "policy", [Always(Action.BUY_IMPROVE), RandomUniform(), PassiveTwoSided()],
    ids=lambda policy: type(policy).__name__,
)  # fmt: skip
def test_what_is_said_of_a_fill_is_what_a_second_look_finds(policy):
    universe = random_universe(np.random.default_rng(3), episodes=6, steps=80)
    tape, config = universe.tape, TradingConfig(fill_model="queue")
    played, found = dissected(universe, policy, config)
    fills = found.fills
    assert len(fills.job) > 20
    seen = 0
    for fill in range(len(fills.job)):
        episode, row = found.episode[fills.job[fill]], int(fills.row[fill])
        met = row if fills.taker[fill] else row - 1
        assert found.book_row[fill] == met
        assert found.age_ms[fill] == tape.time_ms[row] - tape.time_ms[row - 1]
        buys, takes = fills.side[fill] == 0, bool(fills.taker[fill])
        sizes = tape.ask_size_centi if buys == takes else tape.bid_size_centi
        assert bool(found.flags[fill] & Flag.THIN_TOUCH) == (sizes[met] < 1_000)
        assert bool(found.flags[fill] & Flag.IMPROVED) == bool(fills.improved[fill])
        times = tape.time_ms[: tape.end_row[episode]].tolist()
        for place, horizon in enumerate(HORIZONS_S):
            until = int(fills.time_ms[fill]) + 1_000 * horizon
            after = bisect_right(times, until, lo=row) - 1
            known = times[-1] >= until
            expected = universe.mid2_bp[after] if known else NO_MID
            assert found.later_mid2_bp[place, fill] == expected
            seen += known
    assert seen
    for job, summary in enumerate(played.summaries):
        mine = np.flatnonzero(fills.job == job)
        if len(mine):
            assert found.position_centi[mine[-1]] == summary.final_position_centi


def test_where_the_money_of_bought_and_settled_contracts_came_from():
    messages = [
        book(0, (4_000, 5_000), (5_000, 3_000)),
        book(1_000, (4_000, 5_000), (5_000, 3_000)),
        book(700_000, (6_000, 5_000), (7_000, 300)),  # the order of 1,000 ms finds its price gone
        book(1_400_000, (6_000, 5_000), (7_000, 300)),
    ]
    universe = universe_from_messages([messages], settlement_bp=10_000)
    config = TradingConfig(latency_ms=0)
    played, found = dissected(universe, Always(Action.BUY_BEST), config)
    assert found.fills.price_bp.tolist() == [5_000, 7_000]
    assert found.split.spread_micro[0] == -100 * 500 * 2
    assert found.split.drift_micro[0] == 100 * (6_500 - 4_500)
    assert found.split.settlement_micro[0] == 200 * (10_000 - 6_500)
    assert found.flags.tolist() == [0, Flag.STALE_BOOK | Flag.THIN_TOUCH]
    assert found.later_mid2_bp.T.tolist() == [[9_000, 9_000, 9_000], [NO_MID, NO_MID, NO_MID]]
    fees = found.fills.fee_micro.tolist()
    assert found.matched_micro.tolist() == [100 * 5_000 - fees[0], 100 * 3_000 - fees[1]]
    assert (found.matched_micro == found.lots.gain_micro).all()
    assert parts_of(found.split, 0) == played.summaries[0].pnl_micro


@pytest.mark.parametrize(("bid", "ask"), [((4_000, 500), None), (None, (7_000, 500))])
def test_a_trip_held_into_a_one_sided_book_is_worth_what_it_can_be_sold_for(bid, ask):
    messages = [book(0, (4_000, 500), (5_000, 500)), book(1_000, (4_000, 500), (5_000, 500)),
                book(2_000, bid, ask), book(3_000, None, None)]  # fmt: skip
    universe = universe_from_messages([messages], fee_schedule=(0, 0, 100, 0))
    config = TradingConfig(latency_ms=0, position_limit_centi=100)
    _, found = dissected(universe, Always(Action.BUY_BEST), config)
    assert found.matched_micro.tolist() == [100 * ((4_000 if bid else 0) - 5_000)]
    assert (found.matched_micro == found.lots.gain_micro).all()


def test_a_maker_is_measured_against_the_mid_before_the_message_it_filled_on():
    messages = [
        book(0, (4_000, 5_000), (5_000, 5_000)),
        book(1_000, (4_000, 5_000), (5_000, 5_000)),
        trade(2_000, 3_900, 500, 1),
        book(3_000, (3_500, 5_000), (3_700, 5_000)),
        book(4_000, (3_500, 5_000), (3_700, 5_000)),
    ]
    universe = universe_from_messages([messages])
    config = TradingConfig(latency_ms=0, position_limit_centi=100)
    _, found = dissected(universe, Always(Action.BUY_PASSIVE), config)
    assert found.fills.price_bp.tolist() == [4_000]
    assert found.split.spread_micro[0] == 100 * 500
    assert found.split.drift_micro[0] == 100 * (3_600 - 4_500)
    assert found.later_mid2_bp[0].tolist() == [7_200]


@pytest.mark.parametrize("model", ["cross", "queue", "touch"])
def test_the_parts_and_the_trips_of_a_recorded_session_add_up_to_its_profit(recordings, model):
    data = data_of(replayed(recordings / "112", head=True))
    universe, _ = build_universe([data], 2)
    config = TradingConfig(fill_model=model)
    for policy in (RandomUniform(), PassiveTwoSided()):
        played, found = dissected(universe, policy, config)
        assert len(found.fills.job) > 50
        gains = np.zeros(len(played.summaries), np.int64)
        np.add.at(gains, found.lots.job, found.lots.gain_micro)
        for job, summary in enumerate(played.summaries):
            assert parts_of(found.split, job) == summary.pnl_micro == gains[job]
