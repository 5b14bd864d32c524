"""M10: what the agent is doing, one summary a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_DOLLAR
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.summary import EpisodeSummary

DOMINATION = 0.9  # plan section 6.2


@dataclass(frozen=True)
class RolloutDiagnostics:
    """Actions and rewards of one rollout, and the episodes that ended in it.

    Means over episodes are None where none ended. They come from the summary an episode ends with,
    never from an environment that has been reset already.

    Args:
        steps: transitions in the rollout.
        action_shares: `[7]` share of each action.
        action_entropy: entropy of those shares in nats; ln 7 = 1.95 when all are equal.
        dominating: the action taken in more than 90 % of the steps, whichever it is.
        reward_mean: dollars a step.
        reward_sd: dollars, population standard deviation over steps.
        reward_zero_share: share of steps whose reward is exactly 0.
        episodes: episodes that ended.
        pnl_mean: dollars an episode, marked at liquidation or settlement, fees on.
        fees_mean: dollars an episode.
        fills_mean: fills an episode, maker and taker.
        invalid_share: share of the ended episodes' actions that were invalid.
        win_share: share of the ended episodes with a profit.
    """

    steps: int
    action_shares: tuple[float, ...]
    action_entropy: float
    dominating: str | None
    reward_mean: float
    reward_sd: float
    reward_zero_share: float
    episodes: int
    pnl_mean: float | None
    fees_mean: float | None
    fills_mean: float | None
    invalid_share: float | None
    win_share: float | None

    @property
    def hold_share(self) -> float:
        """Share of HOLD."""
        return self.action_shares[Action.HOLD]


def diagnose(
    actions: NDArray[np.integer],
    rewards: NDArray[np.floating],
    ended: Sequence[EpisodeSummary],
) -> RolloutDiagnostics:
    """Summarise a rollout.

    Args:
        actions: any shape, one entry a transition.
        rewards: the same shape, dollars, as the environment gave them.
        ended: summaries of the episodes that ended in the rollout.
    """
    shares = np.bincount(actions.ravel(), minlength=len(Action)) / actions.size
    positive = shares[shares > 0]
    top = int(shares.argmax())
    pnl = np.array([episode.pnl_micro for episode in ended]) / MICRO_PER_DOLLAR
    steps = sum(episode.steps for episode in ended)
    invalid = sum(episode.invalid_actions for episode in ended)
    return RolloutDiagnostics(
        steps=actions.size,
        action_shares=tuple(shares.tolist()),
        action_entropy=float(-(positive * np.log(positive)).sum()),
        dominating=Action(top).name if shares[top] > DOMINATION else None,
        reward_mean=float(rewards.mean()),
        reward_sd=float(rewards.std()),
        reward_zero_share=float((rewards == 0).mean()),
        episodes=len(ended),
        pnl_mean=_mean(pnl),
        fees_mean=_mean([episode.fees_micro / MICRO_PER_DOLLAR for episode in ended]),
        fills_mean=_mean([episode.taker_fills + episode.maker_fills for episode in ended]),
        invalid_share=invalid / steps if steps else None,
        win_share=_mean(pnl > 0),
    )


def console_block(diagnostics: RolloutDiagnostics) -> str:
    """The summary for a terminal, no line longer than 80 characters."""
    shares = "  ".join(
        f"{action.name.lower()} {share:.0%}"
        for action, share in zip(Action, diagnostics.action_shares, strict=True)
    )
    split = shares.index("  sell_best")
    alarm = f", {diagnostics.dominating} DOMINATES" if diagnostics.dominating else ""
    lines = [
        f"actions  {shares[:split]}",
        f"         {shares[split + 2 :]}",
        f"         entropy {diagnostics.action_entropy:.2f} of {np.log(len(Action)):.2f}{alarm}",
        f"rewards  mean ${diagnostics.reward_mean:+.5f}, sd ${diagnostics.reward_sd:.5f}, "
        f"zero {diagnostics.reward_zero_share:.0%}",
    ]
    if diagnostics.pnl_mean is None:
        return "\n".join([*lines, "episodes none ended"])
    lines.append(
        f"episodes {diagnostics.episodes} ended: mean P&L ${diagnostics.pnl_mean:+.4f}, "
        f"wins {diagnostics.win_share:.0%},"
    )
    lines.append(
        f"         fees ${diagnostics.fees_mean:.4f}, fills {diagnostics.fills_mean:.1f}, "
        f"invalid actions {diagnostics.invalid_share:.0%}"
    )
    return "\n".join(lines)


def _mean(values: Sequence[float] | NDArray[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None
