"""The compiled replay on frames made by hand: every column, every way a book can end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books.markets import Market as KnownMarket
from kalshi_pipeline.books.markets import market_columns, valid_places
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.integrity import Reason, SegmentEnd
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.prices import TickGrid, uniform_grid
from kalshi_pipeline.market.replay_state import STATE_WIDTH
from kalshi_pipeline.market.replay_tables import (
    FRAME,
    Counters,
    FrameKind,
    LadderColumn,
    RefusedColumn,
    RowKind,
    Rules,
    SegmentColumn,
    output_buffers,
)
from tests.oracle.book import NO, YES, DictBook

K = 1_000  # centi: ten contracts
GAP, JUMP, LOST = "gap", "jump", "lost"  # what is said against the subscription before a frame


class Replayed:
    """Frames of two markets in the order of the session, replayed market by market."""

    def __init__(
        self,
        frames: list[dict[str, Any]],
        grid: TickGrid | None = None,
        *,
        close_ms: int | None = None,
        last_book: int | None = None,
        room: int = 64,
        **rules: Any,
    ) -> None:
        apart = {"polls", "touch_only"}
        config = BookConfig(**{name: rules.pop(name) for name in [*rules] if name not in apart})
        known = KnownMarket("KXA-26", "KXA", grid or uniform_grid(100), close_ms, None)
        markets = [known, known]
        records, begins = records_of(frames)
        self.given = frames
        self.counters = np.zeros(len(Counters), np.int64)
        self.rows: dict[str, list[int]] = {}
        self.filled: list[int] = []  # rows of each buffer
        self.segments, self.ladders, self.refused = [], [], []
        ladder = np.zeros(2 * known.grid.levels, np.int64)
        state, out = np.zeros(STATE_WIDTH, np.int64), output_buffers(room, known.grid.levels)
        while self.counters[Counters.MARKET] < 2:
            replay(
                records, begins,
                market_columns(markets, config.near_bp, [close_ms] * 2, [last_book] * 2),
                valid_places(markets),
                Rules(config.cost_size_centi, config.crossed_tolerance_ms,
                      config.crossed_tolerance_messages, config.ladder_every,
                      rules.get("polls", False), config.clock_back_ms,
                      rules.get("touch_only", False)),
                accusations_of(frames), state, ladder, out, self.counters,
            )  # fmt: skip
            self._empty(out, records)

    def _empty(self, out: Any, records: Any) -> None:
        count = {name: int(self.counters[Counters[name]]) for name in
                 ("ROWS", "SEGMENTS", "LADDER_LEVELS", "REFUSED")}  # fmt: skip
        self.filled.append(count["ROWS"])
        for name, values in out.rows(count["ROWS"]).items():
            self.rows.setdefault(name, []).extend(values.tolist())
        self.segments += out.segments[: count["SEGMENTS"]].tolist()
        self.ladders += out.ladders[: count["LADDER_LEVELS"]].tolist()
        for refused in out.refused[: count["REFUSED"]]:
            frame = records[refused[RefusedColumn.FRAME]]
            self.refused.append((int(frame["position"]), int(refused[RefusedColumn.REASON])))
        self.counters[Counters.ROW_BASE] += count["ROWS"]
        for name in count:
            self.counters[Counters[name]] = 0

    @property
    def reasons(self) -> list[str]:
        """What became of each frame given."""
        applied, refused = {*self.rows["position"]}, dict(self.refused)
        return [
            "applied" if place in applied
            else Reason(refused[place]).name.lower() if place in refused
            else "before_snapshot" if frame["kind"] in (FrameKind.SNAPSHOT, FrameKind.DELTA)
            else "none"
            for place, frame in enumerate(self.given)
        ]  # fmt: skip

    @property
    def ends(self) -> list[str]:
        return [SegmentEnd(s[SegmentColumn.ENDED_BY]).name.lower() for s in self.segments]

    def row(self, place: int = -1) -> dict[str, int]:
        return {name: values[place] for name, values in self.rows.items()}


def records_of(frames: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Frame records market by market, and where each market's begin."""
    rows: list[list[tuple]] = [[], []]
    for place, frame in enumerate(frames):
        market = frame.get("market", 0)
        if market < 0 or frame["kind"] == FrameKind.OTHER:
            continue
        head = {"position": place, "seq": -1, "exchange_ms": -1, **frame, "market": market}
        levels = [
            {**head, "kind": FrameKind.LEVEL, "side": side, "price_bp": price, "size_centi": size}
            for side, price, size in frame.get("levels", ())
        ]
        if frame.get("mark") is not None:
            head["kind"] = frame["mark"]
        rows[market] += [tuple(r.get(name, 0) for name in FRAME.names) for r in (head, *levels)]
    begins = np.array([0, len(rows[0]), len(rows[0]) + len(rows[1])], np.int64)
    return np.array(rows[0] + rows[1], FRAME), begins


