"""M10 says what the agent does: shares, any dominating action, episodes by their own summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kalshi_pipeline.feature_table import COLUMN, MAX_TICKS, OBSERVATION_WIDTH
from kalshi_pipeline.learning.diagnostics import (
    ONE_SIDED,
    SPREAD_REGIMES,
    RolloutDiagnostics,
    console_block,
    diagnose,
)
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.summary import EpisodeSummary


def summary(pnl_micro: int, **changes: int) -> EpisodeSummary:
    numbers = dict.fromkeys(EpisodeSummary.__dataclass_fields__, 0) | {"pnl_micro": pnl_micro}
    numbers |= {"action_counts": (0,) * 7, "terminated": False} | changes
    return EpisodeSummary(**numbers)


def seen(ticks: Any, *, two_sided: Any = True) -> np.ndarray:
    """Observations of which only the spread and the state of the book are told."""
    ticks = np.asarray(ticks, float)
    observations = np.zeros((len(ticks), OBSERVATION_WIDTH), np.float32)
    observations[:, COLUMN["spread"]] = np.log1p(ticks) / np.log1p(MAX_TICKS)
    observations[:, COLUMN["book_state"]] = np.where(two_sided, 1.0, 0.5)
    return observations


def diagnosed(actions: Any, rewards: Any = 0.0, ended: Any = ()) -> RolloutDiagnostics:
    actions = np.asarray(actions)
    return diagnose(
        actions, np.broadcast_to(rewards, actions.shape), list(ended), seen(np.ones(len(actions)))
    )


@given(hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 6)))
def test_shares_and_entropy_are_those_of_the_counts(actions: np.ndarray) -> None:
    shown = diagnosed(actions)
    for action in Action:
        assert shown.action_shares[action] == pytest.approx(np.mean(actions == action))
    assert -1e-9 <= shown.action_entropy <= np.log(7) + 1e-9
    assert shown.hold_share == shown.action_shares[0]
    assert (shown.dominating is not None) == (max(shown.action_shares) > 0.9)


@pytest.mark.parametrize("action", list(Action))
def test_any_action_can_dominate_not_only_hold(action: Action) -> None:
    actions = np.full(100, int(action))
    actions[:9] = (action + 1) % 7
    shown = diagnosed(actions)
    assert shown.dominating == action.name
    assert f"{action.name} DOMINATES" in console_block(shown)


def test_rewards_are_described_in_dollars() -> None:
    shown = diagnosed(np.zeros(4, int), np.array([0.0, 0.0, 1.0, -2.0]))
    assert shown.reward_mean == -0.25
    assert shown.reward_zero_share == 0.5
    assert shown.reward_sd == pytest.approx(np.std([0, 0, 1, -2]))


def test_episodes_are_described_by_their_summaries() -> None:
    ended = [
        summary(2_000_000, steps=10, invalid_actions=5, fees_micro=20_000, taker_fills=2,
                flat_trips=3, flat_wins=2, final_position_centi=-300),
        summary(-1_000_000, steps=10, maker_fills=1, flat_trips=1, max_capital_micro=4_000_000),
        summary(0, steps=20, contracts_centi=600, max_drawdown_micro=1_500_000),
    ]  # fmt: skip
    shown = diagnosed(np.zeros(4, int), 0.0, ended).ended
    assert shown is not None
    assert shown.episodes == 3
    assert shown.pnl_mean == pytest.approx(1 / 3)
    assert shown.pnl_worst == -1
    assert shown.pnl_sd == pytest.approx(np.std([2, -1, 0]))
    assert shown.win_share == pytest.approx(1 / 3)
    assert shown.invalid_share == pytest.approx(5 / 40)
    assert shown.fees_mean == pytest.approx(0.02 / 3)
    assert shown.fills_mean == 1
    assert shown.contracts_mean == 2
    assert shown.drawdown_mean == 0.5
    assert shown.capital_mean == pytest.approx(4 / 3)
    assert shown.final_position_mean == 1
    assert (shown.trips, shown.trip_win_share) == (4, 0.5)


def test_no_ended_episode_means_no_mean_not_zero() -> None:
    shown = diagnosed(np.zeros(4, int))
    assert shown.ended is None
    assert "none ended" in console_block(shown)


def test_no_round_trip_means_no_win_share_not_zero() -> None:
    shown = diagnosed(np.zeros(4, int), 0.0, [summary(0, steps=4)]).ended
    assert shown is not None
    assert shown.trip_win_share is None


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 99), st.booleans()), min_size=1, max_size=60
    )
)
def test_every_step_is_of_one_spread_regime(steps: list[tuple[int, int, bool]]) -> None:
    actions, ticks, two_sided = (np.array(column) for column in zip(*steps, strict=True))
    shown = diagnose(actions, np.zeros(len(steps)), [], seen(ticks, two_sided=two_sided))
    assert [regime.name for regime in shown.regimes] == [*SPREAD_REGIMES, ONE_SIDED]
    lower = -1.0
    for regime, upper in zip(shown.regimes, [*SPREAD_REGIMES.values(), None], strict=True):
        here = ~two_sided if upper is None else two_sided & (ticks > lower) & (ticks <= upper)
        assert regime.share == pytest.approx(here.mean())
        counted = [np.mean(actions[here] == action) for action in Action] if here.any() else []
        assert regime.action_shares == pytest.approx(counted)
        lower = lower if upper is None else upper


def test_columns_that_never_vary_are_named_and_others_are_not() -> None:
    observations = np.random.default_rng(0).random((4, 8, OBSERVATION_WIDTH)).astype(np.float32)
    observations[..., [3, 40]] = 0.25
    shown = diagnose(np.zeros((4, 8), int), np.zeros((4, 8)), [], observations)
    assert [COLUMN[name] for name in shown.constant_columns] == [3, 40]
    assert "2 of 52 columns" in console_block(shown)


def test_the_console_block_fits_a_terminal_and_names_every_action() -> None:
    rewards = np.linspace(-1, 1, 700)
    worst = summary(-123_456_789, steps=9, flat_trips=1, max_capital_micro=99_000_000)
    block = console_block(diagnosed(np.arange(700) % 7, rewards, [worst]))
    assert max(len(line) for line in block.splitlines()) <= 88
    for action in Action:
        assert action.name.lower() in block
