"""A PostgreSQL server of the tests' own, on a socket in a temporary folder.

The server's programs come from the `pgserver` package, or from Debian's postgresql. A server
refuses to run as root: then it runs as `nobody`. (`pgserver`'s own starter would add a user to the
machine and open up the folders above it; only its programs are used.)
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

READER, PASSWORD = "reader", "canary%2F:p@ss"  # what no message may contain
KEEPER = "keeper"  # owns databases and writes them, as Dagster does its own
ENCODED = "canary%252F%3Ap%40ss"


def unprivileged() -> dict[str, Any]:
    """Arguments that start a program as a user a server may run as."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def program_folders() -> Iterator[Path]:
    """Where a server's programs may be."""
    package = find_spec("pgserver")
    if package is not None and package.submodule_search_locations:
        yield Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program as the server's user."""
    return subprocess.run(
        [str(part) for part in command],
        check=True, capture_output=True, cwd="/", env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        **unprivileged(), **options,
    )  # fmt: skip


def copied(folder: Path, place: Path) -> Path:
    """A copy of the package's programs, and of the libraries beside it, that all may read."""
    package = folder.parents[1]
    for part in package.parent.glob(f"{package.name}*"):
        if part.is_dir():
            shutil.copytree(part, place / part.name, symlinks=True)
            for path in (place / part.name, *(place / part.name).rglob("*")):
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return place / folder.relative_to(package.parent)


def usable_programs(place: Path) -> Path | None:
    """A folder of programs that the server's user can run; copied where it cannot reach them."""
    for folder in program_folders():
        if not (folder / "postgres").is_file():
            continue
        try:
            run(folder / "postgres", "--version")
        except (OSError, subprocess.CalledProcessError):
            folder = copied(folder, place)
        return folder
    return None


@dataclass
class Server:
    """A running server."""

    programs: Path
    folder: Path

    def url(self, database: str, *, user: str = READER, password: str = ENCODED) -> str:
        """Where a database is; the owner (`postgres`) needs no password."""
        login = user if user == "postgres" else f"{user}:{password}"
        return f"postgresql://{login}@/{database}?host={self.folder}"

    def admin(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of the owner, each statement at once."""
        url = self.url(database, user="postgres")
        return psycopg.connect(url, autocommit=True)

    def create(self, name: str, ddl: str = "") -> str:
        """A fresh database the reader may read; returns its name."""
        with self.admin() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        with self.admin(name) as connection:
            connection.execute(
                f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}; {ddl}"
            )
        return name

    def create_owned(self, name: str) -> str:
        """A fresh database of the keeper's own; returns its URL."""
        self.create(name)
        with self.admin() as connection:
            connection.execute(f'ALTER DATABASE "{name}" OWNER TO {KEEPER}')
        return self.url(name, user=KEEPER)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `start` starts it again."""
        run(self.programs / "pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def start(self) -> None:
        """Start it; returns when it answers."""
        options = f"-k {self.folder} -h '' -F -c max_connections=40 -c shared_buffers=16MB"
        run(
            self.programs / "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log",
            "-o", options, "-w", "-s", "start",
        )  # fmt: skip


@contextmanager
def running_server() -> Iterator[Server | None]:
    """A server for as long as the block lasts; None where this machine has no PostgreSQL."""
    place = Path(tempfile.mkdtemp(prefix="kalshi-pg-"))
    who = unprivileged()
    if who:
        os.chown(place, who["user"], who["group"])
    try:
        programs = usable_programs(place)
        server = None if programs is None else made(programs, place)
        yield server
    finally:
        if (place / "data" / "postmaster.pid").exists():
            Server(programs, place).stop()
        for _ in range(50):  # the last processes may still hold files
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                break
            time.sleep(0.1)


def made(programs: Path, place: Path) -> Server:
    """A new server, started; the owner needs no password, anybody else does."""
    server = Server(programs, place)
    run(
        programs / "initdb", "-D", place / "data", "-U", "postgres", "--no-sync", "--auth=trust",
        "--encoding=utf8", "--locale=C",
    )  # fmt: skip
    (place / "data" / "pg_hba.conf").write_text(
        "local all postgres trust\nlocal all all scram-sha-256\n"
    )
    server.start()
    with server.admin() as connection:
        for role in (READER, KEEPER):
            connection.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    psycopg.sql.Identifier(role), psycopg.sql.Literal(PASSWORD)
                )
            )
    return server
