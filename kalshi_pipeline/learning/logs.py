"""What a training run writes while it runs, into its folder.

    training_{timestamp}.log        for people: a block every so many steps, alerts, validations
    m10_diagnostics/rollouts.jsonl  the records that outlive the phase, first and last among them
    m10_diagnostics/alerts.jsonl    every alert that fired
    m10_diagnostics/validations.jsonl  every score
    tensorboard/                    the same figures as curves

The JSON lines hold no time of day and no speed: those of a resumed run, whose folder has been cut
back to its checkpoint, equal those of one that never stopped. All of it is bounded by the phase's
steps, not by how long they take: at most `training.MAX_RECORDS` records, one block a
`console_steps`, one firing of a rule each `REST_STEPS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kalshi_pipeline.learning.alert_rules import Firing
from kalshi_pipeline.learning.diagnostics import console_block
from kalshi_pipeline.learning.records import TrainingProgress
from kalshi_pipeline.trading.actions import Action

DIGITS = 6  # significant ones of a number in a JSON line
ROLLOUTS, ALERTS, VALIDATIONS = "rollouts.jsonl", "alerts.jsonl", "validations.jsonl"
DIAGNOSTICS, TENSORBOARD = "m10_diagnostics", "tensorboard"


@contextmanager
def training_logs(
    folder: Path,
    log_path: Path,
    console_steps: int,
    *,
    resumed_at: int | None = None,
    console: Callable[[str], None] | None = None,
) -> Iterator[TrainingLogs]:
    """The logs of one run, open to be written.

    Args:
        folder: of the run.
        log_path: the log for people.
        console_steps: a block at the first rollout after every so many environment steps; every
            rollout where that is longer.
        resumed_at: timesteps of the checkpoint that the run continues from, where it does.
        console: receives every block too.
    """
    logs = TrainingLogs(folder, log_path, console_steps, resumed_at, console)
    try:
        yield logs
    finally:
        logs.close()


class TrainingLogs:
    """Called with the progress of a run after each rollout; see `training_logs`."""

    def __init__(
        self,
        folder: Path,
        log_path: Path,
        console_steps: int,
        resumed_at: int | None,
        console: Callable[[str], None] | None,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._diagnostics = folder / DIAGNOSTICS
        self._diagnostics.mkdir(exist_ok=True)
        self._log_path, self._console = log_path, console
        self._console_steps = console_steps
        self._told = resumed_at or 0  # timesteps of the last block
        # curves of steps that will be taken again are hidden from the resumed step on
        purge = None if resumed_at is None else resumed_at + 1
        self._curves: Any = SummaryWriter(str(folder / TENSORBOARD), purge_step=purge)
        if resumed_at is not None:
            self._say(f"resumed at step {resumed_at:,}")

    def __call__(self, progress: TrainingProgress) -> None:
        """Write what there is to tell; it has reached the files when this returns."""
        if progress.kept:
            self._append(ROLLOUTS, rollout_line(progress))
            self._draw(curves(progress), progress.timesteps)
        for firing in progress.firings:
            self._append(ALERTS, asdict(firing))
            self._say(alert_line(firing))
        if progress.score is not None:
            at = progress.timesteps
            self._append(VALIDATIONS, {"timesteps": at, "score": progress.score})
            self._draw({"validation/dollars_an_episode": progress.score}, at)
            self._say(f"step {at:,}: validation {progress.score:+.4f} $ an episode")
        due = progress.timesteps // self._console_steps > self._told // self._console_steps
        if due or progress.timesteps >= progress.target:
            self._told = progress.timesteps
            self._say(block(progress))

    def close(self) -> None:
        """Finish the curves; the other files are whole after each call."""
        self._curves.close()

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        # opened for each line: the run's folder may be cut back or synced by whoever saves it
        with (self._diagnostics / name).open("a") as file:
            file.write(json.dumps(_short(line), allow_nan=False, separators=(",", ":")) + "\n")

    def _draw(self, figures: Mapping[str, float], timesteps: int) -> None:
        for name, value in figures.items():
            self._curves.add_scalar(name, value, timesteps)

    def _say(self, text: str) -> None:
        with self._log_path.open("a") as file:
            file.write(text + "\n")
        if self._console:
            self._console(text)


def rollout_line(progress: TrainingProgress) -> dict[str, Any]:
    """One line of `rollouts.jsonl`: the record, less its speed, and the knobs it left."""
    record = asdict(progress.record)
    del record["steps_per_second"]
    return {**record, "knobs": dict(progress.knobs)}


def alert_line(firing: Firing) -> str:
    """An alert for a person: cause, and what was done or is advised."""
    moved = ", ".join(f"{knob} {old:g} -> {new:g}" for knob, (old, new) in firing.changed.items())
    done = f"done: {moved or firing.action}" if firing.acted else f"advice: {firing.action}"
    return f"ALERT step {firing.timesteps:,} {firing.rule}: {firing.cause}; {done}"


def block(progress: TrainingProgress) -> str:
    """The M10 block of a rollout, with where the phase stands and what the update showed."""
    record = progress.record
    update = [
        f"{name} {value:.3g}"
        for name, value in (
            ("explained", record.explained_variance),
            ("KL", record.approx_kl),
            ("clipped", record.clip_fraction),
            ("value loss", record.value_loss),
            ("entropy", record.entropy),
        )
        if value is not None
    ]
    return (
        f"=== {progress.phase}  step {progress.timesteps:,} of {progress.target:,}  "
        f"{record.steps_per_second:,.0f} steps/s\n"
        f"{console_block(record.diagnostics)}\n"
        f"update   {', '.join(update)}"
    )


def curves(progress: TrainingProgress) -> dict[str, float]:
    """TensorBoard tag -> value; a figure that does not exist has no point."""
    record, shown = progress.record, progress.record.diagnostics
    shares = zip(Action, shown.action_shares, strict=True)
    figures: dict[str, float | None] = {
        "m10/action_entropy": shown.action_entropy,
        "m10/reward_mean": shown.reward_mean,
        "m10/reward_zero_share": shown.reward_zero_share,
        "m10/constant_columns": float(len(shown.constant_columns)),
        **{f"actions/{action.name.lower()}": share for action, share in shares},
        "train/entropy": record.entropy,
        "train/approx_kl": record.approx_kl,
        "train/clip_fraction": record.clip_fraction,
        "train/explained_variance": record.explained_variance,
        "train/value_loss": record.value_loss,
        "train/policy_loss": record.policy_loss,
        "time/steps_per_second": record.steps_per_second,
        **{f"knobs/{name}": value for name, value in progress.knobs.items()},
    }
    if ended := shown.ended:
        figures |= {
            "episodes/pnl_mean": ended.pnl_mean,
            "episodes/win_share": ended.win_share,
            "episodes/fees_mean": ended.fees_mean,
            "episodes/fills_mean": ended.fills_mean,
            "episodes/invalid_share": ended.invalid_share,
            "episodes/drawdown_mean": ended.drawdown_mean,
        }
    return {name: value for name, value in figures.items() if value is not None}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(inner) for inner in value]
    return value