def accusations_of(frames: list[dict[str, Any]]) -> Any:
    """What the frames' `said` and those of nobody knows which market hold against all."""
    found = []
    for place, frame in enumerate(frames):
        subscription = frame.get("subscription", 0)
        if said := frame.get("said"):
            why = SegmentEnd.CLOCK_JUMP if said == JUMP else SegmentEnd.GAP
            found.append((place, -1 if said == LOST else subscription, why))
        if frame["kind"] == FrameKind.REJECTED and frame.get("market", 0) < 0:
            found.append((place, subscription, SegmentEnd.REJECTED_ROW))
    return np.array(found, np.int64).reshape(-1, 3)


def snapshot(*levels: tuple[int, int, int], **frame: Any) -> dict[str, Any]:
    return {"kind": FrameKind.SNAPSHOT, "levels": list(levels)} | frame


def delta(side: int, price_bp: int, size_centi: int, **frame: Any) -> dict[str, Any]:
    parts = {"side": side, "price_bp": price_bp, "size_centi": size_centi}
    return {"kind": FrameKind.DELTA} | parts | frame


def trade(**frame: Any) -> dict[str, Any]:
    parts = {"side": YES, "price_bp": 4_500, "size_centi": 100}
    return {"kind": FrameKind.TRADE} | parts | frame


BOOK = (
    (YES, 4_000, 300), (YES, 3_900, 200), (YES, 3_400, 50), (YES, 100, 10_000),
    (NO, 5_500, 600), (NO, 5_000, 500), (NO, 4_900, 70),
)  # fmt: skip


def test_a_snapshot_becomes_touch_depth_and_cost():
    row = Replayed([snapshot(*BOOK)]).row()
    assert (row["bid_bp"], row["bid_size_centi"], row["bid_second_bp"]) == (4_000, 300, 3_900)
    assert (row["ask_bp"], row["ask_size_centi"], row["ask_second_bp"]) == (4_500, 600, 5_000)
    # within five cents of the touch, the fifth included
    assert (row["bid_near_centi"], row["ask_near_centi"]) == (500, 1_100)
    assert (row["bid_total_centi"], row["ask_total_centi"]) == (10_550, 1_170)
    assert (row["bid_levels"], row["ask_levels"]) == (4, 3)
    assert row["buy_cost_micro"] == 600 * 4_500 + 400 * 5_000
    assert row["sell_value_micro"] == 300 * 4_000 + 200 * 3_900 + 50 * 3_400 + 450 * 100


def test_one_side_may_be_empty_and_no_price_is_made_up():
    bids = Replayed([snapshot(BOOK[0])]).row()
    assert (bids["bid_bp"], bids["ask_bp"], bids["ask_size_centi"]) == (4_000, 10_000, 0)
    assert (bids["ask_second_bp"], bids["ask_levels"]) == (10_000, 0)
    # what finds no offer costs a dollar, what finds no bid is worth nothing
    assert bids["buy_cost_micro"] == K * 10_000
    assert bids["sell_value_micro"] == 300 * 4_000
    nothing = Replayed([snapshot()]).row()
    assert nothing["kind"] == RowKind.SNAPSHOT
    assert (nothing["bid_bp"], nothing["ask_bp"]) == (0, 10_000)
    assert nothing["bid_near_centi"] == nothing["ask_near_centi"] == 0


