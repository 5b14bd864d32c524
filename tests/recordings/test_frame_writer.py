"""The compiled writer of frames writes what the slow one writes, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.recordings.generator.frame_writer import ROW_BYTES, texts_of, write_rows
from kalshi_pipeline.recordings.generator.order_flow import FlowKind
from tests.oracle import frames as oracle

TICKERS = ["KXBTC15M-26MAY110145-45", "POWER-28-DH-DS-DP", "K" * 100]
# 13 digits of milliseconds: from 2001 to 2286
TIMES = st.integers(1_000_000_000_000, 9_999_999_999_999)
ROWS = st.lists(
    st.tuples(
        TIMES,
        TIMES,
        st.integers(0, len(TICKERS) - 1),
        st.sampled_from(FlowKind),
        st.integers(0, 1),
        st.integers(1, 9_999),
        st.integers(1, 10**11),
    ),
    min_size=1,
    max_size=20,
)


def written(wire, rows, *, connection=1, seq=1, size=1 << 16) -> tuple[str, list[int], int]:
    """Text, the rows at which the buffer was full, and the next seq."""
    recv_ms, time_ms = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    market = np.array([row[2] for row in rows], dtype=np.int32)
    change = np.array([row[3:] for row in rows], dtype=np.int64)
    buffer, texts = np.empty(size, dtype=np.uint8), texts_of(wire, connection, TICKERS)
    text, row, stops = b"", 0, []
    while row < len(rows):
        begin = row
        row, used, seq = write_rows(
            buffer, texts, row, recv_ms, time_ms, market, change, connection, seq
        )
        if row == begin:
            break
        stops.append(row)
        text += buffer[:used].tobytes()
    return text.decode(), stops, seq


def expected(wire, rows, ids, *, connection, seq) -> str:
    lines, names = [], iter(ids)
    for number, (recv_ms, time_ms, market, kind, *change) in enumerate(rows, start=seq):
        frame = oracle.delta(wire, TICKERS[market], number, change, time_ms)
        lines.append(oracle.line(recv_ms, connection, frame))
        if kind == FlowKind.TRADE:
            frame = oracle.trade(wire, TICKERS[market], next(names), change, time_ms)
            lines.append(oracle.line(recv_ms, connection, frame))
    return "".join(lines)


@pytest.mark.parametrize("wire", ["legacy", "current"])
@given(ROWS, st.integers(1, 40), st.integers(1, 10**8))
@settings(max_examples=150)
def test_every_line_is_that_of_the_slow_writer(wire, rows, connection, seq):
    # sizes fall at trades; the legacy wire has whole cents and contracts
    unit = 100 if wire == "legacy" else 1
    rows = [
        (*row[:5], row[5] // unit * unit or unit, row[6] // unit * unit or unit) for row in rows
    ]
    rows = [(*row[:6], -row[6] if row[3] != FlowKind.ADD else row[6]) for row in rows]
    text, _, end = written(wire, rows, connection=connection, seq=seq)
    assert end == seq + len(rows)
    ids = oracle.trade_ids(text)
    assert text == expected(wire, rows, ids, connection=connection, seq=seq)


def test_a_full_buffer_is_no_end():
    rows = [(10**12 + i, 10**12, 2, FlowKind.TRADE, i % 2, 4_200, -(10**11)) for i in range(50)]
    whole, _, _ = written("current", rows)
    parts, stops, _ = written("current", rows, size=3 * ROW_BYTES)
    assert parts == whole
    assert len(stops) > 5
    assert max(len(line) for line in whole.splitlines()) * 2 < ROW_BYTES * 2


def test_a_row_that_is_no_change_stops_the_writer():
    rows = [(10**12, 10**12, 0, kind, 0, 100, -100) for kind in (0, 1, len(FlowKind), 0)]
    text, stops, seq = written("current", rows)
    assert (stops, seq) == ([2], 3)
    assert text.count("\n") == 2
