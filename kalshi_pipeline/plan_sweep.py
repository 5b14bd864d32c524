"""A search for the hyper-parameters of a phase: trials, each a training, scored on validation.

    <root>/sweeps/{plan}_{phase}_{digest}/
        study.sqlite       what Optuna knows of every trial
        trained_models/    the run of each trial
        best.toml          the best settings so far, as they go into the plan
        going/             locks of the trials that go on

A sweep publishes nothing: what it finds is written into the plan by a person, and trained. Every
policy that was validated is in the trials ledger, whatever became of its trial: an evaluation
counts all of them. Asked for again, a sweep goes on; asked for twice at once, trials go on side by
side.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.errors import (
    KalshiPipelineError,
    PlanError,
    TrainingDiverged,
    TrainingStopped,
)
from kalshi_pipeline.plan_stages import (
    TRAINING_VERSION,
    load_parents,
    parent_of,
    run_settings,
    settings_of,
)
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.sealed import refuse_sealed
from kalshi_pipeline.search_space import CHOICES, RANGES, distributions, rounded, space_of
from kalshi_pipeline.session_data import session_inputs, universe_of
from kalshi_pipeline.storage.publish import Recipe, Warehouse
from kalshi_pipeline.storage.whole_folder import replace_file
from kalshi_pipeline.trading.tape import Universe

if TYPE_CHECKING:
    import optuna

    from kalshi_pipeline.learning.records import TrainingProgress
    from kalshi_pipeline.storage.checkpoints import Checkpoint

SWEEPS = "sweeps"
BEST = "best.toml"
_STUDY = "study.sqlite"
_GOING = "going"
_DIGITS = 12
_STARTUP = 6  # trials by chance before the sampler follows any
_BEFORE_PRUNING = 4  # trials that are done before one is compared with their median


@dataclass(frozen=True)
class Told:
    """A trial, as a table shows it.

    Args:
        number: of the study, from 0.
        state: `complete`, `pruned`, `fail` (diverged, or its process was killed), `running`.
        score: best dollars an episode on validation; None before the first.
        settings: what was tried.
    """

    number: int
    state: str
    score: float | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What is searched, and where that is kept.

    Args:
        warehouse: where sessions, parents and the ledger are.
        plan: whose phase.
        phase: with as many timesteps as a trial has.
        folder: of this sweep.
    """

    warehouse: Warehouse
    plan: Plan
    phase: Phase
    folder: Path

    @cached_property
    def storage(self) -> optuna.storages.BaseStorage:
        """Where Optuna keeps what it knows."""
        import optuna

        self.folder.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / _STUDY}",
            engine_kwargs={"connect_args": {"timeout": 60}},  # another process may be writing
        )

    def trials(self) -> list[Told]:
        """Every trial so far."""
        return [
            Told(trial.number, trial.state.name.lower(), _score(trial), rounded(trial.params))
            for trial in _study(self, 0).get_trials(deepcopy=False)
        ]

    def best(self) -> Told | None:
        """The trial that validated best, the first of equals; None before one is done."""
        done = [t for t in self.trials() if t.state == "complete" and t.score is not None]
        return max(done, key=lambda told: (told.score, -told.number), default=None)


def open_sweep(
    warehouse: Warehouse,
    plan: Plan,
    phase: str,
    *,
    timesteps: int | None = None,
    save_every: int | None = None,
) -> Sweep:
    """The sweep of a phase, new or to be gone on with.

    Args:
        warehouse: where its sessions are, prepared, and its parent, trained.
        plan: whose phase it is.
        phase: its name.
        timesteps: of a trial; those of the plan where it is None.
        save_every: timesteps between two validations of a trial; those of the plan.

    Raises:
        PlanError: the phase learns by another algorithm than the guide is for, or nothing
            validates it.
        SessionSealed: one of its sessions is kept for one look at the end.
        NotPublished: one of its sessions has not been prepared.
        MissingParent: what it continues from is not there.
    """
    _refuse_without_optuna()
    wanted = plan.phase(phase)
    if wanted.algorithm != PPOConfig.algorithm:
        raise PlanError(
            f"{phase} learns by {wanted.algorithm}; the guide that is searched is of PPO",
            rule="appendix B",
            value=wanted.algorithm,
        )
    wanted = replace(wanted, timesteps=timesteps or wanted.timesteps)
    plan = replace(plan, save_every=save_every or plan.save_every)
    if not plan.validation_sessions(wanted):
        raise PlanError(f"nothing validates {phase} of {plan.name}", rule="validation", value=phase)
    recipe = _recipe(warehouse, plan, wanted, {"space": [RANGES, CHOICES]})
    name = f"{plan.name}_{phase}_{recipe.digest[:_DIGITS]}"
    return Sweep(warehouse, plan, wanted, warehouse.root / SWEEPS / name)


