"""`kalshi backup`: Dagster's state and the warehouse, copied and restored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.cli.shared import command
from kalshi_pipeline.resources.environment import (
    dagster_home,
    dagster_postgres_environment,
    is_shared,
    warehouse_root,
)

if TYPE_CHECKING:
    from kalshi_pipeline.backups import Deployed


def add_commands(actions: Any) -> None:
    """Add `make` and `restore`."""
    making = command(
        actions, "make", _make, "copy Dagster's state and the warehouse into a folder",
        "Copy Dagster's state (SQLite, or PostgreSQL by pg_dump) and the warehouse into a folder. "
        "Runs may go on meanwhile; what is there already is not copied again.",
    )  # fmt: skip
    making.add_argument("folder", type=Path, metavar="FOLDER")
    restoring = command(
        actions, "restore", _restore, "make a deployment of a backup, where there is none",
        "Restore a backup into DAGSTER_HOME, the warehouse and, where DAGSTER_POSTGRES_URL names "
        "one, an empty database. Nothing may be there yet.",
    )  # fmt: skip
    restoring.add_argument("folder", type=Path, metavar="FOLDER")


def _make(options: argparse.Namespace) -> None:
    from kalshi_pipeline.backups import back_up

    copied = back_up(_deployed(), options.folder)
    print(f"{options.folder}: Dagster's state, and {copied:,} new files of the warehouse")


def _restore(options: argparse.Namespace) -> None:
    from kalshi_pipeline.backups import restore

    deployed = _deployed()
    restore(options.folder, deployed)
    print(f"restored: {deployed.home} and {deployed.warehouse or 'no warehouse: a store has it'}")


def _deployed() -> Deployed:
    from kalshi_pipeline.backups import Deployed

    root = warehouse_root()
    folder = None if is_shared(root) else Path(root)
    return Deployed(dagster_home(), folder, dagster_postgres_environment())
