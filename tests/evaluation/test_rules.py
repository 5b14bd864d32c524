"""Every rule plays compiled what its own words say, step by step, and looks at the past alone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.errors import EvaluationError, InvalidAction
from kalshi_pipeline.evaluation.backtest import backtests, play, play_jobs
from kalshi_pipeline.evaluation.baselines import (
    Always,
    AvellanedaStoikov,
    OneStepOracle,
    PassiveTwoSided,
    Quoter,
    RandomUniform,
    Shuffled,
    baselines,
)
from kalshi_pipeline.evaluation.policies import Policy, cheats
from kalshi_pipeline.feature_table import COLUMN, OBSERVATION_WIDTH
from kalshi_pipeline.market.fees import Fees, fee_product, worst_fee_micro
from kalshi_pipeline.trading import rollout
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.scripts import LOG_TICKS, LOG_YEAR, Rule, Script
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from tests.leakage.test_trading_perturbation import STEPS, two_futures
from tests.tapes import random_universe, universe_from_books

LOOKING = [p for p in (*baselines(), Quoter(buys=True, sells=True, most=0.3)) if not cheats(p)]
LOOKING = [policy for policy in LOOKING if not policy.stochastic]
RULES = (
    {},
    {"fill_model": "queue", "latency_ms": 0, "order_size_centi": 250},
    {"fill_model": "touch", "cash_start_micro": 2_000_000, "daily_loss_limit_micro": 100_000},
)
EVERY = np.arange(8)


def market(seed: int = 3) -> Universe:
    """Random markets, their spread feature that of the book."""
    universe = random_universe(np.random.default_rng(seed), episodes=len(EVERY), steps=120)
    tape = universe.tape
    rows = tape.step_row
    ticks = np.maximum((tape.ask_bp - tape.bid_bp)[rows], 0) / 100
    tape.features[:, COLUMN["spread"]] = np.minimum(1.0, np.log1p(ticks) / LOG_TICKS)
    # as quiet as a market is, so that a reservation price stays near the mid
    tape.features[:, COLUMN["volatility_600s"]] *= 0.1
    return universe


UNIVERSE = market()


@dataclass(frozen=True)
class InWords:
    """A rule without its compiled form."""

    rule: Policy

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def stochastic(self) -> bool:
        return self.rule.stochastic

    def act(self, observation, mask, rng):
        return self.rule.act(observation, mask, rng)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("policy", LOOKING, ids=lambda policy: policy.name)
def test_a_rule_compiled_does_what_its_words_say(policy, rules):
    config = TradingConfig(**rules)
    compiled = play_jobs(UNIVERSE, policy, config, EVERY, rng(), detail=True)
    in_words = play_jobs(UNIVERSE, InWords(policy), config, EVERY, rng(), detail=True)
    np.testing.assert_array_equal(compiled.trace.action, in_words.trace.action)
    assert compiled.summaries == in_words.summaries
    if policy != Always(Action.HOLD):
        assert compiled.trace.action.any()


@pytest.mark.parametrize("policy", [*LOOKING, RandomUniform()], ids=lambda policy: policy.name)
def test_no_rule_looks_ahead(policy):
    traded = 0
    for seed in range(5):
        pasts = []
        for universe in two_futures(seed):
            trace = play_jobs(universe, policy, TradingConfig(), [0], rng(), detail=True).trace
            pasts.append(trace.action[: STEPS - 1])
        np.testing.assert_array_equal(*pasts)
        traded += np.count_nonzero(pasts[0])
    assert traded or policy == Always(Action.HOLD)


def test_the_oracle_looks_ahead_and_says_so():
    oracle, ahead = OneStepOracle(), 0
    assert cheats(oracle)
    assert [policy.name for policy in baselines() if cheats(policy)] == [oracle.name]
    for seed in range(20):
        first, second = (
            play_jobs(universe, oracle, TradingConfig(fees=False), [0], rng(), detail=True).trace
            for universe in two_futures(seed)
        )
        ahead += not np.array_equal(first.action[: STEPS - 1], second.action[: STEPS - 1])
    assert ahead > 0
    with pytest.raises(EvaluationError, match="whole episodes only"):
        oracle.act(np.zeros((1, OBSERVATION_WIDTH), np.float32), np.ones((1, 7), np.bool_), rng())


@pytest.mark.parametrize("rules", [{}, {"latency_ms": 0, "fees": False}, {"latency_ms": 900}])
def test_the_oracle_takes_what_the_next_book_pays_more_for(rules):
    config = TradingConfig(**rules)
    simulator = Simulator(UNIVERSE, 1, config)
    played = play_jobs(UNIVERSE, OneStepOracle(), config, EVERY, rng())
    for episode in EVERY:
        simulator.reset([0], [episode])
        step = int(UNIVERSE.tape.first_step[episode])
        ended = 0
        while not ended:
            ended = simulator.step([foreseen(simulator, int(episode), step, config)])
            step += 1
        assert simulator.summary(0) == played.summaries[episode]
    assert sum(summary.taker_fills for summary in played.summaries) > 0


def foreseen(simulator: Simulator, episode: int, step: int, config: TradingConfig) -> Action:
    tape = simulator.tape
    last = int(tape.end_step[episode]) - 1
    now = tape.step_row[step]
    due = tape.time_ms[now] + config.latency_ms
    met = next((s for s in range(step + 1, last) if tape.time_ms[tape.step_row[s]] >= due), last)
    then = tape.step_row[min(met + 1, last)]
    if tape.bid_bp[then] == 0 or tape.ask_bp[then] == 10_000:
        return Action.HOLD
    fees = Fees(*(int(value) for value in tape.fee_schedule[episode]))

    def money(side: int, row: int) -> int:
        """Cash after taking the ask (0) or the bid (1)."""
        price, size = int((tape.bid_bp if side else tape.ask_bp)[row]), config.order_size_centi
        product = fee_product(fees.taker_rate_bp, fees.multiplier_pct, size, price)
        return (size if side else -size) * price - worst_fee_micro(fees.rule, product)

    position = simulator.state.account[0, Account.POSITION]
    for side, action, closes in (
        (0, Action.BUY_BEST, position < 0),
        (1, Action.SELL_BEST, position > 0),
    ):
        # closing is compared with closing later, opening must pay with what closing later brings
        rather = money(side, now) > (money(side, then) if closes else -money(1 - side, then))
        if simulator.mask[0, action] and rather:
            return action
    return Action.HOLD


def test_only_who_knows_gains_from_a_market_that_jumps():
    books, chance = [], np.random.default_rng(1)
    for _ in range(60):
        mid = 5_000 + 1_000 * np.cumsum(chance.choice((-1, 0, 0, 1), 5))
        books.append(
            [(10_000 * t, (int(m) - 100, 10**6), (int(m) + 100, 10**6)) for t, m in enumerate(mid)]
        )
    universe = universe_from_books(books)
    earned = {
        policy.name: sum(
            summary.pnl_micro
            for summary in play(
                universe, policy, TradingConfig(latency_ms=0), EvaluationConfig(), rng()
            ).summaries
        )
        for policy in baselines()
    }
    assert max(earned, key=lambda name: earned[name]) == OneStepOracle.name
    assert earned[OneStepOracle.name] > 0
    assert earned["Hold"] == 0
    assert earned["Taker both ways"] < 0


def counted(trace, job):
    return Counter(trace.action[trace.first[job] : trace.first[job + 1]].tolist())


@pytest.mark.parametrize(
    "judged", [RandomUniform(), PassiveTwoSided(), InWords(AvellanedaStoikov())]
)
def test_shuffled_actions_are_the_judged_policys_own_at_other_times(judged):
    jobs = np.repeat(EVERY, 3)
    own = play_jobs(UNIVERSE, judged, TradingConfig(), jobs, rng(), detail=True).trace
    again = (
        Shuffled(judged).play_again(UNIVERSE, TradingConfig(), jobs, rng(), own, detail=True).trace
    )
    assert [counted(again, job) for job in range(len(jobs))] == [
        counted(own, job) for job in range(len(jobs))
    ]
    assert not np.array_equal(again.action, own.action)
    assert not np.array_equal(  # each repeat in an order of its own
        again.action[again.first[0] : again.first[1]], again.action[again.first[1] : again.first[2]]
    )


def test_shuffled_alone_lets_the_judged_policy_play_first():
    judged = PassiveTwoSided()
    alone = Shuffled(judged).play(UNIVERSE, TradingConfig(), EVERY, rng(), detail=True).trace
    own = play_jobs(UNIVERSE, judged, TradingConfig(), EVERY, rng(), detail=True).trace
    assert [counted(alone, job) for job in EVERY] == [counted(own, job) for job in EVERY]
    with pytest.raises(EvaluationError, match="whole episodes only"):
        Shuffled(judged).act(
            np.zeros((1, OBSERVATION_WIDTH), np.float32), np.ones((1, 7), np.bool_), rng()
        )


def test_more_repeats_than_the_judged_policy_had_take_its_actions_in_turn():
    judged, config = PassiveTwoSided(), EvaluationConfig(stochastic_repeats=3)
    ledger = backtests(
        UNIVERSE, [judged, Shuffled(judged)], TradingConfig(), config,
        lambda name: np.random.default_rng(len(name)),
    ).to_pylist()  # fmt: skip
    first = {row["market"]: row for row in ledger if row["policy"] == judged.name}
    shuffled = [row for row in ledger if row["policy"] == Shuffled.name]
    assert [(row["market"], row["repeat"]) for row in shuffled] == [
        (episode.market, repeat) for episode in UNIVERSE.episodes for repeat in range(3)
    ]
    for row in shuffled:
        for name in ("hold", "buy_passive", "sell_passive"):
            assert row[f"action_{name}"] == first[row["market"]][f"action_{name}"]
    assert len({row["pnl_micro"] for row in shuffled[:3]}) > 1


@pytest.mark.parametrize("actions", [None, np.zeros(3, np.uint32), np.full(119, 7, np.uint32)])
def test_a_sequence_needs_an_action_for_every_step(actions):
    with pytest.raises(InvalidAction, match="for each of 119 steps"):
        rollout.play(UNIVERSE, Script(Rule.SEQUENCE), TradingConfig(), [0], rng(), actions=actions)


def quotes(**columns: float) -> Action:
    """What Avellaneda and Stoikov's rule does in a book of 40 to 44 cents, a tick of one."""
    seen = np.zeros((1, OBSERVATION_WIDTH), np.float32)
    book = {"best_bid": 0.40, "best_ask": 0.44, "mid": 0.42, "book_state": 1.0}
    quiet = {"spread": math.log1p(4) / LOG_TICKS, "buy_distance": -1.0, "sell_distance": -1.0}
    unknown = {"seconds_to_close": -1.0}
    for name, value in {**book, **quiet, **unknown, **columns}.items():
        seen[0, COLUMN[name]] = value
    return Action(AvellanedaStoikov().act(seen, np.ones((1, 7), np.bool_), rng())[0])


