"""`kalshi warehouse prune` and `kalshi runs prune`: what is old goes, when it is asked to."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from kalshi_pipeline.cli.shared import add_json, command
from kalshi_pipeline.resources.environment import open_warehouse, warehouse_root

_DAY_MS = 86_400_000
_DRY = "nothing was removed; --apply removes it"


def add_warehouse_commands(actions: Any) -> None:
    """Add `prune` to those of the warehouse."""
    pruning = command(
        actions, "prune", _prune_warehouse, "remove generations nothing needs any more",
        "List, and with --apply remove, published generations that nothing needs any more. What "
        "is current stays, the newest few before it, what was superseded only lately (a run may "
        "still read it), what those were made from, and every checkpoint: what was learned from "
        "and chosen on stands nowhere else.",
    )  # fmt: skip
    pruning.add_argument(
        "--keep", type=_count, default=1, metavar="N",
        help="superseded generations of a partition that stay in any case (default: 1)",
    )  # fmt: skip
    _add_age(pruning, 7, "superseded for at least so long")
    add_json(pruning)


def add_run_commands(actions: Any) -> None:
    """Add `prune` to those of runs."""
    pruning = command(
        actions, "prune", _prune_runs, "forget old runs of Dagster",
        "List, and with --apply forget, finished runs with their events and logs. A run that tells "
        "the latest of any asset stays: without it the asset would count as never made. So does "
        "the latest to try, and a failed one that a sensor asked for: it would be tried again.",
    )  # fmt: skip
    _add_age(pruning, 90, "started at least so long ago")
    add_json(pruning)
    pruning.set_defaults(dagster=True)


def _add_age(parser: argparse.ArgumentParser, days: int, says: str) -> None:
    parser.add_argument(
        "--older-than-days", type=_days, default=days, metavar="DAYS",
        help=f"{says}; 1 or more (default: {days})",
    )  # fmt: skip
    parser.add_argument("--apply", action="store_true", help="remove; without it, only list")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number, 0 or more")
    return int(text)


def _days(text: str) -> int:
    days = _count(text)
    if not 1 <= days <= 36_500:
        raise argparse.ArgumentTypeError("days, 1 or more: a run may still read what is younger")
    return days


def _prune_warehouse(options: argparse.Namespace) -> None:
    from kalshi_pipeline.storage import prune

    warehouse = open_warehouse(warehouse_root())
    old = prune.prunable(
        warehouse,
        options.older_than_days * _DAY_MS,
        time.time_ns() // 1_000_000,
        keep=options.keep,
    )
    told: list[dict[str, Any]] = []
    size_bytes = 0
    for entry in old:
        size = prune.size_bytes(entry.folder(warehouse))
        if options.apply and not prune.remove(warehouse, entry):
            continue
        size_bytes += size
        told.append(
            {
                "asset": entry.asset,
                "session": entry.partition,
                "generation": entry.generation,
                "superseded": _day(datetime.fromtimestamp(entry.since_ms / 1000, UTC)),
                "bytes": size,
            }
        )
    _tell(options, told, "generations", f", {size_bytes:,} bytes")
    if options.apply and told:
        from kalshi_pipeline.warehouse_views import refresh_views

        refresh_views(warehouse)  # SQL names files of the generations it was made from


def _prune_runs(options: argparse.Namespace) -> None:
    from kalshi_pipeline.assets.partitions import open_instance
    from kalshi_pipeline.assets.run_history import forget, forgettable

    before = datetime.now(UTC) - timedelta(days=options.older_than_days)
    with open_instance() as instance:
        old = list(forgettable(instance, before))
        for entry in old if options.apply else ():
            forget(instance, entry.run)
    told = [
        {
            "run": entry.run,
            "job": entry.job,
            "session": entry.partition,
            "status": entry.status,
            "ended": _day(entry.ended),
        }
        for entry in old
    ]
    _tell(options, told, "runs", "")


def _day(when: datetime) -> str:
    return when.date().isoformat()


def _tell(
    options: argparse.Namespace, told: Iterable[dict[str, Any]], what: str, size: str
) -> None:
    entries = list(told)
    if options.json:
        print(json.dumps({"removed": options.apply, what: entries}, indent=1))
        return
    for entry in entries:
        print("  ".join("-" if value is None else str(value) for value in entry.values()))
    done = "removed" if options.apply else "can go"
    print(f"{len(entries)} {what}{size}: {done}")
    if entries and not options.apply:
        print(_DRY)
