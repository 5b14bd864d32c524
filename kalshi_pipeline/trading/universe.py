"""Published sessions -> the universe of episodes a policy trades.

An episode is one trusted segment of a suitable market, long enough to be worth it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.books.build import Market
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.features.build import Tensors
from kalshi_pipeline.market.fees import schedule_for
from kalshi_pipeline.market.prices import TickGrid
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.trading.tape import Episode, Tape, Universe

# Markets chosen by the first part of their time and traded after it; by all of it, and traded over
# that same time.
CAUSAL, SAME_TIME = "causal", "hindsight, same time"
ROW_COLUMNS = (
    "time_ms", "kind", "side", "price_bp", "size_centi",
    "bid_bp", "ask_bp", "bid_size_centi", "ask_size_centi",
)  # fmt: skip


@dataclass(frozen=True)
class SessionData:
    """What the simulator needs of one session.

    Args:
        session: its id.
        rows: `ROW_COLUMNS` of the book table.
        ladders: kept ladders.
        tensors: steps and features.
        suitable: table of suitable markets.
        markets: grids, events, results.
    """

    session: int
    rows: pa.Table
    ladders: pa.Table
    tensors: Tensors
    suitable: pa.Table
    markets: tuple[Market, ...]


@dataclass(frozen=True)
class Exclusion:
    """A market that gives no episode, and why."""

    session: int
    market: str
    reason: str


def build_universe(
    sessions: Sequence[SessionData],
    min_steps: int,
    trade_from_ms: Mapping[str, int] | None = None,
) -> tuple[Universe, tuple[Exclusion, ...]]:
    """Episodes of one or more sessions on one tape.

    Args:
        sessions: in the order their episodes shall have.
        min_steps: shortest segment that becomes an episode; two is the least there can be.
        trade_from_ms: market -> when its first step may be, Unix milliseconds; markets that are not
            in it give no episode. None: the suitable markets, from their first step on.

    Returns:
        The universe, and every market that gives no episode.
    """
    min_steps = max(min_steps, 2)
    tape = _TapeBuilder()
    excluded: list[Exclusion] = []
    for data in sessions:
        arrays = {name: data.rows[name].to_numpy() for name in ROW_COLUMNS}
        ladders = _LadderRows(data.ladders)
        by_ticker = {market.ticker: market for market in data.markets}
        segments = _by_market(data.tensors.index)
        for entry in data.suitable.to_pylist():
            market = by_ticker[entry["market"]]
            if trade_from_ms is None and not entry["suitable"]:
                excluded.append(Exclusion(data.session, market.ticker, entry["reason"]))
                continue
            if trade_from_ms is not None and market.ticker not in trade_from_ms:
                excluded.append(Exclusion(data.session, market.ticker, "not chosen"))
                continue
            known = segments.get(market.ticker, ())
            if trade_from_ms is not None:
                known = [_from(data, each, trade_from_ms[market.ticker]) for each in known]
            usable = [each for each in known if each["end_step"] - each["first_step"] >= min_steps]
            if not usable:
                reason = f"every trusted segment has under {min_steps} steps"
                excluded.append(Exclusion(data.session, market.ticker, reason))
            for segment in usable:
                tape.add(data, arrays, ladders, market, segment, entry)
    return tape.build(), tuple(excluded)


def _from(data: SessionData, segment: dict[str, Any], from_ms: int) -> dict[str, Any]:
    # its messages are replayed from the beginning, its steps begin later
    rows = data.tensors.step_row[segment["first_step"] : segment["end_step"]]
    times_ms = data.rows["time_ms"].to_numpy()[rows]
    skipped = int(np.searchsorted(times_ms, from_ms))
    return {**segment, "first_step": segment["first_step"] + skipped}


def _by_market(index: pa.Table) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for segment in index.to_pylist():
        grouped.setdefault(segment["market"], []).append(segment)
    return grouped


class _LadderRows:
    """Levels of the ladder kept at a row."""

    def __init__(self, ladders: pa.Table) -> None:
        self._row = ladders["row"].to_numpy()
        self._levels = [ladders[name].to_numpy() for name in ("side", "price_bp", "size_centi")]

    def at(self, row: int) -> list[NDArray[Any]]:
        first, end = np.searchsorted(self._row, [row, row + 1])
        return [values[first:end] for values in self._levels]


class _TapeBuilder:
    """Collects episodes slice by slice; nothing is copied until the end."""

    def __init__(self) -> None:
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ROW_COLUMNS}
        self._levels: list[list[NDArray[Any]]] = []
        self._steps: list[NDArray[np.int64]] = []
        self._features: list[NDArray[np.float32]] = []
        self._episodes: list[Episode] = []
        self._spans: list[tuple[int, int, int, int]] = []
        self._settlement: list[int] = []
        self._fees: list[tuple[int, int, int, int]] = []
        self._grids: dict[TickGrid, int] = {}
        self._grid_of: list[int] = []
        self._row_count = self._step_count = 0

    def add(
        self,
        data: SessionData,
        arrays: dict[str, NDArray[Any]],
        ladders: _LadderRows,
        market: Market,
        segment: dict[str, Any],
        suitable: dict[str, Any],
    ) -> None:
        first, end = segment["first_row"], segment["end_row"]
        first_step, end_step = segment["first_step"], segment["end_step"]
        for name, values in arrays.items():
            self._rows[name].append(values[first:end])
        kind, size = self._rows["kind"][-1], self._rows["size_centi"][-1].copy()
        for row in np.flatnonzero(kind == RowKind.SNAPSHOT):
            size[row] = len(self._levels)
            self._levels.append(ladders.at(first + int(row)))
        self._rows["size_centi"][-1] = size
        self._steps.append(data.tensors.step_row[first_step:end_step] - first + self._row_count)
        self._features.append(data.tensors.features[first_step:end_step])
        settles = segment["ended_by"] == "market_closed" and market.result is not None
        self._settlement.append((10_000 if market.result == "yes" else 0) if settles else -1)
        self._fees.append(schedule_for(market.series, segment["start_ms"]))
        self._grid_of.append(self._grids.setdefault(market.grid, len(self._grids)))
        steps = end_step - first_step
        self._spans.append(
            (
                self._row_count,
                self._row_count + end - first,
                self._step_count,
                self._step_count + steps,
            )
        )
        self._row_count += end - first
        self._step_count += steps
        self._episodes.append(
            Episode(
                session=data.session,
                market=market.ticker,
                event=market.event,
                segment=segment["segment"],
                start_ms=segment["start_ms"],
                end_ms=segment["end_ms"],
                steps=steps,
                tier=suitable["tier"] or "none",
                settles=settles,
                pattern=suitable["pattern"],
            )
        )

    def build(self) -> Universe:
        rows = {name: _joined(parts) for name, parts in self._rows.items()}
        level_counts = [len(levels[0]) for levels in self._levels]
        sides, prices, sizes = zip(*self._levels, strict=True) if self._levels else ((), (), ())
        spans = np.array(self._spans, dtype=np.int64).reshape(-1, 4)
        grids = list(self._grids)
        tape = Tape(
            time_ms=rows["time_ms"].astype(np.int64),
            kind=rows["kind"].astype(np.uint8),
            side=rows["side"].astype(np.uint8),
            price_bp=rows["price_bp"].astype(np.int32),
            change_centi=rows["size_centi"].astype(np.int64),
            bid_bp=rows["bid_bp"].astype(np.int32),
            ask_bp=rows["ask_bp"].astype(np.int32),
            bid_size_centi=rows["bid_size_centi"].astype(np.int64),
            ask_size_centi=rows["ask_size_centi"].astype(np.int64),
            snapshot_first=np.concatenate([[0], np.cumsum(level_counts)]).astype(np.int64),
            level_side=_joined(sides).astype(np.uint8),
            level_price_bp=_joined(prices).astype(np.int32),
            level_size_centi=_joined(sizes).astype(np.int64),
            step_row=_joined(self._steps).astype(np.int64),
            features=np.concatenate(self._features or [np.zeros((0, TENSOR_WIDTH), np.float32)]),
            first_row=spans[:, 0].copy(),
            end_row=spans[:, 1].copy(),
            first_step=spans[:, 2].copy(),
            end_step=spans[:, 3].copy(),
            settlement_bp=np.array(self._settlement, dtype=np.int32),
            grid=np.array(self._grid_of, dtype=np.int32),
            fee_schedule=np.array(self._fees, dtype=np.int64).reshape(-1, 4),
            grid_step_bp=np.array([grid.step_bp for grid in grids], dtype=np.int32),
            tick_up_bp=_stacked([grid.tick_up_bp for grid in grids]),
            tick_down_bp=_stacked([grid.tick_down_bp for grid in grids]),
        )
        return Universe(tape, tuple(self._episodes))


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if len(parts) else np.zeros(0)


def _stacked(tables: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.ascontiguousarray(tables, dtype=np.int32).reshape(-1, 10_001)
