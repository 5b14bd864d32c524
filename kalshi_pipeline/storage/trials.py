"""The trials ledger: every candidate that was ever scored, so that how many there were is counted.

    <root>/trials/{recipe}-{content}.parquet    one recorded set: a row a candidate

Files are only ever added. A file bears the hash of its rows, so that the same set recorded again
adds nothing and a changed byte shows; it is written aside and comes in by one rename. What removes
files by hand lowers the count: `evaluation/trials.py` holds it against what the training runs
declare.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.publish import Warehouse, canonical_json
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.storage.whole_folder import replace_file

TRIALS = "trials"
SAMPLED, LIKELIEST = "sampled", "likeliest action"
Kind = Literal["validation", "evaluation", "forward"]
EVALUATION: Final = "evaluation"
FORWARD: Final = "forward"
_DIGITS = 16
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.parquet", re.ASCII)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


TRIAL_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("plan", pa.string(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("timesteps", pa.int64(), nullable=False),
        pa.field("algorithm", pa.string(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("config", pa.string(), nullable=False),
        pa.field("weights", pa.string(), nullable=False),
        pa.field("sessions", _list(pa.int64()), nullable=False),
        pa.field("events", _list(pa.string()), nullable=False),
        pa.field("pnl_micro", _list(pa.int64()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Trial:
    """One candidate, scored once.

    Args:
        kind: scored while training, to choose a checkpoint; judged in an evaluation; or played on
            a new session, to see whether it still does what it did (`plan_retraining.py`).
        plan: name of the plan, or `by_hand`.
        phase: of the training.
        seed: of the training.
        timesteps: environment steps behind the weights, parents included.
        algorithm: how it learned.
        policy: how it plays: `LIKELIEST` or `SAMPLED`.
        recipe: digest of the training or evaluation that scored it.
        config: digest of the rules of the episodes.
        weights: see `weights_of`.
        sessions: it was scored on.
        events: `[C]` "session/event", in the order in which they end.
        pnl_micro: `[C]` what each event came to: sum over its market segments of the mean over
            repeats; fees on, liquidation mark.
    """

    kind: Kind
    plan: str
    phase: str
    seed: int
    timesteps: int
    algorithm: str
    policy: str
    recipe: str
    config: str
    weights: str
    sessions: tuple[int, ...]
    events: tuple[str, ...]
    pnl_micro: tuple[int, ...]


def weights_of(*checkpoints: Checkpoint) -> str:
    """Hash of what checkpoints (several: an ensemble) do, whatever else is in them; 16 digits."""
    digest = hashlib.sha256()
    for checkpoint in checkpoints:
        for name, tensor in sorted(checkpoint.policy.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            digest.update(tensor.tobytes())
    return digest.hexdigest()[:_DIGITS]


def digest_of(settings: object) -> str:
    """Hash of JSON values; 16 digits."""
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:_DIGITS]


def record(warehouse: Warehouse, trials: Sequence[Trial]) -> Path:
    """Add trials to the ledger; see `record_rows`."""
    rows = [asdict(trial) for trial in trials]
    return record_rows(warehouse, pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA))


def record_rows(warehouse: Warehouse, trials: pa.Table) -> Path:
    """Add a set of one recipe to the ledger; a set that is there, whole, stays as it is.

    Args:
        warehouse: whose ledger.
        trials: `TRIAL_SCHEMA`, at least one row.

    Raises:
        ValueError: no trial, or trials of several recipes.
    """
    (recipe,) = set(trials["recipe"].to_pylist())
    path = warehouse.root / TRIALS / f"{recipe[:_DIGITS]}-{_content(trials)}.parquet"
    if not (path.is_file() and _is_whole(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = io.BytesIO()
        pq.write_table(trials, sink, compression="zstd")
        replace_file(path, sink.getvalue(), warehouse.files)
    warehouse.share(path)  # also where it was written before, and a crash came first
    return path


def read_trials(warehouse: Warehouse, *, without: str | None = None) -> pa.Table:
    """All that is recorded, `TRIAL_SCHEMA`, in an order that does not change.

    Args:
        warehouse: whose ledger.
        without: digest of a recipe whose own trials do not count.

    Raises:
        CorruptFile: a file is damaged: how many trials there were cannot be counted.
    """
    return pa.concat_tables(
        [TRIAL_SCHEMA.empty_table(), *(_read(path) for path in _files(warehouse, without))]
    )


def _files(warehouse: Warehouse, without: str | None) -> Iterator[Path]:
    for path in warehouse.notes(f"{TRIALS}/*.parquet"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise CorruptFile("a file of the trials ledger has no name of one", value=str(path))
        if without is None or match[1] != without[:_DIGITS]:
            yield path


def _read(path: Path) -> pa.Table:
    table = read_table(path, TRIAL_SCHEMA)
    if path.stem.partition("-")[2] != _content(table):
        raise CorruptFile(
            "a file of the trials ledger is not what was recorded: how many trials there were "
            "cannot be counted",
            rule="content hash",
            value=str(path),
        )
    return table


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except CorruptFile:
        return False
    return True


def _content(table: pa.Table) -> str:
    return digest_of(table.to_pylist())
