"""Books are replayed by the rules: the kernel equals its slow twin, and every rule is seen to act."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.books import Books, ladder_at
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.replay_tables import RowKind
from tests.oracle import replay as oracle
from tests.oracle.book import NO, YES
from tests.random_sessions import RandomSession, books_of, random_session

CONFIG = BookConfig(ladder_every=7)
ROW_KINDS = {
    RowKind.SNAPSHOT: "snapshot", RowKind.DELTA: "delta",
    RowKind.TRADE: "trade", RowKind.CLOSE: "close",
}  # fmt: skip


def twin_of(session: RandomSession) -> oracle.Outcome:
    return oracle.replay(
        session.frames,
        session.rules,
        sequence=session.header["sequence"],
        near_bp=CONFIG.near_bp,
        cost_size_centi=CONFIG.cost_size_centi,
        tolerance_ms=CONFIG.crossed_tolerance_ms,
        tolerance_messages=CONFIG.crossed_tolerance_messages,
        ladder_every=CONFIG.ladder_every,
    )


def assert_equal(books: Books, twin: oracle.Outcome, session: RandomSession) -> None:
    rows = books.rows.to_pylist()
    place = {row["frame"]: number for number, row in enumerate(rows)}
    # the verdict of every frame
    quarantine = dict(
        zip(books.quarantine["frame"].to_pylist(), books.quarantine["reason"].to_pylist(), strict=True)
    )
    expected = Counter(twin.verdicts.values())
    refused = {o: why for o, why in twin.verdicts.items() if why not in ("applied", "before_snapshot")}
    assert quarantine == refused
    assert set(place) == set(twin.rows)
    # conservation
    quality = books.quality
    assert quality["applied"] == expected["applied"]
    assert quality["before_snapshot"] == expected["before_snapshot"]
    put_aside = sum(quality["quarantined"].values())
    assert quality["rows_in"] == quality["applied"] + put_aside + quality["before_snapshot"]
    assert quality["rows_in"] == len(twin.verdicts)
    # the rows, every column
    for ordinal, row in twin.rows.items():
        ours, frame = rows[place[ordinal]], session.frames[ordinal]
        message = (row.kind, row.segment, row.time_ms, frame.market, frame.recv_ms, frame.seq)
        assert message == (
            ROW_KINDS[ours["kind"]], ours["segment"], ours["time_ms"], ours["market"],
            ours["recv_ms"], ours["seq"],
        )  # fmt: skip
        if row.kind in ("delta", "trade"):
            changed = (frame.side, frame.price_bp, frame.size_centi)
            assert changed == (ours["side"], ours["price_bp"], ours["size_centi"])
        assert row.columns == {name: ours[name] for name in row.columns}, ordinal
    assert_equal_segments(books, twin, place)
    assert_equal_ladders(books, twin, place)
    for name in ("crossed_states", "crossed_ms", "drifted_levels", "clock_back", "gaps"):
        assert quality[name] == getattr(twin, name), name
    assert quality["lost_messages"] == twin.lost


def assert_equal_segments(books: Books, twin: oracle.Outcome, place: dict[int, int]) -> None:
    ours = sorted(books.segments.to_pylist(), key=lambda segment: segment["segment"])
    assert ours == [
        {
            "segment": number,
            "market": segment.market,
            "first_row": place[segment.frames[0]],
            "end_row": place[segment.frames[-1]] + 1,
            "start_ms": segment.times[0],
            "end_ms": segment.times[-1],
            "messages": len(segment.frames),
            "ended_by": segment.ended_by,
        }
        for number, segment in enumerate(twin.segments)
    ]


def assert_equal_ladders(books: Books, twin: oracle.Outcome, place: dict[int, int]) -> None:
    kept = sorted(
        (place[ordinal], side, price_bp, size_centi)
        for ordinal, row in twin.rows.items()
        if row.kept
        for side in (YES, NO)
        for price_bp, size_centi in row.ladders[side].items()
    )
    assert kept == sorted(map(tuple, (row.values() for row in books.ladders.to_pylist())))
    for ordinal, row in twin.rows.items():
        if row.kind != "close":
            whole = {(side, p): size for side in (YES, NO) for p, size in row.ladders[side].items()}
            assert ladder_at(books.rows, books.ladders, books.segments, place[ordinal]) == whole


operations = st.integers(0, 2**32 - 1)
sequences = st.sampled_from(["complete", "complete", "shared", "none"])


def assert_kernel_equals_twin(steps: list[int], sequence: str, seed: int) -> None:
    session = random_session(steps, sequence, seed)
    assert_equal(books_of(session.recording, CONFIG), twin_of(session), session)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operations, max_size=80), sequences, st.integers(0, 99))
def test_the_kernel_equals_its_twin(steps, sequence, seed):
    assert_kernel_equals_twin(steps, sequence, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000))
def test_the_kernel_equals_its_twin_on_long_sessions(seed):
    random = Random(seed)
    steps = [random.getrandbits(32) for _ in range(300)]
    sequence = random.choice(["complete", "shared", "none"])
    assert_kernel_equals_twin(steps, sequence, seed)