def test_deltas_add_remove_and_move_the_touch():
    run = Replayed(
        [
            snapshot(*BOOK),
            delta(YES, 4_100, 1),
            delta(YES, 4_100, -1),
            delta(YES, 4_000, -300),
            delta(YES, 4_000, 0),
            delta(NO, 5_500, 25),
        ]
    )
    assert run.rows["bid_bp"] == [4_000, 4_100, 4_000, 3_900, 3_900, 3_900]
    assert run.rows["bid_size_centi"] == [300, 1, 300, 200, 200, 200]
    assert run.rows["bid_levels"] == [4, 5, 4, 3, 3, 3]
    assert run.rows["ask_size_centi"][-1] == 625
    assert run.reasons == ["applied"] * 6


@pytest.mark.parametrize("step_bp", [100, 10, 1])
def test_the_lowest_and_the_highest_price_of_every_grid_are_levels(step_bp):
    last = 10_000 - step_bp
    run = Replayed(
        [
            snapshot((YES, step_bp, 5)),
            delta(YES, last, 7),
            delta(YES, last, -7),
            delta(YES, step_bp, -5),
            delta(NO, step_bp, 3),
        ],
        uniform_grid(step_bp),
    )
    assert run.rows["bid_bp"] == [step_bp, last, step_bp, 0, 0]
    assert run.rows["ask_bp"] == [10_000] * 4 + [last]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([YES, NO]), st.integers(1, 99), st.integers(-40, 60)), max_size=60
    )
)
def test_any_run_of_deltas_equals_two_dictionaries(changes):
    book, frames, expected = DictBook(), [snapshot()], []
    for side, cents, size in changes:
        size = max(size, -book.ladders[side].get(cents * 100, 0))
        book.apply_delta(side, cents * 100, size)
        frames.append(delta(side, cents * 100, size))
        expected.append((book.best_bid_bp, book.best_ask_bp, book.bid_size_centi,
                         book.ask_size_centi, book.total_centi(YES), book.total_centi(NO),
                         *(book.depth_within_centi(side, 500) for side in (YES, NO))))  # fmt: skip
    rows = Replayed(frames).rows
    names = ("bid_bp", "ask_bp", "bid_size_centi", "ask_size_centi", "bid_total_centi",
             "ask_total_centi", "bid_near_centi", "ask_near_centi")  # fmt: skip
    assert [*zip(*(rows[name][1:] for name in names), strict=True)] == expected


def test_a_size_that_would_be_negative_ends_the_segment_and_is_not_clamped():
    run = Replayed([snapshot(*BOOK), delta(YES, 4_000, -301), delta(YES, 4_000, 1)])
    assert run.reasons == ["applied", "negative_size", "after_gap"]
    assert run.ends == ["negative_size"]


def test_a_price_between_the_ticks_ends_the_segment():
    run = Replayed([snapshot(*BOOK), delta(YES, 4_050, 1), delta(YES, 4_000, 1)])
    assert run.reasons == ["applied", "price_off_tick", "after_gap"]
    run = Replayed([snapshot((NO, 4_050, 1)), delta(NO, 4_000, 1)])
    assert run.reasons == ["price_off_tick", "before_snapshot"]


def test_before_its_first_snapshot_a_market_has_no_book():
    run = Replayed([delta(YES, 4_000, 1), trade(), snapshot(), trade()])
    assert run.reasons == ["before_snapshot", "none", "applied", "applied"]
    assert run.rows["segment"] == [0, 0]


