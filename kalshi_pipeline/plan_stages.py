"""The stages of a training plan: its phases; their evaluation stands in `plan_evaluation.py`.

Beside `stages.py` because they need heavy libraries, which are imported where they are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from kalshi_pipeline.books.build import read_markets, read_rows
from kalshi_pipeline.books.schemas import LADDER_SCHEMA
from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, MissingParent, NotPublished
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.stages import BOOKS, SUITABLE, TENSORS
from kalshi_pipeline.storage.publish import EXPORTS, Generation, Recipe, Warehouse
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import ROW_COLUMNS, SessionData, build_universe

if TYPE_CHECKING:
    from kalshi_pipeline.learning.records import TrainingProgress, TrainingResult
    from kalshi_pipeline.learning.runs import TrainingRun
    from kalshi_pipeline.storage.checkpoints import Checkpoint

EVALUATION = "evaluation"
TRAINING_VERSION = f"4.{FEATURE_TABLE_VERSION}"  # raise when equal inputs train other weights
_SESSION_INPUTS = (BOOKS, TENSORS, SUITABLE)


def phase_name(plan: Plan, phase: str) -> str:
    """Name of a phase's (or the evaluation's) output in the warehouse."""
    return f"{plan.name}/{phase}"


def train_phase(
    warehouse: Warehouse,
    plan: Plan,
    phase: Phase,
    progress: Callable[[int, TrainingProgress], None] | None = None,
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
        NotPublished: a session of the phase has not been materialized; names it.
        MissingParent: the phase to continue from has no checkpoint of one of the seeds.
        CorruptCheckpoint: the parent's checkpoint, or all of a run's, are damaged.
        RunInUse: another process trains this phase.
        OutOfMemory: names the sizes asked for and what to ask for instead.
        TrainingStopped: `stop` said yes.
    """
    validation = plan.validation_sessions(phase)
    inputs = session_inputs(warehouse, (*phase.sessions, *validation))
    parent = _parent(warehouse, plan, phase)
    watched = asdict(plan.watch)
    del watched["console_steps"]  # what a terminal shows changes no weights
    config = {
        "timesteps": phase.timesteps,
        "save_every": plan.save_every,
        "min_episode_steps": plan.min_episode_steps,
        "curriculum": plan.curriculum,
        "algorithm": phase.algorithm,
        "learner": asdict(phase.learner),
        "trading": asdict(plan.trading),
        "validation": validation,
        "watch": watched,
    }
    continued = {} if parent is None else {str(phase.parent): parent.content_hash}
    recipe = Recipe(TRAINING_VERSION, config | {"seeds": plan.trained_seeds}, inputs | continued)
    name = phase_name(plan, phase.name)
    if found := warehouse.made_from(name, None, recipe):
        return found

    from kalshi_pipeline.learning.runs import RunKey, open_run

    universe = _universe(warehouse, plan, phase.sessions)
    judged = _universe(warehouse, plan, validation) if validation else None
    parents = {} if parent is None else _load_parents(plan, phase, parent)
    results: dict[int, TrainingResult] = {}
    with ExitStack() as held:
        runs = []
        for seed in plan.trained_seeds:
            first = parents.get(seed)
            # of this seed alone: how many others there are changes nothing about it
            above = {} if first is None else {str(phase.parent): first.content_hash}
            digest = Recipe(TRAINING_VERSION, config, inputs | above).digest
            key = RunKey(plan.name, phase.name, seed, phase.algorithm, phase.sessions, digest)
            runs.append(held.enter_context(open_run(warehouse.root, key, now_ms, warehouse.files)))
            tell = None if progress is None else partial(progress, seed)
            results[seed] = _train_seed(
                universe, judged, plan, phase, seed, first, runs[-1], tell, stop
            )
        generation = _publish(warehouse, name, recipe, results, universe)
        for run in runs:
            run.finish(generation.content_hash)
    return generation


