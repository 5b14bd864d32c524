"""Small tapes for tests: hand-made from messages or books, or random.

All of them keep the promises of `kalshi_pipeline.trading.tape`: rows contiguous and in time order,
the first a snapshot, touch columns equal to the book after the row, the last step on the last row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.feature_table import COLUMN, TENSOR_FEATURES, TENSOR_WIDTH
from kalshi_pipeline.market.prices import TickGrid, grid_of_ranges
from kalshi_pipeline.trading.tape import Episode, RowKind, Tape, Universe

CENT_GRID = grid_of_ranges(((0, BP_PER_DOLLAR, 100),))
TAPERED_GRID = grid_of_ranges(((0, 1_000, 10), (1_000, 9_000, 100), (9_000, BP_PER_DOLLAR, 10)))
NO_FEES = (0, 0, 100, 0)
DEFAULT_FEES = (700, 0, 100, 0)  # taker 0.07, makers free, an order's fee up to the cent
FEES_PER_FILL = (700, 175, 100, 1)

Ladder = Mapping[int, int]  # price_bp in the ladder's own scale -> size_centi


@dataclass(frozen=True)
class Message:
    """One row of a hand-made tape; made by `snapshot`, `delta` and `trade`."""

    time_ms: int
    kind: RowKind
    side: int = 0
    price_bp: int = 0
    change_centi: int = 0
    ladders: tuple[Ladder, Ladder] = ({}, {})


def snapshot(time_ms: int, yes: Ladder, no: Ladder) -> Message:
    """The whole book: YES bids and NO bids, each in its own scale."""
    return Message(time_ms, RowKind.SNAPSHOT, ladders=(dict(yes), dict(no)))


def delta(time_ms: int, side: int, price_bp: int, change_centi: int) -> Message:
    """One level of one bid ladder changes."""
    return Message(time_ms, RowKind.DELTA, side, price_bp, change_centi)


def trade(time_ms: int, price_bp: int, size_centi: int, taker_side: int = 0) -> Message:
    """A public trade at a YES price."""
    return Message(time_ms, RowKind.TRADE, taker_side, price_bp, size_centi)


def book(time_ms: int, bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> Message:
    """A snapshot with one level a side: (YES price_bp, size_centi) or None."""
    yes = {bid[0]: bid[1]} if bid else {}
    no = {BP_PER_DOLLAR - ask[0]: ask[1]} if ask else {}
    return snapshot(time_ms, yes, no)


@dataclass
class _Columns:
    """The growing lists behind a tape."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    snapshot_first: list[int] = field(default_factory=lambda: [0])
    levels: list[tuple[int, int, int]] = field(default_factory=list)
    step_row: list[int] = field(default_factory=list)

    def append(self, message: Message, ladders: tuple[dict[int, int], dict[int, int]]) -> None:
        change = message.change_centi
        if message.kind == RowKind.SNAPSHOT:
            change = len(self.snapshot_first) - 1
            for side in (0, 1):
                ladders[side].clear()
                ladders[side].update(message.ladders[side])
                self.levels += [(side, price, size) for price, size in ladders[side].items()]
            self.snapshot_first.append(len(self.levels))
        elif message.kind == RowKind.DELTA:
            ladder = ladders[message.side]
            size = ladder.pop(message.price_bp, 0) + change
            assert size >= 0, "a delta took more than there was"
            if size:
                ladder[message.price_bp] = size
        bid, no_bid = max(ladders[0], default=0), max(ladders[1], default=0)
        self.rows.append(
            (
                message.time_ms, int(message.kind), message.side, message.price_bp, change,
                bid, BP_PER_DOLLAR - no_bid, ladders[0].get(bid, 0), ladders[1].get(no_bid, 0),
            )
        )  # fmt: skip


