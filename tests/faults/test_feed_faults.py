"""Reliability D1-D8: what goes wrong with the order, the identity and the prices of rows."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.feeds import (
    A,
    B,
    assert_conserved,
    column,
    delta,
    ends,
    refused,
    replayed,
    snapshot,
    with_fields,
)
from tests.oracle.book import NO
from tests.random_sessions import books_of, random_session

FEW = settings(max_examples=25)


# D1


def test_d01_a_gap_closes_every_market_of_the_connection_until_its_next_snapshot():
    books = replayed(
        snapshot(1), snapshot(2, B), delta(3, 100),
        delta(14, 100), delta(15, 100, market=B),  # ten are missing
        snapshot(16), delta(17, 100), delta(18, 100, market=B),
    )  # fmt: skip
    assert ends(books) == ["gap", "end_of_recording"]
    assert ends(books, B) == ["gap"]
    assert refused(books) == {3: "after_gap", 4: "after_gap", 7: "after_gap"}
    assert (books.quality["gaps"], books.quality["lost_messages"]) == (1, 10)


def test_d01_a_gap_of_one_connection_accuses_no_other():
    books = replayed(
        snapshot(1), snapshot(1, B, sid=8), delta(5, 100), delta(2, 100, market=B, sid=8)
    )
    assert ends(books) == ["gap"]
    assert ends(books, B) == ["end_of_recording"]


@FEW
@given(st.lists(st.sampled_from([A, B]), min_size=1, max_size=30), st.data())
def test_d01_every_gap_is_counted_and_everything_to_the_next_snapshot_put_aside(markets, data):
    lost = data.draw(st.dictionaries(st.integers(0, len(markets) - 1), st.integers(1, 50)))
    feed, seq = [snapshot(1), snapshot(2, B)], 2
    for place, market in enumerate(markets):
        seq += 1 + lost.get(place, 0)
        feed.append(delta(seq, 100, market=market))
    books = replayed(*feed)
    assert (books.quality["gaps"], books.quality["lost_messages"]) == (
        len(lost), sum(lost.values()),
    )  # fmt: skip
    trusted = min(lost, default=len(markets))
    assert list(refused(books).values()) == ["after_gap"] * (len(markets) - trusted)


# D2


@FEW
@given(st.integers(0, 9), st.integers(1, 3))
def test_d02_a_repeated_row_is_put_aside_and_changes_nothing(place, times):
    feed = [snapshot(1), *(delta(seq, 100) for seq in range(2, 11))]
    spoilt = feed[: place + 1] + [feed[place]] * times + feed[place + 1 :]
    clean, books = replayed(*feed), replayed(*spoilt)
    assert list(refused(books).values()) == ["duplicate"] * times
    assert books.rows.drop_columns(["frame"]).equals(clean.rows.drop_columns(["frame"]))
    assert ends(books) == ["end_of_recording"]


# D3


@pytest.mark.parametrize(
    "other", [delta(3, 200), delta(3, 100, 3_900), delta(3, 100, side=NO), snapshot(3)]
)
def test_d03_one_number_with_two_contents_is_believed_in_neither(other):
    books = replayed(snapshot(1), delta(2, 100), delta(3, 100), other, delta(4, 100))
    assert refused(books) == {2: "conflict", 3: "conflict", 4: "after_gap"}
    assert ends(books) == ["conflict"]
    assert column(books, "bid_size_centi") == [500, 600]


# D4


@FEW
@given(st.randoms(use_true_random=False), st.integers(2, 40))
def test_d04_rows_that_arrive_out_of_order_give_the_books_of_the_sorted_feed(random, length):
    sizes = [random.randint(1, 99) for _ in range(length)]
    # every row brings its own time along: what differs is when its line was written
    feed = [snapshot(1), *(delta(seq, size) for seq, size in enumerate(sizes, start=2))]
    shuffled = random.sample(feed, len(feed))
    clean, books = replayed(*feed), replayed(*shuffled)
    assert books.rows.drop_columns(["frame"]).equals(clean.rows.drop_columns(["frame"]))
    assert books.segments.equals(clean.segments)
    assert refused(books) == {}


# D5


def test_d05_a_counter_that_starts_anew_with_its_connection_is_no_gap():
    books = replayed(
        snapshot(8), delta(9, 100),
        snapshot(1, conn=2), delta(2, 100, conn=2), snapshot(3, B, conn=2),
    )  # fmt: skip
    assert (books.quality["gaps"], books.quality["epochs"]) == (0, 2)
    assert ends(books) == ["new_epoch", "end_of_recording"]
    assert refused(books) == {}


def test_d05_a_straggler_of_the_old_connection_is_put_aside():
    books = replayed(snapshot(1), snapshot(1, conn=2), delta(2, 100))
    assert refused(books) == {2: "stale_epoch"}
    assert ends(books) == ["new_epoch", "end_of_recording"]


# D6


def test_d06_a_market_the_session_did_not_ask_for_never_has_a_book():
    other = "KXOTHER-26JAN01-T5"
    books = replayed(snapshot(1), snapshot(2, other), delta(3, 100, market=other), delta(4, 100))
    assert refused(books) == {1: "unknown_market", 2: "unknown_market"}
    assert {market.ticker for market in books.markets} == {A}
    assert set(books.rows["market"].to_pylist()) == {A}
    assert ends(books) == ["end_of_recording"]  # and breaks nobody else's


# D7


def priced(price: object, wire: str = "price_dollars") -> bytes:
    return with_fields(delta(2, 100), **{"price_dollars": None, wire: price})


OUTSIDE = ["0.0000", "1.0000", "-0.0100", "1.0100", 0, 1, 1.01, "100"]


@pytest.mark.parametrize("price", OUTSIDE)
def test_d07_a_price_outside_the_dollar_is_refused_and_its_book_closed(price):
    books = replayed(snapshot(1), priced(price), delta(3, 100))
    assert refused(books) == {1: "price_out_of_range", 2: "after_gap"}
    assert ends(books) == ["rejected_row"]


@pytest.mark.parametrize("cents", [0, 100, -1, 101])
def test_d07_cents_of_the_old_wire_are_held_to_the_same(cents):
    books = replayed(snapshot(1), priced(cents, "price"))
    assert refused(books) == {1: "price_out_of_range"}


@FEW
@given(st.integers(-(10**9), 10**9))
def test_d07_only_prices_inside_the_dollar_and_on_the_tick_reach_a_book(price_bp):
    books = replayed(snapshot(1), priced(f"{price_bp / 10_000:.4f}"))
    if not 0 < price_bp < 10_000:
        assert refused(books) == {1: "price_out_of_range"}
    elif price_bp % 100:
        assert refused(books) == {1: "price_off_tick"}
    else:
        assert refused(books) == {}


def test_d07_a_snapshot_with_such_a_price_opens_no_book():
    books = replayed(with_fields(snapshot(1), yes_dollars_fp=[["1.0000", "5.00"]]), delta(2, 100))
    assert refused(books) == {0: "price_out_of_range"}
    assert books.quality["before_snapshot"] == 1
    assert books.segments.num_rows == 0


# D8


@pytest.mark.parametrize("price", ["0.4050", "0.4001", 0.405])
def test_d08_a_price_between_the_ticks_of_its_market_is_refused(price):
    books = replayed(snapshot(1), priced(price), delta(3, 100))
    assert refused(books) == {1: "price_off_tick", 2: "after_gap"}


def test_d08_the_tick_is_the_market_s_own():
    fine = [{"ticker": A, "price_level_structure": "deci_cent"}]
    books = replayed(snapshot(1), priced("0.4050"), markets=fine)
    assert refused(books) == {}
    books = replayed(snapshot(1), priced("0.4055"), markets=fine)
    assert refused(books) == {1: "price_off_tick"}


NO_NUMBERS = ["abc", "NaN", "Infinity", "", "0.4.0", "4e-1", "٤", " 0.40", "0.40001", "9" * 30]


@pytest.mark.parametrize("price", NO_NUMBERS)
def test_d08_a_price_that_is_no_exact_number_is_refused(price):
    books = replayed(snapshot(1), priced(price))
    assert refused(books) == {1: "not_a_number"}
    assert ends(books) == ["rejected_row"]


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
def test_d08_a_number_json_does_not_know_is_a_corrupt_line(literal):
    line = priced("0.4000").replace(b'"0.4000"', literal)
    assert literal in line
    books = replayed(snapshot(1), line, delta(2, 100))
    assert refused(books) == {1: "corrupt_line"}


# together


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 120), st.sampled_from(["complete", "shared", "none"]))
def test_every_row_of_a_session_gone_wrong_is_accounted_for(seed, length, sequence):
    random = Random(seed)
    session = random_session([random.getrandbits(32) for _ in range(length)], sequence, seed)
    books = books_of(session.recording)
    assert_conserved(books)
    assert books.quality["rows_in"] <= len(session.lines)
