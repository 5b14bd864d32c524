"""What made the touch thinner: the kernel against its slow twin, and what holds for any split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import DepletionConfig
from kalshi_pipeline.market.depletion import (
    Candidates,
    Confidence,
    Evidence,
    Window,
    attribute,
)
from tests.oracle.depletion import split_by_tickers, split_by_trades

CONFIG = DepletionConfig()
TYPES = (
    np.int64, np.int32, np.int32, np.int64, np.int64, np.bool_, np.uint8, np.int32, np.int64,
)  # fmt: skip


def candidate(
    size: int, recv_ms: int = 0, exchange_ms: int | None = None, trade: bool = False, **other
) -> dict:
    """A decrease of the YES ladder at 40 cents, or a trade there."""
    place = {"segment": 0, "side": 0, "price_bp": 4_000} | other
    return {"size": size, "recv_ms": recv_ms, "exchange_ms": exchange_ms, "trade": trade} | place


def split(
    candidates: list[dict],
    tickers: list[tuple[int, int]] | None = None,
    by_exchange: bool = False,
    window: Window | None = None,
) -> tuple[list[int], list[int]]:
    """The kernel's split of one market; without tickers its trades are known."""
    names = ("recv_ms", "exchange_ms", "trade", "side", "price_bp", "size")
    columns = [range(len(candidates)), [0] * len(candidates), [c["segment"] for c in candidates]]
    columns += [[-1 if c[name] is None else c[name] for c in candidates] for name in names]
    table = Candidates(
        *(np.array(column, dtype) for column, dtype in zip(columns, TYPES, strict=True))
    )
    entries = np.array(tickers or [], np.int64).reshape(-1, 2)
    evidence = Evidence(
        np.array([tickers is None]),
        np.array([0, len(entries)]),
        np.array([by_exchange]),
        entries[:, 0].copy(),
        entries[:, 1].copy(),
    )
    traded = np.zeros(len(candidates), np.int64)
    confidence = np.zeros(len(candidates), np.uint8)
    attribute(
        table,
        evidence,
        window or Window(CONFIG.recv_window_ms, CONFIG.exchange_window_ms, CONFIG.candidates),
        traded,
        confidence,
    )
    return traded.tolist(), confidence.tolist()


# --- trades


def test_the_trade_of_the_same_exchange_millisecond_and_size_is_certain():
    book = [candidate(50, 0, 7), candidate(50, 1, 9), candidate(50, 2, 9, trade=True)]
    assert split(book) == ([0, 50, 50], [Confidence.NO_TRADE, 100, 100])


def test_a_trade_takes_several_decreases_and_several_trades_one():
    book = [candidate(30, 0, 9), candidate(20, 0, 9), candidate(50, 0, 9, trade=True)]
    assert split(book)[0] == [30, 20, 50]
    book = [candidate(50, 0, 9), candidate(30, 0, 9, trade=True), candidate(20, 0, 9, trade=True)]
    traded, confidence = split(book)
    # what is left after the first is as large as the second
    assert (traded, confidence) == ([50, 30, 20], [95, 95, 95])


def test_what_no_trade_takes_of_a_decrease_was_cancelled():
    book = [candidate(80, 0, 9), candidate(50, 0, 9, trade=True)]
    assert split(book) == ([50, 50], [95, 95])


@pytest.mark.parametrize(
    ("apart_ms", "traded", "sure"),
    [(0, 50, 85), (2_000, 50, 85), (2_001, 0, Confidence.NO_TRADE)],
)
def test_without_exchange_time_the_receive_time_decides_within_a_window(apart_ms, traded, sure):
    assert split([candidate(50, 0), candidate(50, apart_ms, trade=True)])[0][0] == traded
    book = [candidate(50, apart_ms, trade=True), candidate(50, apart_ms + apart_ms)]
    assert [column[1] for column in split(book)] == [traded, sure]


def test_where_both_say_it_the_exchange_time_decides():
    near = [candidate(50, 0, 1_000), candidate(50, 900, 1_100, trade=True)]
    far = [candidate(50, 0, 1_000), candidate(50, 0, 1_101, trade=True)]
    assert split(near)[0] == [50, 50]
    assert split(far) == ([0, 0], [Confidence.NO_TRADE, Confidence.UNKNOWN])


