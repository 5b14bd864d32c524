"""The stages of a training plan: its phases; their evaluation stands in `plan_evaluation.py`.

A retraining is a phase too (`Plan.retraining`), cut by the session it learns from.

Beside `stages.py` because they need heavy libraries, which are imported where they are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, MissingParent, NotPublished
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.sealed import refuse_sealed
from kalshi_pipeline.session_data import session_inputs, universe_of
from kalshi_pipeline.storage.publish import EXPORTS, Generation, Recipe, Staging, Warehouse
from kalshi_pipeline.trading.tape import Universe

if TYPE_CHECKING:
    from kalshi_pipeline.learning.phase_run import RunSettings
    from kalshi_pipeline.learning.records import TrainingProgress, TrainingResult
    from kalshi_pipeline.learning.runs import TrainingRun
    from kalshi_pipeline.storage.checkpoints import Checkpoint

EVALUATION = "evaluation"
TRAINING_VERSION = f"4.{FEATURE_TABLE_VERSION}"  # raise when equal inputs train other weights


def phase_name(plan: Plan, phase: str) -> str:
    """Name of a phase's (or the evaluation's) output in the warehouse."""
    return f"{plan.name}/{phase}"


def train_phase(
    warehouse: Warehouse,
    plan: Plan,
    phase: Phase,
    progress: Callable[[int, TrainingProgress], None] = lambda _seed, _reached: None,
    *,
    now_ms: int,
    stop: Callable[[], bool] = lambda: False,
) -> Generation:
    """Sessions and the parent's checkpoints -> this phase's checkpoints, one a seed of the plan.

    A phase whose process was killed goes on where its training run last saved; a seed that was done
    by then is not trained again.

    Args:
        warehouse: where everything is read and published.
        plan: whose phase it is.
        phase: what to train.
        progress: called after each rollout, with the seed.
        now_ms: names the folders of new training runs, and nothing else; Unix milliseconds.
        stop: asked after each update; once it says yes, the run is saved and training ends.

    Raises:
        SessionSealed: a session of the phase is kept for one look at the end; names it.
        NotPublished: a session of the phase has not been materialized; names it.
        MissingParent: the phase to continue from has no checkpoint of one of the seeds.
        CorruptCheckpoint: the parent's checkpoint is damaged.
        RunInUse: another process trains this phase.
        OutOfMemory: names the sizes asked for and what to ask for instead.
        TrainingStopped: `stop` said yes.
    """
    asked = _asked(warehouse, plan, phase)
    if found := asked.published():
        return found
    material = _material(asked)
    results: dict[int, TrainingResult] = {}
    with ExitStack() as held:
        runs = []
        for seed in plan.trained_seeds:
            run, results[seed] = held.enter_context(
                _seed_trained(asked, material, seed, partial(progress, seed), now_ms, stop)
            )
            runs.append(run)
        with warehouse.stage(asked.name, phase.partition, asked.recipe) as staging:
            digests = {seed: asked.digest(seed, material.parents) for seed in results}
            _write(staging, results, digests, material.universe)
        for run in runs:
            run.finish(staging.generation.content_hash)
    return staging.generation


def train_seed(
    warehouse: Warehouse,
    plan: Plan,
    phase: Phase,
    seed: int,
    *,
    now_ms: int,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """One seed of a phase, to the end of its run, which is left for `train_phase` to find.

    So the seeds of a phase can be trained side by side. Where the phase is published, nothing is.

    Raises:
        KalshiPipelineError: as `train_phase` does.
    """
    asked = _asked(warehouse, plan, phase)
    if not asked.published():
        with _seed_trained(asked, _material(asked), seed, lambda _: None, now_ms, stop):
            pass


@dataclass(frozen=True)
class _Asked:
    """A phase that is to be trained, and all that has a say in what becomes of it.

    Args:
        warehouse: where it is read and published.
        plan: whose phase it is.
        phase: what is trained.
        parent: what it continues from.
        config: settings, those of seeds apart.
        inputs: name of each session's output -> its content hash.
    """

    warehouse: Warehouse
    plan: Plan
    phase: Phase
    parent: Generation | None
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def name(self) -> str:
        return phase_name(self.plan, self.phase.name)

    @property
    def recipe(self) -> Recipe:
        above = {str(self.phase.parent): self.parent.content_hash} if self.parent else {}
        config = {**self.config, "seeds": self.plan.trained_seeds}
        return Recipe(TRAINING_VERSION, config, {**self.inputs, **above})

    def digest(self, seed: int, parents: Mapping[int, Checkpoint]) -> str:
        # of this seed alone: how many others there are changes nothing about it
        above = {str(self.phase.parent): parents[seed].content_hash} if seed in parents else {}
        return Recipe(TRAINING_VERSION, self.config, {**self.inputs, **above}).digest

    def published(self) -> Generation | None:
        return self.warehouse.made_from(self.name, self.phase.partition, self.recipe)


@dataclass(frozen=True)
class _Material:
    """What is learned from, judged on, and continued: checkpoints by seed."""

    universe: Universe
    judged: Universe | None
    parents: Mapping[int, Checkpoint]


def _asked(warehouse: Warehouse, plan: Plan, phase: Phase) -> _Asked:
    validation = plan.validation_sessions(phase)
    refuse_sealed(warehouse, (*phase.sessions, *validation), f"{phase.name} of {plan.name}")
    inputs = session_inputs(warehouse, (*phase.sessions, *validation))
    parent = parent_of(warehouse, plan, phase)
    return _Asked(warehouse, plan, phase, parent, settings_of(plan, phase), inputs)


def _material(asked: _Asked) -> _Material:
    warehouse, plan, phase = asked.warehouse, asked.plan, asked.phase
    validation = plan.validation_sessions(phase)
    return _Material(
        universe_of(warehouse, phase.sessions, plan.min_episode_steps),
        universe_of(warehouse, validation, plan.min_episode_steps) if validation else None,
        load_parents(plan, phase, asked.parent) if asked.parent else {},
    )


@contextmanager
def _seed_trained(
    asked: _Asked,
    material: _Material,
    seed: int,
    progress: Callable[[TrainingProgress], None],
    now_ms: int,
    stop: Callable[[], bool],
) -> Iterator[tuple[TrainingRun, TrainingResult]]:
    """The run of a seed, at its end, held against other processes meanwhile."""
    from kalshi_pipeline.learning.phase_run import train_run
    from kalshi_pipeline.learning.run_checkpoints import RUN
    from kalshi_pipeline.learning.runs import RunKey, open_run
    from kalshi_pipeline.learning.trials import recorder

    warehouse, plan, phase = asked.warehouse, asked.plan, asked.phase
    digest = asked.digest(seed, material.parents)
    key = RunKey(plan.name, phase.name, seed, phase.algorithm, phase.sessions, digest)
    with open_run(warehouse.root, key, now_ms, warehouse.files) as run:
        warehouse.share(run.folder / RUN)
        result = train_run(
            run, run_settings(plan, phase, seed), material.universe, material.judged,
            material.parents.get(seed), progress=progress, stop=stop,
            scored=recorder(warehouse, key, plan.trading),
        )  # fmt: skip
        yield run, result


def settings_of(plan: Plan, phase: Phase) -> dict[str, Any]:
    """All of a plan that has a say in what a phase's weights become, but its seeds."""
    watched = asdict(plan.watch)
    del watched["console_steps"]  # what a terminal shows changes no weights
    return {
        "timesteps": phase.timesteps,
        "save_every": plan.save_every,
        "min_episode_steps": plan.min_episode_steps,
        "curriculum": plan.curriculum,
        "algorithm": phase.algorithm,
        "learner": asdict(phase.learner),
        "trading": asdict(plan.trading),
        "validation": plan.validation_sessions(phase),
        "watch": watched,
    }


