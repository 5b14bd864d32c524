"""The hardest control: the judged policy's own actions, at other times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.trading.rollout import play
from kalshi_pipeline.trading.scripts import Rule, Script
from kalshi_pipeline.trading.simulator import indices_of

if TYPE_CHECKING:
    from kalshi_pipeline.trading.record import Played, Trace
    from kalshi_pipeline.trading.tape import Universe


@dataclass(frozen=True)
class Shuffled:
    """What the judged policy did on a segment, in random order: whether its timing adds anything.

    How often it bought, sold and held is the same to the last action, those that were invalid
    included; only when it did so is chance.

    Args:
        judged: whose actions they are.
    """

    judged: Policy
    name: ClassVar[str] = "Own actions, shuffled in time"
    stochastic: ClassVar[bool] = True

    def play(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        *,
        detail: bool = False,
    ) -> Played:
        """Whole episodes, played by the judged policy first; see `Player.play`."""
        from kalshi_pipeline.evaluation.backtest import play_jobs

        jobs = indices_of("episode", episodes, len(universe))
        own = play_jobs(universe, self.judged, config, jobs, rng, detail=True).trace
        if own is None:
            raise EvaluationError("a policy kept no trace", rule="policies", value=self.judged.name)
        return self.play_again(universe, config, jobs, rng, own, detail=detail)

    def play_again(
        self,
        universe: Universe,
        config: TradingConfig,
        episodes: Any,
        rng: np.random.Generator,
        own: Trace,
        *,
        detail: bool = False,
    ) -> Played:
        """Whole episodes that the judged policy has played already.

        Args:
            universe: as for `play`, as the next three.
            config: rules of an episode.
            episodes: `[K]`, each played once or more by the judged policy.
            rng: the only source of chance.
            own: the steps of what it played. The jobs that play one episode get the actions of the
                jobs that played it before, in turn.
            detail: whether every step and fill is kept.
        """
        steps = own_steps(np.asarray(episodes), universe.tape.first_step, own)
        counts = np.array([len(job) for job in steps], dtype=np.int64)
        taken = own.action[np.concatenate(steps)] if steps else own.action
        job = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((rng.random(len(job)), job))
        script = Script(Rule.SEQUENCE)
        return play(
            universe, script, config, episodes, rng,
            actions=taken[order].astype(np.uint32), detail=detail,
        )  # fmt: skip

    def act(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Never: an observation does not tell which step of which episode it is of.

        Raises:
            EvaluationError: always.
        """
        del observation, mask, rng
        raise EvaluationError("plays whole episodes only", rule="policies", value=self.name)


def own_steps(
    episodes: NDArray[np.int64], first_step: NDArray[np.int64], own: Trace
) -> list[NDArray[np.int64]]:
    """For each of K jobs the steps of a trace that are its own.

    Args:
        episodes: `[K]`.
        first_step: `[E]` of each episode on the tape.
        own: of jobs that played at least these episodes.
    """
    began = own.step[own.first[:-1]]
    jobs_of: dict[int, list[int]] = {}
    for job, step in enumerate(began.tolist()):
        jobs_of.setdefault(step, []).append(job)
    dealt: dict[int, int] = {}
    steps = []
    for step in first_step[episodes].tolist():
        turn = dealt.get(step, 0)
        dealt[step] = turn + 1
        job = jobs_of[step][turn % len(jobs_of[step])]
        steps.append(np.arange(own.first[job], own.first[job + 1]))
    return steps