BUY_AT_43, SELL_AT_41 = {"buy_distance": 0.02}, {"sell_distance": 0.02}
AT_TOUCH = {"buy_distance": 0.04, "sell_distance": 0.04}
RISKY = {"volatility_600s": 0.1}  # the mid's deviation over ten minutes is 5 cents


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        # 0.95 cents either side of 42: a bid at 43 is too dear, one at 40 is cheap enough
        ({}, Action.BUY_PASSIVE),
        ({"buy_distance": 0.04}, Action.SELL_PASSIVE),
        (AT_TOUCH, Action.HOLD),
        # a full long inventory moves the centre to 39.5 cents, the half spread is 2.2
        ({**RISKY, "inventory": 1.0}, Action.SELL_PASSIVE),
        ({**RISKY, "inventory": 1.0, "sell_distance": 0.04}, Action.HOLD),
        ({**RISKY, "inventory": -1.0}, Action.BUY_PASSIVE),
        # twice the deviation: 9 cents of the centre, the half spread is 6
        ({"volatility_600s": 0.2, "inventory": 0.9}, Action.SELL_IMPROVE),
        ({"volatility_600s": 0.2, "inventory": 0.9, **SELL_AT_41}, Action.HOLD),
        ({"volatility_600s": 0.2, "inventory": -0.9}, Action.BUY_IMPROVE),
        ({"volatility_600s": 0.2, "inventory": -0.9, **BUY_AT_43}, Action.HOLD),
        # the same a second before the close: no time is left for risk
        (
            {"volatility_600s": 0.2, "inventory": 0.9, "seconds_to_close": math.log(2) / LOG_YEAR},
            Action.SELL_PASSIVE,
        ),
        ({"book_state": 0.5}, Action.HOLD),
    ],
)
def test_the_reservation_price_is_placed_on_the_actions(columns, action):
    assert quotes(**columns) is action
