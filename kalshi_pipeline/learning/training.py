"""One phase of training: rollout, checks, update, record, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import LearnerConfig, TradingConfig, WatchConfig
from kalshi_pipeline.errors import (
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    PlanError,
    TrainingStopped,
)
from kalshi_pipeline.learning.alert_rules import Firing
from kalshi_pipeline.learning.alerts import Alerts, Mode
from kalshi_pipeline.learning.algorithms import make_learner
from kalshi_pipeline.learning.curriculum import MarketSampler
from kalshi_pipeline.learning.guards import check_weights, reward_bound
from kalshi_pipeline.learning.lanes import StaggeredLanes
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.ppo import Device, generator_states, set_generator_states
from kalshi_pipeline.learning.records import (
    History,
    RolloutRecord,
    Snapshot,
    TrainingProgress,
    TrainingResult,
    record_rollout,
)
from kalshi_pipeline.learning.validation import Selection, fallen
from kalshi_pipeline.learning.watch import Watch
from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry, TrainerState
from kalshi_pipeline.trading.tape import Universe

MAX_RECORDS = 500  # a phase keeps at most this many rollout records
_AS_PLANNED = WatchConfig()


def train_phase(
    universe: Universe,
    *,
    phase: str,
    timesteps: int,
    config: LearnerConfig,
    trading: TradingConfig,
    seed: int,
    parent: Checkpoint | None = None,
    curriculum: bool = True,
    progress: Callable[[TrainingProgress], None] | None = None,
    validate: Callable[[NetworkPolicy], float] | None = None,
    selected_on: Sequence[LineageEntry] = (),
    keep: Callable[[Snapshot], None] | None = None,
    resume: Snapshot | None = None,
    checkpoint_every: int = 10_000,
    watching: WatchConfig = _AS_PLANNED,
    device: Device = "cpu",
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train a policy on a universe, from a parent's weights and optimiser where there is one.

    The same arguments give the same weights, bit for bit, on one machine; with `resume` as well.

    Args:
        universe: the episodes to learn from.
        phase: name of the phase.
        timesteps: further environment steps; rounded up to whole rollouts.
        config: hyper-parameters, which name the algorithm; their network must be the parent's.
        trading: rules of the episodes.
        seed: a non-negative integer; everything random follows from it and the parent's step count.
        parent: checkpoint to continue from; None starts from fresh weights.
        curriculum: busy markets first, the others widening in; otherwise all markets alike.
        progress: called after each rollout.
        validate: scores a policy, higher is better.
        selected_on: what `validate` looks at: it becomes part of the lineage.
        keep: receives what the phase can be resumed from.
        resume: the same, of a phase that was stopped: the result is that of one that was not.
        checkpoint_every: `validate` and `keep` are called at the end of each rollout into which a
            multiple of this falls (plan section 4.5), and at the end of the phase.
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        watching: whether alerts act, and when falling validation ends the phase.
        stop: asked after each update; once it says yes, `keep` is called and training ends.
        clock: seconds, for the throughput figures alone.

    Raises:
        NoSuitableMarket: the universe is empty.
        TrainingStopped: `stop` said yes before the phase was over.
        PlanError: no timesteps, or validation on markets that are not named in `selected_on`.
        IncompatibleCheckpoint: the parent has another network, or `resume` is of another phase.
        TrainingDiverged: a number stopped being finite, or a reward broke its bound.
    """
    _check_asked(timesteps, validate is not None, selected_on)
    run = _Run(
        universe, _first_state(universe, phase, config, trading, seed, parent, selected_on),
        parent, curriculum=curriculum, alerts=watching.alerts, device=device,
    )  # fmt: skip
    history = resume.history if resume else History()
    if resume:
        run.resume(resume.checkpoint)
    watch = Watch(run.env, reward_bound(trading, universe.tape), config.n_steps)
    rollout = config.rollout_steps
    count, already = -(-timesteps // rollout), run.timesteps // rollout
    records, firings = list(history.records), list(history.firings)
    selection = Selection(validate, history.validations, resume.best if resume else None)
    began = clock()
    updates = run.learner.updates(0 if run.alerts.stop else count - already, watch)
    for done, _ in enumerate(updates, already + 1):
        record, fired = run.look(watch, done / count, clock() - began)
        due = run.timesteps // checkpoint_every > (run.timesteps - rollout) // checkpoint_every
        judged = validate is not None and (due or done == count)
        if judged:
            fired += run.judge(selection, watching)
        firings += fired
        last = run.alerts.stop or done == count
        if kept := last or _kept(done, count):
            records.append(record)
        if progress:
            score = selection.scores[-1][1] if judged else None
            progress(TrainingProgress(
                phase, run.timesteps, count * rollout, run.learner.timesteps, record, kept,
                run.learner.knobs, tuple(fired), score,
            ))  # fmt: skip
        stopping = not last and stop()
        if keep and (due or last or stopping):
            shown = History(tuple(records), tuple(selection.scores), tuple(firings))
            keep(Snapshot(run.checkpoint(resumable=True), shown, selection.best))
        if stopping:
            raise TrainingStopped("stopped as asked; the next run continues", row=run.timesteps)
        if last:
            break
        began = clock()
    final = run.checkpoint()
    return TrainingResult(
        final=final,
        best=selection.best or final,
        timesteps=run.timesteps,
        records=tuple(records),
        validations=tuple(selection.scores),
        market_draws=run.sampler.draws,
        market_returns=run.sampler.returns,
        firings=tuple(firings),
        stopped=run.alerts.stop,
    )


def _check_asked(timesteps: int, validates: bool, selected_on: Sequence[LineageEntry]) -> None:
    if timesteps < 1:
        raise PlanError("a phase needs timesteps to train", rule="timesteps >= 1", value=timesteps)
    if validates and not selected_on:
        raise PlanError("what validation looks at must be named", rule="selected_on")


def lineage_of(universe: Universe) -> tuple[LineageEntry, ...]:
    """One entry for each market of a universe, over all its segments, sorted."""
    spans: dict[tuple[int, str, str], tuple[int, int]] = {}
    for episode in universe.episodes:
        key = (episode.session, episode.event, episode.market)
        first, last = spans.get(key, (episode.start_ms, episode.end_ms))
        spans[key] = (min(first, episode.start_ms), max(last, episode.end_ms))
    return tuple(sorted(LineageEntry(*key, *span) for key, span in spans.items()))


class _Run:
    """The moving parts of one phase, and how they become a checkpoint and come back from one."""

    def __init__(
        self,
        universe: Universe,
        first: TrainerState,
        parent: Checkpoint | None,
        *,
        curriculum: bool,
        alerts: Mode,
        device: Device,
    ) -> None:
        config = first.config
        # another stream for each phase of a plan, though they share a seed
        streams = np.random.SeedSequence([first.seed, first.timesteps_total]).spawn(3)
        learning_seed = int(streams[0].generate_state(1)[0])
        self.sampler = MarketSampler(
            universe, np.random.default_rng(streams[1]), curriculum=curriculum
        )
        self.env = StaggeredLanes(
            universe, config.n_envs, first.trading, self.sampler, np.random.default_rng(streams[2])
        )
        self.alerts = Alerts(alerts)
        self.learner = make_learner(self.env, config, learning_seed, device)
        if parent:
            self.learner.start_from(parent)
        self._first = first

    @property
    def timesteps(self) -> int:
        """Environment steps of the phase so far."""
        return self.learner.timesteps - self._first.timesteps_total

    def look(self, watch: Watch, done: float, seconds: float) -> tuple[RolloutRecord, list[Firing]]:
        """Check and record the update just made, and do what its alerts say.

        Args:
            watch: the callback of the rollout.
            done: share of the phase that is done.
            seconds: what rollout and update took.
        """
        check_weights(self.learner.network, self.learner.timesteps)
        self.sampler.progress = done
        self.sampler.earned(watch.ended)
        record = record_rollout(self.learner, watch, self.timesteps, seconds)
        fired = self.alerts.after_rollout(
            record.diagnostics, self.timesteps, done, self.learner.knobs
        )
        return record, self._applied(fired)

    def judge(self, selection: Selection, watching: WatchConfig) -> list[Firing]:
        """Score the present policy, and do what the alerts say of it."""
        better = selection.score(NetworkPolicy(self.checkpoint()), self.timesteps)
        scores = [score for _, score in selection.scores]
        fired = self._applied(
            self.alerts.after_validation(
                scores, fallen(scores, watching), self.timesteps, self.learner.knobs
            )
        )
        if better:  # as it is kept to resume from: with what the alerts have just done
            selection.best = self.checkpoint()
        return fired

    def _applied(self, fired: list[Firing]) -> list[Firing]:
        for firing in fired:
            for knob, (_, value) in firing.changed.items():
                self.learner.adjust(knob, value)
        return fired

    def checkpoint(self, *, resumable: bool = False) -> Checkpoint:
        """The present weights and state; with that of the lanes where it is to be resumed."""
        state = replace(
            self._first,
            timesteps=self.timesteps,
            timesteps_total=self.learner.timesteps,
            generators=generator_states(),
            curriculum=self.sampler.state(),
            alerts=self.alerts.state(),
            knobs=self.learner.knobs,
        )
        lanes = self.env.simulator.state._asdict() if resumable else {}
        environment = {name: array.copy() for name, array in lanes.items()}
        running = self.learner.running() if resumable else {}
        return Checkpoint(
            state, *self.learner.tensors(), {**environment, **running}, self.learner.extra()
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where `checkpoint` was taken; call it last before the first rollout."""
        state = checkpoint.state
        first = replace(
            state, timesteps=0, timesteps_total=state.timesteps_total - state.timesteps,
            generators={}, curriculum={}, alerts={}, knobs={},
        )  # fmt: skip
        if not checkpoint.environment:
            raise IncompatibleCheckpoint(
                "this checkpoint can be continued from, not resumed: its run is over",
                rule="resume",
                value=state.phase,
            )
        pairs = ((field.name, getattr(first, field.name), getattr(self._first, field.name))
                 for field in fields(first))  # fmt: skip
        if others := [name for name, theirs, ours in pairs if theirs != ours]:
            raise IncompatibleCheckpoint(
                f"the checkpoint to resume from is of another training: its {', '.join(others)} "
                "differ; ask for the same, or begin a new one with its weights",
                rule="resume",
                value=others[0],
            )
        self.sampler.restore(state.curriculum)
        self.alerts.restore(state.alerts)
        lanes = self.env.simulator.state
        _check_lanes(checkpoint, lanes._asdict(), self.learner.running())
        for name, array in lanes._asdict().items():
            array[...] = checkpoint.environment[name]
        self.learner.resume(checkpoint, lanes.observation.copy())
        for name, value in state.knobs.items():
            self.learner.adjust(name, value)
        set_generator_states(state.generators)


def _check_lanes(
    checkpoint: Checkpoint, lanes: Mapping[str, NDArray[Any]], learner: Mapping[str, NDArray[Any]]
) -> None:
    expected: dict[str, object] = {name: (a.dtype, a.shape) for name, a in lanes.items()}
    found: dict[str, object] = {
        name: (array.dtype, array.shape) for name, array in checkpoint.environment.items()
    }
    for name in learner:  # which looks at them itself
        expected[name] = True
        found[name] = name in found
    if odd := sorted(dict(expected.items() ^ found.items())):
        raise CorruptCheckpoint(
            f"the state of the lanes is not that of this phase: {odd[0]} should be "
            f"{expected.get(odd[0])}",
            rule="lanes",
            value=found.get(odd[0]),
        )


def _kept(done: int, count: int) -> bool:
    # all, or the first and as many evenly spread as leave room for it and for the last
    every = 1 if count <= MAX_RECORDS else -(-count // max(1, MAX_RECORDS - 2))
    return done == 1 or done % every == 0


def _first_state(
    universe: Universe,
    phase: str,
    config: LearnerConfig,
    trading: TradingConfig,
    seed: int,
    parent: Checkpoint | None,
    selected_on: Sequence[LineageEntry],
) -> TrainerState:
    if parent and parent.state.config.hidden != config.hidden:
        raise IncompatibleCheckpoint(
            f"the parent's network has hidden layers {parent.state.config.hidden}, this phase asks "
            f"for {config.hidden}: train the parent anew or keep its network",
            rule="hidden",
            value=parent.state.config.hidden,
        )
    trained = {*lineage_of(universe), *(parent.state.lineage if parent else ())}
    selected = {*selected_on, *(parent.state.selected_on if parent else ())}
    return TrainerState(
        phase=phase,
        seed=seed,
        timesteps=0,
        timesteps_total=parent.state.timesteps_total if parent else 0,
        config=config,
        trading=trading,
        algorithm=config.algorithm,
        lineage=tuple(sorted(trained)),
        selected_on=tuple(sorted(selected)),
        parent=parent.content_hash if parent else None,
        foreign=parent is not None and parent.state.foreign,
    )