def universe_from_messages(
    episodes: Sequence[Sequence[Message]],
    *,
    settlement_bp: int | Sequence[int] = -1,
    grid: TickGrid = CENT_GRID,
    fee_schedule: tuple[int, int, int, int] = DEFAULT_FEES,
    step_on_every_row: bool = False,
    rng: np.random.Generator | None = None,
    session: int = 1,
) -> Universe:
    """A universe with one episode for each list of messages.

    Args:
        episodes: messages in time order, the first a snapshot, at least two steps' worth.
        settlement_bp: for all episodes, or one for each.
        grid: tick grid of all markets.
        fee_schedule: row of `Tape.fee_schedule`.
        step_on_every_row: a step at each row; otherwise at the last row of each millisecond.
        rng: fills the features that do not follow from the touch at random; zeros without.
        session: session id of the names.
    """
    columns = _Columns()
    first_row, first_step, names = [], [], []
    tiers = ("high", "medium", "low")
    settlements = (
        [settlement_bp] * len(episodes) if isinstance(settlement_bp, int) else list(settlement_bp)
    )
    for index, messages in enumerate(episodes):
        assert messages[0].kind == RowKind.SNAPSHOT
        first_row.append(len(columns.rows))
        first_step.append(len(columns.step_row))
        ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for position, message in enumerate(messages):
            columns.append(message, ladders)
            last_of_ms = (
                position + 1 == len(messages) or messages[position + 1].time_ms > message.time_ms
            )
            if last_of_ms or step_on_every_row:
                columns.step_row.append(len(columns.rows) - 1)
        names.append(
            Episode(
                session=session,
                market=f"KXTEST-E{index // 2}-M{index}",
                event=f"KXTEST-E{index // 2}",
                segment=0,
                start_ms=messages[0].time_ms,
                end_ms=messages[-1].time_ms,
                steps=len(columns.step_row) - first_step[-1],
                tier=tiers[index % 3],
                settles=settlements[index] >= 0,
            )
        )
        assert names[-1].steps >= 2, "an episode needs two steps"
    return Universe(
        _tape(columns, first_row, first_step, settlements, grid, fee_schedule, rng), tuple(names)
    )


def universe_from_books(
    episodes: Sequence[Iterable[tuple[int, tuple[int, int] | None, tuple[int, int] | None]]],
    **options: object,
) -> Universe:
    """A universe whose every message is a whole book: (time_ms, bid, ask), see `book`.

    Options are those of `universe_from_messages`.
    """
    return universe_from_messages(
        [[book(*one) for one in episode] for episode in episodes],
        **options,  # type: ignore[arg-type]
    )


def random_universe(
    rng: np.random.Generator,
    episodes: int = 4,
    steps: int = 60,
    *,
    rows_per_step: int = 3,
    grid: TickGrid = CENT_GRID,
    settlement_bp: int | Sequence[int] | None = None,
    fee_schedule: tuple[int, int, int, int] = DEFAULT_FEES,
    trades: bool = True,
    gaps_in_the_book: bool = True,
) -> Universe:
    """Random markets: wandering touch, trades, re-snapshots, one-sided and empty books.

    Args:
        rng: where all randomness comes from.
        episodes: how many.
        steps: agent steps of each.
        rows_per_step: average messages a step.
        grid: tick grid of all markets.
        settlement_bp: as in `universe_from_messages`; None draws -1, 0 or 10,000 for each.
        fee_schedule: row of `Tape.fee_schedule`.
        trades: whether public trades are on the tape.
        gaps_in_the_book: whether books may lose a side, or both.
    """
    if settlement_bp is None:
        settlement_bp = [int(v) for v in rng.choice((-1, 0, BP_PER_DOLLAR), size=episodes)]
    lists = [
        random_messages(rng, steps, rows_per_step, grid, trades, gaps_in_the_book)
        for _ in range(episodes)
    ]
    return universe_from_messages(
        lists, settlement_bp=settlement_bp, grid=grid, fee_schedule=fee_schedule, rng=rng
    )


