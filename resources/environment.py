"""What the environment says; read here and nowhere else.

`KALSHI_RECORDINGS`  one or more folders of recordings, separated like `PATH`
`KALSHI_WAREHOUSE`   root of everything published: a folder, or `s3://bucket/prefix`
`KALSHI_CACHE`       where this machine keeps its copy of a warehouse in an object store
`AWS_*`              where that store is and how it is asked (AWS_ENDPOINT_URL, AWS_REGION,
                     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...); its client reads them itself
`KALSHI_REPORT_PORT`  where `kalshi report serve` listens on loopback, and where links lead
`DATABASE_URL`       PostgreSQL database of a collector, read and never written by the pipeline
`DATABASE_URL_POOLED`  the same database behind a transaction pooler: preferred for reading
`DAGSTER_POSTGRES_URL`  PostgreSQL database for Dagster's own runs and events; SQLite without it
`KALSHI_ON_FAILURE`  a command that is told of every run that failed
`KALSHI_ENGINE`      where runs and trainings go: `local` (without it), `ray`, `kubernetes`
`RAY_ADDRESS`        of the Ray cluster; its dashboard on this machine without it
`KALSHI_TRAINING_GPUS`  GPUs a training reserves there; none without it

Dagster's own processes read this too, so nothing heavy is imported before it is wanted.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import kalshi_pipeline
from kalshi_pipeline.errors import KalshiPipelineError, StorageError

if TYPE_CHECKING:
    from kalshi_pipeline.recordings.sources import SessionSources
    from kalshi_pipeline.storage.publish import Warehouse

_URL = re.compile(r"(s3|gs|az)://[\w.-]+(/[\w.=-]+)*", re.ASCII)
EngineName = Literal["local", "ray", "kubernetes"]
REPORT_PORT = 3002  # beside Dagster, 3000, and its viewer, 3001


def recording_roots() -> list[str]:
    """Folders of recordings; none where the variable is not set."""
    return [root for root in os.environ.get("KALSHI_RECORDINGS", "").split(os.pathsep) if root]


def warehouse_root() -> str:
    """Root of the warehouse: the variable, else `warehouse/` of the checkout, else of here."""
    checkout = Path(kalshi_pipeline.__file__).parents[1]
    home = checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
    return _sound(os.environ.get("KALSHI_WAREHOUSE") or str(home / "warehouse"))


def is_shared(root: str) -> bool:
    """Whether a warehouse's root is in an object store."""
    return "://" in root


def warehouse_folder(root: str) -> Path:
    """Folder of this machine for a warehouse: the warehouse itself, or its copy of a shared one.

    Another store is another folder, be it one of equal names at another address.
    """
    if not is_shared(root):
        return Path(root)
    url = _sound(root)
    told = f"{url} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    name = re.sub(r"[^a-z0-9]+", "-", url.partition("://")[2].lower()).strip("-")[:60]
    copies = os.environ.get("KALSHI_CACHE") or Path.home() / ".cache" / "kalshi-pipeline"
    return Path(copies, f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}").absolute()


def _sound(root: str) -> str:
    # what is not a folder names a store and a place in it: credentials have their own variables
    if not is_shared(root):
        return root
    url = root.rstrip("/")
    if not _URL.fullmatch(url):
        raise StorageError(
            "KALSHI_WAREHOUSE is neither a folder nor an address like s3://bucket/prefix, without "
            "a name, a password or an option in it"
        )
    return url


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


def engine_name() -> EngineName:
    """Where runs and trainings are carried out.

    Raises:
        KalshiPipelineError: the variable names no engine.
    """
    told = os.environ.get("KALSHI_ENGINE") or "local"
    for engine in get_args(EngineName):
        if told == engine:
            return cast("EngineName", engine)
    raise KalshiPipelineError("KALSHI_ENGINE is local, ray or kubernetes", value=told[:20])


def ray_address() -> str:
    """Of Ray's dashboard, or of the cluster's first node."""
    return os.environ.get("RAY_ADDRESS") or "http://127.0.0.1:8265"


def training_gpus() -> float:
    """GPUs that a training reserves on the cluster.

    Raises:
        KalshiPipelineError: the variable holds no number of them.
    """
    told = os.environ.get("KALSHI_TRAINING_GPUS") or "0"
    if not (told.isascii() and told.replace(".", "", 1).isdigit()):
        raise KalshiPipelineError("KALSHI_TRAINING_GPUS is no number", value=told[:20])
    return float(told)


def handed_on() -> dict[str, str]:
    """Variables a run needs on another node, and anybody who sees the cluster's pages may read.

    Addresses of databases are not among them: every node has those in its own environment.
    """
    names = ("KALSHI_ENGINE", "KALSHI_TRAINING_GPUS", "OPENBLAS_NUM_THREADS")
    told = {name: os.environ[name] for name in names if os.environ.get(name)}
    if home := os.environ.get("DAGSTER_HOME"):
        told["DAGSTER_HOME"] = os.path.abspath(home)
    if roots := recording_roots():
        told["KALSHI_RECORDINGS"] = os.pathsep.join(map(os.path.abspath, roots))
    root = warehouse_root()
    told["KALSHI_WAREHOUSE"] = root if is_shared(root) else os.path.abspath(root)
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]  # for `dagster`
    return {**told, "PATH": os.pathsep.join(path)}


def dagster_home() -> Path:
    """Where Dagster's instance is.

    Raises:
        StorageError: the variable is not set.
    """
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
    return SessionSources(
        [Path(root) for root in roots], warehouse_folder(warehouse) / "generated", url
    )


def open_warehouse(root: str) -> Warehouse:
    """The warehouse under a root."""
    if is_shared(root):
        if find_spec("obstore") is None:
            raise StorageError(
                "a warehouse in an object store needs pip install 'kalshi-pipeline[s3]'",
                rule="extra",
                value="obstore",
            )
        from kalshi_pipeline.storage.object_store import ObjectStore
        from kalshi_pipeline.storage.shared import SharedWarehouse

        return SharedWarehouse(ObjectStore(_sound(root)), warehouse_folder(root))
    from kalshi_pipeline.storage.publish import Warehouse

    return Warehouse(Path(root))
