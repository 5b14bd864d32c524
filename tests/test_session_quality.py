"""The figures of a session are counted from what came, not from what it declares."""

from __future__ import annotations

import json

import pytest

from kalshi_pipeline.books.quality import IDLE_MS, declared_true
from tests.oracle.book import NO, YES
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, books_of, wire_line

A, B = "KXA-26", "KXB-26"
BOOK = ((YES, 4_000, 100), (NO, 5_000, 100))


class Feed:
    """Frames of one connection, numbered as they are added."""

    def __init__(self, sequence: str = "complete", **header) -> None:
        self.header = {"sequence": sequence} | header
        self.frames: list[Frame | bytes] = []
        self.seq = 0

    def add(self, kind: str, market: str = A, at_ms: int = 0, **parts) -> Feed:
        self.seq += 1
        self.frames.append(Frame(kind, at_ms, 1, 7, self.seq, market, **parts))
        return self

    def delta(self, size_centi: int = 1, at_ms: int = 0, price_bp: int = 4_000, **parts) -> Feed:
        return self.add("delta", at_ms=at_ms, price_bp=price_bp, size_centi=size_centi, **parts)

    def snapshot(self, *levels: tuple[int, int, int], at_ms: int = 0, market: str = A) -> Feed:
        return self.add("snapshot", market, at_ms, levels=levels or BOOK)

    @property
    def quality(self) -> dict:
        lines = [f if isinstance(f, bytes) else wire_line(f) for f in self.frames]
        return dict(books_of(Lines(lines, self.header)).quality)


def test_a_flawless_session_scores_one():
    quality = Feed().snapshot().delta().delta(at_ms=10).quality
    assert quality["quality_score"] == 1.0
    assert (quality["rows_in"], quality["applied"], quality["quarantined"]) == (3, 3, {})
    assert (quality["deltas"], quality["snapshots"], quality["trades"]) == (2, 1, 0)


def test_a_session_of_nothing_scores_nothing():
    quality = Feed().quality
    assert (quality["quality_score"], quality["rows_in"], quality["duration_s"]) == (0.0, 0, 0.0)
    assert quality["started_ms"] is quality["ended_ms"] is None


def test_quarantined_rows_are_counted_by_reason():
    feed = Feed().snapshot().delta(price_bp=0).delta().delta(at_ms=1)
    feed.frames.append(b"{")
    quality = feed.quality
    assert quality["quarantined"] == {"after_gap": 2, "corrupt_line": 1, "price_out_of_range": 1}
    assert (quality["rows_in"], quality["applied"]) == (5, 1)
    assert quality["quality_score"] == 0.2


def test_rows_before_the_first_snapshot_are_counted_apart():
    quality = Feed().delta().snapshot().delta().quality
    assert (quality["before_snapshot"], quality["quarantined"], quality["rows_in"]) == (1, {}, 3)
    assert quality["quality_score"] == pytest.approx(2 / 3, abs=1e-4)


def test_trades_are_no_raw_rows_of_the_book():
    feed = Feed().snapshot()
    feed.frames.append(Frame("trade", 0, 1, 8, None, A, YES, 4_000, 100))
    quality = feed.quality
    assert (quality["rows_in"], quality["applied"], quality["trades"]) == (1, 1, 1)


def test_lost_numbers_lower_the_score():
    feed = Feed().snapshot().delta()
    feed.seq += 2
    feed.snapshot().delta()
    quality = feed.quality
    assert (quality["gaps"], quality["lost_messages"]) == (1, 2)
    assert quality["segments_ended_by"] == {"end_of_recording": 1, "gap": 1}
    assert quality["quality_score"] == pytest.approx(4 / 6, abs=1e-4)


def test_crossed_time_lowers_the_score():
    feed = Feed().snapshot().delta(price_bp=5_500).delta(at_ms=200).delta(-1, 500, 5_500)
    quality = feed.delta(at_ms=1_000).quality
    assert (quality["crossed_states"], quality["crossed_ms"], quality["trusted_s"]) == (2, 500, 1.0)
    assert quality["quality_score"] == 0.5


def test_drift_lowers_the_score():
    quality = Feed().snapshot().snapshot((YES, 4_000, 99), (NO, 5_000, 100)).quality
    assert quality["drifted_levels"] == 1
    assert quality["quality_score"] == pytest.approx(1 / (1 + 1 / 4), abs=1e-4)


def test_negative_sizes_are_named():
    quality = Feed().snapshot().delta(-101).quality
    assert (quality["negative_sizes"], quality["quarantined"]) == (1, {"negative_size": 1})


def test_durations_are_measured_and_idle_periods_found():
    feed = Feed(started_at="2000-01-01T00:00:00Z").snapshot(at_ms=5_000)
    feed.delta(at_ms=5_000 + IDLE_MS).delta(at_ms=5_001 + 2 * IDLE_MS)
    quality = feed.quality
    assert (quality["started_ms"], quality["ended_ms"]) == (5_000, 5_001 + 2 * IDLE_MS)
    assert quality["duration_s"] == 1_200.001
    assert (quality["idle_periods"], quality["idle_s"]) == (1, 600.001)
    assert quality["trusted_s"] == 1_200.001


def test_markets_are_those_that_were_seen():
    quality = Feed(market_tickers=[A, B, "KXC-26"]).snapshot().delta().snapshot(market=B).quality
    assert (quality["markets_subscribed"], quality["markets"]) == (3, 2)
    assert (quality["markets_with_updates"], quality["markets_declared"]) == (1, 0)


@pytest.mark.parametrize(
    ("declared", "share"),
    [(8, 1.0), (16, 0.5), (4, 0.5), (0, 0.0), (None, None), ("8", None), (True, None), (-8, None)],
)
def test_a_declared_counter_is_as_true_as_the_smaller_number_is_of_the_larger(declared, share):
    figures = {"snapshots": 0, "deltas": 8}
    found = declared_true({"declared_counters": {"deltas": declared, "snapshots": 0}}, figures)
    assert found == {"deltas": share, "snapshots": 1.0, "messages": None}


def test_a_session_that_declares_no_counter_has_none_to_be_true():
    figures = {"snapshots": 1, "deltas": 8}
    nothing = {"snapshots": None, "deltas": None, "messages": None}
    assert (
        declared_true({}, figures) == declared_true({"declared_counters": None}, figures) == nothing
    )


def test_the_figures_are_plain_json():
    for feed in (Feed(), Feed().snapshot().delta(-500).delta(at_ms=7), Feed("none").snapshot()):
        quality = feed.quality
        assert json.loads(json.dumps(quality)) == quality
