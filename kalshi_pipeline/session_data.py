"""What training and evaluation take from prepared sessions: episodes, hashes, facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kalshi_pipeline.books.build import read_markets, read_rows
from kalshi_pipeline.books.schemas import LADDER_SCHEMA
from kalshi_pipeline.errors import OutOfMemory
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.stages import BOOKS, RAW, SUITABLE, TENSORS
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import ROW_COLUMNS, Exclusion, SessionData, build_universe

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


def _counted(exclusions: Iterable[Exclusion]) -> list[dict[str, Any]]:
    # one line a session and reason; a market's own figure stands in brackets at its end
    kinds = Counter((entry.session, entry.reason.partition(" (")[0]) for entry in exclusions)
    return [
        {"session": session, "reason": reason, "count": count}
        for (session, reason), count in sorted(kinds.items())
    ]


def session_facts(warehouse: Warehouse, sessions: Iterable[int]) -> dict[str, Any]:
    """What a report says of sessions: `generated`, `generations` (hashes) and `sessions`."""
    quality: dict[int, Mapping[str, Any]] = {}
    hashes: dict[str, str] = {}
    for session in sessions:
        quality[session] = warehouse.current(BOOKS, str(session)).summary
        hashes[f"{RAW}/{session}"] = warehouse.current(RAW, str(session)).content_hash
    return {
        "generated": any(figures["generated"] for figures in quality.values()),
        "generations": hashes,
        "sessions": {str(session): _described(figures) for session, figures in quality.items()},
    }


def _described(quality: Mapping[str, Any]) -> str:
    source = "generated" if quality["generated"] else "recorded"
    return (
        f"{quality['title']}; {source}, {quality['duration_s'] / 3600:.1f} h, "
        f"{quality['deltas']:,} deltas, quality {quality['quality_score']:g}"
    )
