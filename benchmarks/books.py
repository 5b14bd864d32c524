"""Order books: deltas replayed a second, with everything the book table records of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import CONFIG, Material
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.books import _capacity, _compiled_markets, _row_types
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.replay_tables import (
    BookRows,
    Counters,
    FrameKind,
    Frames,
    Rules,
)

UNIT = "deltas/s"
FLOOR = "gather, add, scatter"


def measure(material: Material, effort: Effort) -> list[Row]:
    """The whole session beside Python books; its busiest market beside hftbacktest, if present."""
    frames = material.frames.frames
    contestants = {
        "replay": _replay(material, frames),
        FLOOR: _scatter(material, frames),
        "dict and max()": _python_book(frames, _dict_books),
    }
    if sorted_books := _sorted_books():
        contestants["sortedcontainers"] = _python_book(frames, sorted_books)
    result = [row("books, whole session", UNIT, contestants, effort, FLOOR)]
    busiest = only_market(frames, int(np.bincount(frames.market[_deltas(frames)]).argmax()))
    if peers := _hftbacktest(busiest):
        contestants = {"replay": _replay(material, busiest)} | peers
        result.append(row("books, busiest market", UNIT, contestants, effort))
    return result


def only_market(frames: Frames, market: int) -> Frames:
    """The book frames of one market."""
    wanted = (frames.market == market) & (frames.kind != FrameKind.TRADE)
    levels = np.diff(frames.first_level)
    of_levels = np.repeat(wanted, levels)
    single = {name: getattr(frames, name)[wanted] for name in Frames._fields[:9]}
    level = {name: getattr(frames, name)[of_levels] for name in Frames._fields[10:]}
    first = np.concatenate([[0], np.cumsum(levels[wanted])]).astype(np.int64)
    return Frames(**single, first_level=first, **level)


def _deltas(frames: Frames) -> NDArray[np.bool_]:
    deltas: NDArray[np.bool_] = (frames.kind == FrameKind.DELTA) & (frames.market >= 0)
    return deltas


def _replay(material: Material, frames: Frames) -> Contestant:
    markets = _compiled_markets(material.books.markets)
    config, units = CONFIG.book, int(_deltas(frames).sum())
    rows = BookRows(*(np.zeros(len(frames.kind), dtype=dtype) for dtype in _row_types()))
    segments, kept = _capacity(frames, markets, config)
    rules = Rules(
        config.near_bp, config.cost_size_centi, config.crossed_tolerance_ms,
        config.crossed_tolerance_messages, config.ladder_every, False, config.clock_back_ms,
    )  # fmt: skip
    cells = int(2 * markets.levels.sum())

    def prepare() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.zeros(cells, np.int64), np.zeros(len(Counters), np.int64)

    def run(fresh: tuple[NDArray[np.int64], NDArray[np.int64]]) -> int:
        ladder, counters = fresh
        replay(frames, markets, rules, ladder, rows, segments, kept, counters)
        return units

    return Contestant(run, prepare)


def _scatter(material: Material, frames: Frames) -> Contestant:
    # the least a dense book does: read a delta, add it to its level; no best, no checks, no output
    markets = _compiled_markets(material.books.markets)
    deltas = _deltas(frames)
    market, side = frames.market[deltas], frames.side[deltas]
    place = frames.price_bp[deltas] // markets.step_bp[market]
    cells = (markets.base[market] + side * markets.levels[market] + place).astype(np.uint64)
    changes = frames.size_centi[deltas]
    ladder = np.zeros(int(2 * markets.levels.sum()), np.int64)

    def run(_: None) -> int:
        add_all(cells, changes, ladder)
        return len(cells)

    return Contestant(run)


@numba.njit(cache=True)
def add_all(
    cells: NDArray[np.uint64], changes: NDArray[np.int64], ladder: NDArray[np.int64]
) -> None:
    """Add each change to its cell."""
    for i in range(len(cells)):
        ladder[cells[i]] += changes[i]


Change = tuple[int, int, int, int]  # market, side, price_bp, size_centi
Apply = Callable[[Iterable[Change | list[Change]]], int]


def _python_book(frames: Frames, apply: Apply) -> Contestant:
    # deltas as tuples, snapshots as lists of levels: ready-made, so that only the book is timed
    events: list[Change | list[Change]] = []
    names = ("kind", "market", "side", "price_bp", "size_centi")
    columns = zip(*(getattr(frames, name).tolist() for name in names), strict=True)
    for f, (kind, market, side, price, size) in enumerate(columns):
        if kind == FrameKind.DELTA:
            events.append((market, side, price, size))
        elif kind == FrameKind.SNAPSHOT:
            levels = slice(frames.first_level[f], frames.first_level[f + 1])
            level_columns = (frames.level_side, frames.level_price_bp, frames.level_size_centi)
            parts = zip(*(values[levels].tolist() for values in level_columns), strict=True)
            events.append([(market, *part) for part in parts] or [(market, 0, 0, 0)])
    return Contestant(lambda _: apply(events))


def _dict_books(events: Iterable[Change | list[Change]]) -> int:
    books: dict[tuple[int, int], dict[int, int]] = {}
    done = 0
    for event in events:
        if isinstance(event, list):
            market = event[0][0]
            books[market, 0], books[market, 1] = {}, {}
            for _, side, price, size in event:
                if size:
                    books[market, side][price] = size
            continue
        market, side, price, change = event
        book = books.setdefault((market, side), {})
        size = book.get(price, 0) + change
        if size:
            book[price] = size
        else:
            del book[price]
        _ = max(books[market, 0], default=0), 10_000 - max(books[market, 1], default=0)
        done += 1
    return done


def _sorted_books() -> Apply | None:
    try:
        from sortedcontainers import SortedDict
    except ImportError:
        return None

    def apply(events: Iterable[Change | list[Change]]) -> int:
        books: dict[tuple[int, int], Any] = {}
        done = 0
        for event in events:
            if isinstance(event, list):
                market = event[0][0]
                for side in (0, 1):
                    levels = {p: size for _, s, p, size in event if s == side and size}
                    books[market, side] = SortedDict(levels)
                continue
            market, side, price, change = event
            book = books[market, side]
            size = book.get(price, 0) + change
            if size:
                book[price] = size
            else:
                del book[price]
            bids, asks = books[market, 0], books[market, 1]
            _ = bids.peekitem()[0] if bids else 0, 10_000 - asks.peekitem()[0] if asks else 10_000
            done += 1
        return done

    return apply


def _hftbacktest(frames: Frames) -> dict[str, Contestant]:
    try:
        from benchmarks.hftbacktest_books import contestants
    except ImportError:
        return {}
    return contestants(frames)