def test_a_gap_accuses_every_market_of_the_subscription_and_no_other():
    run = Replayed(
        [
            snapshot(market=0, subscription=0),
            snapshot(market=1, subscription=1),
            {
                "kind": FrameKind.OTHER,
                "market": -1,
                "subscription": 0,
                "said": GAP,
            },
            delta(YES, 4_000, 1, market=0, subscription=0),
            delta(YES, 4_000, 1, market=1, subscription=1),
        ]
    )
    assert run.reasons == ["applied", "applied", "none", "after_gap", "applied"]
    assert run.ends == ["gap", "end_of_recording"]


def test_a_lost_line_accuses_everybody():
    run = Replayed(
        [
            snapshot(market=0, subscription=0),
            snapshot(market=1, subscription=1),
            delta(YES, 4_000, 1, market=1, subscription=1, said=LOST),
        ]
    )
    assert run.reasons == ["applied", "applied", "after_gap"]
    assert run.ends == ["gap", "gap"]


def test_a_gap_is_seen_even_before_a_repeated_number():
    conflict = FrameKind.CONFLICT
    run = Replayed(
        [
            snapshot(market=0),
            snapshot(market=1),
            delta(YES, 4_000, 1, said=GAP, mark=conflict),
            delta(YES, 4_000, 2, mark=FrameKind.CONFLICT),
            delta(YES, 4_000, 1, market=1),
        ]
    )
    assert run.reasons == ["applied", "applied", "conflict", "conflict", "after_gap"]
    assert run.ends == ["gap", "gap"]


def test_a_repeated_frame_changes_nothing():
    run = Replayed(
        [
            snapshot(*BOOK),
            delta(YES, 4_000, 5),
            delta(YES, 4_000, 5, mark=FrameKind.DUPLICATE),
            delta(YES, 4_000, 1),
        ]
    )
    assert run.reasons == ["applied", "applied", "duplicate", "applied"]
    assert run.row()["bid_size_centi"] == 306


def test_a_number_with_two_contents_ends_the_segment():
    conflict = FrameKind.CONFLICT
    run = Replayed(
        [snapshot(*BOOK), delta(YES, 4_000, 5, mark=conflict), delta(YES, 4_000, 6, mark=conflict)]
    )
    assert run.reasons == ["applied", "conflict", "conflict"]
    assert run.ends == ["conflict"]


def test_a_stale_conflict_does_not_touch_the_new_book():
    run = Replayed(
        [
            snapshot(*BOOK),
            snapshot(*BOOK, subscription=1),
            delta(YES, 4_000, 5, mark=FrameKind.CONFLICT),
            delta(YES, 4_000, 5, subscription=1),
        ]
    )
    assert run.reasons == ["applied", "applied", "stale_epoch", "applied"]
    assert run.ends == ["new_epoch", "end_of_recording"]


def test_a_new_connection_must_show_the_book_before_it_changes_it():
    run = Replayed(
        [
            snapshot(*BOOK),
            delta(YES, 4_000, 5, subscription=1),
            delta(YES, 4_000, 5),
            snapshot(*BOOK, subscription=1),
            delta(YES, 4_000, 5, subscription=1),
        ]
    )
    assert run.reasons == ["applied", "before_snapshot", "stale_epoch", "applied", "applied"]
    assert run.ends == ["new_epoch", "end_of_recording"]
    assert run.row()["bid_size_centi"] == 305


def test_a_refused_frame_ends_the_segment_unless_it_is_stale():
    refused = {"kind": FrameKind.REJECTED, "subscription": 1}
    run = Replayed([snapshot(subscription=1), refused, delta(YES, 4_000, 1, subscription=1)])
    assert run.reasons == ["applied", "none", "after_gap"]
    assert run.ends == ["rejected_row"]
    assert Replayed([snapshot(subscription=2), refused]).ends == ["end_of_recording"]
    assert Replayed([snapshot(subscription=0), refused]).ends == ["rejected_row"]


