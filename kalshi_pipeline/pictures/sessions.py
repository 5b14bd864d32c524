"""Pictures of a session: how busy it was, its spreads, a market's course, features, markets."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.books.schemas import BOOK_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.books.traded_size import batches
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.evaluation.charts.columns import columns, plane
from kalshi_pipeline.evaluation.charts.dots import Dot, dots
from kalshi_pipeline.evaluation.charts.drawing import PICTURE, styled
from kalshi_pipeline.evaluation.charts.lines import Series, lines
from kalshi_pipeline.feature_table import TENSOR_FEATURES
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.storage.publish import Generation
from kalshi_pipeline.storage.tables import read_row_groups, read_table
from kalshi_pipeline.suitability import SCHEMA as SUITABLE_SCHEMA

Ints = NDArray[np.int64]

PARTS = 120  # of a session
POINTS = 400  # of a market's course
SAMPLE_STEPS = 10_000
SPREAD_ENDS_CENTS = (1, 2, 3, 5, 10, 20, 50, 100)
_SHOWN = {
    MessageKind.DELTA: "changes",
    MessageKind.TRADE: "trades",
    MessageKind.TICKER: "tickers",
}
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
_CENT_BP = BP_PER_DOLLAR // 100


def activity(raw: Generation) -> bytes:
    """Frames a minute over the session, by kind; PNG."""
    path = raw.path("messages.parquet")
    first, last = np.iinfo(np.int64).max, 0
    for batch in batches(path, ("recv_ms",)):
        received = batch["recv_ms"].to_numpy()
        first, last = min(first, int(received.min())), max(last, int(received.max()))
    first = min(first, last)
    part_ms = -(-(last - first + 1) // PARTS)
    counts = np.zeros((max(MessageKind) + 1, PARTS), np.int64)
    for batch in batches(path, ("kind", "recv_ms")):
        part = (batch["recv_ms"].to_numpy() - first) // part_ms
        np.add.at(counts, (batch["kind"].to_numpy(), part), 1)
    hours = (np.arange(PARTS) + 0.5) * part_ms / _HOUR_MS
    a_minute = counts * (_MINUTE_MS / part_ms)
    shown = [
        Series(name, a_minute[kind].tolist(), judged=kind == MessageKind.DELTA)
        for kind, name in _SHOWN.items()
        if counts[kind].any()
    ]
    first_name, *others = [one.name for one in shown] or ["none"]
    thin = f", thin line: {' and '.join(others)}" if others else ""
    with styled(PICTURE):
        return lines(
            "Frames a minute", hours.tolist(), shown, f"hours since {_utc(first)}",
            f"frames a minute: {first_name}{thin}", whole=True,
        ).png()  # fmt: skip


def spreads(books: Generation) -> bytes:
    """Rows of trusted books with both sides by their spread; PNG."""
    ends = np.array([0, *SPREAD_ENDS_CENTS]) * _CENT_BP
    counts = np.zeros(len(SPREAD_ENDS_CENTS), np.int64)
    for batch in batches(books.path("books.parquet"), ("segment", "bid_bp", "ask_bp")):
        segment, bid, ask = (batch[name].to_numpy() for name in ("segment", "bid_bp", "ask_bp"))
        two_sided = (segment >= 0) & (bid > 0) & (ask < BP_PER_DOLLAR)
        # a class holds its upper end: 1 cent is the first
        place = np.searchsorted(ends, (ask - bid)[two_sided], side="left") - 1
        counts += np.bincount(np.clip(place, 0, None), minlength=len(counts))
    share = 100.0 * counts / max(1, counts.sum())
    names = [str(end) for end in SPREAD_ENDS_CENTS]
    with styled(PICTURE):
        return columns(
            "Spreads", names, share.tolist(), "ask \N{MINUS SIGN} bid, ¢, up to",
            "share of book rows with both sides, %",
        ).png()  # fmt: skip


def busiest_market(books: Generation) -> bytes | None:
    """Bid, ask and mid of the segment with the most messages; PNG, None where there is none."""
    segments = read_table(books.path("segments.parquet"), SEGMENT_SCHEMA)
    if not segments.num_rows:
        return None
    busiest = segments.slice(int(np.argmax(segments["messages"].to_numpy())), 1).to_pylist()[0]
    time_ms, bid, ask = _rows(books, busiest["first_row"], busiest["end_row"])
    chosen = np.linspace(0, len(bid) - 1, min(POINTS, len(bid))).astype(np.int64)
    cents = (bid[chosen] / _CENT_BP, ask[chosen] / _CENT_BP)
    hours = (time_ms[chosen] - time_ms[0]) / _HOUR_MS
    mid = Series(
        "mid", ((cents[0] + cents[1]) / 2).tolist(), cents[0].tolist(), cents[1].tolist(), True
    )
    with styled(PICTURE):
        return lines(
            f"Bid to ask of {busiest['market']}", hours.tolist(), [mid],
            f"hours since {_utc(int(time_ms[0]))}",
            f"{busiest['market']}: bid to ask, ¢", whole=True,
        ).png()  # fmt: skip


def _rows(books: Generation, first_row: int, end_row: int) -> tuple[Ints, Ints, Ints]:
    # three columns of consecutive rows; row groups before and after them are left behind
    names = ("time_ms", "bid_bp", "ask_bp")
    found: list[tuple[Ints, ...]] = []
    at = 0
    for group in read_row_groups(books.path("books.parquet"), BOOK_SCHEMA, names):
        here = slice(max(0, first_row - at), max(0, end_row - at))
        found.append(tuple(group[name].to_numpy()[here].astype(np.int64) for name in names))
        at += group.num_rows
        if at >= end_row:
            break
    time_ms, bid, ask = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return time_ms, bid, ask


def feature_ranges(tensors: Generation) -> bytes:
    """Median, middle half and 5 to 95 % of every feature, over evenly spaced steps; PNG."""
    features = read_tensors(tensors.verified()).features
    steps = np.linspace(0, len(features) - 1, min(SAMPLE_STEPS, len(features))).astype(np.int64)
    sample = features[steps] if len(steps) else np.zeros((1, len(TENSOR_FEATURES)))
    shares = np.quantile(sample, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
    rows = [
        Dot(feature.name, float(q[2]), (float(q[0]), float(q[4])), True, (float(q[1]), float(q[3])))
        for feature, q in zip(TENSOR_FEATURES, shares.T, strict=True)
    ]
    with styled(PICTURE):
        return dots("Features", rows, "median, middle half (thick), 5 to 95 % (thin)").png()


def market_map(suitable: Generation) -> bytes:
    """Every market by its steps and its median spread, the suitable ones in colour; PNG."""
    table = read_table(suitable.path("suitable_markets.parquet"), SUITABLE_SCHEMA)
    groups: dict[str, list[tuple[float, float]]] = {"suitable": [], "left out": []}
    for market in table.select(["steps", "spread_bp", "suitable"]).to_pylist():
        if market["spread_bp"] is not None:
            name = "suitable" if market["suitable"] else "left out"
            groups[name].append((market["steps"], market["spread_bp"] / _CENT_BP))
    with styled(PICTURE):
        return plane("Markets", groups, "steps", "median spread, ¢").png()


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%d %B %Y %H:%M UTC")
