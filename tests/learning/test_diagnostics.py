"""M10 says what the agent does: shares, any dominating action, episodes by their own summary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kalshi_pipeline.learning.diagnostics import console_block, diagnose
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.summary import EpisodeSummary


def summary(pnl_micro: int, **changes: int) -> EpisodeSummary:
    numbers = dict.fromkeys(EpisodeSummary.__dataclass_fields__, 0) | {"pnl_micro": pnl_micro}
    numbers |= {"action_counts": (0,) * 7, "terminated": False} | changes
    return EpisodeSummary(**numbers)


@given(hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 6)))
def test_shares_and_entropy_are_those_of_the_counts(actions: np.ndarray) -> None:
    shown = diagnose(actions, np.zeros(len(actions)), [])
    for action in Action:
        assert shown.action_shares[action] == pytest.approx(np.mean(actions == action))
    assert -1e-9 <= shown.action_entropy <= np.log(7) + 1e-9
    assert shown.hold_share == shown.action_shares[0]
    assert (shown.dominating is not None) == (max(shown.action_shares) > 0.9)


@pytest.mark.parametrize("action", list(Action))
def test_any_action_can_dominate_not_only_hold(action: Action) -> None:
    actions = np.full(100, int(action))
    actions[:9] = (action + 1) % 7
    shown = diagnose(actions, np.zeros(100), [])
    assert shown.dominating == action.name
    assert f"{action.name} DOMINATES" in console_block(shown)


def test_rewards_are_described_in_dollars() -> None:
    shown = diagnose(np.zeros(4, int), np.array([0.0, 0.0, 1.0, -2.0]), [])
    assert shown.reward_mean == -0.25
    assert shown.reward_zero_share == 0.5
    assert shown.reward_sd == pytest.approx(np.std([0, 0, 1, -2]))


def test_episodes_are_described_by_their_summaries() -> None:
    ended = [
        summary(2_000_000, steps=10, invalid_actions=5, fees_micro=20_000, taker_fills=2),
        summary(-1_000_000, steps=10, maker_fills=1),
        summary(0, steps=20),
    ]
    shown = diagnose(np.zeros(4, int), np.zeros(4), ended)
    assert shown.episodes == 3
    assert shown.pnl_mean == pytest.approx(1 / 3)
    assert shown.win_share == pytest.approx(1 / 3)
    assert shown.invalid_share == pytest.approx(5 / 40)
    assert shown.fees_mean == pytest.approx(0.02 / 3)
    assert shown.fills_mean == 1


def test_no_ended_episode_means_no_mean_not_zero() -> None:
    shown = diagnose(np.zeros(4, int), np.zeros(4), [])
    assert shown.pnl_mean is None
    assert shown.win_share is None
    assert "none ended" in console_block(shown)


def test_the_console_block_fits_a_terminal_and_names_every_action() -> None:
    shown = diagnose(np.arange(700) % 7, np.linspace(-1, 1, 700), [summary(-123_456_789, steps=9)])
    block = console_block(shown)
    assert max(len(line) for line in block.splitlines()) <= 88
    for action in Action:
        assert action.name.lower() in block