def test_a_refused_frame_of_nobody_knows_which_market_ends_them_all():
    nobody = {"kind": FrameKind.REJECTED, "market": -1, "subscription": 0}
    run = Replayed([snapshot(market=0), snapshot(market=1, subscription=1), nobody])
    assert run.ends == ["rejected_row", "end_of_recording"]


def test_a_snapshot_that_agrees_goes_on_and_one_that_does_not_is_drift():
    other = ((YES, 4_000, 301), *BOOK[1:-1], (NO, 4_800, 1))  # one size, one gone, one new
    run = Replayed([snapshot(*BOOK), snapshot(*BOOK), snapshot(*other), delta(YES, 4_000, 1)])
    assert run.reasons == ["applied"] * 4
    assert run.ends == ["drift", "end_of_recording"]
    assert run.counters[Counters.DRIFTED_LEVELS] == 3
    assert run.row()["bid_size_centi"] == 302


def test_polls_may_differ():
    run = Replayed([snapshot(*BOOK), snapshot(BOOK[0]), snapshot()], polls=True)
    assert run.ends == ["end_of_recording"]
    assert run.counters[Counters.DRIFTED_LEVELS] == 0
    assert run.rows["bid_levels"] == [4, 1, 0]


def crossed(times: list[int], **last: Any) -> list[dict[str, Any]]:
    """A book crossed by the first delta, and a delta at each time after."""
    frames = [snapshot((YES, 4_000, 1), (NO, 5_900, 1), time_ms=times[0])]
    first, *others = times
    frames.append(delta(YES, 4_200, 1, time_ms=first))
    frames += [delta(YES, 1_000, 1, time_ms=time_ms) for time_ms in others]
    return frames


def test_a_crossed_book_is_borne_for_a_second_or_five_messages():
    for times in ([0, 0, 0, 0, 0, 0, 999], [0, 1, 2, 3, 4, 5, 1_000], [0, 500, 600, 700, 9_000]):
        run = Replayed(crossed(times))
        assert run.reasons == ["applied"] * len(run.given), times
        assert run.ends == ["end_of_recording"]


def test_a_crossed_book_that_lasts_ends_the_segment():
    run = Replayed([*crossed([0, 1, 2, 3, 4, 1_001]), delta(YES, 4_200, -1, time_ms=1_002)])
    assert run.reasons == ["applied"] * 6 + ["crossed", "after_gap"]
    assert run.ends == ["crossed"]
    assert run.counters[Counters.CROSSED_STATES] == 6
    assert run.counters[Counters.CROSSED_MS] == 1_001


def test_a_cross_that_clears_is_counted_and_forgotten():
    frames = [*crossed([0, 400, 800]), delta(YES, 4_200, -1, time_ms=900)]
    frames += [f | {"time_ms": f.get("time_ms", 0) + 900} for f in crossed([0, 400, 800])[1:]]
    run = Replayed(frames)
    assert set(run.reasons) == {"applied"}
    assert run.counters[Counters.CROSSED_MS] == 900 + 800


def test_a_locked_book_is_legal():
    run = Replayed([snapshot((YES, 4_000, 1), (NO, 6_000, 1), time_ms=t * 1_000) for t in range(9)])
    assert set(run.reasons) == {"applied"}
    assert run.counters[Counters.CROSSED_STATES] == 0


def test_the_clock_never_runs_backward_inside_a_segment():
    times = [1_000, 3_000, 2_000, 1_999, 3_000, 3_500]
    run = Replayed([snapshot(time_ms=500), *(delta(YES, 4_000, 1, time_ms=t) for t in times)])
    assert run.rows["time_ms"] == [500, 1_000, 3_000, 3_000, 3_000, 3_000, 3_500]
    assert run.counters[Counters.CLOCK_BACK] == 1


def test_a_jump_of_the_clock_ends_the_segments_of_the_subscription():
    run = Replayed([snapshot(), snapshot(market=1), delta(YES, 4_000, 1, said=JUMP), snapshot()])
    assert run.reasons == ["applied", "applied", "after_gap", "applied"]
    assert run.ends == ["clock_jump", "end_of_recording", "clock_jump"]  # market by market


