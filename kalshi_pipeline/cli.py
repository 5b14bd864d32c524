"""The command line: `kalshi sessions`, `kalshi warehouse`, `kalshi run`.

Thin: every command calls the stages the assets call, on the same warehouse.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from kalshi_pipeline import __doc__ as flow
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.names import session_id
from kalshi_pipeline.plans import DEFAULT_PLAN, load_plan, plan_names
from kalshi_pipeline.resources.environment import (
    database_url,
    open_sources,
    open_warehouse,
    recording_roots,
    warehouse_root,
)
from kalshi_pipeline.sessions import report, shown
from kalshi_pipeline.storage.arrow import leave_pandas_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error the pipeline knows ends in one sentence, not in a traceback."""
    options = _parser().parse_args(arguments)
    if arguments is None and options.run not in (_run, _register):
        # a process of ours alone; those two load Dagster, and it what it likes
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kalshi", description=flow, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sessions = commands.add_parser("sessions", help="look at recorded and generated sessions")
    _add_session_commands(sessions.add_subparsers(required=True, metavar="ACTION"))

    warehouse = commands.add_parser("warehouse", help="everything published, as SQL")
    views = _command(
        warehouse.add_subparsers(required=True, metavar="ACTION"),
        "views",
        _views,
        "rebuild kalshi.duckdb and list what it holds",
        "Rebuild kalshi.duckdb, views over everything published, and list what it holds. Whoever "
        "has it open keeps the old one. docs/QUERIES.md has example queries.",
    )
    _add_json(views)

    running = _command(
        commands, "run", _run, "a whole plan, from raw frames to the verdict",
        "Run a plan: every session, every phase, the evaluation. What is there is not made again.",
    )  # fmt: skip
    running.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    return parser


def _add_export(actions: Any) -> None:
    export = _command(
        actions, "export", _export, "write sessions into a PostgreSQL database",
        "Write sessions into a PostgreSQL database, as a collector would have.",
    )  # fmt: skip
    export.add_argument("session", type=_session, nargs="+")
    export.add_argument(
        "--to-postgres",
        metavar="URL",
        nargs="?",
        const="",
        required=True,
        help="default: DATABASE_URL, which no other user of the machine can see",
    )
    export.add_argument(
        "--collector",
        choices=("fixed", "faulty"),
        default="fixed",
        help="faulty: with the mistakes of the one before 17 December 2025",
    )
    export.add_argument("--as", type=_session, dest="number", help="id it is to have there")


def _add_session_commands(actions: Any) -> None:
    listing = _command(
        actions, "list", _list, "every session there is, or could be generated",
        "List every session: recorded, in the database, generated, or one that could be.",
    )  # fmt: skip
    analyze = _command(
        actions,
        "analyze",
        _analyze,
        "measure a session: what came, how far it can be trusted, its markets",
        "Measure a session, from its raw frames where that has not been done yet: counts, quality, "
        "activity over time, spreads, temporal patterns, coverage of quarters, suitable markets "
        "and the most active ones by what was traded.",
    )
    analyze.add_argument("session", type=_session)
    summary = _command(
        actions,
        "summary",
        _summary,
        "several sessions: quality, data points, suitable markets, suggested roles",
        "The training plan's appendix A, computed: measure several sessions and suggest what each "
        "is good for, beside what the plan says. The rules stand in session_roles.py.",
    )
    summary.add_argument("session", type=_session, nargs="*", help="default: those of the plan")
    summary.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    view = _command(
        actions,
        "view",
        _view,
        "one market of a session: activity, last book, mid, spread, segments",
        "Look at one market of a session: what was traded, what thinned its touch, its last full "
        "book, the course of its mid and spread, its segments of trusted book.",
    )
    view.add_argument("session", type=_session)
    view.add_argument("--market", metavar="TICKER", help="default: the one most traded")
    for parser in (listing, analyze, summary, view):
        _add_json(parser)
    _add_export(actions)
    registering = _command(
        actions, "register", _register, "make sessions known to Dagster's instance",
        "Add sessions to Dagster's partitions, so that its UI and its command line know them.",
    )  # fmt: skip
    registering.add_argument("session", type=_session, nargs="+")


def _command(
    actions: Any, name: str, run: Callable[[argparse.Namespace], None], brief: str, says: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=brief, description=says)
    parser.set_defaults(run=run)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same facts, machine-readable")


def _session(text: str) -> int:
    try:
        return session_id(text)
    except KalshiPipelineError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _list(options: argparse.Namespace) -> None:
    _show(options, report.listing(_sources(), open_warehouse(warehouse_root())))


def _analyze(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    _show(options, report.analysis(_sources(), warehouse, options.session))


def _summary(options: argparse.Namespace) -> None:
    plan = load_plan(options.plan)
    console = Console(stderr=True)
    with console.status("") as status:
        told = report.summary(
            _sources(),
            open_warehouse(warehouse_root()),
            options.session or plan.sessions,
            plan,
            status.update,
        )
    _show(options, told)


def _view(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    _show(options, report.view(_sources(), warehouse, options.session, options.market))


def _export(options: argparse.Namespace) -> None:
    from kalshi_pipeline import stages
    from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA
    from kalshi_pipeline.recordings.postgres.export import export_session
    from kalshi_pipeline.storage.tables import read_table

    url = options.to_postgres or database_url(pooled=False)
    if not url:
        raise KalshiPipelineError("name a database: --to-postgres URL, or DATABASE_URL")
    if options.number and len(options.session) > 1:
        raise KalshiPipelineError("--as gives an id to one session", value=options.session)
    # never from the database itself, even where it has a session of this id
    sources = open_sources(recording_roots(), warehouse_root(), database=False)
    for session in options.session:
        recording = sources.open(session)
        raw = stages.ingest_session(open_warehouse(warehouse_root()), recording)
        done = export_session(
            url,
            read_table(raw.path("messages.parquet"), MESSAGE_SCHEMA),
            recording.info,
            recording.markets,
            session=options.number,
            faulty=options.collector == "faulty",
        )
        print(
            f"session {done.session}: {done.snapshots:,} snapshots, {done.deltas:,} deltas, "
            f"{done.trades:,} trades, {done.markets:,} markets; {done.left_out:,} deltas left out "
            "(less than a whole contract, or below one cent)"
        )


def _register(options: argparse.Namespace) -> None:
    from kalshi_pipeline.assets.partitions import open_instance, register

    with open_instance() as instance:
        new = register(instance, options.session)
    print(f"registered: {', '.join(new) or 'none, all were known'}")


def _views(options: argparse.Namespace) -> None:
    from kalshi_pipeline.storage.views import relations
    from kalshi_pipeline.warehouse_views import refresh_views

    database = refresh_views(open_warehouse(warehouse_root()))
    _show(options, report.holdings(database, relations(database)))


def _run(options: argparse.Namespace) -> None:
    from kalshi_pipeline.assets.run import run_plan

    console = Console(stderr=True)
    done = run_plan(options.plan, lambda text: console.rule(text, align="left"))
    console.print(shown.timing(done.seconds))
    print(f"\n{done.verdict}\n\nreport: {done.report}")


def _sources() -> Any:
    return open_sources(recording_roots(), warehouse_root())


def _show(options: argparse.Namespace, told: report.Report) -> None:
    if options.json:
        print(json.dumps(told.facts, indent=1))
    else:
        console = Console()
        for part in told.parts():
            console.print(part)
