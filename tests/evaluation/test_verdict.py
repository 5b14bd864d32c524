"""The sentence says what is true, and its strong words have to be earned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.inference import Interval
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.metrics import measure, panel
from kalshi_pipeline.evaluation.paired import paired
from kalshi_pipeline.evaluation.seeds import OverSeeds
from kalshi_pipeline.evaluation.verdict import Cell, Verdict, verdict
from kalshi_pipeline.evaluation.wording import CLAIMS
from tests.evaluation.ledgers import event_ledger

CONFIG = EvaluationConfig(resamples=2_000)
HEADLINE = Cell.of(TradingConfig())


def judge(
    pnl_cents: dict[str, np.ndarray],
    *,
    cell: Cell = HEADLINE,
    generated: bool = False,
    trainings: OverSeeds | None = None,
    deflated_sharpe: float | None = None,
    cheating: Collection[str] = (),
    config: EvaluationConfig = CONFIG,
    against: Sequence[str] = (),
) -> Verdict:
    data = panel(event_ledger(pnl_cents), list(pnl_cents))
    labels = Counter({Label.CLEAN_FORWARD: data.events})
    compared = paired(data, list(pnl_cents)[1:], config, cheating)
    return verdict(
        measure(data, config), compared, labels, cell, config,
        generated=generated, trainings=trainings, deflated_sharpe=deflated_sharpe,
        against=against,
    )  # fmt: skip


def spread(mean: float, events: int = 60, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=10.0, size=events)
    return noise - noise.mean() + mean


SKILLED = {"PPO": spread(20), "Hold": np.zeros(60), "Random": spread(-5, seed=1)}


def test_a_lucky_random_policy_gets_the_sober_sentence() -> None:
    lucky = judge(SKILLED)
    assert lucky.sentence.startswith("No evidence of profit: +20.0 ¢ per event [")
    assert lucky.sentence.endswith("no deflated Sharpe ratio corrects for the choice made.")
    assert not lucky.claim
    assert not CLAIMS.search(lucky.sentence)


@pytest.mark.parametrize("deflated_sharpe", [None, 0.0, 0.949])
def test_nothing_is_claimed_without_a_deflated_sharpe_ratio(deflated_sharpe: float | None) -> None:
    assert not CLAIMS.search(judge(SKILLED, deflated_sharpe=deflated_sharpe).sentence)


def test_everything_together_earns_the_word() -> None:
    earned = judge(SKILLED, deflated_sharpe=0.96)
    assert earned.claim
    assert earned.sentence.startswith("Profitable in replay: +20.0 ¢ per event [")


@pytest.mark.parametrize("interval", [None, Interval(-1.0, 9.0), Interval(1.0, 9.0)])
def test_with_several_seeds_their_mean_must_hold_too(interval: Interval | None) -> None:
    metrics = measure(panel(event_ledger(SKILLED), list(SKILLED)), CONFIG)
    trainings = OverSeeds("", True, 60, ((0, metrics[0]),) * 5, 5.0, interval, 5.0, None)
    judged = judge(SKILLED, trainings=trainings, deflated_sharpe=0.96)
    assert judged.claim == (interval == Interval(1.0, 9.0))
    if not judged.claim:
        assert judged.sentence.endswith("not shown for the mean over its 5 training seeds.")


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_fewer_than_five_trainings_claim_nothing_whatever_their_mean(seeds: int) -> None:
    metrics = measure(panel(event_ledger(SKILLED), list(SKILLED)), CONFIG)
    interval = Interval(1.0, 9.0)
    few = OverSeeds("", True, 60, ((0, metrics[0]),) * seeds, 5.0, interval, 5.0, None)
    judged = judge(SKILLED, trainings=few, deflated_sharpe=0.96)
    assert not judged.claim
    assert judged.sentence.endswith(f"{seeds} training seeds; a claim takes the mean over 5.")


def test_a_reason_that_is_no_figure_is_the_last_word() -> None:
    sober = judge(SKILLED, deflated_sharpe=0.99, against=["the baseline After phase_1 is missing"])
    assert not sober.claim
    assert sober.sentence.endswith("; the baseline After phase_1 is missing.")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("confidence", 0.9), ("confidence", float("nan")), ("resamples", 1_999),
     ("embargo_ms", 3_599_999), ("embargo_ms", -1)],
)  # fmt: skip
def test_no_setting_is_too_lax_for_the_rule(setting: str, value: float) -> None:
    strict = verdict_under(CONFIG)
    assert strict.claim
    loose = verdict_under(replace(CONFIG, **{setting: value}))
    assert not loose.claim
    assert f"but {setting} " in loose.sentence


def verdict_under(config: EvaluationConfig) -> Verdict:
    """What is said of the same figures under other settings."""
    data = panel(event_ledger(SKILLED), list(SKILLED))
    compared = paired(data, list(SKILLED)[1:], CONFIG)
    labels = Counter({Label.CLEAN_FORWARD: data.events})
    return verdict(
        measure(data, CONFIG), compared, labels, HEADLINE, config,
        generated=False, deflated_sharpe=0.99,
    )  # fmt: skip


def test_a_coin_on_eight_events_is_sober_under_any_plan() -> None:
    loose = replace(CONFIG, min_units=2, confidence=0.5)
    coin = {"PPO": spread(20, events=8), "Hold": np.zeros(8)}
    lucky = judge(coin, config=loose, deflated_sharpe=0.99)
    assert measure(panel(event_ledger(coin), list(coin)), loose)[0].pnl_interval.low > 0
    assert not lucky.claim
    assert lucky.sentence.endswith("but under the 30 events a claim takes.")


@pytest.mark.parametrize(
    "cell",
    [replace(HEADLINE, fees=False), replace(HEADLINE, mark="mid"),
     replace(HEADLINE, latency_ms=0), replace(HEADLINE, latency_ms=249)],
)  # fmt: skip
def test_outside_the_headline_cell_nothing_is_claimed(cell: Cell) -> None:
    sober = judge(SKILLED, cell=cell, deflated_sharpe=0.99)
    assert not sober.claim
    assert not CLAIMS.search(sober.sentence)


def test_one_unbeaten_baseline_is_enough_for_doubt() -> None:
    pnl = {**SKILLED, "Passive two-sided": spread(19, seed=2)}
    sober = judge(pnl, deflated_sharpe=0.99)
    assert sober.sentence.endswith("; not shown to beat Passive two-sided.")
    assert not sober.claim


def test_a_policy_without_baselines_is_doubted() -> None:
    assert judge({"PPO": spread(0)}).sentence.endswith("0 is inside the interval.")
    alone = judge({"PPO": spread(20)}, deflated_sharpe=0.99)
    assert alone.sentence.endswith("no baseline beside it.")
    assert not alone.claim


def test_who_cheats_has_not_to_be_beaten() -> None:
    pnl = {**SKILLED, "Oracle": spread(200, seed=2)}
    assert not judge(pnl, deflated_sharpe=0.99).claim
    assert judge(pnl, deflated_sharpe=0.99, cheating=["Oracle"]).claim
    only = {"PPO": SKILLED["PPO"], "Oracle": SKILLED["Hold"]}
    assert not judge(only, deflated_sharpe=0.99, cheating=["Oracle"]).claim
    few = {"PPO": spread(5, events=19), "Hold": np.zeros(19), "Oracle": spread(50, events=19)}
    assert "best baseline Hold" in judge(few, cheating=["Oracle"]).sentence


def test_an_interval_above_zero_that_many_comparisons_explain_is_not_enough() -> None:
    # each of 20 baselines is beaten at about 2 %: with 20 looks that is nothing
    events = 60
    gains = spread(3.05, events)
    pnl = {"PPO": gains + 50.0} | {f"B{k:02d}": np.full(events, 50.0) for k in range(20)}
    data = panel(event_ledger(pnl), list(pnl))
    compared = paired(data, list(pnl)[1:], CONFIG)
    assert all(each.interval_percentile.low > 0 for each in compared)
    assert all(each.p_value < 0.05 < each.p_holm for each in compared)
    judged = judge(pnl, deflated_sharpe=0.99)
    assert not judged.claim
    assert judged.sentence.endswith("not shown to beat B00 and 19 more.")
    assert judge(dict(list(pnl.items())[:2]), deflated_sharpe=0.99).claim


def test_a_loss_is_said_plainly() -> None:
    losing = judge({"PPO": spread(-20), "Hold": np.zeros(60)})
    assert losing.sentence.startswith("Loses money: −20.0 ¢ per event [−")
    assert "60 clean-forward events, fill model cross, liquidation mark, fees on" in losing.sentence


def test_nineteen_events_are_under_thirty() -> None:
    few = judge({"PPO": spread(50, events=19), "Hold": np.zeros(19)}, deflated_sharpe=0.99)
    assert few.sentence == (
        "No evidence of profit: 19 clean-forward events are under the 30 an interval needs; "
        "+50.0 ¢ per event, best baseline Hold +0.0 ¢, fill model cross, liquidation mark, fees on."
    )


def test_one_event_is_singular() -> None:
    assert "1 clean-forward event is under" in judge({"PPO": spread(0, events=1)}).sentence


def test_no_clean_forward_event_is_said_first() -> None:
    labels = Counter({Label.IN_SAMPLE: 3, Label.BACKWARD: 1})
    nothing = verdict((), (), labels, HEADLINE, CONFIG, generated=False)
    assert nothing.sentence.startswith(
        "No evidence of profit: no clean-forward events (there are 3 in-sample events, "
        "1 backward event)"
    )


@pytest.mark.parametrize("mean", [-20, 0, 20])
@pytest.mark.parametrize("events", [10, 60])
def test_generated_sessions_are_named_in_the_same_breath(mean: float, events: int) -> None:
    pnl = {"PPO": spread(mean, events), "Hold": np.zeros(events)}
    sentence = judge(pnl, generated=True, deflated_sharpe=0.99).sentence
    assert "on generated sessions: " in sentence or "of generated sessions: " in sentence
    assert "generated" not in judge(pnl).sentence


@pytest.mark.parametrize(
    ("config", "named", "headline"),
    [
        (TradingConfig(queue_alpha=1.0), "cross", True),
        (TradingConfig(fill_model="queue", queue_alpha=0.25), "queue(0.25)", False),
        (TradingConfig(fill_model="touch"), "touch", False),
    ],
)
def test_a_cell_names_its_fill_model_and_its_share(config, named, headline):
    cell = Cell.of(config)
    assert str(cell) == f"fill model {named}, liquidation mark, fees on"
    assert cell.headline is headline


@pytest.mark.parametrize(
    ("latency_ms", "told", "headline"),
    [(0, ", latency 0 ms", False), (250, "", True), (5_000, ", latency 5000 ms", True)],
)
def test_a_cell_that_is_not_as_slow_as_the_headlines_says_so(latency_ms, told, headline):
    cell = Cell.of(TradingConfig(latency_ms=latency_ms))
    assert str(cell) == f"fill model cross, liquidation mark, fees on{told}"
    assert cell.headline is headline
