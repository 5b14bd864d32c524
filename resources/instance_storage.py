"""Where Dagster keeps its runs, events and schedules: SQLite, or PostgreSQL where that is named.

`dagster.yaml` has no conditions and `{env: NAME}` fails where the variable is not set, so one class
stands there for both. The URL is read from the environment by every process for itself: what
Dagster hands from one process to the next, or shows as its configuration, holds no secret.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from kalshi_pipeline.errors import StorageError
from kalshi_pipeline.resources.environment import dagster_postgres_url

DRIVER = "postgresql+psycopg2"


class EnvSwitchedStorage(DagsterStorage, ConfigurableClass):
    """PostgreSQL where `DAGSTER_POSTGRES_URL` is set, otherwise SQLite under `sqlite_dir`.

    Never made itself: `dagster.yaml` names it and gets the one or the other. Its base classes are
    Dagster's own and not public, which is why Dagster's minor version is pinned.
    """

    @classmethod
    def config_type(cls) -> Any:
        """Settings in `dagster.yaml`."""
        return {"sqlite_dir": dg.StringSource}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterStorage:
        """The storage the environment asks for.

        Raises:
            StorageError: the URL is not one of PostgreSQL, or nothing answers there.
        """
        url = dagster_postgres_url()
        if url is None:
            return DagsterSqliteStorage.from_local(config_value["sqlite_dir"], inst_data=inst_data)
        return _postgres(url, inst_data)


def with_driver(url: str) -> str:
    """A PostgreSQL URL that names the driver Dagster has.

    SQLAlchemy takes a bare `postgresql://` to mean another driver, and knows no `postgres://`.

    Raises:
        StorageError: not a URL of PostgreSQL.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in {"postgres", "postgresql", DRIVER}:
        raise StorageError("DAGSTER_POSTGRES_URL is not a postgresql:// URL")
    return f"{DRIVER}://{rest}"


def _postgres(url: str, inst_data: ConfigurableClassData | None) -> DagsterStorage:
    from dagster_postgres import DagsterPostgresStorage  # slow, and only wanted here
    from sqlalchemy import event
    from sqlalchemy.pool import QueuePool

    if not event.contains(QueuePool, "checkout", _answers):
        event.listen(QueuePool, "checkout", _answers)
    address = with_driver(url)
    try:
        return DagsterPostgresStorage(address, inst_data=inst_data)
    except Exception as error:  # of SQLAlchemy, the driver or Dagster: they may show the URL
        from kalshi_pipeline.recordings.postgres.connection import redacted

        told = redacted(error.__cause__ or error, url)
        raise StorageError(
            f"Dagster's database (DAGSTER_POSTGRES_URL) cannot be used: {told}"
        ) from None


def _answers(connection: Any, _record: Any, _proxy: Any) -> None:
    """Before a kept connection is used: does the server still know it?

    The web server keeps connections, and the first requests after a restart of the database would
    fail on those it had before. Source: SQLAlchemy, "Disconnect Handling - Pessimistic".
    """
    from sqlalchemy.exc import DisconnectionError

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:  # of whichever driver
        raise DisconnectionError from error  # the pool opens another one
