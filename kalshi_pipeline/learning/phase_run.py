"""One training run, in its folder: resumed where it was cut off, validated, logged, kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kalshi_pipeline.config import LearnerConfig, TradingConfig, WatchConfig
from kalshi_pipeline.learning.logs import training_logs
from kalshi_pipeline.learning.memory import sizes_named
from kalshi_pipeline.learning.ppo import Device
from kalshi_pipeline.learning.records import Snapshot, TrainingProgress, TrainingResult
from kalshi_pipeline.learning.runs import TrainingRun
from kalshi_pipeline.learning.training import lineage_of, train_phase
from kalshi_pipeline.learning.validation import Scored, Validator
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.trading.tape import Universe


@dataclass(frozen=True)
class RunSettings:
    """What a run trains, beside its data.

    Args:
        phase: name of the phase.
        timesteps: further environment steps.
        learner: how it learns: the algorithm is that of the configuration.
        trading: rules of the episodes.
        seed: of everything random.
        curriculum: busy markets first; else all markets alike.
        save_every: timesteps between two checkpoints.
        watch: alerts, validation, and what the log shows.
        device: where PPO learns, and part of what it learns: a GPU gives other weights.
    """

    phase: str
    timesteps: int
    learner: LearnerConfig
    trading: TradingConfig
    seed: int
    curriculum: bool
    save_every: int
    watch: WatchConfig = field(default_factory=WatchConfig)
    device: Device = "cpu"


def train_run(
    run: TrainingRun,
    settings: RunSettings,
    universe: Universe,
    validation: Universe | None,
    parent: Checkpoint | None,
    *,
    resume: Snapshot | None = None,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    console: Callable[[str], None] | None = None,
    scored: Scored = lambda _policy, _totals: None,
) -> TrainingResult:
    """Train in a run's folder; a run that was cut off goes on where it last saved.

    Args:
        run: held by this process.
        settings: what to train.
        universe: the episodes to learn from.
        validation: the episodes that choose the best checkpoint, where there are some.
        parent: checkpoint to continue from.
        resume: where a run that has saved nothing yet goes on; of another run of this phase.
        progress: called after each rollout.
        stop: asked after each update; once it says yes, the run is saved and training ends.
        console: receives what the log for people does.
        scored: told of every policy that was validated, see `Validator`.

    Raises:
        TrainingError: as `train_phase` and `TrainingRun.resume_point` do.
    """
    watch, found = settings.watch, run.resume_point() or resume
    validate = (
        Validator(validation, settings.trading, watch.validation_steps, scored)
        if validation
        else None
    )
    resumed_at = None if found is None else found.checkpoint.state.timesteps
    written = training_logs(
        run.folder, run.log_path, watch.console_steps, resumed_at=resumed_at, console=console
    )
    with sizes_named(universe, settings.learner), written as logs:

        def tell(reached: TrainingProgress) -> None:
            logs(reached)
            progress(reached)

        return train_phase(
            universe,
            phase=settings.phase,
            timesteps=settings.timesteps,
            config=settings.learner,
            trading=settings.trading,
            seed=settings.seed,
            parent=parent,
            curriculum=settings.curriculum,
            progress=tell,
            validate=validate,
            selected_on=lineage_of(validation) if validation else (),
            keep=run.save,
            resume=found,
            checkpoint_every=settings.save_every,
            watching=watch,
            device=settings.device,
            stop=stop,
        )
