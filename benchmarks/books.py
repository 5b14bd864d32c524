"""Order books: deltas replayed a second, beside the books of others and the bare memory traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Material
from benchmarks.flow import Flow, order_flow
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.books.markets import Market, market_columns, valid_places
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.prices import uniform_grid
from kalshi_pipeline.market.replay_state import STATE_WIDTH
from kalshi_pipeline.market.replay_tables import (
    FRAME,
    Counters,
    FrameKind,
    Frames,
    Rules,
    output_buffers,
)

UNIT = "deltas/s"
FLOOR = "gather, add, scatter"
DELTAS = 2_000_000
PYTHON_DELTAS = 50_000  # Python's books are timed on so many, theirs being the same rate for any
BUFFER_ROWS = 1 << 13  # of the output: written again and again, as a consumer in a loop would


def measure(_: Material, effort: Effort, deltas: int = DELTAS) -> list[Row]:
    """A thousand markets beside Python books; the busiest of them beside hftbacktest, if present.

    The flow's changes fall where those of the recorded sessions do. `book_replay` checks every
    message, keeps ladders and best levels and writes the touch of each delta, which is what its
    peers give; `all outputs` keeps totals, depths and costs and writes the whole book table.
    """
    flow = order_flow(deltas)
    frames, begins = frames_of(flow)
    few = order_flow(min(deltas, PYTHON_DELTAS), markets=100)
    contestants = {
        "replay": Contestant(Replay(frames, begins, touch_only=True).run),
        "all outputs": Contestant(Replay(frames, begins).run),
        FLOOR: _scatter(flow),
        "python_dict": _python_book(few, _dict_books),
    }
    if sorted_books := _sorted_books():
        contestants["sortedcontainers"] = _python_book(few, sorted_books)
    busiest = only_market(flow, int(np.bincount(flow.market).argmax()))
    contestants["replay, busiest market alone"] = Contestant(
        Replay(*frames_of(busiest), touch_only=True).run
    )
    contestants |= _hftbacktest(busiest)
    return [row("book_replay", UNIT, contestants, effort, FLOOR)]


def only_market(flow: Flow, market: int) -> Flow:
    """The flow of one market."""
    wanted = flow.market == market
    columns = [values[wanted] for values in flow[:-1]]
    columns[0] = np.zeros_like(columns[0])
    return Flow(*columns, flow.books[[market]])


def frames_of(flow: Flow) -> tuple[Frames, NDArray[np.int64]]:
    """Frame records market by market, each beginning with its snapshot; and where each begins."""
    markets = len(flow.books)
    owner, side, place = np.nonzero(flow.books)
    parts = []
    for market, kind in ((np.arange(markets), FrameKind.SNAPSHOT), (owner, FrameKind.LEVEL),
                         (flow.market, FrameKind.DELTA)):  # fmt: skip
        part = np.zeros(len(market), FRAME)
        part["market"], part["kind"] = market, kind
        part["seq"] = part["exchange_ms"] = -1
        part["time_ms"] = flow.time_ms[0] if len(flow.time_ms) else 0
        parts.append(part)
    _, levels, deltas = parts
    levels["side"], levels["price_bp"] = side, place * 100
    levels["size_centi"] = flow.books[owner, side, place]
    deltas["position"] = np.arange(len(deltas)) + 1
    for name in ("side", "price_bp", "size_centi", "time_ms"):
        deltas[name] = getattr(flow, name)
    together = np.concatenate(parts)
    frames = together[np.argsort(together["market"], kind="stable")]
    begins = np.concatenate([[0], np.cumsum(np.bincount(frames["market"], minlength=markets))])
    return frames, begins.astype(np.int64)


class Replay:
    """The kernel over frames in memory, into buffers that are used again.

    Args:
        frames: of `frames_of`.
        begins: where each market's begin.
        rows: of the buffers; a market that fits is never cut.
        touch_only: write the touch of each delta and nothing else.
    """

    def __init__(
        self,
        frames: Frames,
        begins: NDArray[np.int64],
        rows: int = BUFFER_ROWS,
        *,
        touch_only: bool = False,
    ) -> None:
        config, count = BookConfig(), len(begins) - 1
        self.market = Market("KXFLOW", "KXFLOW", uniform_grid(100), None, None)
        markets, never = [self.market] * count, [None] * count
        self._frames, self._begins = frames, begins
        self._known = market_columns(markets, config.near_bp, never, never)
        self._valid = valid_places(markets)
        self._rules = Rules(
            config.cost_size_centi, config.crossed_tolerance_ms, config.crossed_tolerance_messages,
            config.ladder_every, False, config.clock_back_ms, touch_only,
        )  # fmt: skip
        self.out, self._unsaid = output_buffers(rows, 101), np.zeros((0, 3), np.int64)
        self._state, self._ladder = np.zeros(STATE_WIDTH, np.int64), np.zeros(202, np.int64)
        self.deltas = int((frames["kind"] == FrameKind.DELTA).sum())

    def blocks(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Rows in the buffers, and the segments that have ended in them, until all is replayed."""
        counters, count = np.zeros(len(Counters), np.int64), len(self._begins) - 1
        while counters[Counters.MARKET] < count:
            replay(
                self._frames, self._begins, self._known, self._valid, self._rules, self._unsaid,
                self._state, self._ladder, self.out, counters,
            )  # fmt: skip
            yield int(counters[Counters.ROWS]), self.out.segments[: counters[Counters.SEGMENTS]]
            counters[Counters.ROWS : Counters.REFUSED + 1] = 0
        if counters[Counters.APPLIED] != self.deltas + count:
            raise AssertionError("the replay refused a part of the flow")

    def run(self, _: None) -> int:
        """Replay it all."""
        for _ in self.blocks():
            pass
        return self.deltas


def _scatter(flow: Flow) -> Contestant:
    # the least a dense book does: read a delta, add it to its level; no best, no checks, no output
    cells = ((flow.market * 2 + flow.side) * 101 + flow.price_bp // 100).astype(np.uint64)
    ladder = np.zeros(202 * len(flow.books), np.int64)

    def run(_: None) -> int:
        add_all(cells, flow.size_centi, ladder)
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
Apply = Callable[[dict[tuple[int, int], dict[int, int]], Iterable[Change]], int]


def _python_book(flow: Flow, apply: Apply) -> Contestant:
    # deltas as tuples, ready-made, so that only the book is timed
    names = ("market", "side", "price_bp", "size_centi")
    changes = list(zip(*(getattr(flow, name).tolist() for name in names), strict=True))
    markets = range(len(flow.books))

    def books() -> dict[tuple[int, int], dict[int, int]]:
        shown: dict[tuple[int, int], dict[int, int]] = {
            (market, side): {} for market in markets for side in (0, 1)
        }
        for market, side, place in zip(*np.nonzero(flow.books), strict=True):
            size = int(flow.books[market, side, place])
            shown[int(market), int(side)][int(place) * 100] = size
        return shown

    return Contestant(lambda fresh: apply(fresh, changes), books)


def _dict_books(books: dict[tuple[int, int], dict[int, int]], changes: Iterable[Change]) -> int:
    done = 0
    for market, side, price, change in changes:
        book = books[market, side]
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

    def apply(shown: dict[tuple[int, int], dict[int, int]], changes: Iterable[Change]) -> int:
        books: dict[tuple[int, int], Any] = {key: SortedDict(book) for key, book in shown.items()}
        done = 0
        for market, side, price, change in changes:
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


def _hftbacktest(flow: Flow) -> dict[str, Contestant]:
    try:
        from benchmarks.hftbacktest_books import contestants
    except ImportError:
        return {}
    return contestants(flow)
