"""What `kalshi sessions` shows: facts for a machine, tables and small plots for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kalshi_pipeline import stages
from kalshi_pipeline.books import ladder_at, read_rows
from kalshi_pipeline.errors import NotPublished, RecordingError, SessionNotFound
from kalshi_pipeline.market.prices import NO, YES
from kalshi_pipeline.recordings.folder import SessionInfo, is_completed
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.storage.publish import Generation, Warehouse

TOP_MARKETS = 10
LADDER_LEVELS = 8
PATH_WIDTH = 72
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Report:
    """Facts, and how to show them."""

    facts: Any
    parts: Callable[[], Iterable[RenderableType]]


def listing(sources: SessionSources, warehouse: Warehouse) -> Report:
    """Every session there is or could be generated: declared facts, and how far it has come.

    A folder that cannot be used is listed with its error; it hides no other.
    """
    from kalshi_pipeline.recordings import generator

    profiles = {**generator.PROFILES, **generator.QUICK_PROFILES}
    present = sources.sessions()
    facts = [_present(sources, warehouse, session) for session in present]
    facts += [
        {
            "session_id": session,
            "title": profile.title,
            "source": "can be generated",
            "started_at": _utc(profile.started_at_ms),
            "declared_duration_s": profile.duration_ms / 1000,
            "markets_subscribed": profile.markets,
            "published": [],
        }
        for session, profile in sorted(profiles.items())
        if session not in present
    ]
    return Report(facts, lambda: [_listing_table(facts)])


def _present(sources: SessionSources, warehouse: Warehouse, session: int) -> dict[str, Any]:
    published = _published(warehouse, session)
    try:
        info = sources.find(session).info
    except RecordingError as error:
        return {
            "session_id": session,
            "title": str(error),
            "source": "cannot be used",
            "started_at": None,
            "declared_duration_s": None,
            "markets_subscribed": None,
            "published": published,
        }
    started, ended = info.started_ms, info.ended_ms
    return {
        "session_id": session,
        "title": info.title,
        "source": _source(info),
        "started_at": _utc(info.started_ms),
        "declared_duration_s": (ended - started) / 1000 if started and ended else None,
        "markets_subscribed": len(info.tickers),
        "sequence": info.sequence,
        "published": published,
    }


def _source(info: SessionInfo) -> str:
    if info.declared.get("kind") == "database":
        return "database" if is_completed(info) else "database, active"
    return "generated" if info.generated else "recorded"


def analysis(sources: SessionSources, warehouse: Warehouse, session: int) -> Report:
    """Measure a session, from its raw frames where that has not been done yet.

    Raises:
        RecordingError: the session is unknown, or its recording cannot be used.
    """
    books, _, suitable = _prepared(sources, warehouse, session)
    markets = pq.read_table(suitable.path("suitable_markets.parquet"))
    facts = {
        **books.summary,
        "suitable_markets": suitable.summary["suitable_markets"],
        "causal_markets": suitable.summary["causal_markets"],
        "suitable_events": suitable.summary["events"],
        "top_markets": markets.slice(0, TOP_MARKETS).to_pylist(),
    }
    return Report(facts, lambda: [_figures_table(facts), _markets_table(facts["top_markets"])])


def view(sources: SessionSources, warehouse: Warehouse, session: int, ticker: str | None) -> Report:
    """One market of a session: its segments, its last full book and the path of its mid.

    Raises:
        SessionNotFound: the session has no such market; names the most active ones.
    """
    books, tensors, suitable = _prepared(sources, warehouse, session)
    markets = pq.read_table(suitable.path("suitable_markets.parquet")).to_pylist()
    chosen = next((m for m in markets if ticker in (None, m["market"])), None)
    if chosen is None:
        active = ", ".join(entry["market"] for entry in markets[:TOP_MARKETS]) or "none"
        raise SessionNotFound(
            f"the session has no such market; the most active: {active}",
            session=session,
            market=ticker,
        )
    segments = pq.read_table(books.path("segments.parquet"))
    own = segments.filter(pc.equal(segments["market"], chosen["market"]))
    facts = {
        "session_id": session,
        **chosen,
        "segments": own.to_pylist(),
        "ladder": _last_ladder(books, segments, own),
        "mid_path_bp": _mid_path(books, tensors, own),
    }
    return Report(facts, lambda: _view_parts(facts))


def holdings(database: Path, relations: Sequence[Mapping[str, Any]]) -> Report:
    """What a database of views holds."""
    facts = {"database": str(database), "relations": list(relations)}

    def parts() -> Iterable[RenderableType]:
        table = _table("name", "kind", "rows", "what it is")
        table.columns[2].justify = "right"
        for entry in relations:
            table.add_row(entry["name"], entry["kind"], f"{entry['rows']:,}", entry["says"])
        return [table, Text(f"duckdb -readonly {database}", no_wrap=True)]

    return Report(facts, parts)


def timing_table(seconds: Mapping[str, float]) -> Table:
    """Wall seconds by step, and their sum."""
    table = _table("step", "seconds", title="Where the time went")
    for step, spent in (*seconds.items(), ("all", sum(seconds.values()))):
        table.add_row(step, f"{spent:,.1f}")
    table.columns[1].justify = "right"
    return table


def _prepared(
    sources: SessionSources, warehouse: Warehouse, session: int
) -> tuple[Generation, Generation, Generation]:
    stages.ingest_session(warehouse, sources.open(session))
    return (
        stages.build_session_books(warehouse, session),
        stages.build_session_tensors(warehouse, session),
        stages.choose_session_markets(warehouse, session),
    )


def _published(warehouse: Warehouse, session: int) -> list[str]:
    found = []
    for stage in stages.SESSION_STAGES:
        try:
            warehouse.current(stage, str(session))
        except NotPublished:
            continue
        found.append(stage)
    return found


def _last_ladder(books: Generation, segments: pa.Table, own: pa.Table) -> dict[str, list[Any]]:
    ladder: dict[tuple[int, int], int] = {}
    if own.num_rows:
        rows = read_rows(books.verified(), ("kind", "side", "price_bp", "size_centi"))
        ladders = pq.read_table(books.path("ladders.parquet"))
        ladder = ladder_at(rows, ladders, segments, own["end_row"][-1].as_py() - 1)
    return {
        name: [
            {"price_bp": price, "size_centi": size}
            for (side, price), size in sorted(ladder.items(), reverse=True)
            if side == wanted
        ]
        for name, wanted in (("yes_bids", YES), ("no_bids", NO))
    }


def _mid_path(books: Generation, tensors: Generation, own: pa.Table) -> list[float]:
    steps = np.load(tensors.path("step_row.npy"), allow_pickle=False)
    rows = read_rows(books.folder, ("bid_bp", "ask_bp"))
    inside = np.zeros(rows.num_rows, dtype=np.bool_)
    for first, end in zip(own["first_row"].to_pylist(), own["end_row"].to_pylist(), strict=True):
        inside[first:end] = True
    at_steps = rows.take(pa.array(steps[inside[steps]]))
    bid, ask = at_steps["bid_bp"].to_numpy(), at_steps["ask_bp"].to_numpy()
    mid = (bid + ask)[(bid > 0) & (ask < 10_000)] / 2
    shown = mid[np.linspace(0, len(mid) - 1, min(PATH_WIDTH, len(mid))).astype(int)]
    return [float(value) for value in shown]


def _table(*columns: str, title: str | Text | None = None, whole: int = 0) -> Table:
    # the column `whole` is never cut: a ticker or id that is cut cannot be copied
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.columns[whole].no_wrap = True
    table.columns[whole].overflow = "fold"
    return table


def _listing_table(facts: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("session", "source", "started (UTC)", "duration", "markets", "stages", "title")
    for entry in facts:
        table.add_row(
            str(entry["session_id"]),
            entry["source"],
            (entry["started_at"] or "")[:16],
            _duration(entry["declared_duration_s"]),
            "" if entry["markets_subscribed"] is None else str(entry["markets_subscribed"]),
            f"{len(entry['published'])}/{len(stages.SESSION_STAGES)}",
            Text(entry["title"]),
        )
    for column in table.columns[:-1]:
        column.no_wrap = True
    return table


def _figures_table(facts: Mapping[str, Any]) -> Table:
    title = Text(f"Session {facts['session_id']}: {facts['title']}")
    table = _table("figure", "value", title=title)
    table.columns[1].justify = "right"
    for name, value in facts.items():
        if name in {"title", "session_id", "top_markets"}:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count:,}" for key, count in value.items()) or "none"
        elif name.endswith("_ms") and isinstance(value, int) and value > 10**12:
            value = _utc(value)
        elif name == "duration_s":
            value = f"{value:,.1f} (h:mm:ss {_duration(value)})"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        table.add_row(name.replace("_", " "), str(value))
    return table


def _markets_table(markets: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("market", "steps", "traded", "spread", "quarters", "tier", "left out")
    for entry in markets:
        quarters = [entry[f"q{n}"] for n in range(1, 5)]
        spread = entry["spread_bp"]
        table.add_row(
            Text(entry["market"]),
            f"{entry['steps']:,}",
            f"{entry['traded_centi'] / 100:,.0f}",
            "" if spread is None else f"{spread / 100:g} c",
            _sparkline(quarters),
            entry["tier"] or "",
            entry["reason"] or "",
        )
    return table


def _view_parts(facts: Mapping[str, Any]) -> list[RenderableType]:
    title = Text(f"{facts['market']} in session {facts['session_id']}", style="bold")
    segments = _table("segment", "from (UTC)", "to (UTC)", "messages", "ended by", title="Segments")
    for entry in facts["segments"]:
        segments.add_row(
            str(entry["segment"]),
            _utc(entry["start_ms"]),
            _utc(entry["end_ms"]),
            f"{entry['messages']:,}",
            entry["ended_by"],
        )
    ladder = _table("bid size", "YES price", "ask size", title="Last book, best levels")
    for column in ladder.columns:
        column.justify = "right"
    asks = [
        (10_000 - level["price_bp"], level["size_centi"]) for level in facts["ladder"]["no_bids"]
    ]
    for price, size in reversed(asks[:LADDER_LEVELS]):
        ladder.add_row("", _price(price), f"{size / 100:,.2f}")
    for level in facts["ladder"]["yes_bids"][:LADDER_LEVELS]:
        ladder.add_row(f"{level['size_centi'] / 100:,.2f}", _price(level["price_bp"]), "")
    path = facts["mid_path_bp"]
    low, high = (min(path), max(path)) if path else (0.0, 0.0)
    line = Text(f"mid {_price(low)} to {_price(high)}  {_sparkline(path)}")
    return [title, segments, ladder, line]


def _sparkline(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1))] for value in values)


def _price(price_bp: float) -> str:
    return f"{price_bp / 100:.2f} c".replace(".00 c", " c")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _utc(time_ms: int | None) -> str:
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
