"""`kalshi sessions`: what there is, what was measured of it, one market, export, registration."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from kalshi_pipeline.cli.shared import add_json, command, session_argument, show
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.plans import DEFAULT_PLAN, load_plan, plan_names
from kalshi_pipeline.resources.environment import (
    database_url,
    open_sources,
    open_warehouse,
    recording_roots,
    warehouse_root,
)
from kalshi_pipeline.sessions import report


def _add_export(actions: Any) -> None:
    export = command(
        actions, "export", _export, "write sessions into a PostgreSQL database",
        "Write sessions into a PostgreSQL database, as a collector would have.",
    )  # fmt: skip
    export.add_argument("session", type=session_argument, nargs="+")
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
    export.add_argument("--as", type=session_argument, dest="number", help="id it is to have there")


def add_commands(actions: Any) -> None:
    """Add what `kalshi sessions` can do."""
    listing = command(
        actions, "list", _list, "every session there is, or could be generated",
        "List every session: recorded, in the database, generated, or one that could be.",
    )  # fmt: skip
    analyze = command(
        actions,
        "analyze",
        _analyze,
        "measure a session: what came, how far it can be trusted, its markets",
        "Measure a session, from its raw frames where that has not been done yet: counts, quality, "
        "activity over time, spreads, temporal patterns, coverage of quarters, suitable markets "
        "and the most active ones by what was traded.",
    )
    analyze.add_argument("session", type=session_argument)
    summary = command(
        actions,
        "summary",
        _summary,
        "several sessions: quality, data points, suitable markets, suggested roles",
        "The training plan's appendix A, computed: measure several sessions and suggest what each "
        "is good for, beside what the plan says. The rules stand in session_roles.py.",
    )
    summary.add_argument(
        "session", type=session_argument, nargs="*", help="default: those of the plan"
    )
    summary.add_argument("--plan", default=DEFAULT_PLAN, choices=plan_names())
    view = command(
        actions,
        "view",
        _view,
        "one market of a session: activity, last book, mid, spread, segments",
        "Look at one market of a session: what was traded, what thinned its touch, its last full "
        "book, the course of its mid and spread, its segments of trusted book.",
    )
    view.add_argument("session", type=session_argument)
    view.add_argument("--market", metavar="TICKER", help="default: the one most traded")
    for parser in (listing, analyze, summary, view):
        add_json(parser)
    _add_export(actions)
    _add_seals(actions)
    registering = command(
        actions, "register", _register, "make sessions known to Dagster's instance",
        "Add sessions to Dagster's partitions, so that its UI and its command line know them.",
    )  # fmt: skip
    registering.add_argument("session", type=session_argument, nargs="+")
    registering.set_defaults(dagster=True)


def _add_seals(actions: Any) -> None:
    sealing = command(
        actions, "seal", _seal, "keep a session for one look at the end",
        "Seal sessions: nothing learns from them, chooses by them or is judged on them until they "
        "are opened. A session need not be recorded yet.",
    )  # fmt: skip
    sealing.add_argument("session", type=session_argument, nargs="+")
    opening = command(
        actions, "open", _open, "open a sealed session, once, for one checkpoint",
        "Open a sealed session for the checkpoint that is to be judged on it. The date is noted, "
        "and what is judged on the session later says that it was not the first.",
    )  # fmt: skip
    opening.add_argument("session", type=session_argument)
    opening.add_argument("--reason", required=True, help="why now; the report shows it")
    judged = opening.add_mutually_exclusive_group()
    judged.add_argument(
        "--plan", default=DEFAULT_PLAN, choices=plan_names(),
        help="whose last phase is to be judged",
    )  # fmt: skip
    judged.add_argument(
        "--model-path", type=Path, metavar="PATH", help="or a model, as `kalshi evaluate` takes it"
    )


def _seal(options: argparse.Namespace) -> None:
    from kalshi_pipeline.sealed import seal_session

    warehouse = open_warehouse(warehouse_root())
    for session in options.session:
        new, looks = seal_session(warehouse, session, _now_ms())
        told = "sealed" if new else "was sealed before"
        if new and looks:
            told += f"; it was looked at ({', '.join(looks)}), so no look at it is the first"
        print(f"session {session}: {told}")


def _open(options: argparse.Namespace) -> None:
    from kalshi_pipeline.by_hand import BY_HAND, load_model
    from kalshi_pipeline.plan_stages import phase_name
    from kalshi_pipeline.sealed import open_for

    warehouse = open_warehouse(warehouse_root())
    if options.model_path:
        checkpoint, plan = load_model(options.model_path).content_hash, BY_HAND
    else:
        last = load_plan(options.plan).phases[-1].name
        plan = options.plan
        checkpoint = warehouse.current(phase_name(load_plan(plan), last)).content_hash
    opened = open_for(warehouse, options.session, checkpoint, plan, options.reason, _now_ms())
    date = datetime.fromtimestamp(opened.opened_ms / 1000, UTC).isoformat(timespec="seconds")
    print(
        f"session {opened.session}: opened {date} for {opened.plan}, checkpoint "
        f"{opened.checkpoint[:16]}: {opened.reason}"
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _list(options: argparse.Namespace) -> None:
    show(options, report.listing(_sources(), open_warehouse(warehouse_root())))


def _analyze(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    show(options, report.analysis(_sources(), warehouse, options.session))


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
    show(options, told)


def _view(options: argparse.Namespace) -> None:
    warehouse = open_warehouse(warehouse_root())
    show(options, report.view(_sources(), warehouse, options.session, options.market))


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


def _sources() -> Any:
    return open_sources(recording_roots(), warehouse_root())