def test_an_empty_snapshot_after_the_close_is_the_end():
    run = Replayed(
        [
            snapshot(*BOOK, time_ms=1),
            snapshot(time_ms=100),
            delta(YES, 4_000, 1, time_ms=101),
            snapshot(time_ms=102),
            trade(time_ms=103),
        ],
        close_ms=100,
    )
    assert run.reasons == ["applied", "applied", "after_close", "applied", "none"]
    assert run.ends == ["market_closed"]
    closing = run.row(1)
    assert (closing["kind"], closing["segment"], closing["time_ms"]) == (RowKind.CLOSE, 0, 100)
    assert (closing["bid_bp"], closing["ask_bp"]) == (0, 10_000)
    again = run.row(2)
    assert (again["kind"], again["segment"], again["time_ms"]) == (RowKind.CLOSE, -1, 102)
    assert run.counters[Counters.DRIFTED_LEVELS] == 0


def test_before_the_close_an_empty_snapshot_is_a_book():
    run = Replayed([snapshot(*BOOK, time_ms=1), snapshot(time_ms=99)], close_ms=100)
    assert run.ends == ["drift", "end_of_recording"]
    assert Replayed([snapshot(*BOOK), snapshot(time_ms=10**15)]).ends == [
        "drift",
        "end_of_recording",
    ]


def test_the_clock_of_the_exchange_may_know_better_that_a_market_has_closed():
    run = Replayed(
        [snapshot(*BOOK), delta(YES, 4_000, 1, exchange_ms=101), snapshot(time_ms=60)], close_ms=100
    )
    assert run.ends == ["market_closed"]


def test_a_closing_snapshot_of_the_next_connection_closes_the_segment():
    run = Replayed([snapshot(*BOOK), snapshot(time_ms=100, subscription=1)], close_ms=100)
    assert run.ends == ["market_closed"]


def test_full_ladders_are_kept_at_snapshots_and_every_so_often():
    changes = [delta(YES, 4_000, 1) for _ in range(7)]
    run = Replayed([snapshot(BOOK[0]), *changes[:3], trade(), *changes[3:]], ladder_every=2)
    assert [kept[LadderColumn.ROW] for kept in run.ladders] == [0, 1, 3, 5, 7]
    assert [kept[LadderColumn.SIZE_CENTI] for kept in run.ladders] == [300, 301, 303, 304, 306]


def test_where_the_close_may_come_early_the_last_empty_snapshot_is_it():
    frames = [snapshot(*BOOK), snapshot(), snapshot(*BOOK), snapshot()]
    run = Replayed(frames, last_book=3)
    assert run.ends == ["drift", "drift", "market_closed"]
    assert run.row()["kind"] == RowKind.CLOSE
    assert run.row(1)["kind"] == RowKind.SNAPSHOT
    # a last snapshot that is not empty is a book like any other
    assert Replayed([*frames[:1], snapshot(BOOK[0])], last_book=1).ends[-1] == "end_of_recording"


