"""Every promise of `kalshi_pipeline.trading.tape`, checked on a universe, slowly."""

from __future__ import annotations

from typing import get_type_hints

import numpy as np

from kalshi_pipeline.feature_table import COLUMN, TENSOR_FEATURES
from kalshi_pipeline.suitability import TIERS
from kalshi_pipeline.trading.tape import RowKind, Tape, Universe
from tests.oracle.book import NO, YES, DictBook


def assert_keeps_its_promises(universe: Universe) -> None:
    """Fail where a universe breaks a promise of the tape's docstrings."""
    _assert_shapes(universe)
    _assert_spans(universe.tape)
    _assert_rows(universe.tape)
    _assert_steps(universe.tape)
    _assert_names(universe)
    for episode in range(len(universe)):
        _assert_replays(universe.tape, episode)


def _assert_shapes(universe: Universe) -> None:
    tape = universe.tape
    rows, steps, episodes, grids = (
        len(values) for values in (tape.time_ms, tape.step_row, tape.first_row, tape.grid_step_bp)
    )
    shapes = {
        "snapshot_first": (len(tape.snapshot_first),),
        "features": (steps, len(TENSOR_FEATURES)),
        "fee_schedule": (episodes, 4),
        "tick_up_bp": (grids, 10_001),
        "tick_down_bp": (grids, 10_001),
    }
    columns = ("end_row", "first_step", "end_step", "settlement_bp", "grid")
    lengths = dict.fromkeys(columns, episodes)
    row_columns = ("kind", "side", "price_bp", "change_centi", "bid_bp", "ask_bp")
    lengths |= dict.fromkeys((*row_columns, "bid_size_centi", "ask_size_centi"), rows)
    levels = ("level_side", "level_price_bp", "level_size_centi")
    lengths |= dict.fromkeys(levels, int(tape.snapshot_first[-1]))
    shapes |= {name: (length,) for name, length in lengths.items()}
    for name, shape in shapes.items():
        assert getattr(tape, name).shape == shape, name
    for name, hint in get_type_hints(Tape).items():
        values = getattr(tape, name)
        assert values.dtype == hint.__args__[1].__args__[0], name
        assert values.flags.c_contiguous, name
    assert len(universe) == len(universe.episodes) == episodes


def _assert_spans(tape: Tape) -> None:
    # episodes lie one behind the other, rows and steps
    spans = ((tape.first_row, tape.end_row, 1), (tape.first_step, tape.end_step, 2))
    for first, end, least in spans:
        assert (end - first >= least).all()
        assert (first[1:] >= end[:-1]).all()
    assert tape.end_row.max(initial=0) <= len(tape.time_ms)
    assert tape.end_step.max(initial=0) <= len(tape.step_row)


def _assert_rows(tape: Tape) -> None:
    assert np.isin(tape.kind, [RowKind.SNAPSHOT, RowKind.DELTA, RowKind.TRADE]).all()
    assert np.isin(tape.side, [YES, NO]).all()
    changes = tape.kind == RowKind.DELTA
    for prices in (tape.price_bp[tape.kind != RowKind.SNAPSHOT], tape.level_price_bp):
        assert ((prices > 0) & (prices < 10_000)).all()
    assert (tape.change_centi[tape.kind == RowKind.TRADE] > 0).all()
    assert (tape.change_centi[changes] != 0).all()
    assert (tape.level_size_centi > 0).all()
    snapshots = tape.change_centi[tape.kind == RowKind.SNAPSHOT]
    assert np.array_equal(np.sort(snapshots), np.arange(len(tape.snapshot_first) - 1))
    assert (np.diff(tape.snapshot_first) >= 0).all()
    assert tape.snapshot_first[0] == 0


def _assert_steps(tape: Tape) -> None:
    low = np.array([feature.low for feature in TENSOR_FEATURES], dtype=np.float32)
    high = np.array([feature.high for feature in TENSOR_FEATURES], dtype=np.float32)
    assert ((tape.features >= low) & (tape.features <= high)).all()
    for touch, name in ((tape.bid_bp, "best_bid"), (tape.ask_bp, "best_ask")):
        assert np.allclose(tape.features[:, COLUMN[name]], touch[tape.step_row] / 10_000, atol=1e-6)
    ends = zip(tape.first_row, tape.end_row, tape.first_step, tape.end_step, strict=True)
    for first_row, end_row, first_step, end_step in ends:
        rows = tape.step_row[first_step:end_step]
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= first_row
        assert rows[-1] == end_row - 1
        # the agent never acts on a crossed book; at the last step it does not act
        assert (tape.bid_bp[rows[:-1]] <= tape.ask_bp[rows[:-1]]).all()


def _assert_names(universe: Universe) -> None:
    tape = universe.tape
    for index, episode in enumerate(universe.episodes):
        first, last = tape.first_row[index], tape.end_row[index] - 1
        assert episode.steps == tape.end_step[index] - tape.first_step[index]
        assert episode.start_ms == tape.time_ms[first]
        assert episode.end_ms == tape.time_ms[last]
        assert episode.tier in TIERS
        assert tape.settlement_bp[index] in ({0, 10_000} if episode.settles else {-1})
        taker, maker, multiplier, rounding = tape.fee_schedule[index]
        assert 0 <= maker <= taker
        assert multiplier > 0
        assert rounding in {0, 1}
        assert 0 <= tape.grid[index] < len(tape.grid_step_bp)


def _assert_replays(tape: Tape, episode: int) -> None:
    # the touch columns are the touch of the book the messages build, on the market's grid
    book = DictBook()
    step_bp = int(tape.grid_step_bp[tape.grid[episode]])
    first, end = int(tape.first_row[episode]), int(tape.end_row[episode])
    assert tape.kind[first] == RowKind.SNAPSHOT
    assert (np.diff(tape.time_ms[first:end]) >= 0).all()
    for row in range(first, end):
        change = int(tape.change_centi[row])
        if tape.kind[row] == RowKind.SNAPSHOT:
            book.apply_snapshot(*(_levels(tape, change, side) for side in (YES, NO)))
        elif tape.kind[row] == RowKind.DELTA:
            assert tape.price_bp[row] % step_bp == 0
            book.apply_delta(int(tape.side[row]), int(tape.price_bp[row]), change)
        bid, no_bid = (max(ladder, default=0) for ladder in book.ladders)
        sizes = (book.ladders[YES].get(bid, 0), book.ladders[NO].get(no_bid, 0))
        touch = (bid, 10_000 - no_bid, *sizes)
        columns = (tape.bid_bp, tape.ask_bp, tape.bid_size_centi, tape.ask_size_centi)
        assert touch == tuple(int(column[row]) for column in columns), f"row {row}"


def _levels(tape: Tape, snapshot: int, side: int) -> list[tuple[int, int]]:
    span = slice(tape.snapshot_first[snapshot], tape.snapshot_first[snapshot + 1])
    own = tape.level_side[span] == side
    prices = tape.level_price_bp[span][own].tolist()
    assert len(set(prices)) == len(prices)
    return list(zip(prices, tape.level_size_centi[span][own].tolist(), strict=True))