def run_settings(plan: Plan, phase: Phase, seed: int) -> RunSettings:
    """How a phase is trained with one of its seeds."""
    from kalshi_pipeline.learning.phase_run import RunSettings

    return RunSettings(
        phase=phase.name,
        timesteps=phase.timesteps,
        learner=phase.learner,
        trading=plan.trading,
        seed=seed,
        curriculum=plan.curriculum,
        save_every=plan.save_every,
        watch=plan.watch,
    )


def _write(
    staging: Staging,
    results: Mapping[int, TrainingResult],
    digests: Mapping[int, str],
    universe: Universe,
) -> None:
    from kalshi_pipeline.storage import checkpoints, sb3

    trained = []
    for seed, result in results.items():
        folder = staging.folder / checkpoints.seed_folder(seed)
        exports = staging.folder / EXPORTS / folder.name
        folder.mkdir()
        exports.mkdir(parents=True)
        checkpoints.save(result.best, folder)
        sb3.export_sb3_zip(result.best, exports / "model.zip")
        records = [asdict(record) for record in result.records]
        course = result.course() | {"recipe": digests[seed]}  # as its trials are known by
        (exports / "training.json").write_text(json.dumps(records))
        (exports / "course.json").write_text(json.dumps(course))
        trained.append(
            {
                "seed": seed,
                "run": digests[seed],  # as the trials ledger knows its validations
                "timesteps": result.best.state.timesteps,
                "timesteps_total": result.best.state.timesteps_total,
                "validation": max((score for _, score in result.validations), default=None),
                "alerts": len(result.firings),
                "stopped": result.stopped,
            }
        )
    staging.summary.update(
        seeds=len(results),
        trained=trained,
        episodes=len(universe),
        markets=len({(e.session, e.market) for e in universe.episodes}),
        events=len({e.event for e in universe.episodes}),
    )


def parent_of(warehouse: Warehouse, plan: Plan, phase: Phase) -> Generation | None:
    """What a phase continues from.

    Raises:
        MissingParent: it is not there.
    """
    if phase.parent is None:
        return None
    try:
        return warehouse.current(phase_name(plan, phase.parent))
    except NotPublished as error:
        raise MissingParent(
            f"{phase.name} continues from {phase.parent}, which has no checkpoint; "
            f"materialize {phase_name(plan, phase.parent)} first",
            rule="parent",
            value=phase.parent,
        ) from error


def load_parents(plan: Plan, phase: Phase, parent: Generation) -> dict[int, Checkpoint]:
    """The checkpoint each seed of a phase continues from.

    Raises:
        MissingParent: there is none of one of the seeds.
        CorruptCheckpoint: it is damaged.
    """
    from kalshi_pipeline.storage import checkpoints

    above = phase_name(plan, str(phase.parent))
    try:
        parents = checkpoints.load_seeds(parent.verified())
    except (CorruptFile, CorruptCheckpoint) as error:
        raise CorruptCheckpoint(
            f"the checkpoint that {phase_name(plan, phase.name)} continues from is damaged "
            f"({error}); materialize {above} again, which makes it anew",
            rule="parent",
            value=str(parent.folder),
        ) from error
    if missing := [seed for seed in plan.trained_seeds if seed not in parents]:
        raise MissingParent(
            f"seed {missing[0]} of {phase.name} continues from {phase.parent}, which has "
            f"no checkpoint of that seed; materialize {above} first",
            rule="parent",
            value=missing,
        )
    return parents
