"""`kalshi sweep`: a search for the hyper-parameters of a phase of a plan."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from rich.console import Console

from kalshi_pipeline.cli.shared import command, positive, stop_on_interrupt
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.plans import DEFAULT_PLAN, load_plan, plan_names
from kalshi_pipeline.resources.environment import (
    engine_name,
    is_shared,
    open_warehouse,
    warehouse_root,
)

TRIALS = 16


def add_commands(commands: Any) -> None:
    """Add `kalshi sweep`."""
    sweep = command(
        commands, "sweep", _sweep, "search for the hyper-parameters of a phase",
        "Train a phase again and again with other hyper-parameters (the training plan's appendix "
        "B), the first time with the plan's own; a trial that validates worse than most at that "
        "point is ended. Nothing is published: the best settings are printed as they go into the "
        "plan. Every policy that was validated is counted by evaluations. Asked for again, the "
        "sweep goes on. docs/SCALE.md.",
    )  # fmt: skip
    sweep.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    sweep.add_argument("--phase", default="phase_1", metavar="phase_N")
    sweep.add_argument(
        "--trials", type=positive, default=TRIALS, metavar="N",
        help=f"how many there are to be, those before included; default {TRIALS}",
    )  # fmt: skip
    sweep.add_argument(
        "--timesteps", type=positive, metavar="N", help="of a trial; default: the phase's"
    )
    sweep.add_argument(
        "--save-freq", type=positive, metavar="STEPS",
        help="steps between two validations of a trial; default: the plan's",
    )  # fmt: skip
    sweep.add_argument(
        "--side-by-side", type=positive, default=1, metavar="N",
        help="so many trials at once, each a job of the Ray cluster (KALSHI_ENGINE=ray)",
    )  # fmt: skip


def _sweep(options: argparse.Namespace) -> None:
    from kalshi_pipeline.plan_sweep import BEST, best_settings, open_sweep, search

    say = Console(stderr=True).print
    if options.side_by_side > 1:
        _refuse_without_cluster()
    sweep = open_sweep(
        open_warehouse(warehouse_root()),
        load_plan(options.plan),
        options.phase,
        timesteps=options.timesteps,
        save_every=options.save_freq,
    )
    if options.side_by_side > 1:
        _on_the_cluster(options)
    else:
        search(
            sweep,
            options.trials,
            now_ms=time.time_ns() // 1_000_000,
            say=lambda text: say(text, markup=False, highlight=False, soft_wrap=True),
            stop=stop_on_interrupt(say),
        )
    print(best_settings(sweep), end="")
    print(f"kept: {sweep.folder / BEST}")


def _refuse_without_cluster() -> None:
    if engine_name() != "ray":
        raise PlanError("trials go side by side on a Ray cluster: KALSHI_ENGINE=ray", rule="engine")
    if is_shared(warehouse_root()):
        raise PlanError(
            "trials go side by side in a folder that all nodes see: what a sweep knows of its "
            "trials is not kept in an object store",
            rule="warehouse",
            value=warehouse_root(),
        )


def _on_the_cluster(options: argparse.Namespace) -> None:
    from kalshi_pipeline.resources.engine import side_by_side

    words = ["sweep", "--plan", options.plan, "--phase", options.phase]
    words += ["--trials", str(options.trials)]
    for flag, value in (("--timesteps", options.timesteps), ("--save-freq", options.save_freq)):
        words += [flag, str(value)] if value else []
    command = [sys.executable, "-m", "kalshi_pipeline.cli", *words]
    side_by_side([command] * options.side_by_side)
