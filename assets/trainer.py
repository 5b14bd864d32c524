"""The process in which a phase is trained: `python -m kalshi_pipeline.assets.trainer`, under Pipes.

Started by `training.py` for one phase, and for as long as that lives. Asked to stop, or left
alone, it stops at the next update with its run kept; whoever trains the phase next continues there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_pipes import open_dagster_pipes

from kalshi_pipeline import plan_stages
from kalshi_pipeline.errors import KalshiPipelineError, TrainingStopped
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.resources.environment import open_warehouse

if TYPE_CHECKING:
    from kalshi_pipeline.learning.records import TrainingProgress

STOPPED = 128 + signal.SIGTERM
PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Train the phase that Dagster names; other than 0 is returned where it should go on."""
    stop = stop_on_signals()
    _die_with_parent()
    with open_dagster_pipes() as pipes:
        plan = load_plan(pipes.get_extra("plan"))
        session = pipes.get_extra("session")
        phase = plan.retraining(int(session)) if session else plan.phase(pipes.get_extra("phase"))
        warehouse = open_warehouse(pipes.get_extra("warehouse"))
        os.nice(pipes.get_extra("niceness"))
        progress, reports = Path(pipes.get_extra("progress")), pipes.get_extra("reports")
        tell = _teller(progress, reports, pipes.log.info)
        try:
            generation = plan_stages.train_phase(
                warehouse, plan, phase, tell, now_ms=time.time_ns() // 1_000_000, stop=stop
            )
        except TrainingStopped as stopped:
            pipes.log.warning(str(stopped))
            return STOPPED
        except KalshiPipelineError as error:  # told, not a failure to be tried again
            pipes.report_custom_message({"refused": f"{type(error).__name__}: {error}"})
            return 0
        pipes.report_custom_message({"reused": generation.reused})
    return 0


def stop_on_signals() -> Callable[[], bool]:
    """Whether this process was asked to stop."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: asked.append(received))
    return lambda: bool(asked)


def _die_with_parent() -> None:
    # else a training whose run worker was killed would go on, unseen, beside the one that follows
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent == 1 or os.getppid() != parent:  # it was gone before the kernel was told
        os.kill(os.getpid(), signal.SIGTERM)


def _teller(
    path: Path, reports: int, say: Callable[[str], None]
) -> Callable[[int, TrainingProgress], None]:
    told = (-1, -1)

    def tell(seed: int, progress: TrainingProgress) -> None:
        nonlocal told
        place = (seed, progress.timesteps * reports // progress.target)
        if place == told:
            return
        told = place
        figures = _figures(progress)
        # where the folder is another machine's, the log says it alone
        with suppress(FileNotFoundError), path.open("a") as file:
            told_of = {"of": f"seed {seed}", **figures}  # a text: no curve is drawn of it
            file.write(json.dumps(told_of, allow_nan=False) + "\n")
        say(
            f"{progress.timesteps:>9,} of {progress.target:,} steps  "
            + "  ".join(
                f"{name} {value:,.3g}" for name, value in figures.items() if value is not None
            )
        )

    return tell


def _figures(progress: TrainingProgress) -> dict[str, Any]:
    shown = progress.record.diagnostics
    return {
        "timesteps": progress.timesteps,
        "dollars an episode": shown.ended.pnl_mean if shown.ended else None,
        "entropy": progress.record.entropy,
        "hold share": shown.hold_share,
        "explained variance": progress.record.explained_variance,
        "steps a second": progress.record.steps_per_second,
    }


if __name__ == "__main__":
    sys.exit(main())
