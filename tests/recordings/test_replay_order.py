"""Frames are put in the order of their counters, and the counters say what is missing or wrong."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.market.replay_tables import FrameFlag, FrameKind
from kalshi_pipeline.recordings.replay_order import SessionFrames, frames_of
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


def ordered(frames: list[Frame | bytes], sequence: str = "complete") -> SessionFrames:
    source = recording(frames, sequence)
    tables = ingested(source)
    return frames_of(tables.messages, tables.rejected, source.info, DAY_MS)


def flags(session: SessionFrames) -> list[FrameFlag]:
    return [FrameFlag(int(flag)) for flag in session.frames.flag]


def test_the_order_is_that_of_the_counter_not_of_the_clock():
    session = ordered(
        [snapshot(1, recv_ms=9_000), delta(3, recv_ms=5), delta(4, recv_ms=1), delta(2, recv_ms=7)]
    )
    assert session.seq.tolist() == [1, 2, 3, 4]
    assert session.frames.time_ms.tolist() == [9_000, 7, 5, 1]
    assert session.frame.tolist() == [0, 3, 1, 2]
    assert (session.gaps, session.lost) == (0, 0)


def test_what_has_no_number_keeps_its_place():
    trade = Frame("trade", 1_000, 1, 8, None, A, 0, 4_000, 100)
    session = ordered([snapshot(1), delta(3), trade, delta(2), trade])
    kinds = [FrameKind(int(kind)).name for kind in session.frames.kind]
    assert kinds == ["SNAPSHOT", "DELTA", "TRADE", "DELTA", "TRADE"]
    assert session.seq.tolist() == [1, 2, -1, 3, -1]


def test_connections_and_subscriptions_count_for_themselves():
    session = ordered(
        [
            snapshot(5), snapshot(1, B, sid=9), delta(6), delta(2, B, sid=9),
            snapshot(1, conn=2), delta(7), delta(2, conn=2),
        ]
    )  # fmt: skip
    assert session.frames.subscription.tolist() == [0, 1, 0, 1, 2, 0, 2]
    assert set(flags(session)) == {FrameFlag.NONE}
    assert session.epochs == 2


def test_levels_travel_with_their_snapshot():
    levels = [(0, 4_000, 5), (1, 5_000, 6), (1, 5_100, 7)]
    session = ordered([delta(3), snapshot(2, B, *levels[1:]), snapshot(1, A, levels[0])])
    frames = session.frames
    assert session.seq.tolist() == [1, 2, 3]
    assert frames.first_level.tolist() == [0, 1, 3, 3]
    assert frames.level_size_centi.tolist() == [5, 6, 7]


def test_markets_are_numbered_in_the_order_of_their_names():
    session = ordered([snapshot(1, B), snapshot(2, A), delta(3, B)])
    assert session.tickers == (A, B)
    assert session.frames.market.tolist() == [1, 0, 1]


# what the counters say


def test_a_hole_is_a_gap_and_control_frames_fill_holes():
    control = Frame("other", 1_000, 1, 7, 3)
    session = ordered([snapshot(1), delta(2), control, delta(4), delta(8), delta(9)])
    assert flags(session) == [FrameFlag.NONE] * 4 + [FrameFlag.GAP_BEFORE, FrameFlag.NONE]
    assert (session.gaps, session.lost) == (1, 3)


@pytest.mark.parametrize("sequence", ["shared", "none"])
def test_a_hole_in_a_shared_counter_proves_nothing(sequence):
    session = ordered([snapshot(1), delta(2), delta(8)], sequence)
    assert set(flags(session)) == {FrameFlag.NONE}
    assert (session.gaps, session.lost) == (0, 0)


def test_the_counter_of_trades_is_not_looked_at():
    trades = [Frame("trade", 1_000, 1, 8, seq, A, 0, 4_000, 100) for seq in (1, 5, 5, 9)]
    session = ordered([snapshot(1), *trades])
    assert set(flags(session)) == {FrameFlag.NONE}


def test_a_number_seen_twice_is_a_duplicate_or_a_conflict():
    same, other = FrameFlag.DUPLICATE, FrameFlag.CONFLICT
    none = FrameFlag.NONE
    assert flags(ordered([snapshot(1), delta(2), delta(2), delta(3)])) == [none, none, same, none]
    assert flags(ordered([snapshot(1), delta(2), delta(2), delta(2)])) == [none, none, same, same]
    wrong = [delta(2, price_bp=100), delta(2, size_centi=1), delta(2, side=1), delta(2, B),
             snapshot(2)]  # fmt: skip
    for frame in wrong:
        assert flags(ordered([snapshot(1), delta(2), frame])) == [none, other, other]
    # wherever the odd one stands
    for place in range(3):
        three = [delta(2)] * 3
        three[place] = delta(2, price_bp=100)
        assert flags(ordered([snapshot(1), *three])) == [none, other, other, other]


def test_snapshots_are_compared_level_by_level():
    one, two = snapshot(2, A, (0, 4_000, 5)), snapshot(2, A, (0, 4_000, 6))
    assert flags(ordered([one, replace(one, recv_ms=5)]))[1] == FrameFlag.DUPLICATE
    assert flags(ordered([one, two])) == [FrameFlag.CONFLICT] * 2
    assert flags(ordered([one, snapshot(2, A)])) == [FrameFlag.CONFLICT] * 2


def test_a_gap_before_a_conflict_is_still_a_gap():
    session = ordered([snapshot(1), delta(5), delta(5, price_bp=100)])
    assert flags(session)[1] == FrameFlag.GAP_BEFORE | FrameFlag.CONFLICT
    assert session.gaps == 1


def test_a_refused_frame_fills_its_place_in_the_counter():
    refused = delta(2, price_bp=0)
    session = ordered([snapshot(1), refused, delta(3)])
    assert session.gaps == 0
    assert session.frames.kind.tolist() == [
        FrameKind.SNAPSHOT, FrameKind.REJECTED, FrameKind.DELTA,
    ]  # fmt: skip


def test_an_unreadable_line_is_a_loss_where_no_counter_would_miss_it():
    for sequence, expected in (("shared", FrameFlag.LINE_LOST), ("complete", FrameFlag.NONE),
                               ("none", FrameFlag.NONE)):  # fmt: skip
        session = ordered([snapshot(1), b"{", delta(2), delta(3)], sequence)
        assert flags(session) == [FrameFlag.NONE, expected, FrameFlag.NONE]
    assert set(flags(ordered([snapshot(1), delta(2), b"{"], "shared"))) == {FrameFlag.NONE}
    without_sid = wire_line(replace(delta(2), sid=None))
    assert flags(ordered([snapshot(1), without_sid, delta(3)], "shared"))[-1] == FrameFlag.LINE_LOST


def test_a_clock_that_jumps_a_day_is_marked_in_its_subscription():
    late = 1_000 + DAY_MS + 1
    session = ordered(
        [
            snapshot(1), delta(2, recv_ms=1_000 + DAY_MS), delta(3, recv_ms=1_000),
            delta(4, recv_ms=late), snapshot(1, conn=2, recv_ms=1_000), delta(5, recv_ms=0),
        ]
    )  # fmt: skip
    none, jump = FrameFlag.NONE, FrameFlag.CLOCK_JUMP
    assert flags(session) == [none, none, none, jump, none, jump]


def test_the_tick_of_a_market_without_metadata_is_the_finest_it_showed():
    session = ordered([snapshot(1, A, (0, 4_000, 5)), delta(2, B, 4_010), delta(3, B, 4_001),
                       snapshot(4, "KXC-26", (1, 4_010, 5)), delta(5, A)])  # fmt: skip
    assert session.tickers == (A, B, "KXC-26")
    assert session.observed_step_bp().tolist() == [100, 1, 10]


def test_an_empty_session_has_no_frames():
    session = ordered([])
    assert (session.tickers, session.epochs, session.gaps) == ((), 0, 0)
    assert session.frames.first_level.tolist() == [0]
    only_control = ordered([Frame("other", 1_000, 1, 7, 1)])
    assert only_control.frames.kind.tolist() == [FrameKind.OTHER]


def without_origin(table):
    return table.drop_columns(["frame", "recv_ms", "time_ms"])


@settings(max_examples=40, deadline=None)
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
    frames = ordered(rows, "shared").frames
    sizes = [
        frames.level_size_centi[a:b].tolist()
        for a, b in zip(frames.first_level, frames.first_level[1:], strict=False)
    ]
    assert sizes == [[], [2], [5] * 4, [9] * 8]
    assert np.all(np.diff(frames.first_level) == [0, 1, 4, 8])