def search(
    sweep: Sweep,
    trials: int,
    *,
    now_ms: int,
    say: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Go on until so many trials are done, pruned ones and those before included.

    Args:
        sweep: see `open_sweep`.
        trials: how many there are to be.
        now_ms: names the folders of runs; Unix milliseconds.
        say: told one line of every trial.
        stop: asked after each update; once it says yes, the trial is kept to be gone on with.

    Raises:
        TrainingStopped: `stop` said yes.
    """
    plan, phase, warehouse = sweep.plan, sweep.phase, sweep.warehouse
    universe = universe_of(warehouse, phase.sessions, plan.min_episode_steps)
    judged = universe_of(warehouse, plan.validation_sessions(phase), plan.min_episode_steps)
    above = parent_of(warehouse, plan, phase)
    parent = load_parents(plan, phase, above)[plan.seed] if above else None
    (sweep.folder / _GOING).mkdir(parents=True, exist_ok=True)
    while True:
        with _asked(sweep, trials) as trial:
            if trial is None:
                break
            _carry_out(sweep, trial, universe, judged, parent, now_ms, stop)
        told = sweep.trials()[trial.number]
        say(_line(told))
        _write_best(sweep)


def _refuse_without_optuna() -> None:
    try:
        import optuna
    except ImportError as error:
        raise KalshiPipelineError(
            "a sweep needs Optuna: pip install 'kalshi-pipeline[ray]'", rule="extra", value="optuna"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _recipe(warehouse: Warehouse, plan: Plan, phase: Phase, further: Mapping[str, Any]) -> Recipe:
    # of one seed, and never that of a phase: no phase is made of a trial unseen
    sessions = (*phase.sessions, *plan.validation_sessions(phase))
    refuse_sealed(warehouse, sessions, f"a sweep of {phase.name} of {plan.name}")
    above = parent_of(warehouse, plan, phase)
    inputs = session_inputs(warehouse, sessions)
    if above is not None:
        inputs = inputs | {str(phase.parent): above.content_hash}
    return Recipe(TRAINING_VERSION, {**settings_of(plan, phase), "sweep": dict(further)}, inputs)


def _study(sweep: Sweep, done: int) -> optuna.Study:
    import optuna

    return optuna.create_study(
        storage=sweep.storage,
        study_name=sweep.folder.name,
        direction="maximize",
        load_if_exists=True,
        # one that goes on draws as one that was never stopped
        sampler=optuna.samplers.TPESampler(
            seed=sweep.plan.seed * 100_003 + done,
            n_startup_trials=_STARTUP,
            constant_liar=True,
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING),
    )


@contextmanager
def _asked(sweep: Sweep, trials: int) -> Iterator[optuna.Trial | None]:
    """The next trial, held by this process; None once there are enough."""
    with (sweep.folder / ".lock").open("a") as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        study = _study(sweep, 0)
        if not study.get_trials(deepcopy=False):
            learner = sweep.phase.learner
            study.enqueue_trial({name: getattr(learner, name) for name in _knobs(sweep)})
        going = _give_up_the_dead(sweep, study)
        done = [t for t in study.get_trials(deepcopy=False) if _counts(t)]
        if len(done) + going >= trials:
            held, trial = None, None
        else:
            study = _study(sweep, len(done) + going)
            trial = study.ask(distributions(_ppo(sweep.phase)))
            held = (sweep.folder / _GOING / str(trial.number)).open("a")
            fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield trial
    finally:
        if held:
            held.close()  # and so no longer held, as if the process had ended


def _give_up_the_dead(sweep: Sweep, study: optuna.Study) -> int:
    """Ask again for what a killed process was trying; how many trials others go on with."""
    from optuna.trial import TrialState

    going = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with (sweep.folder / _GOING / str(trial.number)).open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                going += 1
                continue
            # its run is found by its settings and goes on where it last saved; asked for again
            # before it is given up, so that a process that ends in between loses no trial
            # one that was not drawn to the end is drawn anew, from the same seed
            drawn = trial.params if len(trial.params) == len(_knobs(sweep)) else None
            tried = drawn or trial.system_attrs.get("fixed_params")
            over = "diverged" in trial.user_attrs or _asked_again(study, trial)
            if tried and not over:
                study.enqueue_trial(tried, user_attrs={"continues": trial.number})
            study.tell(trial.number, state=TrialState.FAIL)
    return going


def _asked_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
    later = study.get_trials(deepcopy=False)
    return any(other.user_attrs.get("continues") == trial.number for other in later)


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    # one that was killed is counted where it was gone on with
    return trial.state.name in {"COMPLETE", "PRUNED"} or "diverged" in trial.user_attrs


def _carry_out(
    sweep: Sweep,
    trial: optuna.Trial,
    universe: Universe,
    judged: Universe,
    parent: Checkpoint | None,
    now_ms: int,
    stop: Callable[[], bool],
) -> None:
    from optuna.trial import TrialState

    from kalshi_pipeline.learning.phase_run import train_run
    from kalshi_pipeline.learning.run_checkpoints import RUN
    from kalshi_pipeline.learning.runs import RunKey, open_run
    from kalshi_pipeline.learning.trials import recorder

    plan, warehouse = sweep.plan, sweep.warehouse
    phase = replace(sweep.phase, learner=replace(sweep.phase.learner, **rounded(trial.params)))
    recipe = _recipe(warehouse, plan, phase, {"learner": asdict(phase.learner)})
    key = RunKey(
        plan.name, f"{phase.name}_sweep", plan.seed, phase.algorithm, phase.sessions, recipe.digest
    )
    pruned = False

    def watch(reached: TrainingProgress) -> None:
        nonlocal pruned
        if reached.score is not None:
            # of the same validation, however long a rollout is
            trial.report(reached.score, reached.timesteps // plan.save_every)
            pruned = trial.should_prune()

    with open_run(sweep.folder, key, now_ms, warehouse.files) as run:
        warehouse.share(run.folder / RUN)
        if found := run.resume_point():  # of a trial that was killed: what it had told
            for at, score in found.history.validations:
                trial.report(score, at // plan.save_every)
            over = found.checkpoint.state.timesteps >= phase.timesteps
            if not over and trial.should_prune():
                trial.study.tell(trial, state=TrialState.PRUNED)
                return
        try:
            result = train_run(
                run, run_settings(plan, phase, plan.seed), universe, judged, parent,
                progress=watch, stop=lambda: pruned or stop(),
                scored=recorder(warehouse, key, plan.trading),
            )  # fmt: skip
        except TrainingStopped:
            if not pruned:
                raise
            trial.study.tell(trial, state=TrialState.PRUNED)
        except TrainingDiverged as diverged:
            trial.set_user_attr("diverged", str(diverged))
            trial.study.tell(trial, state=TrialState.FAIL)
        else:
            trial.study.tell(trial, max(score for _, score in result.validations))
            run.finish(result.best.content_hash)


def _ppo(phase: Phase) -> PPOConfig:
    assert isinstance(phase.learner, PPOConfig)  # noqa: S101  # `open_sweep` refuses any other
    return phase.learner


def _knobs(sweep: Sweep) -> Sequence[str]:
    return tuple(space_of(_ppo(sweep.phase)))


def _score(trial: optuna.trial.FrozenTrial) -> float | None:
    scores = [score for score in trial.intermediate_values.values() if math.isfinite(score)]
    return trial.value if trial.state.name == "COMPLETE" else max(scores, default=None)


def _line(told: Told) -> str:
    score = "not validated" if told.score is None else f"${told.score:+.4f} an episode"
    tried = "  ".join(f"{name} {value:g}" for name, value in told.settings.items())
    return f"trial {told.number:>3}  {told.state:<8}  {score:<22}  {tried}"


def best_settings(sweep: Sweep) -> str:
    """The best settings so far, as TOML of the plan, with how they were found; "" before any."""
    best = sweep.best()
    if best is None:
        return ""
    found = sweep.trials()
    tried = sum(told.state in {"complete", "pruned"} for told in found)
    sessions = ", ".join(map(str, sweep.plan.validation_sessions(sweep.phase)))
    lines = [
        f"# {sweep.phase.name} of {sweep.plan.name}: trial {best.number}, the best of {tried} on "
        f"validation session {sessions}:",
        f"# ${best.score:+.4f} an episode after {sweep.phase.timesteps:,} steps. An evaluation "
        "counts all of them.",
        f"# Goes under [[phase]] with the name {sweep.phase.name}:",
        f"[phase.{sweep.phase.algorithm}]",
        *(f"{name} = {value!r}" for name, value in best.settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _write_best(sweep: Sweep) -> None:
    if text := best_settings(sweep):
        replace_file(sweep.folder / BEST, text.encode(), sweep.warehouse.files)