def random_messages(
    rng: np.random.Generator,
    steps: int,
    rows_per_step: int = 3,
    grid: TickGrid = CENT_GRID,
    trades: bool = True,
    gaps_in_the_book: bool = True,
) -> list[Message]:
    """The messages of one random market, see `random_universe`."""
    prices = np.flatnonzero(grid.valid)
    fair = int(rng.integers(4, len(prices) - 4))  # index of a price between bids and asks
    now = int(rng.integers(1_765_000_000_000, 1_766_000_000_000))
    ladders = _random_ladders(rng, prices, fair)
    messages = [snapshot(now, *ladders)]
    for _ in range(steps - 1):
        now += int(rng.choice((1, 40, 260, 900, 20_000, 9_000_000)))
        for _ in range(int(rng.integers(1, 2 * rows_per_step))):
            fair = int(np.clip(fair + rng.integers(-1, 2), 2, len(prices) - 3))
            messages += _random_change(rng, prices, fair, now, ladders, trades, gaps_in_the_book)
    return messages


def _random_change(
    rng: np.random.Generator,
    prices: np.ndarray,
    fair: int,
    now: int,
    ladders: tuple[dict[int, int], dict[int, int]],
    trades: bool,
    gaps_in_the_book: bool,
) -> list[Message]:
    """A few messages that leave the ladders uncrossed, applied to `ladders`."""
    draw = rng.random()
    if gaps_in_the_book and draw < 0.02:
        keep = int(rng.integers(0, 3))  # one side or none
        fresh = _random_ladders(rng, prices, fair)
        for side in (0, 1):
            ladders[side].clear()
            ladders[side].update(fresh[side] if side == keep else {})
        return [snapshot(now, *ladders)]
    if draw < 0.04:
        for side, fresh_ladder in enumerate(_random_ladders(rng, prices, fair)):
            ladders[side].clear()
            ladders[side].update(fresh_ladder)
        return [snapshot(now, *ladders)]
    if trades and draw < 0.2:
        price = int(prices[np.clip(fair + rng.integers(-2, 3), 0, len(prices) - 1)])
        return [trade(now, price, int(rng.integers(1, 400)), int(rng.integers(0, 2)))]
    if trades and draw < 0.35 and ladders[0] and ladders[1]:
        return _random_match(rng, now, ladders)
    side = int(rng.integers(0, 2))
    messages = _retreat(now, ladders, int(prices[fair]))
    reach = int(rng.integers(1, 5))
    index = max(fair - reach, 0) if side == 0 else min(fair + reach, len(prices) - 1)
    price = int(prices[index]) if side == 0 else BP_PER_DOLLAR - int(prices[index])
    present = ladders[side].get(price, 0)
    change = (
        -int(rng.integers(1, present + 1))
        if present and rng.random() < 0.5
        else int(rng.integers(1, 500))
    )
    if present and rng.random() < 0.3:
        change = -present
    return [*messages, _apply(now, ladders, side, price, change)]


def _random_match(
    rng: np.random.Generator, now: int, ladders: tuple[dict[int, int], dict[int, int]]
) -> list[Message]:
    """A taker meets the touch of one side: the trade and the fall of the level, in any order."""
    side = int(rng.integers(0, 2))
    price = max(ladders[side])
    size = int(rng.integers(1, ladders[side][price] + 1))
    yes_price = price if side == 0 else BP_PER_DOLLAR - price
    both = [trade(now, yes_price, size, 1 - side), _apply(now, ladders, side, price, -size)]
    return both if rng.random() < 0.5 else both[::-1]


def _retreat(
    now: int, ladders: tuple[dict[int, int], dict[int, int]], fair_bp: int
) -> list[Message]:
    """Deltas that clear what stands on the wrong side of the fair price."""
    messages = []
    for side, limit in ((0, fair_bp), (1, BP_PER_DOLLAR - fair_bp)):
        wrong = sorted((price for price in ladders[side] if price >= limit), reverse=True)
        messages += [_apply(now, ladders, side, price, -ladders[side][price]) for price in wrong]
    return messages


def _apply(
    now: int, ladders: tuple[dict[int, int], dict[int, int]], side: int, price: int, change: int
) -> Message:
    size = ladders[side].pop(price, 0) + change
    if size:
        ladders[side][price] = size
    return delta(now, side, price, change)