@settings(max_examples=60)
@given(st.data(), st.sampled_from([100, 10, 1]))
def test_depth_and_cost_move_as_the_whole_ladder_says(data, step_bp):
    prices = st.one_of(
        st.integers(1, 10_000 // step_bp - 1),
        st.integers(10_000 // step_bp - 8, 10_000 // step_bp - 1),
    )
    sizes = st.one_of(st.integers(1, 60), st.integers(1, 3_000))
    book, frames, expected = DictBook(), [snapshot()], []
    for _ in range(data.draw(st.integers(1, 60))):
        levels = sorted(book.ladders[YES])
        if levels and data.draw(st.booleans()):
            price = data.draw(st.sampled_from(levels))
            change = -data.draw(st.integers(1, book.ladders[YES][price]))
            change = data.draw(st.sampled_from([change, -book.ladders[YES][price]]))
        else:
            price, change = data.draw(prices) * step_bp, data.draw(sizes)
        book.apply_delta(YES, price, change)
        frames.append(delta(YES, price, change))
        expected.append((book.depth_within_centi(YES, 500), book.second_level_bp(YES) or 0,
                         book.level_count(YES), int(book.average_sell_bp(K) * K)))  # fmt: skip
    rows = Replayed(frames, uniform_grid(step_bp)).rows
    names = ("bid_near_centi", "bid_second_bp", "bid_levels", "sell_value_micro")
    assert [*zip(*(rows[name][1:] for name in names), strict=True)] == expected


@pytest.mark.parametrize("room", [1, 2, 3, 5])
def test_full_buffers_are_emptied_and_the_replay_goes_on(room):
    frames = [
        snapshot(*BOOK), delta(YES, 4_000, 5), delta(NO, 5_500, -600), trade(),
        snapshot(*BOOK, market=1), snapshot(market=1, said=GAP), delta(YES, 4_050, 1),
        delta(YES, 100, 1), snapshot(BOOK[0]), delta(YES, 100, 1), delta(YES, 200, -1),
    ]  # fmt: skip
    whole, parts = (Replayed(frames, room=size, ladder_every=2) for size in (64, room))
    assert parts.rows == whole.rows
    assert (parts.segments, parts.ladders) == (whole.segments, whole.ladders)
    assert parts.refused == whole.refused


def test_a_market_that_would_not_fit_any_more_begins_a_buffer_of_its_own():
    frames = [
        frame
        for market in (0, 1)
        for frame in (
            snapshot(BOOK[0], market=market),
            *(delta(YES, 3_900, 1, market=market) for _ in range(4)),
        )
    ]
    assert Replayed(frames).filled == [10]
    # of nine rows five are taken, more than half; six more frames might not fit
    assert Replayed(frames, room=9).filled == [5, 5]
    # of eleven they are less than half, of ten not more
    assert Replayed(frames, room=11).filled == Replayed(frames, room=10).filled == [10]


def test_for_comparisons_the_touch_alone_is_written():
    frames = [
        snapshot(*BOOK), delta(YES, 4_000, 5), delta(YES, 4_000, -305), delta(NO, 5_600, 10),
        delta(NO, 5_600, -10), delta(NO, 5_500, -600), delta(YES, 4_100, 7),
    ]  # fmt: skip
    whole, touch = Replayed(frames), Replayed(frames, touch_only=True)
    for column in ("bid_bp", "ask_bp", "bid_size_centi", "ask_size_centi"):
        assert touch.rows[column] == whole.rows[column], column
    assert whole.rows["bid_bp"] == [4_000, 4_000, 3_900, 3_900, 3_900, 3_900, 4_100]
    assert touch.counters[Counters.APPLIED] == whole.counters[Counters.APPLIED] == 7


def test_the_levels_of_a_refused_snapshot_are_passed_over():
    frames = [snapshot(*BOOK, subscription=1), snapshot((YES, 200, 9), subscription=0)]
    run = Replayed([*frames, delta(YES, 4_000, 1, subscription=1)])
    assert run.reasons == ["applied", "stale_epoch", "applied"]
    assert run.row()["bid_size_centi"] == 301
    assert run.row()["bid_levels"] == 4


def test_snapshots_that_show_it_crossed_for_too_long_end_the_segment():
    levels = ((YES, 4_200, 1), (NO, 5_900, 1))
    frames = [snapshot(*levels, time_ms=time_ms) for time_ms in (0, 1, 2, 3, 4, 1_001)]
    run = Replayed(frames)
    assert run.reasons == ["applied"] * 5 + ["crossed"]
    assert run.ends == ["crossed"]
    cleared = Replayed([*frames[:5], snapshot((YES, 4_000, 1), (NO, 5_900, 1), time_ms=1_001)])
    assert "crossed" not in cleared.reasons


def test_a_replay_of_nothing_is_nothing():
    run = Replayed([])
    assert run.rows["position"] == run.ends == []
