"""M10: what the agent is doing, one summary a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import CENTI_PER_CONTRACT, MICRO_PER_DOLLAR
from kalshi_pipeline.feature_table import COLUMN, FEATURES, MAX_TICKS
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.summary import EpisodeSummary

DOMINATION = 0.9  # plan section 6.2
# a regime holds two-sided books with a spread up to so many ticks and above the one before it
SPREAD_REGIMES = {"1 tick": 1.0, "2-3 ticks": 3.0, "4+ ticks": np.inf}
ONE_SIDED = "one-sided"


@dataclass(frozen=True)
class Regime:
    """What was done while books looked alike.

    Args:
        name: of `SPREAD_REGIMES`, or `ONE_SIDED` for books without a bid or without an ask.
        share: of the steps.
        action_shares: `[7]` share of each action there; empty where there was no such step.
    """

    name: str
    share: float
    action_shares: tuple[float, ...]


@dataclass(frozen=True)
class EpisodeFigures:
    """Means over the episodes that ended, from their own terminal summaries.

    Args:
        episodes: how many ended.
        pnl_mean: dollars an episode, marked at liquidation or settlement, fees on.
        pnl_sd: dollars, population standard deviation over episodes.
        pnl_worst: dollars.
        fees_mean: dollars an episode.
        fills_mean: fills an episode, maker and taker.
        contracts_mean: contracts traded an episode.
        drawdown_mean: dollars, largest fall of liquidation equity from its peak.
        capital_mean: dollars, largest cost of position and reservations.
        final_position_mean: contracts held at the end, either side, without sign.
        invalid_share: share of the episodes' actions that were invalid.
        win_share: share of the episodes with a profit.
        trips: round trips, flat to flat.
        trip_win_share: share of those that gained after fees; None without one.
    """

    episodes: int
    pnl_mean: float
    pnl_sd: float
    pnl_worst: float
    fees_mean: float
    fills_mean: float
    contracts_mean: float
    drawdown_mean: float
    capital_mean: float
    final_position_mean: float
    invalid_share: float
    win_share: float
    trips: int
    trip_win_share: float | None


@dataclass(frozen=True)
class RolloutDiagnostics:
    """Actions, rewards and observations of one rollout, and the episodes that ended in it.

    Args:
        steps: transitions in the rollout.
        action_shares: `[7]` share of each action.
        action_entropy: entropy of those shares in nats; ln 7 = 1.95 when all are equal.
        dominating: the action taken in more than 90 % of the steps, whichever it is.
        reward_mean: dollars a step.
        reward_sd: dollars, population standard deviation over steps.
        reward_zero_share: share of steps whose reward is exactly 0.
        ended: what the episodes that ended came to; None where none ended, never an invented 0.
        regimes: actions by spread.
        constant_columns: names of the observation's columns that did not vary at all.
    """

    steps: int
    action_shares: tuple[float, ...]
    action_entropy: float
    dominating: str | None
    reward_mean: float
    reward_sd: float
    reward_zero_share: float
    ended: EpisodeFigures | None
    regimes: tuple[Regime, ...]
    constant_columns: tuple[str, ...]

    @property
    def hold_share(self) -> float:
        """Share of HOLD."""
        return self.action_shares[Action.HOLD]


def diagnose(
    actions: NDArray[np.integer],
    rewards: NDArray[np.floating],
    ended: Sequence[EpisodeSummary],
    observations: NDArray[np.float32],
) -> RolloutDiagnostics:
    """Summarise a rollout.

    Args:
        actions: any shape, one entry a transition.
        rewards: as many, dollars, as the environment gave them.
        ended: summaries of the episodes that ended in the rollout.
        observations: `[..., 52]` what each action was chosen from, in the order of `actions`.
    """
    flat, seen = actions.ravel(), observations.reshape(-1, len(FEATURES))
    shares = _shares(flat)
    positive = shares[shares > 0]
    top = int(shares.argmax())
    still = seen.min(axis=0) == seen.max(axis=0)
    return RolloutDiagnostics(
        steps=flat.size,
        action_shares=tuple(shares.tolist()),
        action_entropy=float(-(positive * np.log(positive)).sum()),
        dominating=Action(top).name if shares[top] > DOMINATION else None,
        reward_mean=float(rewards.mean()),
        reward_sd=float(rewards.std()),
        reward_zero_share=float((rewards == 0).mean()),
        ended=episode_figures(ended),
        regimes=_by_spread(flat, seen),
        constant_columns=tuple(FEATURES[column].name for column in np.flatnonzero(still)),
    )


def episode_figures(ended: Sequence[EpisodeSummary]) -> EpisodeFigures | None:
    """Means over episodes; None of none."""
    if not ended:
        return None
    pnl = np.array([episode.pnl_micro for episode in ended]) / MICRO_PER_DOLLAR
    trips = sum(episode.flat_trips for episode in ended)
    steps = sum(episode.steps for episode in ended)
    return EpisodeFigures(
        episodes=len(ended),
        pnl_mean=float(pnl.mean()),
        pnl_sd=float(pnl.std()),
        pnl_worst=float(pnl.min()),
        fees_mean=_mean([episode.fees_micro for episode in ended], MICRO_PER_DOLLAR),
        fills_mean=_mean([episode.taker_fills + episode.maker_fills for episode in ended]),
        contracts_mean=_mean([episode.contracts_centi for episode in ended], CENTI_PER_CONTRACT),
        drawdown_mean=_mean([episode.max_drawdown_micro for episode in ended], MICRO_PER_DOLLAR),
        capital_mean=_mean([episode.max_capital_micro for episode in ended], MICRO_PER_DOLLAR),
        final_position_mean=_mean(
            [abs(episode.final_position_centi) for episode in ended], CENTI_PER_CONTRACT
        ),
        invalid_share=sum(episode.invalid_actions for episode in ended) / max(1, steps),
        win_share=float((pnl > 0).mean()),
        trips=trips,
        trip_win_share=sum(e.flat_wins for e in ended) / trips if trips else None,
    )


def console_block(diagnostics: RolloutDiagnostics) -> str:
    """The summary for a terminal, no line longer than 88 characters."""
    alarm = f", {diagnostics.dominating} DOMINATES" if diagnostics.dominating else ""
    names = [action.name.lower() for action in Action]
    texts = [f"{n} {s:.0%}" for n, s in zip(names, diagnostics.action_shares, strict=True)]
    lines = [
        f"actions  {'  '.join(texts[:4])}",
        f"         {'  '.join(texts[4:])}",
        f"         entropy {diagnostics.action_entropy:.2f} of {np.log(len(Action)):.2f}{alarm}",
        f"rewards  mean ${diagnostics.reward_mean:+.5f}, sd ${diagnostics.reward_sd:.5f}, "
        f"zero {diagnostics.reward_zero_share:.0%}",
    ]
    if regimes := [_regime(regime) for regime in diagnostics.regimes if regime.action_shares]:
        lines += [f"{'spread' if not place else '':8} {r}" for place, r in enumerate(regimes)]
    if still := len(diagnostics.constant_columns):
        lines.append(f"observed {still} of {len(FEATURES)} columns did not vary")
    ended = diagnostics.ended
    if ended is None:
        return "\n".join([*lines, "episodes none ended"])
    trips = "" if ended.trip_win_share is None else f", {ended.trip_win_share:.0%} of trips won"
    return "\n".join(
        [
            *lines,
            f"episodes {ended.episodes} ended: mean P&L ${ended.pnl_mean:+.4f}, "
            f"worst ${ended.pnl_worst:+.2f}, {ended.win_share:.0%} in profit{trips}",
            f"         fees ${ended.fees_mean:.4f}, fills {ended.fills_mean:.1f}, "
            f"invalid actions {ended.invalid_share:.0%}",
            f"         drawdown ${ended.drawdown_mean:.2f}, capital ${ended.capital_mean:.2f}, "
            f"held at the end {ended.final_position_mean:.1f}",
        ]
    )


def _by_spread(actions: NDArray[np.integer], seen: NDArray[np.float32]) -> tuple[Regime, ...]:
    ticks = np.expm1(seen[:, COLUMN["spread"]] * np.log1p(MAX_TICKS))
    # the scaled spread is float32: half a tick of tolerance keeps whole ticks apart
    regime = np.searchsorted([top + 0.5 for top in SPREAD_REGIMES.values()], ticks)
    regime[seen[:, COLUMN["book_state"]] != 1] = len(SPREAD_REGIMES)
    counted = []
    for place, name in enumerate([*SPREAD_REGIMES, ONE_SIDED]):
        there = actions[regime == place]
        shares = tuple(_shares(there).tolist()) if there.size else ()
        counted.append(Regime(name, there.size / actions.size, shares))
    return tuple(counted)


def _regime(regime: Regime) -> str:
    hold, *rest = regime.action_shares
    buys, sells = sum(rest[:3]), sum(rest[3:])
    return (
        f"{regime.name} in {regime.share:.0%} of steps: hold {hold:.0%}, buy {buys:.0%}, "
        f"sell {sells:.0%}"
    )


def _shares(actions: NDArray[np.integer]) -> NDArray[np.float64]:
    counts = np.bincount(actions.astype(np.int64), minlength=len(Action))
    shares: NDArray[np.float64] = counts / max(1, actions.size)
    return shares


def _mean(values: Sequence[Any], unit: int = 1) -> float:
    return float(np.mean(values)) / unit