def _universe(warehouse: Warehouse, plan: Plan, sessions: Iterable[int]) -> Universe:
    data = [load_session(warehouse, session) for session in sessions]
    return build_universe(data, plan.min_episode_steps)[0]


def _train_seed(
    universe: Universe,
    validation: Universe | None,
    plan: Plan,
    phase: Phase,
    seed: int,
    parent: Checkpoint | None,
    run: TrainingRun,
    progress: Callable[[TrainingProgress], None] | None,
    stop: Callable[[], bool],
) -> TrainingResult:
    from kalshi_pipeline.learning import training
    from kalshi_pipeline.learning.logs import training_logs
    from kalshi_pipeline.learning.memory import sizes_named
    from kalshi_pipeline.learning.validation import Validator

    most = plan.watch.validation_steps
    validate = Validator(validation, plan.trading, most) if validation is not None else None
    resume = run.resume_point()
    resumed_at = None if resume is None else resume.checkpoint.state.timesteps
    shown = plan.watch.console_steps
    written = training_logs(run.folder, run.log_path, shown, resumed_at=resumed_at)
    with sizes_named(universe, phase.learner), written as logs:

        def tell(reached: TrainingProgress) -> None:
            logs(reached)
            if progress:
                progress(reached)

        return training.train_phase(
            universe,
            phase=phase.name,
            timesteps=phase.timesteps,
            config=phase.learner,
            trading=plan.trading,
            seed=seed,
            parent=parent,
            curriculum=plan.curriculum,
            progress=tell,
            validate=validate,
            selected_on=training.lineage_of(validation) if validation else (),
            keep=run.save,
            resume=resume,
            checkpoint_every=plan.save_every,
            watching=plan.watch,
            stop=stop,
        )


def _publish(
    warehouse: Warehouse,
    name: str,
    recipe: Recipe,
    results: Mapping[int, TrainingResult],
    universe: Universe,
) -> Generation:
    from kalshi_pipeline.storage import checkpoints, sb3

    with warehouse.stage(name, None, recipe) as staging:
        trained = []
        for seed, result in results.items():
            folder = staging.folder / checkpoints.seed_folder(seed)
            exports = staging.folder / EXPORTS / folder.name
            folder.mkdir()
            exports.mkdir(parents=True)
            checkpoints.save(result.best, folder)
            sb3.export_sb3_zip(result.best, exports / "model.zip")
            records = [asdict(record) for record in result.records]
            (exports / "training.json").write_text(json.dumps(records))
            (exports / "course.json").write_text(json.dumps(result.course()))
            trained.append(
                {
                    "seed": seed,
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
    return staging.generation


def load_session(warehouse: Warehouse, session: int) -> SessionData:
    """What the simulator needs of one session.

    Raises:
        NotPublished: a stage of the session has not been materialized; names it.
        CorruptFile: published bytes have changed.
    """
    books, tensors, suitable = (warehouse.current(name, str(session)) for name in _SESSION_INPUTS)
    return SessionData(
        session=session,
        rows=read_rows(books.verified(), ROW_COLUMNS),
        ladders=read_table(books.path("ladders.parquet"), LADDER_SCHEMA),
        tensors=read_tensors(tensors.verified()),
        suitable=read_table(suitable.path("suitable_markets.parquet"), SUITABLE_SCHEMA),
        markets=read_markets(books.folder),
    )


def session_inputs(warehouse: Warehouse, sessions: Iterable[int]) -> dict[str, str]:
    """Content hash of everything `load_session` reads, by name, for a recipe."""
    return {
        f"{name}/{session}": warehouse.current(name, str(session)).content_hash
        for session in sessions
        for name in _SESSION_INPUTS
    }


def _parent(warehouse: Warehouse, plan: Plan, phase: Phase) -> Generation | None:
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


def _load_parents(plan: Plan, phase: Phase, parent: Generation) -> dict[int, Checkpoint]:
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
