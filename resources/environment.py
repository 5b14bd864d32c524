"""What the environment says; read here and nowhere else.

`KALSHI_RECORDINGS`  one or more folders of recordings, separated like `PATH`
`KALSHI_WAREHOUSE`   root of everything published
`KALSHI_REPORT_PORT`  where `kalshi report serve` listens on loopback, and where links lead
`DATABASE_URL`       PostgreSQL database of a collector, read and never written by the pipeline
`DATABASE_URL_POOLED`  the same database behind a transaction pooler: preferred for reading
`DAGSTER_POSTGRES_URL`  PostgreSQL database for Dagster's own runs and events; SQLite without it
`KALSHI_ON_FAILURE`  a command that is told of every run that failed

Dagster's own processes read this too, so nothing heavy is imported before it is wanted.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import kalshi_pipeline
from kalshi_pipeline.errors import KalshiPipelineError

if TYPE_CHECKING:
    from kalshi_pipeline.recordings.sources import SessionSources
    from kalshi_pipeline.storage.publish import Warehouse

REPORT_PORT = 3002  # beside Dagster, 3000, and its viewer, 3001


def recording_roots() -> list[str]:
    """Folders of recordings; none where the variable is not set."""
    return [root for root in os.environ.get("KALSHI_RECORDINGS", "").split(os.pathsep) if root]


def warehouse_root() -> str:
    """Root of the warehouse: the variable, else `warehouse/` of the checkout, else of here."""
    checkout = Path(kalshi_pipeline.__file__).parents[1]
    home = checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
    return os.environ.get("KALSHI_WAREHOUSE") or str(home / "warehouse")


def report_port() -> int:
    """Port of loopback on which the pages of the warehouse are served.

    Raises:
        KalshiPipelineError: the variable holds none.
    """
    told = os.environ.get("KALSHI_REPORT_PORT") or str(REPORT_PORT)
    if not (told.isascii() and told.isdigit() and 0 < int(told[:6]) < 65_536):
        raise KalshiPipelineError("KALSHI_REPORT_PORT is no port", value=told[:20])
    return int(told)


def report_address() -> str:
    """Where a link to a page of the warehouse leads."""
    return f"http://127.0.0.1:{report_port()}"


def database_url(*, pooled: bool = True) -> str | None:
    """Where the database is; never to be shown, logged or put into a run's configuration."""
    names = ("DATABASE_URL_POOLED", "DATABASE_URL") if pooled else ("DATABASE_URL",)
    return next((url for name in names if (url := os.environ.get(name))), None)


def dagster_postgres_url() -> str | None:
    """Dagster's own database, where there is one; never to be shown, logged or handed on."""
    return os.environ.get("DAGSTER_POSTGRES_URL") or None


def failure_command() -> list[str]:
    """The command that is told of runs that failed, in words; none where there is none."""
    return shlex.split(os.environ.get("KALSHI_ON_FAILURE", ""))


def dagster_home() -> Path:
    """Where Dagster's instance is.

    Raises:
        StorageError: the variable is not set.
    """
    from kalshi_pipeline.errors import StorageError

    if not os.environ.get("DAGSTER_HOME"):
        raise StorageError("DAGSTER_HOME must name the folder of Dagster's instance")
    return Path(os.environ["DAGSTER_HOME"])


def dagster_postgres_environment() -> dict[str, str] | None:
    """Environment of PostgreSQL's own programs, for Dagster's database; None where there is none.

    It names the database so that no command line has to, which everybody on the machine can read.

    Raises:
        StorageError: the variable is no connection string, or names no database.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Conninfo

    from kalshi_pipeline.errors import StorageError

    url = dagster_postgres_url()
    if url is None:
        return None
    scheme, _, rest = url.partition("://")
    try:
        parameters = conninfo_to_dict(f"{scheme.partition('+')[0]}://{rest}")
    except (ProgrammingError, ValueError):  # which may show the password they could not read
        raise StorageError(
            "DAGSTER_POSTGRES_URL is no connection string of PostgreSQL; a % or @ in its password "
            "is written %25 or %40"
        ) from None
    parameters.setdefault("dbname", parameters.get("user"))  # as libpq has it
    if not parameters["dbname"]:
        raise StorageError("DAGSTER_POSTGRES_URL names no database")
    known = {option.keyword.decode(): option.envvar for option in Conninfo.get_defaults()}
    told = {
        name.decode(): str(value)
        for key, value in parameters.items()
        if (name := known[key]) is not None  # keepalives and the like are not told this way
    }
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home()), **told}


def open_sources(roots: list[str], warehouse: str, *, database: bool = True) -> SessionSources:
    """Sessions of these folders, of the database and, beside the warehouse's outputs, generated."""
    from kalshi_pipeline.recordings.sources import SessionSources

    url = database_url() if database else None
    return SessionSources([Path(root) for root in roots], Path(warehouse) / "generated", url)


def open_warehouse(root: str) -> Warehouse:
    """The warehouse under a root."""
    from kalshi_pipeline.storage.publish import Warehouse

    return Warehouse(Path(root))
