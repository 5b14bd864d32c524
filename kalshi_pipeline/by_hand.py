"""A training or an evaluation that somebody asks for by hand, outside any plan's phases.

What `kalshi train` and `kalshi evaluate` do. A training leaves the folder of its run and nothing
else: no phase of a plan is ever made from it unseen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline import stages
from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.errors import IncompatibleCheckpoint, MissingParent
from kalshi_pipeline.past import (
    candidates_of,
    course_by_hand,
    looked_forward,
    record_judged,
    rules_of,
    trials_on,
)
from kalshi_pipeline.plan_evaluation import LEARNED
from kalshi_pipeline.plan_stages import TRAINING_VERSION
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.sealed import refuse_sealed, seals_of
from kalshi_pipeline.session_data import (
    causal_universes,
    session_facts,
    session_inputs,
    universe_of,
    universes_of,
)
from kalshi_pipeline.storage.publish import MANIFEST, Recipe, Warehouse
from kalshi_pipeline.storage.trials import TRIALS, digest_of
from kalshi_pipeline.storage.whole_folder import write_folder
from kalshi_pipeline.trading.tape import Universe

if TYPE_CHECKING:
    from kalshi_pipeline.evaluation.evaluate import Evaluation
    from kalshi_pipeline.learning.phase_run import RunSettings
    from kalshi_pipeline.learning.records import Snapshot, TrainingProgress, TrainingResult
    from kalshi_pipeline.storage.checkpoints import Checkpoint

BY_HAND = "by_hand"  # in place of a plan's name
MODEL = "model.zip"
EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class Wanted:
    """A training that is wanted.

    Args:
        sessions: what to learn from.
        validate_on: sessions that choose the best checkpoint; of none the last one is the best.
        min_episode_steps: shortest segment that becomes an episode.
        settings: how to train.
    """

    sessions: tuple[int, ...]
    validate_on: tuple[int, ...]
    min_episode_steps: int
    settings: RunSettings


@dataclass(frozen=True)
class Watching:
    """How a training is followed and ended.

    Args:
        progress: called after each rollout.
        console: receives what the run's log does.
        stop: asked after each update; once it says yes, the run is saved and training ends.
    """

    progress: Callable[[TrainingProgress], None]
    console: Callable[[str], None] | None
    stop: Callable[[], bool]


@dataclass(frozen=True)
class Trained:
    """What a training by hand leaves.

    Args:
        folder: of its run.
        model: its best checkpoint, as the `model.zip` that Stable-Baselines3 opens.
        result: the training.
    """

    folder: Path
    model: Path
    result: TrainingResult


@dataclass(frozen=True)
class Judged:
    """What an evaluation by hand leaves.

    Args:
        verdict: one sentence.
        decisions: what the plan's decision points come to, a sentence each.
        report: the page to open; `report.json` and `ledger.parquet` lie beside it.
    """

    verdict: str
    decisions: tuple[str, ...]
    report: Path


def prepare(
    sources: SessionSources,
    warehouse: Warehouse,
    sessions: Iterable[int],
    say: Callable[[str], None],
) -> None:
    """Make of sessions what training and evaluation read, where it is not there yet."""
    for session in dict.fromkeys(sessions):
        say(f"session {session}")
        stages.ingest_session(warehouse, sources.open(session))
        stages.build_session_books(warehouse, session)
        stages.build_session_tensors(warehouse, session)
        stages.choose_session_markets(warehouse, session)


def train(
    warehouse: Warehouse,
    wanted: Wanted,
    *,
    start: Path | None,
    resume: Path | None,
    watching: Watching,
    now_ms: int,
) -> Trained:
    """Train; asked for again, a training that was cut off goes on where it last saved.

    Args:
        warehouse: where the sessions are, prepared, and the runs.
        wanted: what to train.
        start: model whose weights it begins with, see `load_model`; None: fresh ones.
        resume: `checkpoint_{timesteps}` of a run of the same sessions and settings, to go on from
            exactly there, for `wanted.settings.timesteps` further steps.
        watching: how it is followed.
        now_ms: names a new run's folder; Unix milliseconds.

    Raises:
        SessionSealed: a session is kept for one look at the end; names it.
        NotPublished: a session has not been prepared.
        IncompatibleCheckpoint: falling validation had stopped the training to resume.
        TrainingError: what else training raises; `TrainingStopped` where it was asked to stop.
    """
    from kalshi_pipeline.learning.phase_run import train_run
    from kalshi_pipeline.learning.ppo import device_of
    from kalshi_pipeline.learning.run_checkpoints import RUN, load_snapshot
    from kalshi_pipeline.learning.runs import RunKey, open_run
    from kalshi_pipeline.learning.trials import recorder
    from kalshi_pipeline.storage.sb3 import export_sb3_zip

    refuse_sealed(warehouse, (*wanted.sessions, *wanted.validate_on), "a training")
    parent = None if start is None else load_model(start)
    snapshot = None if resume is None else load_snapshot(resume)
    settings = wanted.settings
    settings = replace(settings, device=device_of(settings.device, settings.learner))
    if snapshot:
        _check_goes_on(snapshot)
        done = snapshot.checkpoint.state.timesteps
        settings = replace(settings, timesteps=done + settings.timesteps)
    shortest = wanted.min_episode_steps
    universe = universe_of(warehouse, wanted.sessions, shortest)
    judged = universe_of(warehouse, wanted.validate_on, shortest) if wanted.validate_on else None
    watched = asdict(settings.watch)
    del watched["console_steps"]  # what a terminal shows changes no weights
    recipe = Recipe(
        TRAINING_VERSION,
        {"settings": asdict(settings) | {"watch": watched},
         "min_episode_steps": wanted.min_episode_steps,
         "algorithm": settings.learner.algorithm, "validation": wanted.validate_on},
        session_inputs(warehouse, (*wanted.sessions, *wanted.validate_on))
        | ({} if parent is None else {"parent": parent.content_hash})
        | ({} if snapshot is None else {"resumed": snapshot.checkpoint.content_hash}),
    )  # fmt: skip
    key = RunKey(
        BY_HAND, settings.phase, settings.seed, settings.learner.algorithm, wanted.sessions,
        recipe.digest,
    )  # fmt: skip
    with open_run(warehouse.root, key, now_ms, warehouse.files) as run:
        warehouse.share(run.folder / RUN)
        result = train_run(
            run, settings, universe, judged, parent,
            resume=snapshot, progress=watching.progress, stop=watching.stop,
            console=watching.console, scored=recorder(warehouse, key, settings.trading),
        )  # fmt: skip
        export_sb3_zip(result.best, run.folder / MODEL)
    return Trained(run.folder, run.folder / MODEL, result)


def _check_goes_on(snapshot: Snapshot) -> None:
    state = snapshot.checkpoint.state
    if state.alerts.get("stop"):
        raise IncompatibleCheckpoint(
            f"the training to resume was stopped by falling validation after {state.timesteps:,} "
            "timesteps and is over; begin a new one with its weights: --from-model-checkpoint",
            rule="resume",
            value=state.phase,
        )


def load_model(path: Path) -> Checkpoint:
    """A trained model, wherever it lies; nothing in it is executed.

    Args:
        path: a run (its best checkpoint, or its newest where nothing validated), one of its
            checkpoints, the folder of a published phase's seed, or a `model.zip` of
            Stable-Baselines3. A `model.zip` in the folder of one of our runs means the run.

    Raises:
        MissingParent: there is none.
        CorruptCheckpoint: it is damaged; says what else there is.
        IncompatibleCheckpoint: made by another feature table or network.
        ForeignModel: a zip that holds more than tensors, or another network.
    """
    from kalshi_pipeline.learning.run_checkpoints import (
        RUN,
        checkpoint_timesteps,
        load_best,
        load_checkpoint,
    )
    from kalshi_pipeline.storage import checkpoints
    from kalshi_pipeline.storage.foreign import import_sb3_zip

    if path.name == MODEL and (path.parent / RUN).is_file():
        path = path.parent  # with its lineage, which no zip has
    if path.is_file():
        return import_sb3_zip(path)
    if (path / RUN).is_file() and checkpoint_timesteps(path):
        return load_best(path)
    if (path / checkpoints.TRAINER).is_file():
        of_a_run = (path / MANIFEST).is_file()  # a seed's is its phase's
        return load_checkpoint(path) if of_a_run else checkpoints.load_published(path)
    raise MissingParent(
        "there is no model: name a run, one of its checkpoints, a published phase's seed, or a "
        "model.zip",
        rule="model",
        value=str(path),
    )


def evaluate(
    warehouse: Warehouse,
    model: Path,
    sessions: tuple[int, ...],
    episodes: int,
    min_episode_steps: int,
    progress: Callable[[str], None],
) -> Judged:
    """Judge a model beside the baselines on sessions, as a plan's evaluation does.

    Every episode of the sessions is played, again and again until there are `episodes`: a market
    played twice is no second market, and counts once.

    Args:
        warehouse: where the sessions are, prepared.
        model: see `load_model`.
        sessions: to judge on.
        episodes: that are to be played, at least.
        min_episode_steps: shortest segment that becomes an episode.
        progress: told one line before each backtest.

    Raises:
        NotPublished: a session has not been prepared.
        SessionSealed: a session is sealed and nobody has opened it.
        EvaluationError: there is no episode at all.
        TrainingError: what `load_model` raises.
    """
    from kalshi_pipeline.evaluation.reports import render_html, render_json

    refuse_sealed(warehouse, sessions, "an evaluation")
    checkpoint = load_model(model)
    universes, exclusions = universes_of(warehouse, sessions, min_episode_steps)
    found = sum(len(universe) for universe in universes.values())
    repeats = max(1, math.ceil(episodes / max(found, 1)))
    later = partial(causal_universes, warehouse, min_episode_steps=min_episode_steps)
    evaluation = replace(EvaluationConfig(), stochastic_repeats=repeats)
    rules = rules_of(checkpoint.state.trading, evaluation, min_episode_steps)
    own = digest_of([BY_HAND, checkpoint.content_hash, sorted(sessions), rules])
    judged = _judged(
        warehouse, checkpoint, universes, exclusions, later, evaluation, (own, rules), progress
    )
    record_judged(warehouse, judged.tables[TRIALS], own)
    pages = {
        "report.json": render_json(judged.report),
        "report.html": render_html(judged.report),
        **{f"{name}.parquet": _parquet(rows) for name, rows in judged.tables.items()},
    }
    name = f"{checkpoint.content_hash[:12]}_{'-'.join(map(str, sessions))}"
    folder = warehouse.root / EVALUATIONS / name
    write_folder(folder, pages, warehouse.files)
    decided = tuple(
        f"{point['question']}: {point['outcome']}; {point['action']}"
        for point in judged.report["decisions"]
    )
    return Judged(judged.report["verdict"]["sentence"], decided, folder / "report.html")


def _judged(
    warehouse: Warehouse,
    checkpoint: Checkpoint,
    universes: Mapping[int, Universe],
    exclusions: Sequence[Mapping[str, Any]],
    later: Callable[[int], Mapping[str, Universe]],
    evaluation: EvaluationConfig,
    known_by: tuple[str, str],
    progress: Callable[[str], None],
) -> Evaluation:
    # known by its own digest and that of its rules: asked for again, its trials are the same
    from kalshi_pipeline.evaluation.baselines import baselines
    from kalshi_pipeline.evaluation.evaluate import evaluate as evaluated
    from kalshi_pipeline.evaluation.evidence import Case, Past
    from kalshi_pipeline.evaluation.lineage import Lineage
    from kalshi_pipeline.learning.policy import NetworkPolicy, untrained

    state = checkpoint.state
    own, rules = known_by
    seals = seals_of(warehouse, universes, checkpoint.content_hash)
    learned = NetworkPolicy(checkpoint, name=LEARNED, stochastic=True)
    likeliest = NetworkPolicy(checkpoint, name=f"{LEARNED}, likeliest action", stochastic=False)
    chose = {entry.session for entry in state.selected_on}
    looked_at = {seal.session for seal in seals.values() if not seal.first_look}
    case = Case(
        universes,
        dict.fromkeys(universes, "asked for by hand"),
        judged=learned,
        baselines=(*baselines(learned), untrained(checkpoint)),
        used=Lineage.of(
            [asdict(entry) for entry in state.lineage],
            [asdict(entry) for entry in state.selected_on],
            foreign=state.foreign,
            embargo_ms=evaluation.embargo_ms,
            looked_at=looked_at | looked_forward(warehouse, universes),
        ),
        provenance={
            "checkpoint": checkpoint.content_hash,
            "phase": state.phase,
            "algorithm": state.algorithm,
            "seed": state.seed,
            "timesteps_total": state.timesteps_total,
            **session_facts(warehouse, universes),
        },
        trading=state.trading,
        evaluation=evaluation,
        variants=[likeliest],
        exclusions=exclusions,
        past=Past(
            trials=trials_on(warehouse, chose.union(universes), own),
            candidates=candidates_of([learned, likeliest], BY_HAND, own, rules),
            training=[course_by_hand(checkpoint)],
            sealed=[seal.told() for seal in seals.values()],
        ),
        later=later,
    )
    return evaluated(case, progress)


def _parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    written: bytes = sink.getvalue().to_pybytes()
    return written
