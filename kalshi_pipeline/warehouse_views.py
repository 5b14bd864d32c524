"""What `kalshi.duckdb` shows: every published asset's current generation; see `docs/QUERIES.md`.

Parquet files become views. What lies in other files becomes small tables: the sessions' figures,
a sample of the features, the checkpoints and what they have seen, the reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kalshi_pipeline import stages
from kalshi_pipeline.config import MICRO_PER_CENT
from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.feature_table import FEATURES, TENSOR_FEATURES
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.plan_stages import EVALUATION
from kalshi_pipeline.published_tables import PUBLISHED_TABLES, PublishedTable
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.storage.checkpoints import TRAINER, seed_folder
from kalshi_pipeline.storage.publish import CURRENT, Generation, Warehouse, read_manifest
from kalshi_pipeline.storage.trials import read_trials
from kalshi_pipeline.storage.views import Part, Table, View, write_database

VIEWS_VERSION = "4"
SAMPLE_STEPS = 10_000  # of a session's features
ROW = "row"

# what a view puts before the columns of its files, or counts beside them
_KEYS = {
    "session": "recorded or generated session",
    "plan": "whose evaluation it is",
    ROW: "of the session's book table, from 0",
}
_PLAN_OUTPUT = re.compile(r"[a-z][a-z0-9_]*/(?:phase_[1-9]|evaluation)", re.ASCII)
_FIGURES = {  # of a session's summaries, by stage; None = every plain figure
    stages.BOOKS: None,
    stages.TENSORS: {"steps": "steps", "min_step_ms": "min_step_ms"},
    stages.SUITABLE: {
        "suitable_markets": "suitable_markets",
        "causal_markets": "causal_markets",
        "events": "suitable_events",
    },
}
_HEADLINE = (
    "events", "markets", "episodes", "pnl_cents", "pnl_interval_low", "pnl_interval_high",
    "difference_cents", "return_on_capital", "sharpe", "win_rate", "max_drawdown_cents",
    "fees_cents", "contracts", "orders", "hold_share", "maker_share",
)  # fmt: skip


@dataclass(frozen=True)
class _Output:
    """A pointer of the warehouse; a damaged generation is None."""

    asset: str
    session: int | None
    generation: Generation | None

    @property
    def keys(self) -> dict[str, int | str]:
        """What its rows are told apart by."""
        plan = self.asset.split("/")[0]
        return {"plan": plan} if self.session is None else {"session": self.session}


def refresh_views(warehouse: Warehouse) -> Path:
    """Rebuild `kalshi.duckdb` from what is published now.

    A damaged generation is left out; the table `generations` says so.

    Returns:
        The file.
    """
    outputs = list(_outputs(warehouse))
    sessions = [o for o in outputs if o.session is not None]
    plans = [o for o in outputs if o.session is None]
    reports = {o.asset.split("/")[0]: o for o in plans if o.asset.endswith(f"/{EVALUATION}")}
    tables = [
        Table("generations", "what is published, by asset and session", _generations(outputs)),
        Table("sessions", "measured figures of the sessions", _sessions(sessions)),
        Table("losses", "raw rows that were not applied, by reason", _losses(sessions)),
        Table("feature_sample", "features at evenly spaced steps", _feature_sample(sessions)),
        Table("features", "the columns of an observation", _rows(map(asdict, FEATURES))),
        Table("row_kinds", "kinds of the rows of books", _kinds(RowKind)),
        Table("message_kinds", "kinds of the rows of messages", _kinds(MessageKind)),
        Table("checkpoints", "what each phase trained: a row a seed", _checkpoints(plans)),
        Table("lineage", "market time that reached a checkpoint's weights", _lineage(plans)),
        Table("trials", "every candidate that was scored", _trials(warehouse)),
        Table("reports", "the verdict on each plan", _reports(reports)),
        Table("report_policies", "the policies of each report's tables", _policies(reports)),
    ]
    return write_database(
        warehouse.root,
        [_view(table, outputs) for table in PUBLISHED_TABLES if table.view],
        [table for table in tables if table.rows.num_rows],
    )


def _view(table: PublishedTable, outputs: Iterable[_Output]) -> View:
    parts = []
    for output, generation in _sound(outputs):
        if output.asset.rpartition("/")[2] != table.asset:
            continue
        if table.file not in read_manifest(generation.folder)["files"]:
            continue  # published before its stage made this file
        path = generation.at_hand(table.file)
        if path.is_file():
            parts.append(Part(path, output.keys))
    return View(
        str(table.view),
        table.says,
        parts,
        ROW if table.view == "books" else None,
        {**_KEYS, **table.columns},
    )


def _outputs(warehouse: Warehouse) -> Iterator[_Output]:
    for pointer in warehouse.names(f"*/*/{CURRENT}"):
        home = pointer.parent.relative_to(warehouse.root).as_posix()
        asset, _, session = home.partition("/session=")
        if session and asset not in stages.SESSION_STAGES:
            continue
        if not session and not _PLAN_OUTPUT.fullmatch(asset):
            continue
        try:
            generation = warehouse.current(asset, session or None)
        except CorruptFile:
            generation = None
        yield _Output(asset, int(session) if session else None, generation)


def _sound(outputs: Iterable[_Output]) -> Iterator[tuple[_Output, Generation]]:
    return ((output, output.generation) for output in outputs if output.generation)


def _rows(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    # a column for every key; what is missing, or has no figure, is null
    listed = [dict(row) for row in rows]
    names = dict.fromkeys(name for row in listed for name in row)
    columns = {name: pa.array([row.get(name) for row in listed]) for name in names}
    return pa.table({name: array for name, array in columns.items() if array.type != pa.null()})


def _generations(outputs: Iterable[_Output]) -> pa.Table:
    rows = []
    for output in outputs:
        row: dict[str, Any] = {"asset": output.asset, "session": output.session}
        if output.generation:
            manifest = read_manifest(output.generation.folder)
            row |= {
                "generation": output.generation.content_hash,
                "code_version": manifest["recipe"]["code_version"],
                "files": len(manifest["files"]),
                "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
                "folder": str(output.generation.folder),
            }
        rows.append(row | {"damaged": output.generation is None})
    return _rows(rows)


def _sessions(outputs: Iterable[_Output]) -> pa.Table:
    sessions: dict[int | None, dict[str, Any]] = {}
    for output, generation in _sound(outputs):
        if output.asset not in _FIGURES:
            continue
        summary, wanted = generation.summary, _FIGURES[output.asset]
        names = {name: name for name in summary} if wanted is None else wanted
        figures = {shown: summary.get(name) for name, shown in names.items()}
        figures.pop("session_id", None)
        plain = {k: v for k, v in figures.items() if not isinstance(v, dict | list)}
        sessions.setdefault(output.session, {"session": output.session}).update(plain)
    return _rows(row for _, row in sorted(sessions.items(), key=lambda entry: str(entry[0])))


def _losses(outputs: Iterable[_Output]) -> pa.Table:
    return _rows(
        {"session": output.session, "reason": reason, "not_applied": rows}
        for output, generation in _sound(outputs)
        if output.asset == stages.BOOKS
        for reason, rows in {
            "before_snapshot": generation.summary["before_snapshot"],
            **generation.summary["quarantined"],
        }.items()
    )


def _feature_sample(outputs: Iterable[_Output]) -> pa.Table:
    names = [feature.name for feature in TENSOR_FEATURES]
    tables = []
    for output, generation in _sound(outputs):
        if output.asset != stages.TENSORS:
            continue
        tensors = read_tensors(generation.whole())
        count = len(tensors.step_row)
        steps = np.linspace(0, count - 1, min(count, SAMPLE_STEPS)).astype(np.int64)
        columns: dict[str, Any] = {
            "session": np.full(len(steps), output.session, dtype=np.int64),
            "step": steps,
            ROW: tensors.step_row[steps],
        }
        sample = tensors.features[steps]
        columns |= {name: sample[:, place] for place, name in enumerate(names)}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables) if tables else pa.table({})


def _kinds(kinds: type[IntEnum]) -> pa.Table:
    return _rows({"kind": int(kind), "name": kind.name.lower()} for kind in kinds)


def _checkpoints(outputs: Iterable[_Output]) -> pa.Table:
    rows = []
    for output, generation in _sound(outputs):
        plan, _, phase = output.asset.partition("/")
        if phase != EVALUATION:
            inputs = read_manifest(generation.folder)["recipe"]["inputs"]
            parents = [name for name in inputs if name.startswith("phase_")]
            figures = {k: v for k, v in generation.summary.items() if k != "trained"}
            rows += [
                {
                    "plan": plan,
                    "phase": phase,
                    "checkpoint": generation.content_hash,
                    "parent": inputs[parents[0]] if parents else None,
                    **figures,
                    **trained,
                }
                for trained in generation.summary["trained"]
            ]
    return _rows(rows)


def _lineage(outputs: Iterable[_Output]) -> pa.Table:
    return _rows(
        {"plan": plan, "phase": phase, "checkpoint": generation.content_hash, **entry}
        for output, generation in _sound(outputs)
        for plan, _, phase in [output.asset.partition("/")]
        if phase != EVALUATION
        # every seed of a phase learned from the same
        for seed in [generation.summary["trained"][0]["seed"]]
        for entry in _json(generation, f"{seed_folder(seed)}/{TRAINER}")["lineage"]
    )


def _trials(warehouse: Warehouse) -> pa.Table:
    try:
        trials = read_trials(warehouse)
    except CorruptFile:  # the evaluation says so, and where
        return pa.table({})
    micro = [sum(pnl) / max(1, len(pnl)) for pnl in trials["pnl_micro"].to_pylist()]
    mean = pa.array([pnl / MICRO_PER_CENT for pnl in micro], pa.float64())
    return trials.append_column("pnl_cents", mean)


def _reports(reports: Mapping[str, _Output]) -> pa.Table:
    rows = []
    for output, generation in _sound(reports.values()):
        report = _json(generation, "report.json")
        rows.append(
            {
                "plan": output.asset.split("/")[0],
                "report": generation.content_hash,
                "verdict": report["verdict"]["sentence"],
                "claims_profit": report["verdict"]["claim"],
                "generated": report["generated"],
                "policy": report["policy"],
                "page": str(generation.at_hand("report.html")),
            }
        )
    return _rows(rows)


def _policies(reports: Mapping[str, _Output]) -> pa.Table:
    rows = []
    for output, generation in _sound(reports.values()):
        report = _json(generation, "report.json")
        tables = [("headline", report["headline"]), *(
            (f"session {table['session']}", table) for table in report["sessions"]
        )]  # fmt: skip
        for scope, table in tables:
            for policy in table["policies"] if table else ():
                figures = dict(table) | dict(policy)
                for end, value in zip(("low", "high"), policy["pnl_interval"] or (), strict=False):
                    figures[f"pnl_interval_{end}"] = value
                rows.append(
                    {
                        "plan": output.asset.split("/")[0],
                        "scope": scope,
                        "policy": policy["policy"],
                        "is_baseline": policy["policy"] in report["baselines"],
                        **{name: figures.get(name) for name in _HEADLINE},
                    }
                )
    return _rows(rows)


def _json(generation: Generation, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(generation.path(name).read_bytes())
    return content
