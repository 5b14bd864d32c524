"""What training shows of itself: one record a rollout, and the result of a phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kalshi_pipeline.learning.alert_rules import Firing
from kalshi_pipeline.learning.diagnostics import RolloutDiagnostics, diagnose
from kalshi_pipeline.learning.learner import Learner, UpdateFigures
from kalshi_pipeline.learning.watch import Watch
from kalshi_pipeline.storage.checkpoints import Checkpoint


@dataclass(frozen=True, kw_only=True)
class RolloutRecord(UpdateFigures):
    """What one rollout and the update from it showed, the figures of the update included.

    Args:
        timesteps: environment steps of the phase so far.
        diagnostics: actions, rewards and ended episodes of the rollout.
        steps_per_second: throughput by the caller's clock: rollout, checks and update. The one
            figure that differs from run to run.
    """

    timesteps: int
    diagnostics: RolloutDiagnostics
    steps_per_second: float


@dataclass(frozen=True)
class TrainingProgress:
    """Where a phase stands, told after each rollout.

    Args:
        phase: name of the phase.
        timesteps: environment steps of the phase so far.
        target: environment steps it will have taken in the end (whole rollouts).
        timesteps_total: the same as `timesteps`, parents included.
        record: the rollout just learned from.
        kept: whether that record is one of those that outlive the phase.
        knobs: settings of the algorithm, after what alerts did about this rollout.
        firings: alerts that fired since the last time.
        score: of the validation since the last time, where there was one.
    """

    phase: str
    timesteps: int
    target: int
    timesteps_total: int
    record: RolloutRecord
    kept: bool = True
    knobs: Mapping[str, float] = field(default_factory=dict)
    firings: tuple[Firing, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class History:
    """What a phase has shown up to one update boundary: JSON values and what they are made of.

    Args:
        records: as in `TrainingResult`.
        validations: as in `TrainingResult`.
        firings: as in `TrainingResult`.
    """

    records: tuple[RolloutRecord, ...] = ()
    validations: tuple[tuple[int, float], ...] = ()
    firings: tuple[Firing, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A phase at an update boundary, from which it goes on as if it had never stopped.

    Args:
        checkpoint: one that can be resumed from.
        history: what was shown up to there.
        best: the checkpoint with the highest validation score so far, where anything validates.
    """

    checkpoint: Checkpoint
    history: History = field(default_factory=History)
    best: Checkpoint | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a phase leaves behind.

    Args:
        final: the last checkpoint.
        best: the one with the highest validation score; the final one where nothing validates.
        timesteps: environment steps truly taken: the request rounded up to whole rollouts.
        records: at most `training.MAX_RECORDS` rollouts, evenly spread, first and last among them.
        validations: (timesteps, score) of every validation.
        market_draws: (session, market) -> episodes started there.
        market_returns: (session, market) -> mean dollars an episode that ended there; None of none.
        firings: every alert that fired, in time order.
        stopped: an alert ended the phase before its last rollout.
    """

    final: Checkpoint
    best: Checkpoint
    timesteps: int
    records: tuple[RolloutRecord, ...]
    validations: tuple[tuple[int, float], ...]
    market_draws: dict[tuple[int, str], int]
    market_returns: dict[tuple[int, str], float | None]
    firings: tuple[Firing, ...] = ()
    stopped: bool = False

    def course(self) -> dict[str, Any]:
        """JSON values of what happened on the way; the records are not among them."""
        return {
            "validations": [{"timesteps": at, "score": score} for at, score in self.validations],
            "alerts": [asdict(firing) for firing in self.firings],
            "stopped": self.stopped,
            "markets": [
                {
                    "session": session,
                    "market": market,
                    "draws": draws,
                    "dollars an episode": self.market_returns[session, market],
                }
                for (session, market), draws in self.market_draws.items()
            ],
        }


def record_rollout(learner: Learner, watch: Watch, timesteps: int, seconds: float) -> RolloutRecord:
    """Read the rollout a learner has just learned from.

    Args:
        learner: after its update.
        watch: the callback of the rollout.
        timesteps: environment steps of the phase so far.
        seconds: what rollout and update took.
    """
    diagnostics = diagnose(learner.actions, watch.rewards, watch.ended, learner.observations)
    return RolloutRecord(
        timesteps=timesteps,
        diagnostics=diagnostics,
        steps_per_second=diagnostics.steps / seconds if seconds > 0 else 0.0,
        **asdict(learner.figures),
    )
