"""From markets to the sentence: what is luck stays sober, what is planted is found and sized.

Markets that stand at 49/50 cents, then jump 48 cents up or down. A taker who buys at 50 and sells
at 97 or 1 has paid 2 cents of fee and then 1: +44 or -52 cents; selling mirrors it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import backtest
from kalshi_pipeline.evaluation.baselines import Always, RandomUniform, baselines
from kalshi_pipeline.evaluation.evaluate import evaluate
from kalshi_pipeline.evaluation.evidence import Case, Past
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.evaluation.reports import render_html, render_json
from kalshi_pipeline.evaluation.wording import CLAIMS
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.storage.trials import TRIAL_SCHEMA
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe
from tests.tapes import universe_from_books

START_MS, STEP_MS = 1_765_000_000_000, 500
BID_BP, ASK_BP, JUMP_BP = 4_900, 5_000, 4_800
WON_CENTS, LOST_CENTS = 44, -52
THICK, THIN = 55_000, 45_000  # contracts/100: a touch so little out of balance tells no baseline
TELLS = 0.8  # how often the price goes where the touch is thicker
EVENTS = 100
EVALUATION = EvaluationConfig(n_envs=256, resamples=2_000, stochastic_repeats=1)


@cache
def jumping(tells: float, seed: int) -> Universe:
    """Two markets an event that jump the same way, to the thicker side `tells` of the time."""
    rng = np.random.default_rng(seed)
    books = []
    for _ in range(EVENTS):
        up, told = rng.random() < 0.5, rng.random() < tells
        bids, asks = (THICK, THIN) if up == told else (THIN, THICK)
        move = JUMP_BP if up else -JUMP_BP
        start_ms = START_MS + int(rng.integers(10**9))
        books += 2 * [
            [
                (
                    start_ms + k * STEP_MS,
                    (BID_BP + (k > 2) * move, bids + k),
                    (ASK_BP + (k > 2) * move, asks + k),
                )
                for k in range(5)
            ]
        ]
    return universe_from_books(books)


@dataclass(frozen=True)
class Entrant:
    """Takes one contract in each market before the jump and keeps it.

    Args:
        name: what its chance is drawn from, where it is a coin that chooses the side.
        reads: whether the thicker side of the touch chooses the side.
    """

    name: str
    reads: bool
    stochastic: bool = False

    def act(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """`[n]` BUY_BEST or SELL_BEST while flat at 49/50, HOLD afterwards."""
        thicker = observation[:, COLUMN["imbalance_touch"]] > 0
        up = thicker if self.reads else rng.random(len(observation)) < 0.5
        enters = (observation[:, COLUMN["inventory"]] == 0) & (
            np.abs(observation[:, COLUMN["mid"]] - 0.495) < 0.01
        )
        side = np.where(up, Action.BUY_BEST, Action.SELL_BEST)
        return np.where(enters, side, Action.HOLD).astype(np.int64)


def last_steps(universe: Universe) -> NDArray[np.int64]:
    """`[episodes]` row of each episode's last step in the tape's features."""
    return np.cumsum([episode.steps for episode in universe.episodes]) - 1


def case_of(
    universe: Universe,
    judged: Policy,
    tried: Mapping[str, Sequence[float]],
    beside: Sequence[Policy] | None = None,
) -> Case:
    """A policy beside every baseline, after `tried` had been scored on the same events."""
    events = [f"1/{name}" for name in sorted({episode.event for episode in universe.episodes})]

    def who(name: str, number: int) -> dict[str, Any]:
        return {
            "kind": "validation", "plan": "by_hand", "phase": "phase_1", "seed": number,
            "timesteps": 1, "algorithm": "none", "policy": name, "recipe": "0" * 16,
            "config": "0" * 16, "weights": f"{number:016d}",
        }  # fmt: skip

    rows = [
        {
            **who(name, number), "sessions": [1], "events": events,
            "pnl_micro": [round(value * MICRO_PER_CENT) for value in pnl],
        }
        for number, (name, pnl) in enumerate(tried.items())
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)
    itself = {**who(judged.name, len(tried)), "kind": "evaluation"}
    return Case(
        {1: universe}, {1: "forward"}, judged, beside or baselines(), Lineage.of((), ()), {},
        evaluation=EVALUATION, past=Past(trials=table, candidates={judged.name: itself}),
    )  # fmt: skip


def report_of(case: Case) -> dict[str, Any]:
    """The report as it is written and read again; the page may be written too."""
    report = evaluate(case, lambda _: None).report
    render_html(report)
    read: dict[str, Any] = json.loads(render_json(report))
    return read


def test_a_market_pays_what_the_head_of_this_page_says() -> None:
    universe = jumping(0.5, 1)
    table = backtest(
        universe, Entrant("Coin", False), TradingConfig(), EVALUATION, np.random.default_rng(1)
    )
    assert set(table["pnl_micro"].to_pylist()) == {
        WON_CENTS * MICRO_PER_CENT, LOST_CENTS * MICRO_PER_CENT,
    }  # fmt: skip


def test_a_planted_edge_is_found_with_its_size_and_only_it_earns_the_word() -> None:
    true_cents = 2 * (TELLS * WON_CENTS + (1 - TELLS) * LOST_CENTS)  # two markets an event
    knowing = Entrant("Learned", reads=True)
    report = report_of(case_of(jumping(TELLS, 2), knowing, {}))
    judged = report["headline"]["policies"][0]
    assert judged["pnl_interval"][0] <= true_cents <= judged["pnl_interval"][1]
    assert judged["pnl_interval"][0] > true_cents / 2
    assert [row for row in report["paired"] if not row["cheating"] and row["p_holm"] >= 0.05] == []
    assert report["verdict"]["claim"]
    assert report["verdict"]["sentence"].startswith("Profitable in replay: ")
    # were it weights of one seed, or a baseline missing, the same figures would claim nothing
    evidence = case_of(jumping(TELLS, 2), knowing, {})
    for changed, why in (
        (replace(evidence, provenance={"checkpoint": "a" * 16}), "judged by hand; a claim takes"),
        (
            replace(evidence, past=replace(evidence.past, absent=["After phase_1"])),
            "the baseline After phase_1 is missing",
        ),
    ):
        sober = report_of(changed)
        assert not sober["verdict"]["claim"]
        assert why in sober["verdict"]["sentence"]
        assert sober["provenance"].get("absent_baselines") in (None, ["After phase_1"])
    # the same policy where the touch tells nothing
    nothing = report_of(case_of(jumping(0.5, 3), knowing, {}))
    assert not nothing["verdict"]["claim"]
    assert not CLAIMS.search(json.dumps(nothing["verdict"]))


def test_the_luckiest_of_many_coins_gets_the_sober_sentence() -> None:
    universe = jumping(0.5, 4)
    blank = case_of(universe, Entrant("Coin", False), {})
    went_up = np.array([universe.tape.features[e, COLUMN["mid"]] for e in last_steps(universe)])
    coins: dict[str, NDArray[np.float64]] = {}
    for number in range(5_000):
        up = blank.rng(1, f"Coin {number}").random(len(universe)) < 0.5
        pnl = np.where(up == (went_up > 0.5), WON_CENTS, LOST_CENTS)
        coins[f"Coin {number}"] = pnl.reshape(EVENTS, 2).sum(axis=1)
    lucky = max(coins, key=lambda name: coins[name].mean())
    others = {name: pnl for name, pnl in coins.items() if name != lucky}

    # beside those it beats; it does not beat all that hold more contracts than one
    beaten = (Always(Action.HOLD), RandomUniform())
    report = report_of(case_of(universe, Entrant(lucky, False), others, beaten))
    judged = report["headline"]["policies"][0]
    assert judged["pnl_cents"] == pytest.approx(coins[lucky].mean())
    # by every figure but one it is as good as one that knows
    assert judged["pnl_interval"][0] > 0
    assert [row for row in report["paired"] if not row["cheating"] and row["p_holm"] >= 0.05] == []
    assert report["selection"]["trials"] == 5_000
    assert report["selection"]["psr"] > 0.95 > report["selection"]["deflated_sharpe"]
    assert not report["verdict"]["claim"]
    assert report["verdict"]["sentence"].startswith("No evidence of profit")
    assert "deflated Sharpe ratio" in report["verdict"]["sentence"]
    assert not CLAIMS.search(json.dumps(report["verdict"]))


@dataclass(frozen=True)
class CoinQuoter:
    """Joins the bid or the ask, as a coin says, at every step."""

    name: str = "Coin-flipping quoter"
    stochastic: bool = True

    def act(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """`[n]` BUY_PASSIVE or SELL_PASSIVE, HOLD where it is not valid."""
        heads = rng.random(len(observation)) < 0.5
        side = np.where(heads, Action.BUY_PASSIVE, Action.SELL_PASSIVE)
        valid = mask[np.arange(len(side)), side]
        return np.where(valid, side, Action.HOLD).astype(np.int64)


@cache
def coin_flips(seed: int, steps: int = 40) -> Universe:
    """Markets 8 cents wide whose mid goes up or down a cent at every step."""
    rng = np.random.default_rng(seed)
    books = []
    for _ in range(80):
        bid = 4_600 + 100 * np.cumsum(rng.choice((-1, 1), size=steps))
        start_ms = START_MS + int(rng.integers(10**9))
        books.append(
            [
                (start_ms + k * STEP_MS, (int(at), THICK), (int(at) + 800, THICK))
                for k, at in enumerate(bid)
            ]
        )
    return universe_from_books(books)


def test_a_coin_flipping_quoter_passes_the_plans_bars_under_touch_and_nothing_is_claimed() -> None:
    case = case_of(coin_flips(5), CoinQuoter(), {})
    generous = report_of(replace(case, trading=TradingConfig(fill_model="touch")))
    judged = generous["headline"]["policies"][0]
    assert judged["pnl_interval"][0] > 0
    answers = {row["text"]: row for row in generous["criteria"]}
    passed = [row for row in answers.values() if row["status"] == "pass"]
    assert len(passed) >= 5, answers
    # so does a policy that quotes as blindly, and the report says so
    for row in passed:
        assert "Passive two-sided" in row["also_met_by"], row["text"]
    assert not generous["verdict"]["claim"]
    assert not CLAIMS.search(json.dumps(generous["verdict"]))
    strict = report_of(case)
    assert strict["verdict"]["sentence"].startswith(("No evidence of profit", "Loses money"))
    assert strict["headline"]["policies"][0]["pnl_cents"] <= 0 < judged["pnl_cents"]
