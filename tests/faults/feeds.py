"""Feeds of a few frames, on their way through everything a recorded session goes through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kalshi_pipeline.books.build import Books
from kalshi_pipeline.market.integrity import Reason, label
from tests.oracle.book import NO, YES
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, books_of, wire_line

A, B = "KXA-26JAN01-T5", "KXB-26JAN01-T5"
CENTS = [
    {"ticker": ticker, "price_level_structure": "linear_cent", "close_time": None}
    for ticker in (A, B)
]
START_MS = 1_780_000_000_000
REASONS = {label(reason) for reason in Reason}
LEVELS = ((YES, 4_000, 500), (YES, 3_900, 300), (NO, 5_000, 600))


def snapshot(seq: int | None, market: str = A, levels=LEVELS, **parts: Any) -> Frame:
    return _timed(Frame("snapshot", seq=seq, market=market, levels=levels), parts)


def delta(
    seq: int | None, size_centi: int, price_bp: int = 4_000, side: int = YES, market: str = A,
    **parts: Any,
) -> Frame:  # fmt: skip
    frame = Frame(
        "delta", seq=seq, market=market, side=side, price_bp=price_bp, size_centi=size_centi
    )
    return _timed(frame, parts)


def _timed(frame: Frame, parts: Mapping[str, Any]) -> Frame:
    # a tenth of a second a number, unless said otherwise
    given = {"sid": 7, "recv_ms": START_MS + 100 * (frame.seq or 0), **parts}
    return replace(frame, **given)


def with_fields(frame: Frame, **fields: Any) -> bytes:
    """A frame's line with other fields in its message; None takes one away."""
    line = json.loads(wire_line(frame))
    line["event"]["msg"] |= fields
    for name in [name for name, value in fields.items() if value is None]:
        del line["event"]["msg"][name]
    return json.dumps(line).encode()


def recorded(*feed: Frame | bytes, markets=CENTS, **header: Any) -> Lines:
    """The recording of a feed: frames, or lines as they stand."""
    lines = [wire_line(entry) if isinstance(entry, Frame) else entry for entry in feed]
    header = {"sequence": "complete", "market_tickers": [A, B], **header}
    return Lines(lines, header, markets)


def replayed(*feed: Frame | bytes, markets=CENTS, **header: Any) -> Books:
    """The books of a feed, every row of which is accounted for."""
    books = books_of(recorded(*feed, markets=markets, **header))
    assert_conserved(books)
    return books


def assert_conserved(books: Books) -> None:
    """Every raw row is applied, in quarantine with a reason, or precedes the first snapshot."""
    quality = books.quality
    refused = books.quarantine["reason"].to_pylist()
    assert set(refused) <= REASONS
    assert sum(quality["quarantined"].values()) == len(refused)
    assert quality["rows_in"] == quality["applied"] + len(refused) + quality["before_snapshot"]
    # and no row twice: a frame is a row of the books or of the quarantine
    kept = books.rows.filter(_is_book_row(books))["frame"].to_pylist()
    assert len(kept) == quality["applied"]
    put_aside = books.quarantine["frame"].to_pylist()
    assert len({*kept, *put_aside}) == len(kept) + len(put_aside)


def _is_book_row(books: Books) -> Any:
    import pyarrow.compute as pc

    from kalshi_pipeline.market.replay_tables import RowKind

    return pc.not_equal(books.rows["kind"], int(RowKind.TRADE))


def refused(books: Books) -> dict[int, str]:
    """Frame -> reason of everything in quarantine."""
    reasons = zip(
        books.quarantine["frame"].to_pylist(), books.quarantine["reason"].to_pylist(), strict=True
    )
    return dict(sorted(reasons))


def ends(books: Books, market: str = A) -> list[str]:
    """Why each segment of a market ended."""
    segments = sorted(books.segments.to_pylist(), key=lambda segment: segment["first_row"])
    return [segment["ended_by"] for segment in segments if segment["market"] == market]


def column(books: Books, name: str, market: str = A) -> list[Any]:
    """A column of the book table, of one market."""
    rows = zip(books.rows["market"].to_pylist(), books.rows[name].to_pylist(), strict=True)
    return [value for owner, value in rows if owner == market]
