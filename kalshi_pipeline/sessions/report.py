"""What `kalshi sessions` and `kalshi warehouse` say: facts; `shown.py` shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import RenderableType

from kalshi_pipeline import stages
from kalshi_pipeline.books.build import ladder_at, read_rows
from kalshi_pipeline.books.schemas import LADDER_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.books.traded import DEPLETION_SCHEMA
from kalshi_pipeline.books.traded_size import batches
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.errors import NotPublished, RecordingError, SessionNotFound
from kalshi_pipeline.market.prices import NO, YES
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.recordings.folder import SessionInfo, is_completed
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.sessions import shown
from kalshi_pipeline.sessions.roles import Standing, suggest_roles
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.storage.tables import read_row_groups, read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA

TOP_MARKETS = 10
ACTIVITY_BINS = 72
PATH_POINTS = 72
SPREAD_CLASSES_BP = {"under 5 c": 500, "5 to 20 c": 2_000, "over 20 c": BP_PER_DOLLAR}

Facts = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """Facts, and how to show them."""

    facts: Any
    parts: Callable[[], Iterable[RenderableType]]


@dataclass(frozen=True)
class _Session:
    """What the stages of a session published."""

    raw: Generation
    books: Generation
    tensors: Generation
    suitable: Generation
    markets: pa.Table  # SUITABLE_SCHEMA, most active first


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
            "started_at": shown.utc(profile.started_at_ms),
            "declared_duration_s": profile.duration_ms / 1000,
            "markets_subscribed": profile.markets,
            "published": [],
        }
        for session, profile in sorted(profiles.items())
        if session not in present
    ]
    return Report(facts, lambda: shown.listing(facts))


def _present(sources: SessionSources, warehouse: Warehouse, session: int) -> Facts:
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
        "started_at": shown.utc(info.started_ms),
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
    made = _prepared(sources, warehouse, session)
    markets = made.markets.to_pylist()
    suitable = [entry for entry in markets if entry["suitable"]]
    facts = {
        **made.books.summary,
        "data_points": made.tensors.summary["steps"],
        "min_step_ms": made.tensors.summary["min_step_ms"],
        "suitable_markets": made.suitable.summary["suitable_markets"],
        "causal_markets": made.suitable.summary["causal_markets"],
        "suitable_events": made.suitable.summary["events"],
        "left_out": dict(
            Counter(e["reason"].partition(" (")[0] for e in markets if e["reason"]).most_common()
        ),
        "quarter_coverage": _quarter_coverage(markets),
        "temporal_patterns": dict(Counter(e["pattern"] for e in suitable).most_common()),
        "spreads_bp": _spreads(markets),
        "activity": _activity(made.raw, made.books.summary),
        "top_markets": markets[:TOP_MARKETS],
    }
    return Report(facts, lambda: shown.analysis(facts))


def _quarter_coverage(markets: Sequence[Facts]) -> dict[str, int]:
    # markets by the number of quarters of their life in which they have a step
    counts = Counter(sum(entry[f"q{n}"] > 0 for n in range(1, 5)) for entry in markets)
    return {str(quarters): counts[quarters] for quarters in range(5)}


def _spreads(markets: Sequence[Facts]) -> Facts:
    # of the markets' median spreads
    spreads = np.array([e["spread_bp"] for e in markets if e["spread_bp"] is not None])
    edges = [-BP_PER_DOLLAR, *SPREAD_CLASSES_BP.values()]
    counts = np.histogram(spreads, edges)[0].tolist()
    percentiles = (10, 25, 50, 75, 90)
    values = np.percentile(spreads, percentiles) if len(spreads) else [None] * len(percentiles)
    return {
        "markets": len(spreads),
        **{f"p{p}": v if v is None else float(v) for p, v in zip(percentiles, values, strict=True)},
        "classes": dict(zip(SPREAD_CLASSES_BP, counts, strict=True)),
    }


def _activity(raw: Generation, quality: Mapping[str, Any]) -> Facts:
    # frames received in equal parts of the session
    counts = np.zeros(ACTIVITY_BINS, dtype=np.int64)
    started, ended = quality["started_ms"], quality["ended_ms"]
    if started is None:
        return {"bin_ms": 0, "frames": []}
    bin_ms = max(1, -(-(ended - started + 1) // ACTIVITY_BINS))
    for batch in batches(raw.path("messages.parquet"), ("kind", "recv_ms")):
        kind, recv_ms = batch["kind"].to_numpy(), batch["recv_ms"].to_numpy()
        place = (recv_ms[kind != MessageKind.LEVEL] - started) // bin_ms
        # a trade or ticker may have come before the first frame of a book
        counts += np.bincount(np.clip(place, 0, ACTIVITY_BINS - 1), minlength=ACTIVITY_BINS)
    return {"bin_ms": bin_ms, "frames": counts.tolist()}


def view(sources: SessionSources, warehouse: Warehouse, session: int, ticker: str | None) -> Report:
    """One market of a session: its segments, its last full book, its course, its depletion.

    Raises:
        SessionNotFound: the session has no such market; names the most active ones.
    """
    made = _prepared(sources, warehouse, session)
    markets = made.markets.to_pylist()
    chosen = next((m for m in markets if ticker in (None, m["market"])), None)
    if chosen is None:
        active = ", ".join(entry["market"] for entry in markets[:TOP_MARKETS]) or "none"
        raise SessionNotFound(
            f"the session has no such market; the most active: {active}",
            session=session,
            market=ticker,
        )
    segments = read_table(made.books.path("segments.parquet"), SEGMENT_SCHEMA)
    own = segments.filter(pc.equal(segments["market"], chosen["market"]))
    facts = {
        "session_id": session,
        **chosen,
        "segments": own.to_pylist(),
        "ladder": _last_ladder(made.books, segments, own),
        **_course(made.books, made.tensors, own),
        "depletion": _depletion(made.books, chosen["market"]),
    }
    return Report(facts, lambda: shown.view(facts))


def _last_ladder(books: Generation, segments: pa.Table, own: pa.Table) -> dict[str, list[Any]]:
    ladder: dict[tuple[int, int], int] = {}
    if own.num_rows:
        rows = read_rows(books.verified(), ("kind", "side", "price_bp", "size_centi"))
        ladders = read_table(books.path("ladders.parquet"), LADDER_SCHEMA)
        ladder = ladder_at(rows, ladders, segments, own["end_row"][-1].as_py() - 1)
    return {
        name: [
            {"price_bp": price, "size_centi": size}
            for (side, price), size in sorted(ladder.items(), reverse=True)
            if side == wanted
        ]
        for name, wanted in (("yes_bids", YES), ("no_bids", NO))
    }


def _course(books: Generation, tensors: Generation, own: pa.Table) -> Facts:
    # mid and spread at evenly spaced two-sided steps of the market
    steps = np.load(tensors.path("step_row.npy"), mmap_mode="r", allow_pickle=False)
    rows: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for first, end in zip(own["first_row"].to_pylist(), own["end_row"].to_pylist(), strict=True):
        rows.append(np.asarray(steps[slice(*np.searchsorted(steps, [first, end]))]))
    at_steps = read_rows(books.whole(), ("time_ms", "bid_bp", "ask_bp")).take(
        pa.array(np.concatenate(rows))
    )
    time_ms, bid, ask = (at_steps[n].to_numpy() for n in ("time_ms", "bid_bp", "ask_bp"))
    two_sided = np.flatnonzero((bid > 0) & (ask < BP_PER_DOLLAR))
    places = np.linspace(0, len(two_sided) - 1, min(PATH_POINTS, len(two_sided))).astype(int)
    points = two_sided[places]
    return {
        "path_ms": time_ms[points].tolist(),
        "mid_path_bp": ((bid + ask) / 2)[points].tolist(),
        "spread_path_bp": (ask - bid)[points].tolist(),
        "two_sided_steps": len(two_sided),
    }


def _depletion(books: Generation, market: str) -> Facts:
    columns = ("market", "traded_centi", "cancelled_centi", "confidence")
    groups = read_row_groups(books.path("depletion.parquet"), DEPLETION_SCHEMA, columns)
    own = [group.filter(pc.equal(group["market"], market)) for group in groups]
    empty = DEPLETION_SCHEMA.empty_table().select(columns)
    table = pa.concat_tables([empty, *own]).select(columns[1:])
    traded, cancelled, confidence = (
        table[name].to_numpy().astype(np.int64) for name in table.column_names
    )
    lost = int((traded + cancelled).sum())
    return {
        "decreases": table.num_rows,
        "traded_centi": int(traded.sum()),
        "cancelled_centi": int(cancelled.sum()),
        "unknown": int(np.count_nonzero(confidence == 0)),
        "mean_confidence": float((confidence * (traded + cancelled)).sum() / lost) if lost else 0.0,
    }


def summary(
    sources: SessionSources,
    warehouse: Warehouse,
    sessions: Sequence[int],
    plan: Plan,
    progress: Callable[[str], None],
) -> Report:
    """Appendix A of the plan, computed, with suggested roles; beside it what the plan believed.

    Raises:
        RecordingError: a session is unknown, or its recording cannot be used.
    """
    standings, facts = [], []
    for session in sessions:
        progress(f"session {session}")
        made = _prepared(sources, warehouse, session)
        standings.append(_standing(session, made))
        facts.append(_row(standings[-1], made, plan))
    roles = suggest_roles(standings)
    for entry in facts:
        suggestion = roles[entry["session_id"]]
        entry |= {
            "suggested_role": suggestion.role.value,
            "why": suggestion.why,
            "events_trained_on": round(suggestion.events_trained_on, 4),
        }
    return Report({"plan": plan.name, "sessions": facts}, lambda: shown.summary(plan, facts))


def _standing(session: int, made: _Session) -> Standing:
    quality = made.books.summary
    chosen = made.markets.filter(made.markets["suitable"])
    return Standing(
        session,
        quality["quality_score"],
        made.tensors.summary["steps"],
        int(pc.sum(chosen["steps"]).as_py() or 0),
        chosen.num_rows,
        quality["markets_subscribed"] or quality["markets"],
        frozenset(chosen["event"].to_pylist()),
        quality["started_ms"] or 0,
        quality["ended_ms"] or 0,
    )


def _row(standing: Standing, made: _Session, plan: Plan) -> Facts:
    quality = made.books.summary
    return {
        "session_id": standing.session,
        "title": quality["title"],
        "generated": quality["generated"],
        "started_ms": quality["started_ms"],
        "duration_s": quality["duration_s"],
        "markets": standing.markets,
        "quality_score": standing.quality,
        "deltas": quality["deltas"],
        "data_points": standing.steps,
        "usable_data_points": standing.usable_steps,
        "suitable_markets": standing.suitable_markets,
        "suitable_events": len(standing.events),
        "traded_centi": quality["traded_centi"],
        "declared_true": quality["declared_true"],
        "plan_role": plan.roles.get(standing.session),
        "believed": plan.believed.get(standing.session),
    }


def holdings(database: Path, relations: Sequence[Mapping[str, Any]]) -> Report:
    """What a database of views holds."""
    facts = {"database": str(database), "relations": list(relations)}
    return Report(facts, lambda: shown.holdings(facts))


def _prepared(sources: SessionSources, warehouse: Warehouse, session: int) -> _Session:
    raw = stages.ingest_session(warehouse, sources.open(session))
    books = stages.build_session_books(warehouse, session)
    tensors = stages.build_session_tensors(warehouse, session)
    suitable = stages.choose_session_markets(warehouse, session)
    markets = read_table(suitable.path("suitable_markets.parquet"), SUITABLE_SCHEMA)
    return _Session(raw, books, tensors, suitable, markets)


def _published(warehouse: Warehouse, session: int) -> list[str]:
    found = []
    for stage in stages.SESSION_STAGES:
        try:
            warehouse.current(stage, str(session))
        except NotPublished:
            continue
        found.append(stage)
    return found
