"""A read-only door to a PostgreSQL database: one transaction at a time, tried again, redacted.

Nothing is kept in the server's session between transactions (no `SET`, no prepared statement, no
cursor), so a transaction pooler may stand in between. What a transaction may do and how long its
statements may take is said inside each of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv

from kalshi_pipeline.config import DatabaseConfig
from kalshi_pipeline.errors import SourceUnavailable

Result = TypeVar("Result")
Sleep = Callable[[float], None]

_CREDENTIALS = re.compile(r"(://)[^/@\s]*@|(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def redacted(text: object, url: str) -> str:
    """One line of an error's text with nothing of the URL's password in it."""
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    line = " ".join(str(text).split())
    for spelling in {password, unquote(password or ""), quote(password or "", safe="")} - {None}:
        if spelling:
            line = line.replace(spelling, "***")
    return _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***", line)[:500]


class Database:
    """A database that is read.

    Args:
        url: a `postgresql://` URL; it is in no message, representation or log.
        config: timeouts and how often is tried.
        sleep: waits between tries.

    Raises:
        SourceUnavailable: the URL is not one of PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        config: DatabaseConfig | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._url = checked_url(url)
        self.config = config or DatabaseConfig()
        self._sleep = sleep
        self._connection: psycopg.Connection | None = None

    def read(self, work: Callable[[psycopg.Connection], Result]) -> Result:
        """Do something within one read-only transaction, again from its start if it breaks off.

        Raises:
            SourceUnavailable: it broke off every time, or the server refused it.
        """
        for attempt in range(self.config.tries):
            if attempt:
                self._sleep(self.config.backoff_s * 2 ** (attempt - 1))
            try:
                connection = self._connected()
                with connection.transaction():
                    timeout = sql.Literal(self.config.statement_timeout_ms)
                    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(timeout))
                    return work(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.close()
                last = redacted(error, self._url)
            except psycopg.Error as error:
                self.close()
                raise SourceUnavailable(
                    f"the database refused a query: {redacted(error, self._url)}"
                ) from None
        raise SourceUnavailable(
            f"the database cannot be read, tried {self.config.tries} times: {last}"
        )

    def rows(
        self, query: sql.SQL | sql.Composed, parameters: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """All rows of a short answer."""
        return self.read(lambda connection: connection.execute(query, parameters).fetchall())

    def columns(
        self, query: sql.Composable, parameters: Mapping[str, Any], schema: pa.Schema
    ) -> pa.Table:
        """The rows of one page as columns; a page that breaks off is asked for again as a whole.

        Args:
            query: gives the columns of the schema.
            parameters: of the query.
            schema: names and types.
        """
        names = sql.SQL(", ").join(map(sql.Identifier, schema.names))
        # the page as one value: row by row, most of the time would go into receiving rows
        statement = sql.SQL(
            "SELECT string_agg({line}, E'\\n' ORDER BY id) FROM ({query}) AS page ({names})"
        ).format(line=_csv_line(schema), query=query, names=names)
        ((text,),) = self.rows(statement, parameters)
        if text is None:
            return schema.empty_table()
        page = text.encode()
        return csv.read_csv(
            BytesIO(page),
            csv.ReadOptions(column_names=schema.names, block_size=len(page) + 1),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                column_types=schema,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def close(self) -> None:
        """Give the connection back; the next read opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url,
                connect_timeout=self.config.connect_timeout_s,
                application_name="kalshi-pipeline",
                prepare_threshold=None,
            )
            self._connection.read_only = True
        return self._connection


def _csv_line(schema: pa.Schema) -> sql.Composed:
    # of one row; NULL is nothing at all, text is quoted
    quoted = "'\"' || replace({}, '\"', '\"\"') || '\"'"
    cells = [
        sql.SQL(quoted if _is_text(field.type) else "{}").format(sql.Identifier(field.name))
        for field in schema
    ]
    return sql.SQL("concat({})").format(sql.SQL(", ',', ").join(cells))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def checked_url(url: str) -> str:
    """The URL itself, once it is known to be one of PostgreSQL.

    Raises:
        SourceUnavailable: it is not; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("postgres", "postgresql")
        psycopg.conninfo.conninfo_to_dict(url)
    except (ValueError, psycopg.Error):
        usable = False
    if not usable:
        raise SourceUnavailable("DATABASE_URL is not a URL of the form postgresql://...") from None
    return url


def write(url: str, work: Callable[[psycopg.Connection], Result]) -> Result:
    """Do something within one transaction that may write; never tried again.

    Raises:
        SourceUnavailable: the database cannot be reached, or refused it; nothing was written.
    """
    try:
        with psycopg.connect(
            checked_url(url), application_name="kalshi-pipeline", prepare_threshold=None
        ) as connection:
            return work(connection)
    except psycopg.Error as error:
        raise SourceUnavailable(f"the database cannot be written: {redacted(error, url)}") from None
