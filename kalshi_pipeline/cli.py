"""The command line: `kalshi sessions list | analyze | view | register`, `kalshi run`.

Thin: every command calls the stages the assets call, on the same warehouse.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from kalshi_pipeline import __doc__ as flow
from kalshi_pipeline import sessions_report
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.names import session_id
from kalshi_pipeline.plans import DEFAULT_PLAN, plan_names
from kalshi_pipeline.resources.environment import (
    database_url,
    open_sources,
    open_warehouse,
    recording_roots,
    warehouse_root,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error the pipeline knows ends in one sentence, not in a traceback."""
    options = _parser().parse_args(arguments)
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
    actions = sessions.add_subparsers(required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="every session there is, or could be generated")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    listing.set_defaults(run=_list)

    analyze = actions.add_parser("analyze", help="measure a session: counts, quality, markets")
    analyze.add_argument("session", type=_session)
    analyze.add_argument("--json", action="store_true", help="machine-readable")
    analyze.set_defaults(run=_analyze)

    view = actions.add_parser("view", help="one market of a session: segments, book, path")
    view.add_argument("session", type=_session)
    view.add_argument("--market", metavar="TICKER", help="default: the most active one")
    view.add_argument("--json", action="store_true", help="machine-readable")
    view.set_defaults(run=_view)

    _add_export(actions)
    registering = actions.add_parser("register", help="make sessions known to Dagster's instance")
    registering.add_argument("session", type=_session, nargs="+")
    registering.set_defaults(run=_register)

    warehouse = commands.add_parser("warehouse", help="everything published, as SQL")
    shelves = warehouse.add_subparsers(required=True, metavar="ACTION")
    views = shelves.add_parser(
        "views",
        help="rebuild kalshi.duckdb and list what it holds",
        description="Rebuild kalshi.duckdb, views over everything published, and list what it "
        "holds. Whoever has it open keeps the old one. docs/QUERIES.md has example queries.",
    )
    views.add_argument("--json", action="store_true", help="machine-readable")
    views.set_defaults(run=_views)

    running = commands.add_parser("run", help="a whole plan, from raw frames to the verdict")
    running.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    running.set_defaults(run=_run)
    return parser


def _add_export(actions: Any) -> None:
    export = actions.add_parser(
        "export", help="write sessions into a PostgreSQL database, as a collector would have"
    )
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
    export.set_defaults(run=_export)


def _session(text: str) -> int:
    try:
        return session_id(text)
    except KalshiPipelineError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _list(options: argparse.Namespace) -> None:
    _show(options, sessions_report.listing(_sources(), open_warehouse(warehouse_root())))


def _analyze(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    _show(options, sessions_report.analysis(_sources(), warehouse, options.session))


def _view(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    _show(options, sessions_report.view(_sources(), warehouse, options.session, options.market))


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
    _show(options, sessions_report.holdings(database, relations(database)))


def _run(options: argparse.Namespace) -> None:
    from kalshi_pipeline.assets.run import run_plan

    console = Console(stderr=True)
    done = run_plan(options.plan, lambda text: console.rule(text, align="left"))
    console.print(sessions_report.timing_table(done.seconds))
    print(f"\n{done.verdict}\n\nreport: {done.report}")


def _sources() -> Any:
    return open_sources(recording_roots(), warehouse_root())


def _show(options: argparse.Namespace, report: sessions_report.Report) -> None:
    if options.json:
        print(json.dumps(report.facts, indent=1))
    else:
        console = Console()
        for part in report.parts():
            console.print(part)
