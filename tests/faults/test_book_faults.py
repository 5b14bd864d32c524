"""Reliability D9-D18: what goes wrong inside a book, with clocks, and with sessions of little."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline import stages
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.expectations.validated import PROFILES
from kalshi_pipeline.recordings.postgres.ladders import Convention, convention_of
from kalshi_pipeline.storage.publish import Warehouse
from tests.expectations.test_profiles import failing
from tests.faults.feeds import (
    START_MS,
    A,
    column,
    delta,
    ends,
    recorded,
    refused,
    replayed,
    snapshot,
    with_fields,
)
from tests.oracle.book import NO, YES
from tests.random_sessions import ingested, wire_line

FEW = settings(max_examples=25)
SECOND_MS, DAY_MS = 1_000, 86_400_000


# D9


def test_d09_a_size_that_would_go_negative_is_quarantined_and_never_clamped():
    books = replayed(snapshot(1), delta(2, -501), delta(3, 100), snapshot(4), delta(5, -500))
    assert refused(books) == {1: "negative_size", 2: "after_gap"}
    assert ends(books) == ["negative_size", "end_of_recording"]
    assert books.quality["negative_sizes"] == 1
    # what was wrong has left no trace; what takes exactly all there is is right
    assert column(books, "bid_bp") == [4_000, 4_000, 3_900]


@FEW
@given(st.lists(st.integers(-400, 400), max_size=30))
def test_d09_no_book_ever_holds_less_than_nothing(changes):
    books = replayed(snapshot(1), *(delta(seq, size) for seq, size in enumerate(changes, start=2)))
    sizes = [500]
    for change in changes:
        if sizes[-1] + change < 0:
            break
        sizes.append(sizes[-1] + change)
    assert column(books, "bid_total_centi") == [size + 300 for size in sizes]
    assert min(column(books, "bid_size_centi")) >= 0
    assert len(refused(books)) == len(changes) + 1 - len(sizes)


# D10

NO_SIZES = ["NaN", "abc", "", "1e3", "0.001", "1000000000.01", "-1000000000.01", "9" * 30]


@pytest.mark.parametrize("size", NO_SIZES)
def test_d10_a_size_that_is_none_is_refused(size):
    books = replayed(snapshot(1), with_fields(delta(2, 100), delta_fp=size), delta(3, 100))
    assert refused(books) == {1: "size_invalid", 2: "after_gap"}


@pytest.mark.parametrize("size", [*NO_SIZES, "0.00", "-5.00"])
def test_d10_a_level_of_no_positive_size_opens_no_book(size):
    books = replayed(with_fields(snapshot(1), yes_dollars_fp=[["0.4000", size]]))
    assert refused(books) == {0: "size_invalid"}
    assert books.segments.num_rows == 0


# D11


def test_d11_what_precedes_the_first_snapshot_is_counted_apart():
    books = replayed(delta(1, 100), delta(2, 100), snapshot(3), delta(4, 100))
    assert books.quality["before_snapshot"] == 2
    assert (books.quality["applied"], refused(books)) == (2, {})
    assert column(books, "bid_size_centi") == [500, 600]


# D12


def crossing(lasts_ms: int, messages: int) -> list:
    """A bid over the ask from one message to the last of `messages`, and then its end."""
    feed = [snapshot(1), delta(2, 100, 5_100)]
    step_ms = lasts_ms // max(1, messages - 1)
    start_ms = feed[-1].recv_ms
    return [
        *feed,
        *(delta(2 + n, 1, 3_900, recv_ms=start_ms + n * step_ms) for n in range(1, messages)),
        delta(2 + messages, -100, 5_100, recv_ms=start_ms + lasts_ms),
    ]


@pytest.mark.parametrize(("lasts_ms", "messages"), [(900, 20), (60_000, 5), (10, 2)])
def test_d12_a_book_crossed_briefly_is_borne_and_counted(lasts_ms, messages):
    books = replayed(*crossing(lasts_ms, messages))
    assert ends(books) == ["end_of_recording"]
    assert refused(books) == {}
    assert books.quality["crossed_states"] == messages
    assert books.quality["crossed_ms"] == lasts_ms


def test_d12_a_book_that_stays_crossed_ends_its_segment():
    books = replayed(*crossing(7_000, 8))
    assert ends(books) == ["crossed"]
    assert refused(books) == {6: "crossed", 7: "after_gap", 8: "after_gap", 9: "after_gap"}


def test_d12_a_locked_book_is_legal():
    books = replayed(
        snapshot(1), *(delta(2 + n, 100, 5_000, recv_ms=START_MS + n * 9_000) for n in range(9))
    )
    assert (column(books, "bid_bp")[-1], column(books, "ask_bp")[-1]) == (5_000, 5_000)
    assert (books.quality["crossed_states"], ends(books)) == (0, ["end_of_recording"])


# D13


@FEW
@given(st.lists(st.integers(-BookConfig.clock_back_ms, 5_000), min_size=1, max_size=20))
def test_d13_the_clock_decides_no_order_and_time_never_runs_backward(steps_ms):
    times, feed = [START_MS], [snapshot(1, recv_ms=START_MS)]
    for seq, step_ms in enumerate(steps_ms, start=2):
        times.append(times[-1] + step_ms)
        feed.append(delta(seq, seq, recv_ms=times[-1]))
    books = replayed(*feed)
    assert column(books, "seq") == list(range(1, len(feed) + 1))
    latest = [max(times[: n + 1]) for n in range(len(times))]
    assert column(books, "time_ms") == latest
    behind = sum(
        now < before - BookConfig.clock_back_ms
        for now, before in zip(times[1:], latest[:-1], strict=True)
    )
    assert books.quality["clock_back"] == behind
    assert ends(books) == ["end_of_recording"]


def test_d13_a_clock_set_back_by_more_than_a_second_is_counted():
    feed = [snapshot(1), delta(2, 1), delta(3, 1, recv_ms=START_MS - 1_500), delta(4, 1)]
    books = replayed(*feed)
    assert books.quality["clock_back"] == 1
    assert ends(books) == ["end_of_recording"]
    assert column(books, "time_ms") == [START_MS + ms for ms in (100, 200, 200, 400)]


def test_d13_two_rows_of_one_millisecond_are_two_rows():
    books = replayed(snapshot(1), delta(2, 1, recv_ms=START_MS), delta(3, 1, recv_ms=START_MS))
    assert column(books, "bid_size_centi") == [500, 501, 502]


@pytest.mark.parametrize("jump_ms", [DAY_MS + 1, 400 * DAY_MS, -DAY_MS - 1])
def test_d13_a_clock_that_jumps_by_over_a_day_ends_the_segment(jump_ms):
    late = delta(3, 1, recv_ms=START_MS + 200 + jump_ms)
    books = replayed(snapshot(1), delta(2, 1), late)
    assert ends(books) == ["clock_jump"]
    assert refused(books) == {2: "after_gap"}


# D14


def test_d14_a_snapshot_that_disagrees_is_believed_and_the_levels_counted():
    # one level of another size, one too many, one missing
    other = ((YES, 4_000, 501), (YES, 3_800, 300), (NO, 5_000, 600))
    books = replayed(snapshot(1), delta(2, 100), snapshot(3, levels=other), delta(4, 1))
    assert books.quality["drifted_levels"] == 3
    assert ends(books) == ["drift", "end_of_recording"]
    assert column(books, "bid_total_centi") == [800, 900, 801, 802]


def test_d14_a_snapshot_that_agrees_goes_on():
    agreed = ((YES, 4_000, 600), (YES, 3_900, 300), (NO, 5_000, 600))
    books = replayed(snapshot(1), delta(2, 100), snapshot(3, levels=agreed))
    assert (books.quality["drifted_levels"], ends(books)) == (0, ["end_of_recording"])


# D15


@pytest.mark.parametrize(
    ("levels", "touch"),
    [
        ((), (0, 10_000)),
        (((YES, 4_000, 500),), (4_000, 10_000)),
        (((NO, 5_000, 600),), (0, 5_000)),
    ],
)
def test_d15_an_empty_side_is_legal_and_no_price_is_invented(levels, touch):
    books = replayed(snapshot(1, levels=levels))
    assert (column(books, "bid_bp")[0], column(books, "ask_bp")[0]) == touch
    k = BookConfig.cost_size_centi
    if not levels:
        # nothing to sell to, and what finds no offer costs its dollar
        assert column(books, "sell_value_micro") == [0]
        assert column(books, "buy_cost_micro") == [k * 10_000]


@pytest.mark.parametrize("side", [None, []])
def test_d15_a_side_may_be_empty_or_not_be_named(side):
    books = replayed(with_fields(snapshot(1), yes_dollars_fp=side, no_dollars_fp=side))
    assert refused(books) == {}
    assert ends(books) == ["end_of_recording"]


# D16


@FEW
@given(st.text(max_size=10).filter(lambda side: side not in ("yes", "no")))
def test_d16_a_side_that_is_none_is_refused(side):
    books = replayed(snapshot(1), with_fields(delta(2, 100), side=side))
    assert refused(books) == {1: "side_invalid"}


@pytest.mark.parametrize("field", ["side", "price_dollars", "delta_fp", "market_ticker"])
def test_d16_a_field_that_is_missing_is_named_by_its_reason(field):
    books = replayed(snapshot(1), with_fields(delta(2, 100), **{field: None}), delta(3, 100))
    assert refused(books) == {1: "missing_field", 2: "after_gap"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@FEW
@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, max_size=4))
def test_d16_fields_nobody_knows_change_nothing_and_are_listed_once(extra):
    extra = {f"x_{name}": value for name, value in extra.items()}
    lines = [wire_line(frame) for frame in (snapshot(1), delta(2, 100), delta(3, 100))]
    spoilt = []
    for text in lines:
        line = json.loads(text)
        line["event"]["msg"] |= extra
        spoilt.append(json.dumps(line).encode())
    clean, found = ingested(recorded(*lines)), ingested(recorded(*spoilt))
    same = [name for name in clean.messages.column_names if name != "offset"]
    assert found.messages.select(same).equals(clean.messages.select(same))
    listed = [name for name in found.summary.ignored_fields if "x_" in name]
    assert listed == sorted({f"event.msg.{name}" for name in extra})


def test_d16_types_nobody_knows_are_listed_once_and_break_nothing():
    odd = json.dumps(
        {"recv_ms": START_MS, "conn": 1, "event": {"type": "surprise", "sid": 7, "seq": 2}}
    ).encode()
    feed = (snapshot(1), odd, delta(3, 100))
    assert ingested(recorded(*feed)).summary.other_types == {"surprise": 1}
    assert refused(replayed(*feed)) == {}


# D17 (with a database: tests/recordings/test_postgres.py, test_ladders.py)


def test_d17_ladders_split_at_fifty_cents_are_told_from_right_ones():
    book = {"yes": {40: 5, 3: 2}, "no": {55: 6}}
    mirrored = [{100 - cents: size for cents, size in book[side].items()} for side in book]
    fixed = convention_of(book["yes"], mirrored[1], book["no"], mirrored[0])
    assert fixed is Convention.FIXED
    # what the old collector wrote: each ladder's levels above 50 cents went into its asks
    assert convention_of({40: 5, 3: 2}, {}, {}, {55: 6}) is Convention.LEGACY
    assert convention_of({60: 5}, {}, {}, {}) is Convention.NEITHER


# D18

LITTLE = {
    "nothing": [],
    "a line that is none": [b"{"],
    "one row": [delta(1, 100)],
    "one market, its snapshot only": [snapshot(1)],
    "one empty book": [snapshot(1, levels=()), delta(2, 100)],
}


@pytest.mark.parametrize("name", LITTLE)
def test_d18_a_session_of_little_goes_through_every_stage_and_says_so(tmp_path, name):
    warehouse = Warehouse(tmp_path)
    stages.ingest_session(warehouse, recorded(*LITTLE[name]))
    books = stages.build_session_books(warehouse, 1)
    stages.build_session_tensors(warehouse, 1)
    suitable = stages.choose_session_markets(warehouse, 1)
    assert suitable.summary["suitable_markets"] == 0
    assert suitable.summary["markets"] == books.summary["markets"]
    # what was published holds together; that there is nothing to trade is said
    broken = {
        (stage, column)
        for stage, profile in PROFILES.items()
        for column in failing(profile(warehouse.current(stage, "1")))
    }
    nothing_to_trade = {(stages.SUITABLE, "to_trade"), (stages.SUITABLE, "events")}
    assert nothing_to_trade <= broken
    unreadable = {(stages.RAW, "rejected"), (stages.RAW, "unreadable_rate")}
    expected = unreadable if name == "a line that is none" else set()
    assert broken - nothing_to_trade - {(stages.TENSORS, "constant")} == expected


def test_d18_a_market_that_was_only_seen_once_has_its_reason(tmp_path):
    warehouse = Warehouse(tmp_path)
    stages.ingest_session(warehouse, recorded(snapshot(1)))
    stages.build_session_books(warehouse, 1)
    stages.build_session_tensors(warehouse, 1)
    suitable = stages.choose_session_markets(warehouse, 1)
    from kalshi_pipeline.storage.tables import read_table
    from kalshi_pipeline.suitability import SCHEMA

    (market,) = read_table(suitable.path("suitable_markets.parquet"), SCHEMA).to_pylist()
    assert (market["market"], market["suitable"]) == (A, False)
    assert "under 50 steps" in market["reason"]
