"""The feature kernel against its slow twin, the step clock, the ranges, the stream."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import StepConfig
from kalshi_pipeline.feature_table import COLUMN, TENSOR_FEATURES
from kalshi_pipeline.features.build import (
    FeatureStream,
    read_tensors,
    steps_of_segments,
    write_tensors,
)
from kalshi_pipeline.market.prices import TickGrid
from kalshi_pipeline.trading.tape import RowKind
from tests.moments import columns_of, moments_of
from tests.oracle import features as oracle
from tests.oracle.book import DictBook
from tests.sessions import BOOK, Replayed, replayed, tensors_of
from tests.tapes import CENT_GRID, TAPERED_GRID, Message, book, delta, random_messages, trade

LOW = np.array([feature.low for feature in TENSOR_FEATURES], dtype=np.float32)
HIGH = np.array([feature.high for feature in TENSOR_FEATURES], dtype=np.float32)
# four roundings of a float32 near 1, 6e-8 each: a logarithm's argument, its last place (1e-6 on a
# scale up to 14), the division by the scale; the polynomials are closer than that
BOUND = 2.5e-7
NOON_MS = int(datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture(scope="module")
def session(generated: Path) -> Replayed:
    return replayed(generated / "901")


# --- books of tests


def streamed(
    moments: list[oracle.Moment], grid: TickGrid = CENT_GRID, close_ms: int | None = None
) -> np.ndarray:
    """Features after every moment, as a live feed would compute them."""
    columns = columns_of(moments)
    stream = FeatureStream(grid.tick_up_bp, close_ms, BOOK.cost_size_centi)
    rows = []
    for row in range(len(moments)):
        stream.advance(columns, row)
        rows.append(stream.features(columns, row))
    return np.array(rows)


def steps_of(messages: list[Message], min_step_ms: int = 0) -> list[int]:
    columns = columns_of(moments_of(messages))
    is_step = steps_of_segments(columns, np.array([0]), np.array([len(messages)]), min_step_ms)
    return np.flatnonzero(is_step).tolist()


def segments_of(session: Replayed):
    """(market, rows as dictionaries, the moments they are) of every segment."""
    rows, ladders = session.books.rows.to_pylist(), {}
    for level in session.books.ladders.to_pylist():
        ladders.setdefault(level["row"], ([], []))[level["side"]].append(
            (level["price_bp"], level["size_centi"])
        )
    markets = {market.ticker: market for market in session.books.markets}
    for segment in session.books.segments.to_pylist():
        first, end = segment["first_row"], segment["end_row"]
        ladder, moments = DictBook(), []
        for index in range(first, end):
            row = rows[index]
            if row["kind"] == RowKind.SNAPSHOT:
                ladder.apply_snapshot(*ladders.get(index, ([], [])))
            elif row["kind"] == RowKind.DELTA:
                ladder.apply_delta(row["side"], row["price_bp"], row["size_centi"])
            moments.append(oracle.moment_of(row["time_ms"], row["kind"] != RowKind.TRADE, ladder))
        yield markets[segment["market"]], first, end, moments


# --- the kernel and its twin


@pytest.mark.parametrize("seed", range(6))
def test_the_kernel_equals_its_twin_on_random_books(seed):
    rng = np.random.default_rng(seed)
    grid = (CENT_GRID, TAPERED_GRID)[seed % 2]
    moments = moments_of(random_messages(rng, steps=60, grid=grid))
    close_ms = moments[-1].time_ms - 5_000 if seed % 3 else None
    got = streamed(moments, grid, close_ms)
    for row, features in enumerate(got):
        expected = oracle.features(moments[: row + 1], grid.ranges, close_ms)
        np.testing.assert_allclose(features, expected, rtol=0, atol=BOUND, err_msg=f"row {row}")


def test_the_tensor_of_a_session_equals_its_twin(session):
    steps, features = session.tensors.step_row, session.tensors.features
    found = 0
    for market, first, _, moments in segments_of(session):
        own = oracle.steps(moments, 0)
        found += len(own)
        assert np.isin([first + index for index in own], steps).all()
        for index in [*own[::5], own[-1]]:
            expected = oracle.features(moments[: index + 1], market.grid.ranges, market.close_ms)
            got = features[np.searchsorted(steps, first + index)]
            np.testing.assert_allclose(got, expected, rtol=0, atol=BOUND)
    assert found == len(steps) > 5_000


@pytest.mark.parametrize("min_step_ms", [250, 60_000])
def test_a_slower_clock_keeps_the_features_of_the_steps_it_keeps(session, min_step_ms):
    slower = tensors_of(session.books, StepConfig(min_step_ms))
    expected = [
        first + index
        for _, first, _, moments in segments_of(session)
        for index in oracle.steps(moments, min_step_ms)
    ]
    assert slower.step_row.tolist() == sorted(expected)
    common = np.isin(session.tensors.step_row, slower.step_row)
    kept = np.isin(slower.step_row, session.tensors.step_row)
    assert np.array_equal(session.tensors.features[common], slower.features[kept])


# --- the step clock


def bid_at(time_ms: int, price_bp: int = 4_000) -> Message:
    return book(time_ms, (price_bp, 100), (6_000, 100))


def test_one_step_each_millisecond_in_which_the_book_changed():
    messages = [bid_at(0), bid_at(5), bid_at(5), bid_at(5), bid_at(6), bid_at(9)]
    assert steps_of(messages) == [0, 3, 4, 5]


def test_trades_alone_make_no_step():
    messages = [bid_at(0), trade(1, 5_000, 100), trade(2, 5_000, 100), bid_at(3), bid_at(4)]
    assert steps_of(messages) == [0, 3, 4]


def test_a_trade_in_the_millisecond_of_a_change_is_known_at_its_step():
    messages = [bid_at(0), bid_at(1), trade(1, 5_000, 100), bid_at(2)]
    assert steps_of(messages) == [0, 2, 3]


def test_steps_keep_their_distance():
    messages = [bid_at(0), bid_at(100), bid_at(249), bid_at(250), bid_at(499), bid_at(500)]
    assert steps_of([*messages, bid_at(10_000)], min_step_ms=250) == [0, 3, 5, 6]


def test_crossed_states_are_no_steps():
    crossed = book(1, (7_000, 100), (6_000, 100))
    locked = book(2, (6_000, 100), (6_000, 100))
    assert steps_of([bid_at(0), crossed, locked, bid_at(3)]) == [0, 2, 3]
    resolved_in_time = delta(1, 0, 7_000, -100)
    assert steps_of([bid_at(0), crossed, resolved_in_time, bid_at(3)]) == [0, 2, 3]


@pytest.mark.parametrize(
    "last", [trade(2, 5_000, 100), book(2, (7_000, 100), (6_000, 100)), bid_at(2)]
)
def test_the_last_row_of_a_segment_is_a_step_whatever_it_is(last):
    assert steps_of([bid_at(0), bid_at(1), last], min_step_ms=1_000) == [0, 2]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0, 2, 5]),
)
def test_the_step_clock_equals_its_twin(shapes, min_step_ms):
    messages, now = [], 0
    for wait_ms, is_trade, crosses in shapes:
        now += wait_ms
        touch = (7_000, 100) if crosses else (4_000, 100)
        messages.append(trade(now, 5_000, 1) if is_trade else book(now, touch, (6_000, 100)))
    assert steps_of(messages, min_step_ms) == oracle.steps(moments_of(messages), min_step_ms)


# --- ranges

prices = st.integers(1, 9_999)
sizes = st.one_of(st.integers(1, 1_000), st.integers(1, 10**11))
ladders = st.dictionaries(prices, sizes, max_size=6)
waits_ms = st.one_of(st.integers(0, 5), st.integers(0, 10**5), st.integers(0, 10**10))


@settings(max_examples=100)
@given(st.lists(st.tuples(waits_ms, ladders, ladders, st.booleans()), min_size=1, max_size=12))
def test_every_feature_stays_in_its_range_on_any_book(shapes):
    now, moments = 0, []
    for wait_ms, yes, no, is_trade in shapes:
        now += wait_ms
        ladder = DictBook()
        ladder.apply_snapshot(yes.items(), no.items())
        moments.append(oracle.moment_of(now, not is_trade, ladder))
    got = streamed(moments, TAPERED_GRID, close_ms=now // 2)
    assert np.isfinite(got).all()
    outside = (got < LOW) | (got > HIGH)
    assert not outside.any(), [TENSOR_FEATURES[i].name for i in np.flatnonzero(outside.any(0))]


def test_every_feature_of_a_session_stays_in_its_range(session):
    features = session.tensors.features
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert ((features >= LOW) & (features <= HIGH)).all()


# --- single features


def after(*messages: Message, name: str, close_ms: int | None = None) -> float:
    return float(streamed(moments_of(list(messages)), close_ms=close_ms)[-1, COLUMN[name]])


@pytest.mark.parametrize(
    ("hour", "sine", "cosine"), [(0, 0, 1), (6, 1, 0), (12, 0, -1), (18, -1, 0)]
)
@pytest.mark.parametrize("day", ["2026-03-07", "2026-03-08", "2026-11-01"])
def test_time_of_day_is_universal_time_also_where_clocks_change(day, hour, sine, cosine):
    moment = datetime.fromisoformat(f"{day}T{hour:02}:00:00+00:00")
    now = int(moment.timestamp()) * 1000
    assert after(bid_at(now), name="time_of_day_sin") == pytest.approx(sine, abs=1e-6)
    assert after(bid_at(now), name="time_of_day_cos") == pytest.approx(cosine, abs=1e-6)


def test_the_time_to_a_close_that_has_passed_is_zero_and_an_unknown_one_says_so():
    week = after(bid_at(0), name="seconds_to_close", close_ms=604_800_000)
    assert week == pytest.approx(math.log1p(604_800) / math.log1p(31_536_000))
    assert after(bid_at(5_000), name="seconds_to_close", close_ms=4_000) == 0
    assert after(bid_at(0), name="seconds_to_close") == -1


def test_seconds_since_update_counts_from_the_latest_change_before_now():
    def expected(seconds):
        return pytest.approx(math.log1p(seconds) / math.log1p(86_400), abs=1e-6)

    name = "seconds_since_update"
    assert after(bid_at(0), name=name) == 0
    assert after(bid_at(0), bid_at(7_000), bid_at(7_000), name=name) == expected(7)
    late_trade = trade(9_000, 5_000, 100)
    assert after(bid_at(0), bid_at(7_000), late_trade, name=name) == expected(2)


def test_the_spread_counts_ticks_up_to_one_dollar():
    one_tick = math.log(2) / math.log(1_001)
    no_asks = book(0, (9_900, 100), None)
    assert after(no_asks, name="spread") == pytest.approx(one_tick)
    no_bids = book(0, None, (100, 100))
    assert after(no_bids, name="spread") == pytest.approx(one_tick)


def test_an_order_flow_of_hours_ago_is_forgotten():
    grown = book(1_000, (4_000, 300), (6_000, 100))
    assert after(bid_at(0), grown, name="order_flow_imbalance_10s") == 1
    behind = delta(3_600_000, 0, 3_900, 100)
    assert after(bid_at(0), grown, behind, name="order_flow_imbalance_10s") == 1
    much_later = delta(36_000_000, 0, 3_900, 100)
    assert after(bid_at(0), grown, much_later, name="order_flow_imbalance_10s") == 0


# --- storage


def test_the_index_covers_every_step_once(session):
    index, steps = session.tensors.index, session.tensors.step_row
    first, end = index["first_step"].to_numpy(), index["end_step"].to_numpy()
    assert first[0] == 0
    assert end[-1] == len(steps)
    assert np.array_equal(first[1:], end[:-1])
    assert (np.diff(steps) > 0).all()
    for entry in index.to_pylist():
        inside = steps[entry["first_step"] : entry["end_step"]]
        assert entry["first_row"] <= inside[0]
        assert inside[-1] == entry["end_row"] - 1


def test_written_tensors_read_back_memory_mapped(session, tmp_path):
    write_tensors(session.tensors, tmp_path)
    read = read_tensors(tmp_path)
    assert isinstance(read.features, np.memmap)
    assert np.array_equal(read.features, session.tensors.features)
    assert np.array_equal(read.step_row, session.tensors.step_row)
    assert read.index.equals(session.tensors.index)


def test_a_session_without_books_has_no_steps(session):
    empty = session.books_of(session.messages.slice(0, 0))
    tensors = tensors_of(empty, StepConfig())
    assert tensors.features.shape == (0, len(TENSOR_FEATURES))
    assert tensors.index.num_rows == 0
