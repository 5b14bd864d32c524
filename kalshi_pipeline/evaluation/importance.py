"""What a policy looks at: which of the 52 features change its actions, and what they are worth.

A feature is scrambled by dealing its values out anew among the steps of a session. Features that
rank the steps alike stand in for one another, so that each alone seems to matter little: they are
scrambled together as well. Scrambled inputs may be such as no market shows; what a policy does with
them says what it looks at and nothing about what would be.

Source: Breiman 2001, section 10; Simonyan et al. 2014 for the saliency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.trading.actions import ACTIONS, Action

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Columns = tuple[int, ...]

# Features whose rank correlation is at least this, on average over a group, are one group.
GROUP_CORRELATION = 0.7
_NUDGE = 1e-2  # of a scaled feature, either way: far above the rounding of 32-bit networks
_SALIENCY_ROWS = 256
_CONSTANT = 1e-9


@runtime_checkable
class Differentiable(Protocol):
    """A policy whose action probabilities can be asked for."""

    def probabilities(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """`[n, 7]` probability of each action for `[n, 52]` observations; rows sum to 1."""
        ...


@dataclass(frozen=True)
class Visits:
    """Steps that a policy stood at: n of them.

    Args:
        observation: `[n, 52]`
        mask: `[n, 7]`
        session: `[n]`
        event: `[n]` Kalshi event of the market, numbered.
    """

    observation: NDArray[np.float32]
    mask: NDArray[np.bool_]
    session: Ints
    event: Ints


def chances(
    policy: Policy, observation: NDArray[np.float32], mask: NDArray[np.bool_], seed: int
) -> Floats:
    """`[n, 7]` action probabilities; 1 for what it does where it does not tell them.

    Such a policy draws on the same chance in every call, so that only inputs make a difference.
    """
    if isinstance(policy, Differentiable):
        return np.asarray(policy.probabilities(observation, mask))
    actions = policy.act(observation, mask, np.random.default_rng(seed))
    return np.eye(ACTIONS)[actions]


def feature_groups(
    observation: NDArray[np.float32], correlation: float = GROUP_CORRELATION
) -> tuple[Columns, ...]:
    """Columns that rank steps alike: average linkage on 1 - |Spearman's rank correlation|.

    Args:
        observation: `[n, 52]`; a column that never changes is like no other.
        correlation: at which groups are no longer joined.

    Returns:
        Every column once, groups in the order of their first members.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = 1.0 - np.abs(_rank_correlation(observation))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average")
    label = fcluster(tree, 1.0 - correlation, "distance")
    groups = [tuple(np.flatnonzero(label == number).tolist()) for number in np.unique(label)]
    return tuple(sorted(groups))


def _rank_correlation(observation: NDArray[np.float32]) -> Floats:
    # ranks of a column that never changes are all alike and correlate with nothing
    from scipy.stats import rankdata

    ranks = rankdata(observation, axis=0)
    ranks -= ranks.mean(axis=0)
    scale = np.sqrt((ranks**2).sum(axis=0))
    constant = np.ptp(observation, axis=0) < _CONSTANT
    ranks = np.where(constant, 0.0, ranks / np.where(constant, 1.0, scale))
    return np.asarray(np.clip(ranks.T @ ranks, -1.0, 1.0))


def dealt_anew(session: Ints, rng: np.random.Generator) -> Ints:
    """`[n]` for each row another row of its session, each row once."""
    by_session = np.argsort(session, kind="stable")
    shuffled = np.lexsort((rng.random(len(session)), session))
    source = np.empty_like(by_session)
    source[by_session] = shuffled
    return source


@dataclass(frozen=True)
class Disagreement:
    """What a policy does otherwise on scrambled inputs, `[n]` each.

    Args:
        distance: total variation between the two action distributions, 0 to 1.
        changed: whether another action is the likeliest.
    """

    distance: Floats
    changed: NDArray[np.bool_]


def disagreement(
    policy: Policy, visits: Visits, columns: Sequence[int], base: Floats, seed: int
) -> Disagreement:
    """How far a policy strays when some columns are dealt out anew, together.

    Args:
        policy: asked once.
        visits: the steps.
        columns: which.
        base: `[n, 7]` what it does on the inputs as they were.
        seed: of the deal, and of the policy's own chance.
    """
    scrambled = visits.observation.copy()
    source = dealt_anew(visits.session, np.random.default_rng((seed, *columns)))
    chosen = list(columns)
    scrambled[:, chosen] = visits.observation[source][:, chosen]
    strayed = chances(policy, scrambled, visits.mask, seed)
    return Disagreement(
        np.abs(strayed - base).sum(axis=1) / 2.0, strayed.argmax(axis=1) != base.argmax(axis=1)
    )


def saliency(policy: Differentiable, visits: Visits) -> list[dict[str, Any]]:
    """How strongly each feature moves the log-probability of each action.

    Mean over visited steps of |d ln p(action) / d feature|, by central differences, for one unit of
    the scaled feature and for its standard deviation over the steps; steps at which the policy
    cannot choose the action are left out.
    """
    few = np.unique(np.linspace(0, len(visits.session) - 1, _SALIENCY_ROWS).astype(np.int64))
    observation, mask = visits.observation[few], visits.mask[few]
    n, width = observation.shape
    nudge = np.tile(np.eye(width, dtype=np.float32) * np.float32(_NUDGE), (n, 1))
    inputs, masks = np.repeat(observation, width, axis=0), np.repeat(mask, width, axis=0)
    ahead, behind = (policy.probabilities(inputs + way * nudge, masks) for way in (1, -1))
    possible = (ahead > 0) & (behind > 0)
    slope = np.zeros_like(ahead)
    slope[possible] = np.log(ahead[possible] / behind[possible]) / (2.0 * _NUDGE)
    counts = possible.reshape(n, width, ACTIONS).sum(axis=0)
    weight = np.abs(slope).reshape(n, width, ACTIONS).sum(axis=0) / np.maximum(counts, 1)
    deviation = visits.observation.std(axis=0)
    return [
        {
            "action": action.name,
            "feature": feature.name,
            "weight": float(weight[column, action]),
            "weight_per_deviation": float(weight[column, action] * deviation[column]),
        }
        for action in Action
        for column, feature in enumerate(FEATURES)
    ]
