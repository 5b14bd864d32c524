"""The two conventions of the four ladders, and the recovery kernel against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.recordings.postgres.ladders import (
    Convention,
    Figure,
    Levels,
    Policy,
    Repairs,
    Rows,
    convention_of,
    empty_books,
    recover,
)
from kalshi_pipeline.recordings.postgres.order import number_connections
from tests.oracle import recovery as oracle

MARKETS = 2
ladder = st.dictionaries(st.integers(1, 99), st.integers(1, 9), max_size=4)


@given(yes=ladder, no=ladder)
def test_each_collector_s_snapshot_is_known_for_what_it_is(yes, no):
    mirrored = [{100 - cents: size for cents, size in side.items()} for side in (yes, no)]
    fixed = convention_of(yes, mirrored[1], no, mirrored[0])
    assert fixed is (Convention.FIXED if yes or no else Convention.EMPTY)
    split = [
        {cents: size for cents, size in side.items() if (cents > 50) == above}
        for side in (yes, no)
        for above in (False, True)
    ]
    crossed = max(yes, default=0) + max(no, default=0) >= 100
    if (yes or no) and not crossed:
        assert convention_of(*split) is Convention.LEGACY


def test_a_snapshot_that_fits_neither_is_told_apart():
    # asks rebuilt as 99 - p, and a bid above 50 among the bids
    assert convention_of({30: 1}, {39: 5}, {60: 5}, {69: 1}) is Convention.NEITHER
    assert convention_of({70: 1}, {}, {}, {}) is Convention.NEITHER


@st.composite
def sequences(draw):
    """Rows of a market or two, most of which follow on from what the collector held."""
    rows, held = [], [{} for _ in range(MARKETS)]
    for seq in range(draw(st.integers(1, 40))):
        market, epoch = draw(st.integers(0, MARKETS - 1)), draw(st.sampled_from([0, 0, 0, 0, 1]))
        epoch = max([epoch, *(row["epoch"] for row in rows)])
        if draw(st.integers(0, 5)) == 0:
            legacy = draw(st.booleans())
            levels = [
                (side, cents, size, int(legacy and cents > 50))
                for side in (0, 1)
                for cents, size in draw(ladder).items()
            ]
            held[market] = {(s, c): n for s, c, n, mislaid in levels if not mislaid}
            rows.append({"market": market, "epoch": epoch, "levels": levels, "legacy": legacy})
            continue
        side, cents = draw(st.integers(0, 1)), draw(st.sampled_from([30, 45, 50, 51, 60, 70]))
        old = held[market].get((side, cents), 0)
        if draw(st.integers(0, 9)) == 0:
            old = draw(st.integers(0, 5))
        new = draw(st.sampled_from([0, 0, old + 3, max(0, old - 2)]))
        held[market][side, cents] = new
        change = {"market": market, "epoch": epoch, "seq": seq, "side": side, "cents": cents}
        rows.append({**change, "old": old, "new": new})
        if draw(st.integers(0, 19)) == 0:
            rows.append(rows[-1])
    return rows


def compiled(rows, policy, strict, block):
    """The kernel over rows, in blocks."""
    levels = [level for row in rows for level in row.get("levels", ())]
    snapshots = [row for row in rows if "levels" in row]
    first = np.cumsum([0, *(len(row["levels"]) for row in snapshots)]).astype(np.int64)
    columns = np.array(levels, dtype=np.int64).reshape(-1, 4).T.copy()
    convention = [Convention.LEGACY if row["legacy"] else Convention.FIXED for row in snapshots]
    stored = Levels(first, np.array(convention, dtype=np.uint8), *columns)
    books = empty_books(MARKETS)
    figures = np.zeros((MARKETS, len(Figure)), dtype=np.int64)
    results, seen = [], 0
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        place = [seen + sum("levels" in row for row in part[:i]) for i in range(len(part))]
        seen += sum("levels" in row for row in part)

        def column(name, kind, part=part):
            return np.array([row.get(name, 0) for row in part], dtype=kind)

        given_rows = Rows(
            np.array(["levels" not in row for row in part], dtype=np.int16),
            column("market", np.int32), column("epoch", np.int32), column("seq", np.int64),
            np.arange(start, start + len(part)), column("side", np.uint8),
            column("cents", np.int64), column("old", np.int64), column("new", np.int64),
            np.array(place, dtype=np.int32),
        )  # fmt: skip
        change, reason = np.zeros(len(part), np.int64), np.zeros(len(part), np.uint8)
        room = len(levels) + 1
        repairs = Repairs(
            np.zeros(room, np.int64), np.zeros(room, np.uint8),
            np.zeros(room, np.int64), np.zeros(room, np.int64),
        )  # fmt: skip
        filled = recover(
            given_rows, stored, int(Policy[policy.upper()]), strict, books, change, reason,
            repairs, figures,
        )  # fmt: skip
        for i, row in enumerate(part):
            taken = [
                (int(repairs.side[n]), int(repairs.cents[n]), int(repairs.contracts[n]))
                for n in range(filled)
                if repairs.row[n] == i
            ]
            known = None if "levels" in row else (int(change[i]), bool(reason[i]), taken)
            results.append(known)
    return results


@pytest.mark.parametrize("policy", [policy.name.lower() for policy in Policy])
@settings(max_examples=60)
@given(rows=sequences(), strict=st.booleans(), block=st.integers(1, 50))
def test_the_kernel_recovers_as_its_slow_twin_does(policy, rows, strict, block):
    assert compiled(rows, policy, strict, block) == oracle.recover(rows, policy, strict)


def numbered(rows, window=1_000):
    """Connection of (seq, time) rows."""
    seq, time = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    epoch = np.zeros(len(rows), dtype=np.int32)
    state = np.array([0, -1, 0, 0, 0], dtype=np.int64)
    number_connections(np.ones(len(rows), np.int16), seq, time, window, state, epoch)
    return epoch.tolist()


@settings(max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    late=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 12)), max_size=3),
)
def test_connections_are_told_apart_however_late_some_rows_were_written(lengths, late):
    rows, time = [], 0
    for connection, length in enumerate(lengths):
        time += 500
        for seq in range(1, length + 1):
            time += seq % 2  # some in the same millisecond
            rows.append((connection, seq, time))
    for place, by in late:
        # a row put back into the queue: it comes after rows received later
        if place < len(rows):
            row = rows.pop(place)
            rows.insert(min(len(rows), place + by), row)
    assume_each_connection_shows_itself(rows)
    assert numbered([row[1:] for row in rows]) == [row[0] for row in rows]


def assume_each_connection_shows_itself(rows):
    """A connection is seen by its first row to arrive; none of the next may come before it."""
    from hypothesis import assume

    first = {}
    for place, (connection, _, _) in enumerate(rows):
        first.setdefault(connection, place)
    assume(list(first) == sorted(first))
    for connection, place in first.items():
        own = [row for row in rows if row[0] == connection]
        assume(rows[place][2] == min(row[2] for row in own))
        # a counter that goes on where the one before stood is no new one
        before = [row[1] for row in rows[:place] if row[0] == connection - 1]
        assume(not before or rows[place][1] <= max(before))
        # and a row is written late by one connection at most
        assume(all(row[0] >= connection - 1 for row in rows[place:]))
