"""What training and evaluation take from prepared sessions: episodes, hashes, facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from kalshi_pipeline.books.build import read_markets, read_rows
from kalshi_pipeline.books.schemas import LADDER_SCHEMA
from kalshi_pipeline.config import PipelineConfig
from kalshi_pipeline.errors import OutOfMemory
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.stages import BOOKS, RAW, SUITABLE, TENSORS
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA
from kalshi_pipeline.suitability import judged_until_ms
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import (
    CAUSAL,
    ROW_COLUMNS,
    SAME_TIME,
    Exclusion,
    SessionData,
    build_universe,
)

_SESSION_INPUTS = (BOOKS, TENSORS, SUITABLE)


def load_session(warehouse: Warehouse, session: int) -> SessionData:
    """What the simulator needs of one session.

    Raises:
        NotPublished: a stage of the session has not been materialized; names it.
        CorruptFile: published bytes have changed.
    """
    books, tensors, suitable = (warehouse.current(name, str(session)) for name in _SESSION_INPUTS)
    return SessionData(
        session=session,
        rows=read_rows(books.verified(), ROW_COLUMNS),
        ladders=read_table(books.path("ladders.parquet"), LADDER_SCHEMA),
        tensors=read_tensors(tensors.verified()),
        suitable=read_table(suitable.path("suitable_markets.parquet"), SUITABLE_SCHEMA),
        markets=read_markets(books.folder),
    )


def session_inputs(warehouse: Warehouse, sessions: Iterable[int]) -> dict[str, str]:
    """Content hash of everything `load_session` reads, by name, for a recipe."""
    return {
        f"{name}/{session}": warehouse.current(name, str(session)).content_hash
        for session in sessions
        for name in _SESSION_INPUTS
    }


def universe_of(warehouse: Warehouse, sessions: Iterable[int], min_episode_steps: int) -> Universe:
    """The episodes of several sessions together.

    Args:
        warehouse: where they are, prepared.
        sessions: session ids.
        min_episode_steps: shortest segment that becomes an episode.

    Raises:
        NotPublished: a session has not been prepared.
        OutOfMemory: they do not fit into memory together.
    """
    sessions = tuple(sessions)
    try:
        data = [load_session(warehouse, session) for session in sessions]
        return build_universe(data, min_episode_steps)[0]
    except MemoryError as error:
        raise OutOfMemory(
            "the episodes of these sessions do not fit into memory together: name fewer, the rest "
            "in a further phase",
            rule="memory",
            value=sessions,
        ) from error


def universes_of(
    warehouse: Warehouse, sessions: Iterable[int], min_episode_steps: int
) -> tuple[dict[int, Universe], list[dict[str, Any]]]:
    """Session -> its episodes; and `{session, reason, count}` of everything left out.

    Args:
        warehouse: where they are, prepared.
        sessions: session ids.
        min_episode_steps: shortest segment that becomes an episode.

    Raises:
        NotPublished: a session has not been prepared.
    """
    universes: dict[int, Universe] = {}
    exclusions: list[Exclusion] = []
    for session in sessions:
        data = load_session(warehouse, session)
        universes[session], excluded = build_universe([data], min_episode_steps)
        exclusions += excluded
    return universes, _counted(exclusions)


def causal_universes(
    warehouse: Warehouse, session: int, min_episode_steps: int
) -> dict[str, Universe]:
    """A session traded without knowing how it went on, and the same time with that knowledge.

    `CAUSAL`: markets chosen by the first part of their time, traded after it. `SAME_TIME`: the
    suitable ones, traded after that part too, so that the choice alone is different.

    Args:
        warehouse: where it is, prepared.
        session: its id.
        min_episode_steps: shortest rest of a segment that becomes an episode.

    Raises:
        NotPublished: the session has not been prepared.
    """
    data = load_session(warehouse, session)
    from_ms = _judged_until_ms(data)
    chosen = {
        name: {
            entry["market"]: from_ms[entry["market"]]
            for entry in data.suitable.to_pylist()
            if entry[column]
        }
        for name, column in ((CAUSAL, "causal"), (SAME_TIME, "suitable"))
    }
    return {
        name: build_universe([data], min_episode_steps, markets)[0]
        for name, markets in chosen.items()
    }


def _judged_until_ms(data: SessionData) -> dict[str, int]:
    # as the suitable markets were judged; the recording's end is that of its last message
    segments = data.tensors.index
    began_ms: dict[str, int] = {}
    for market, start_ms in zip(
        segments["market"].to_pylist(), segments["start_ms"].to_pylist(), strict=True
    ):
        began_ms[market] = min(start_ms, began_ms.get(market, start_ms))
    recorded_until_ms = pc.max(data.rows["time_ms"]).as_py() or 0
    close_ms = {market.ticker: market.close_ms for market in data.markets}
    ends_ms = [min(close_ms[m] or recorded_until_ms, recorded_until_ms) for m in began_ms]
    until_ms = judged_until_ms(
        np.array(list(began_ms.values()), np.int64), np.array(ends_ms, np.int64),
        PipelineConfig().suitability,
    )  # fmt: skip
    return dict(zip(began_ms, until_ms.tolist(), strict=True))


def _counted(exclusions: Iterable[Exclusion]) -> list[dict[str, Any]]:
    # one line a session and reason; a market's own figure stands in brackets at its end
    kinds = Counter((entry.session, entry.reason.partition(" (")[0]) for entry in exclusions)
    return [
        {"session": session, "reason": reason, "count": count}
        for (session, reason), count in sorted(kinds.items())
    ]


def session_facts(warehouse: Warehouse, sessions: Iterable[int]) -> dict[str, Any]:
    """What a report says of sessions: `generated`, `generations` (hashes), `sessions`.

    And `conventions`: how a session's ladders were recorded, and what was done about it.
    """
    quality: dict[int, Mapping[str, Any]] = {}
    hashes: dict[str, str] = {}
    conventions: dict[str, str] = {}
    for session in sessions:
        quality[session] = warehouse.current(BOOKS, str(session)).summary
        raw = warehouse.current(RAW, str(session))
        hashes[f"{RAW}/{session}"] = raw.content_hash
        conventions[str(session)] = _convention(json.loads(raw.path("session.json").read_bytes()))
    return {
        "generated": any(figures["generated"] for figures in quality.values()),
        "generations": hashes,
        "sessions": {str(session): _described(figures) for session, figures in quality.items()},
        "conventions": conventions,
    }


def _convention(declared: Mapping[str, Any]) -> str:
    # rows of a collector's database say in which of two ways their ladders were written
    ladders = declared.get("ladder_convention")
    if ladders is None:
        return "frames as received"
    if ladders in ("fixed", "none"):
        return f"database rows, {ladders} ladders"
    return f"database rows, {ladders} ladders, sizes: {declared['recovery_policy']}"


def _described(quality: Mapping[str, Any]) -> str:
    source = "generated" if quality["generated"] else "recorded"
    return (
        f"{quality['title']}; {source}, {quality['duration_s'] / 3600:.1f} h, "
        f"{quality['deltas']:,} deltas, quality {quality['quality_score']:g}"
    )