def _random_ladders(
    rng: np.random.Generator, prices: np.ndarray, fair: int
) -> tuple[dict[int, int], dict[int, int]]:
    yes, no = {}, {}
    for reach in range(1, int(rng.integers(2, 7))):
        if rng.random() < 0.8 and fair - reach >= 0:
            yes[int(prices[fair - reach])] = int(rng.integers(1, 1_000))
        if rng.random() < 0.8 and fair + reach < len(prices):
            no[BP_PER_DOLLAR - int(prices[fair + reach])] = int(rng.integers(1, 1_000))
    return yes, no


def _tape(
    columns: _Columns,
    first_row: list[int],
    first_step: list[int],
    settlements: list[int],
    grid: TickGrid,
    fee_schedule: tuple[int, int, int, int],
    rng: np.random.Generator | None,
) -> Tape:
    rows = np.array(columns.rows, dtype=np.int64).reshape(-1, 9)
    levels = np.array(columns.levels, dtype=np.int64).reshape(-1, 3)
    step_row = np.array(columns.step_row, dtype=np.int64)
    count = len(first_row)
    return Tape(
        time_ms=rows[:, 0].copy(),
        kind=rows[:, 1].astype(np.uint8),
        side=rows[:, 2].astype(np.uint8),
        price_bp=rows[:, 3].astype(np.int32),
        change_centi=rows[:, 4].copy(),
        bid_bp=rows[:, 5].astype(np.int32),
        ask_bp=rows[:, 6].astype(np.int32),
        bid_size_centi=rows[:, 7].copy(),
        ask_size_centi=rows[:, 8].copy(),
        snapshot_first=np.array(columns.snapshot_first, dtype=np.int64),
        level_side=levels[:, 0].astype(np.uint8),
        level_price_bp=levels[:, 1].astype(np.int32),
        level_size_centi=levels[:, 2].copy(),
        step_row=step_row,
        features=_features(rows, step_row, rng),
        first_row=np.array(first_row, dtype=np.int64),
        end_row=np.array([*first_row[1:], len(rows)], dtype=np.int64),
        first_step=np.array(first_step, dtype=np.int64),
        end_step=np.array([*first_step[1:], len(step_row)], dtype=np.int64),
        settlement_bp=np.array(settlements, dtype=np.int32),
        grid=np.zeros(count, dtype=np.int32),
        fee_schedule=np.array([fee_schedule] * count, dtype=np.int64).reshape(count, 4),
        grid_step_bp=np.array([grid.step_bp], dtype=np.int32),
        tick_up_bp=grid.tick_up_bp[None, :].copy(),
        tick_down_bp=grid.tick_down_bp[None, :].copy(),
    )


def _features(
    rows: np.ndarray, step_row: np.ndarray, rng: np.random.Generator | None
) -> np.ndarray:
    """Touch features as the table defines them; the others random in range, or 0."""
    features = np.zeros((len(step_row), TENSOR_WIDTH), dtype=np.float32)
    if rng is not None:
        for index, feature in enumerate(TENSOR_FEATURES):
            features[:, index] = rng.uniform(feature.low, feature.high, size=len(step_row))
    bid_bp, ask_bp, bid_size, ask_size = rows[step_row, 5:9].T
    features[:, COLUMN["best_bid"]] = bid_bp / BP_PER_DOLLAR
    features[:, COLUMN["best_ask"]] = ask_bp / BP_PER_DOLLAR
    features[:, COLUMN["mid"]] = (bid_bp + ask_bp) / (2 * BP_PER_DOLLAR)
    total = np.maximum(bid_size + ask_size, 1)
    features[:, COLUMN["imbalance_touch"]] = (bid_size - ask_size) / total
    has_bid, has_ask = bid_bp > 0, ask_bp < BP_PER_DOLLAR
    features[:, COLUMN["book_state"]] = np.select(
        [has_bid & has_ask, has_bid, has_ask], [1.0, 0.5, -0.5], 0.0
    )
    return features