def test_the_same_size_wins_over_the_nearer_one():
    book = [candidate(50, 0), candidate(40, 100), candidate(50, 110, trade=True)]
    assert split(book) == ([50, 0, 50], [85, Confidence.NO_TRADE, 85])
    assert split([candidate(40, 0), candidate(50, 9, trade=True)]) == ([40, 40], [60, 60])


@pytest.mark.parametrize("other", [{"side": 1}, {"price_bp": 4_100}, {"segment": 1}])
def test_another_level_or_segment_explains_nothing(other):
    assert split([candidate(50, 0, 9), candidate(50, 0, 9, trade=True, **other)])[0] == [0, 0]


# --- tickers


def test_between_tickers_without_volume_everything_was_cancelled():
    book = [candidate(50, 5), candidate(20, 15)]
    traded, confidence = split(book, [(0, 0), (10, 0), (20, 20)])
    assert (traded, confidence) == ([0, 20], [Confidence.TICKER_QUIET, Confidence.TICKER_SIZE])


def test_before_the_first_ticker_and_after_the_last_nothing_is_known():
    book = [candidate(50, 0), candidate(50, 5), candidate(50, 11)]
    assert split(book, [(0, 0), (10, 50)]) == ([0, 50, 0], [0, Confidence.TICKER_SIZE, 0])
    assert split(book, [(0, 0)]) == ([0, 0, 0], [0, 0, 0])
    assert split(book, []) == ([0, 0, 0], [0, 0, 0])


def test_a_volume_is_shared_in_proportion_with_little_confidence():
    book = [candidate(300, 1), candidate(100, 2)]
    assert split(book, [(0, 0), (10, 200)]) == ([150, 50], [0, 0])
    traded, confidence = split(book, [(0, 0), (10, 40)])
    assert (traded, confidence) == ([30, 10], [57, 57])


def test_a_volume_larger_than_what_the_touch_lost_traded_all_of_it():
    assert split([candidate(30, 1), candidate(10, 2)], [(0, 0), (10, 99)]) == ([30, 10], [90, 90])


# --- any book


CANDIDATES = st.lists(
    st.builds(
        candidate,
        size=st.integers(1, 6),
        recv_ms=st.integers(0, 12),
        exchange_ms=st.one_of(st.none(), st.integers(0, 6)),
        trade=st.booleans(),
        segment=st.sampled_from((0, 0, 0, 1)),
        side=st.sampled_from((0, 0, 1)),
        price_bp=st.sampled_from((4_000, 4_000, 4_100)),
    ),
    max_size=14,
)


@settings(max_examples=300)
@given(CANDIDATES, st.integers(0, 12), st.integers(0, 6), st.integers(0, 14))
def test_trades_are_matched_as_the_rule_says(book, recv_window, exchange_window, most):
    found = split(book, window=Window(recv_window, exchange_window, most))
    assert found == split_by_trades(book, recv_window, exchange_window, most)
    traded, confidence = found
    assert all(0 <= part <= c["size"] for part, c in zip(traded, book, strict=True))
    explained = sum(part for part, c in zip(traded, book, strict=True) if c["trade"])
    assert explained == sum(part for part, c in zip(traded, book, strict=True) if not c["trade"])
    assert max(confidence, default=0) <= 100


@settings(max_examples=300)
@given(
    CANDIDATES, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), max_size=5),
    st.booleans(),
)  # fmt: skip
def test_tickers_are_shared_as_the_rule_says(book, tickers, by_exchange):
    tickers = sorted(tickers)
    traded, confidence = split(book, tickers, by_exchange)
    assert (traded, confidence) == split_by_tickers(book, tickers, by_exchange)
    assert all(0 <= part <= c["size"] for part, c in zip(traded, book, strict=True))
    assert sum(traded) <= sum(volume for _, volume in tickers[1:])


def test_sizes_at_the_limit_do_not_overflow():
    most = 10**11
    book = [candidate(most, k) for k in range(1, 11)]
    traded, _ = split(book, [(0, 0), (20, 7 * most)])
    assert sum(traded) == 7 * most
    assert max(abs(part - 7 * most // 10) for part in traded) <= 1
