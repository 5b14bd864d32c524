"""The command line: `kalshi sessions`, `kalshi train`, `kalshi evaluate`, `kalshi run`, and so on.

Thin: every command calls the stages the assets call, on the same warehouse.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Sequence

from rich.console import Console

from kalshi_pipeline import __doc__ as flow
from kalshi_pipeline.cli import backing_up, pruning, reports, sessions, sweeping, training
from kalshi_pipeline.cli.shared import add_json, command, show
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.plans import DEFAULT_PLAN, plan_names
from kalshi_pipeline.resources.environment import open_warehouse, warehouse_root
from kalshi_pipeline.sessions import report, shown
from kalshi_pipeline.storage.arrow import leave_pandas_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error the pipeline knows ends in one sentence, not in a traceback."""
    options = parser().parse_args(arguments)
    if arguments is None and not getattr(options, "dagster", False):
        # a process of ours alone; where Dagster is loaded, it loads what it likes
        leave_pandas_out()
        atexit.register(gc.freeze)  # a third of a second is spent on looking for garbage at the end
    try:
        options.run(options)
    except KalshiPipelineError as error:
        print(f"kalshi: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    return 0


def parser() -> argparse.ArgumentParser:
    """Every command there is."""
    parser = argparse.ArgumentParser(
        prog="kalshi", description=flow, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    looking = commands.add_parser("sessions", help="look at recorded and generated sessions")
    sessions.add_commands(looking.add_subparsers(required=True, metavar="ACTION"))

    training.add_commands(commands)
    sweeping.add_commands(commands)

    reading = commands.add_parser("report", help="the pages of evaluations")
    reports.add_commands(reading.add_subparsers(required=True, metavar="ACTION"))

    warehouse = commands.add_parser("warehouse", help="everything published")
    keeping = warehouse.add_subparsers(required=True, metavar="ACTION")
    pruning.add_warehouse_commands(keeping)
    views = command(
        keeping,
        "views",
        _views,
        "rebuild kalshi.duckdb and list what it holds",
        "Rebuild kalshi.duckdb, views over everything published, and list what it holds. Whoever "
        "has it open keeps the old one. docs/QUERIES.md has example queries.",
    )
    add_json(views)

    copying = commands.add_parser("backup", help="a copy of everything that is not elsewhere")
    backing_up.add_commands(copying.add_subparsers(required=True, metavar="ACTION"))

    history = commands.add_parser("runs", help="what Dagster remembers of runs")
    pruning.add_run_commands(history.add_subparsers(required=True, metavar="ACTION"))

    running = command(
        commands, "run", _run, "a whole plan, from raw frames to the verdict",
        "Run a plan: every session, every phase, the evaluation. What is there is not made again.",
    )  # fmt: skip
    running.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    running.set_defaults(dagster=True)
    return parser


def _views(options: argparse.Namespace) -> None:
    from kalshi_pipeline.storage.views import relations
    from kalshi_pipeline.warehouse_views import refresh_views

    database = refresh_views(open_warehouse(warehouse_root()))
    show(options, report.holdings(database, relations(database)))


def _run(options: argparse.Namespace) -> None:
    from kalshi_pipeline.assets.run import run_plan

    console = Console(stderr=True)
    done = run_plan(options.plan, lambda text: console.rule(text, align="left"))
    console.print(shown.timing(done.seconds))
    print(f"\n{done.verdict}\n\nreport: {done.report}")
    for session in done.sealed:
        print(
            f"session {session} is sealed for one look: kalshi sessions open {session} "
            f"--plan {options.plan} --reason '...', and run again, to judge these weights on it"
        )
