"""Frames are put in the order of their counters, and the counters say what is missing or wrong."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.integrity import SegmentEnd
from kalshi_pipeline.market.replay_tables import FRAME, FrameKind
from kalshi_pipeline.recordings import market_frames, replay_order
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.recordings.order_kernel import IDLE_BUCKET_MS, Batch
from kalshi_pipeline.recordings.replay_order import (
    MarketCodes,
    Survey,
    batch_columns,
    in_memory,
    survey,
)
from tests.oracle.replay import DAY_MS, Frame
from tests.random_sessions import Lines, books_of, ingested, random_session, wire_line

A, B = "KXA-26", "KXB-26"


def delta(seq: int | None, market: str = A, price_bp: int = 4_000, **parts) -> Frame:
    frame = Frame("delta", 1_000, 1, 7, seq, market, price_bp=price_bp, size_centi=100)
    return replace(frame, **parts)


def snapshot(seq: int | None, market: str = A, *levels: tuple[int, int, int], **parts) -> Frame:
    return replace(Frame("snapshot", 1_000, 1, 7, seq, market, levels=levels), **parts)


def recording(frames: list[Frame | bytes], sequence: str = "complete") -> Lines:
    lines = [frame if isinstance(frame, bytes) else wire_line(frame) for frame in frames]
    return Lines(lines, {"sequence": sequence})


class Ordered:
    """A recording surveyed, its frames (not levels) in replay order."""

    def __init__(self, source: Lines, batch_rows: int = 1 << 20, **settings) -> None:
        self.tables = ingested(source)
        self.found: Survey = survey(
            in_memory(self.tables.messages, batch_rows), self.tables.rejected, source.info,
            DAY_MS, **settings,
        )  # fmt: skip
        parts = [*self.found.batches(Batch._fields)]
        codes = MarketCodes(dict(self.found.codes))
        columns = [batch_columns(part, Batch._fields, codes) for part in parts]
        for name in Batch._fields:
            values = np.concatenate([np.zeros(0, int), *(part[name] for part in columns)])
            kinds = [np.zeros(0, int), *(part["kind"] for part in columns)]
            heads = np.concatenate(kinds) != MessageKind.LEVEL
            setattr(self, name, values[heads].tolist())
        self.gaps, self.lost, self.tickers = self.found.gaps, self.found.lost, self.found.tickers

    @property
    def flags(self) -> list[set[str]]:
        """What is held against each frame, or said before it."""
        names = {SegmentEnd.GAP: GAP, SegmentEnd.CLOCK_JUMP: JUMP, SegmentEnd.REJECTED_ROW: REFUSED}
        flags = {position: set() for position in self.frame}
        for position, subscription, why in self.found.accusations.tolist():
            place = min(p for p in flags if p >= position)
            lost = subscription < 0
            flags[place].add(LOST if lost else names[SegmentEnd(why)])
        for position, kind in self.found.marks.tolist():
            flags[position].add(SAME if kind == FrameKind.DUPLICATE else OTHER)
        return list(flags.values())


GAP, JUMP, LOST, REFUSED, SAME, OTHER = "gap", "jump", "lost", "refused", "duplicate", "conflict"


def ordered(frames: list[Frame | bytes], sequence: str = "complete", **settings) -> Ordered:
    return Ordered(recording(frames, sequence), **settings)


def test_the_order_is_that_of_the_counter_not_of_the_clock():
    session = ordered(
        [snapshot(1, recv_ms=9_000), delta(3, recv_ms=5), delta(4, recv_ms=1), delta(2, recv_ms=7)]
    )
    assert session.seq == [1, 2, 3, 4]
    assert session.recv_ms == [9_000, 7, 5, 1]
    assert session.found.frame_of.tolist() == [0, 3, 1, 2]
    assert (session.gaps, session.lost) == (0, 0)


def test_what_has_no_number_keeps_its_place():
    trade = Frame("trade", 1_000, 1, 8, None, A, 0, 4_000, 100)
    session = ordered([snapshot(1), delta(3), trade, delta(2), trade])
    kinds = [MessageKind(kind).name for kind in session.kind]
    assert kinds == ["SNAPSHOT", "DELTA", "TRADE", "DELTA", "TRADE"]
    assert session.seq == [1, 2, -1, 3, -1]


def test_connections_and_subscriptions_count_for_themselves():
    session = ordered(
        [
            snapshot(5), snapshot(1, B, sid=9), delta(6), delta(2, B, sid=9),
            snapshot(1, conn=2), delta(7), delta(2, conn=2),
        ]
    )  # fmt: skip
    assert session.found.subscriptions.tolist() == [[1, 7], [1, 9], [2, 7]]
    assert session.flags == [set()] * 7
    assert session.found.epochs == 2


def test_levels_travel_with_their_snapshot():
    levels = [(0, 4_000, 5), (1, 5_000, 6), (1, 5_100, 7)]
    session = ordered([delta(3), snapshot(2, B, *levels[1:]), snapshot(1, A, levels[0])])
    assert session.seq == [1, 2, 3]
    (part,) = market_frames.market_frames(session.found)
    assert part.begins.tolist() == [0, 3, 6]
    shown = part.frames[["position", "kind", "size_centi"]].tolist()
    level = FrameKind.LEVEL
    assert shown == [(0, 0, 0), (0, level, 5), (2, 1, 100), (1, 0, 0), (1, level, 6), (1, level, 7)]


def test_markets_are_numbered_in_the_order_of_their_names():
    session = ordered([snapshot(1, B), snapshot(2, A), delta(3, B)])
    assert session.tickers == (A, B)
    (part,) = market_frames.market_frames(session.found)
    assert part.frames["market"].tolist() == [0, 1, 1]


# what the counters say


def test_a_hole_is_a_gap_and_control_frames_fill_holes():
    control = Frame("other", 1_000, 1, 7, 3)
    session = ordered([snapshot(1), delta(2), control, delta(4), delta(8), delta(9)])
    assert session.flags == [set(), set(), set(), set(), {GAP}, set()]
    assert (session.gaps, session.lost) == (1, 3)


@pytest.mark.parametrize("sequence", ["shared", "none"])
def test_a_hole_in_a_shared_counter_proves_nothing(sequence):
    session = ordered([snapshot(1), delta(2), delta(8)], sequence)
    assert session.flags == [set()] * 3
    assert (session.gaps, session.lost) == (0, 0)


def test_the_counter_of_trades_is_not_looked_at():
    trades = [Frame("trade", 1_000, 1, 8, seq, A, 0, 4_000, 100) for seq in (1, 5, 5, 9)]
    assert ordered([snapshot(1), *trades]).flags == [set()] * 5


def test_a_number_seen_twice_is_a_duplicate_or_a_conflict():
    same, other, none = {SAME}, {OTHER}, set()
    assert ordered([snapshot(1), delta(2), delta(2), delta(3)]).flags == [none, none, same, none]
    assert ordered([snapshot(1), delta(2), delta(2), delta(2)]).flags == [none, none, same, same]
    wrong = [delta(2, price_bp=100), delta(2, size_centi=1), delta(2, side=1), delta(2, B),
             snapshot(2)]  # fmt: skip
    for frame in wrong:
        assert ordered([snapshot(1), delta(2), frame]).flags == [none, other, other]
    # wherever the odd one stands
    for place in range(3):
        three = [delta(2)] * 3
        three[place] = delta(2, price_bp=100)
        assert ordered([snapshot(1), *three]).flags == [none, other, other, other]


def test_snapshots_are_compared_level_by_level():
    one, two = snapshot(2, A, (0, 4_000, 5)), snapshot(2, A, (0, 4_000, 6))
    assert ordered([one, replace(one, recv_ms=5)]).flags[1] == {SAME}
    assert ordered([one, two]).flags == [{OTHER}] * 2
    assert ordered([one, snapshot(2, A)]).flags == [{OTHER}] * 2


def test_a_gap_before_a_conflict_is_still_a_gap():
    session = ordered([snapshot(1), delta(5), delta(5, price_bp=100)])
    assert session.flags[1] == {GAP, OTHER}
    assert session.gaps == 1


def test_a_refused_frame_fills_its_place_in_the_counter():
    refused = delta(2, price_bp=0)
    session = ordered([snapshot(1), refused, delta(3)])
    assert session.gaps == 0
    assert session.kind == [MessageKind.SNAPSHOT, MessageKind.REJECTED, MessageKind.DELTA]


def test_an_unreadable_line_is_a_loss_where_no_counter_would_miss_it():
    for sequence, expected in (("shared", {LOST}), ("complete", set()), ("none", set())):
        session = ordered([snapshot(1), b"{", delta(2), delta(3)], sequence)
        assert session.flags == [set(), expected, set()]
    assert ordered([snapshot(1), delta(2), b"{"], "shared").flags == [set()] * 2
    without_sid = wire_line(replace(delta(2), sid=None))
    assert LOST in ordered([snapshot(1), without_sid, delta(3)], "shared").flags[-1]


def test_a_clock_that_jumps_a_day_is_marked_in_its_subscription():
    late = 1_000 + DAY_MS + 1
    session = ordered(
        [
            snapshot(1), delta(2, recv_ms=1_000 + DAY_MS), delta(3, recv_ms=1_000),
            delta(4, recv_ms=late), snapshot(1, conn=2, recv_ms=1_000), delta(5, recv_ms=0),
        ]
    )  # fmt: skip
    assert session.flags == [set(), set(), set(), {JUMP}, set(), {JUMP}]


def test_a_continuous_reading_counts_losses_and_holds_them_against_nobody():
    frames = [snapshot(1), delta(5, price_bp=100), delta(6)]
    session = ordered(frames, continuous=True)
    assert session.flags == [set()] * 3
    assert (session.gaps, session.lost) == (1, 3)
    assert ordered([snapshot(1), b"{", delta(2)], "shared", continuous=True).flags == [set()] * 2


def test_the_times_of_a_session_are_remembered_as_intervals():
    apart = IDLE_BUCKET_MS
    times = [5 * apart + 3, 5 * apart + 1, 9 * apart, 5 * apart + 2]
    session = ordered([delta(n + 1, recv_ms=at) for n, at in enumerate(times)])
    assert session.found.times.tolist() == [[5 * apart + 1, 5 * apart + 3], [9 * apart, 9 * apart]]


def test_a_session_too_large_to_be_put_in_order_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(replay_order, "MAX_REORDERED_ROWS", 2)
    assert ordered([snapshot(1), delta(2), delta(3)]).seq == [1, 2, 3]
    with pytest.raises(RecordingError, match="3 rows; up to 2") as refused:
        ordered([snapshot(1), delta(3), delta(2)])
    assert (refused.value.rule, refused.value.value) == ("replay_order", 3)


def test_a_market_too_large_to_be_sorted_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(market_frames, "MAX_MARKET_RECORDS", 2)
    session = ordered([snapshot(1), delta(2), delta(3, B), delta(4)])
    with pytest.raises(RecordingError, match="3 frames") as refused:
        next(market_frames.market_frames(session.found))
    assert (refused.value.market, refused.value.rule) == (A, "market_records")


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_neither_batches_nor_groups_change_what_is_replayed(seed, batch_rows, group_records):
    random = Random(seed)
    steps = [random.getrandbits(32) for _ in range(60)]
    source = random_session(steps, random.choice(["complete", "shared"]), seed).recording
    whole, parts = Ordered(source), Ordered(source, batch_rows)
    for name in ("accusations", "marks", "subscriptions", "times"):
        assert getattr(whole.found, name).tolist() == getattr(parts.found, name).tolist()
    assert (whole.gaps, whole.lost, whole.tickers) == (parts.gaps, parts.lost, parts.tickers)
    (at_once,) = market_frames.market_frames(whole.found)
    groups = [*market_frames.market_frames(parts.found, group_records=group_records)]
    together = np.concatenate([group.frames for group in groups])
    assert together.dtype == FRAME
    assert np.array_equal(together, at_once.frames)
    begins = [group.frames["market"][group.begins[:-1]] for group in groups]
    assert np.concatenate(begins).tolist() == list(range(len(whole.tickers)))


def test_the_tick_of_a_market_without_metadata_is_the_finest_it_showed():
    session = ordered([snapshot(1, A, (0, 4_000, 5)), delta(2, B, 4_010), delta(3, B, 4_001),
                       snapshot(4, "KXC-26", (1, 4_010, 5)), delta(5, A)])  # fmt: skip
    assert session.tickers == (A, B, "KXC-26")
    assert session.found.observed_step_bp().tolist() == [100, 1, 10]


def test_an_empty_session_has_no_frames():
    session = ordered([])
    assert (session.tickers, session.found.epochs, session.gaps) == ((), 0, 0)
    only_control = ordered([Frame("other", 1_000, 1, 7, 1)])
    assert (only_control.tickers, only_control.found.epochs) == ((), 1)
    for found in (session.found, only_control.found):
        (part,) = market_frames.market_frames(found)
        assert (len(part.frames), part.begins.tolist()) == (0, [0])


def without_origin(table):
    return table.drop_columns(["frame", "recv_ms", "time_ms"])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_arrival_out_of_order_gives_the_books_of_the_sorted_feed(seed):
    random = Random(seed)
    steps = [random.getrandbits(32) for _ in range(60)]
    session = random_session(steps, "complete", seed)
    counted = [f for f in session.frames if f.kind in ("snapshot", "delta", "other") and f.seq
               and not f.rejected and f.conn == 1]  # fmt: skip
    feed = [replace(f, recv_ms=1_000) for f in counted]
    feed.sort(key=lambda f: f.seq or 0)
    shuffled = [*feed]
    random.shuffle(shuffled)
    # frames of one number stay in the order in which they came
    position = {id(f): place for place, f in enumerate(feed)}
    for number in {f.seq for f in feed}:
        places = [place for place, f in enumerate(shuffled) if f.seq == number]
        same = sorted((shuffled[place] for place in places), key=lambda f: position[id(f)])
        for place, frame in zip(places, same, strict=True):
            shuffled[place] = frame
    one, other = books_of(recording(feed)), books_of(recording(shuffled))
    assert without_origin(one.rows).equals(without_origin(other.rows))
    assert one.segments.equals(other.segments)
    assert one.quality == other.quality


def test_ranges_of_levels_need_not_be_contiguous():
    rows = [snapshot(seq, A, *((0, 100 * n, seq) for n in range(1, seq))) for seq in (5, 2, 9, 1)]
    (part,) = market_frames.market_frames(ordered(rows, "shared").found)
    levels = part.frames[part.frames["kind"] == FrameKind.LEVEL]
    assert levels["size_centi"].tolist() == [2] + [5] * 4 + [9] * 8
    assert levels["position"].tolist() == [1] + [2] * 4 + [3] * 8
