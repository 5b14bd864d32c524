"""The stages of a training plan: its phases, then the evaluation of the last one.

Beside `stages.py` because they need heavy libraries, which are imported where they are used.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from kalshi_pipeline.books.build import read_markets, read_rows
from kalshi_pipeline.books.schemas import LADDER_SCHEMA
from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, MissingParent, NotPublished
from kalshi_pipeline.feature_table import FEATURE_TABLE_VERSION
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.stages import BOOKS, RAW, SUITABLE, TENSORS, Progress
from kalshi_pipeline.storage.publish import EXPORTS, Generation, Recipe, Warehouse
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import ROW_COLUMNS, Exclusion, SessionData, build_universe

if TYPE_CHECKING:
    from kalshi_pipeline.learning.records import TrainingProgress, TrainingResult
    from kalshi_pipeline.learning.runs import TrainingRun
    from kalshi_pipeline.storage.checkpoints import Checkpoint, LineageEntry

EVALUATION = "evaluation"
TRAINING_VERSION = f"4.{FEATURE_TABLE_VERSION}"  # raise when equal inputs train other weights
EVALUATION_VERSION = "4"  # raise when equal inputs give another report
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
        TrainingStopped: `stop` said yes.
    """
    inputs = _session_inputs(warehouse, phase.sessions)
    parent = _parent(warehouse, plan, phase)
    config = {
        "timesteps": phase.timesteps,
        "save_every": plan.save_every,
        "min_episode_steps": plan.min_episode_steps,
        "curriculum": plan.curriculum,
        "algorithm": phase.algorithm,
        "learner": asdict(phase.learner),
        "trading": asdict(plan.trading),
    }
    continued = {} if parent is None else {str(phase.parent): parent.content_hash}
    recipe = Recipe(TRAINING_VERSION, config | {"seeds": plan.trained_seeds}, inputs | continued)
    name = phase_name(plan, phase.name)
    if found := warehouse.made_from(name, None, recipe):
        return found

    from kalshi_pipeline.learning.runs import RunKey, open_run

    universe, _ = build_universe(
        [load_session(warehouse, session) for session in phase.sessions], plan.min_episode_steps
    )
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
            results[seed] = _train_seed(universe, plan, phase, seed, first, runs[-1], tell, stop)
        generation = _publish(warehouse, name, recipe, results, universe)
        for run in runs:
            run.finish(generation.content_hash)
    return generation


