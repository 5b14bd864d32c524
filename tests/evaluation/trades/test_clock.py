"""The portfolio on a clock: its path ends at the profit, its error allows for correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.backtest import play
from kalshi_pipeline.evaluation.baselines import RandomUniform
from kalshi_pipeline.evaluation.trades import clock
from kalshi_pipeline.evaluation.trades.clock import (
    Path,
    in_time,
    long_run_variance,
    path_of,
    pooled,
    sharpe_in_time,
)
from tests.tapes import random_universe


def test_the_path_is_the_sum_of_the_equities_known_at_each_tick(monkeypatch):
    monkeypatch.setattr(clock, "GRID_MS", 7_000)
    universe = random_universe(np.random.default_rng(3), episodes=5, steps=50)
    config = TradingConfig(fill_model="touch", latency_ms=0)
    played = play(
        universe, RandomUniform(), config, EvaluationConfig(stochastic_repeats=2),
        np.random.default_rng(0), detail=True,
    )  # fmt: skip
    weight = np.where(np.arange(10) < 2, 0.0, 0.5)  # the first episode is left out
    path = path_of(universe.tape, played, config.cash_start_micro, weight)
    tape, trace = universe.tape, played.trace
    times = tape.time_ms[tape.step_row[trace.step + 1]].tolist()
    looked = np.unique(np.array(times) // 7_000 + 1)  # ticks before which something happened
    places = np.searchsorted(path.tick, looked)
    places = places[(places < len(path.tick)) & (looked >= path.tick[0])]
    assert len(places) > 50
    for place in places:
        gained = tied = 0.0
        for job in range(2, 10):
            steps = range(trace.first[job], trace.first[job + 1])
            known = [at for at in steps if times[at] <= path.tick[place] * 7_000]
            if known:
                gained += (int(trace.equity_micro[known[-1]]) - config.cash_start_micro) / 2
                running = len(known) < len(steps)
                tied += int(trace.capital_micro[known[-1]]) / 2 if running else 0
        assert path.equity_micro[place] == pytest.approx(gained)
        assert path.capital_micro[place] == pytest.approx(tied)
    total = sum(summary.pnl_micro for summary in played.summaries[2:]) / 2
    assert path.equity_micro[-1] == pytest.approx(total)
    assert path.equity_micro[0] == 0.0


def test_sessions_are_joined_by_their_ticks():
    morning = Path(np.array([3, 4]), np.array([0.0, 5.0]), np.array([1.0, 2.0]))
    overlap = Path(np.array([4, 5]), np.array([0.0, -3.0]), np.array([7.0, 0.0]))
    night = Path(np.array([90, 91]), np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    whole = pooled([night, morning, overlap])
    assert whole.tick.tolist() == [3, 4, 5, 90, 91]
    assert whole.equity_micro.tolist() == [0.0, 5.0, 2.0, 2.0, 3.0]
    assert whole.capital_micro.tolist() == [1.0, 9.0, 0.0, 1.0, 1.0]
    figures = in_time(whole)
    assert (figures.max_drawdown_cents, figures.max_drawdown_share) == (3 / 10_000, 3 / 9)
    assert figures.annual_sharpe is None


def test_a_year_is_named_only_where_a_month_was_seen():
    gains = np.tile([0.0, 1.0, 3.0], 4_000)
    ticks = np.arange(len(gains))
    figures = in_time(Path(ticks, gains, np.ones(len(gains))))
    assert figures.annual_sharpe == pytest.approx(figures.sharpe * math.sqrt(365 * 288))
    month = slice(0, 30 * 288)  # one tick short of it
    assert in_time(Path(ticks[month], gains[month], gains[month])).annual_sharpe is None


def test_nothing_gained_has_no_sharpe_ratio():
    figures = in_time(Path(np.arange(9), np.zeros(9), np.zeros(9)))
    assert figures.sharpe is figures.hac_error is figures.max_drawdown_share is None
    assert figures.max_drawdown_cents == 0.0


def test_the_long_run_variance_is_the_weighted_sum_of_autocovariances():
    values = np.random.default_rng(0).normal(size=250)
    centred, lags = values - values.mean(), math.floor(4 * 2.5 ** (2 / 9))
    expected = sum(
        (1 - abs(lag) / (lags + 1))
        * sum(centred[i] * centred[i + abs(lag)] for i in range(250 - abs(lag)))
        / 250
        for lag in range(-lags, lags + 1)
    )
    assert long_run_variance(values) == pytest.approx(expected)


@pytest.mark.parametrize(("correlation", "plain_is_right"), [(0.0, True), (0.4, False)])
def test_the_error_covers_correlated_gains_and_the_plain_one_does_not(correlation, plain_is_right):
    rng, n, rounds = np.random.default_rng(7), 600, 400
    covered = plain = 0
    for _ in range(rounds):
        gains = rng.normal(size=n + 50)
        for at in range(1, n + 50):
            gains[at] += correlation * gains[at - 1]
        deviation = 1 / math.sqrt(1 - correlation**2)
        sharpe, error = sharpe_in_time(gains[50:] + 0.1 * deviation)
        covered += abs(sharpe - 0.1) < 1.96 * error
        plain += abs(sharpe - 0.1) < 1.96 * math.sqrt((1 + sharpe**2 / 2) / n)
    assert 0.90 < covered / rounds < 0.98
    assert (plain / rounds > 0.92) == plain_is_right