def _train_seed(
    universe: Universe,
    plan: Plan,
    phase: Phase,
    seed: int,
    parent: Checkpoint | None,
    run: TrainingRun,
    progress: Callable[[TrainingProgress], None] | None,
    stop: Callable[[], bool],
) -> TrainingResult:
    from kalshi_pipeline.learning import training

    return training.train_phase(
        universe,
        phase=phase.name,
        timesteps=phase.timesteps,
        config=phase.learner,
        trading=plan.trading,
        seed=seed,
        parent=parent,
        curriculum=plan.curriculum,
        progress=progress,
        keep=run.save,
        resume=run.resume_point(),
        checkpoint_every=plan.save_every,
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
            trained.append(
                {
                    "seed": seed,
                    "timesteps": result.best.state.timesteps,
                    "timesteps_total": result.best.state.timesteps_total,
                    "validation": max((score for _, score in result.validations), default=None),
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


def evaluate_plan(warehouse: Warehouse, plan: Plan, progress: Progress) -> Generation:
    """The last phase's checkpoint on every session of the plan's evaluation -> report.

    Raises:
        NotPublished: a session or the last phase has not been materialized; names it.
    """
    last = plan.phases[-1]
    trained = warehouse.current(phase_name(plan, last.name))
    inputs = _session_inputs(warehouse, plan.roles) | {last.name: trained.content_hash}
    config = {
        "roles": {str(session): role for session, role in plan.roles.items()},
        "min_episode_steps": plan.min_episode_steps,
        "trading": asdict(plan.trading),
        "evaluation": asdict(plan.evaluation),
    }
    recipe = Recipe(EVALUATION_VERSION, config, inputs)
    name = phase_name(plan, EVALUATION)
    if found := warehouse.made_from(name, None, recipe):
        return found

    from kalshi_pipeline.evaluation.baselines import baselines
    from kalshi_pipeline.evaluation.evaluate import evaluate
    from kalshi_pipeline.evaluation.reports import render_html, render_json
    from kalshi_pipeline.learning.policy import NetworkPolicy
    from kalshi_pipeline.storage import checkpoints

    checkpoint = checkpoints.load_seeds(trained.verified())[plan.seed]
    universes: dict[int, Universe] = {}
    exclusions: list[Exclusion] = []
    for session in plan.roles:
        universes[session], excluded = build_universe(
            [load_session(warehouse, session)], plan.min_episode_steps
        )
        exclusions += excluded
    selected_on = (*checkpoint.state.selected_on, *_looked_at(plan, universes))
    judged = evaluate(
        universes,
        plan.roles,
        [NetworkPolicy(checkpoint, name="Learned", stochastic=True), *baselines()],
        [asdict(entry) for entry in checkpoint.state.lineage],
        [asdict(entry) for entry in selected_on],
        _provenance(warehouse, plan, trained, inputs),
        plan.trading,
        plan.evaluation,
        progress,
        variants=[NetworkPolicy(checkpoint, name="Learned, likeliest action", stochastic=False)],
        exclusions=_counted(exclusions),
    )
    with warehouse.stage(name, None, recipe) as staging:
        (staging.folder / "report.json").write_bytes(render_json(judged.report))
        (staging.folder / "report.html").write_bytes(render_html(judged.report))
        pq.write_table(judged.ledger, staging.folder / "ledger.parquet", compression="zstd")
        staging.summary.update(
            verdict=judged.report["verdict"]["sentence"],
            schema_version=judged.report["schema_version"],
            sessions=len(universes),
            episodes=judged.ledger.num_rows,
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


def _session_inputs(warehouse: Warehouse, sessions: Iterable[int]) -> dict[str, str]:
    return {
        f"{name}/{session}": warehouse.current(name, str(session)).content_hash
        for session in sessions
        for name in _SESSION_INPUTS
    }


def _looked_at(plan: Plan, universes: Mapping[int, Universe]) -> list[LineageEntry]:
    # what a plan calls validation is there to be looked at while choosing: it is never clean
    from kalshi_pipeline.learning.training import lineage_of

    return [
        entry
        for session, role in plan.roles.items()
        if "validation" in role
        for entry in lineage_of(universes[session])
    ]


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


def _provenance(
    warehouse: Warehouse, plan: Plan, trained: Generation, inputs: Mapping[str, str]
) -> dict[str, Any]:
    from importlib.metadata import version

    quality = {session: warehouse.current(BOOKS, str(session)).summary for session in plan.sessions}
    recordings = {
        f"{RAW}/{session}": warehouse.current(RAW, str(session)).content_hash
        for session in plan.sessions
    }
    return {
        "plan": plan.name,
        "title": plan.title,
        "checkpoint": trained.content_hash,
        "phases": [asdict(phase) for phase in plan.phases],
        "seed": plan.seed,
        "timesteps_total": trained.summary["trained"][0]["timesteps_total"],
        "code_version": version("kalshi-pipeline"),
        "feature_table_version": FEATURE_TABLE_VERSION,
        "generated": any(figures["generated"] for figures in quality.values()),
        "generations": dict(inputs) | recordings,
        "sessions": {str(session): _described(figures) for session, figures in quality.items()},
    }


def _described(quality: Mapping[str, Any]) -> str:
    source = "generated" if quality["generated"] else "recorded"
    return (
        f"{quality['title']}; {source}, {quality['duration_s'] / 3600:.1f} h, "
        f"{quality['deltas']:,} deltas, quality {quality['quality_score']:g}"
    )


def _counted(exclusions: Iterable[Exclusion]) -> list[dict[str, Any]]:
    # one line a session and reason; a market's own figure stands in brackets at its end
    kinds = Counter((entry.session, entry.reason.partition(" (")[0]) for entry in exclusions)
    return [
        {"session": session, "reason": reason, "count": count}
        for (session, reason), count in sorted(kinds.items())
    ]
