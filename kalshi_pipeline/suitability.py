"""Which markets are worth an episode, how active they are, and why the others are left out.

Source of the rule: training plan, section 1.3 (at least 50 timesteps, in at least 2 quartiles),
with the quartiles cut over the market's *life*: the time in which it was observed open, gaps in the
recording left out. For a market observed all session long that is the plan's rule. The *hindsight*
universe looks at the whole session; the *causal* one only at what happened in the first part of the
time from a market's first book to its declared close, or to the end of the recording where that is
earlier or the close unknown: what one who records for a set time could know.

How active a market is, is what was traded in it, then its number of steps. What rests in its book
says nothing about activity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.build import Market
from kalshi_pipeline.books.traded_size import NONE
from kalshi_pipeline.config import SuitabilityConfig
from kalshi_pipeline.market.activity import (
    QUARTERS,
    ActivityBatch,
    Count,
    Lives,
    Tally,
    count_rows,
    finish,
    new_tally,
)
from kalshi_pipeline.market.integrity import SegmentEnd, label

SUITABILITY_VERSION = "3"
TIERS = ("high", "medium", "low")  # thirds of the suitable markets, the most active first

# some columns of the book table, in batches of consecutive rows; read twice
Rows = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
Ints = NDArray[np.int64]

_CLOSED = label(SegmentEnd.MARKET_CLOSED)
_OUTLIVED = (label(SegmentEnd.END_OF_RECORDING), label(SegmentEnd.NEW_EPOCH))
_NEVER = np.iinfo(np.int64).max

SCHEMA = pa.schema(
    [
        ("market", pa.string()),
        ("event", pa.string()),
        ("steps", pa.int64()),
        ("deltas", pa.int64()),  # in its segments
        ("trades", pa.int64()),  # trade frames of the session
        ("traded_centi", pa.int64()),
        ("traded_source", pa.string()),  # trades, ticker or none
        ("resting_centi", pa.int64()),  # mean over rows of the size of both sides
        ("spread_bp", pa.float64()),  # median over rows with both sides
        ("volatility_bp", pa.float64()),  # root mean square change of mid between steps
        *((f"q{quarter}", pa.int64()) for quarter in range(1, QUARTERS + 1)),  # steps
        ("pattern", pa.string()),
        ("suitable", pa.bool_()),
        ("causal", pa.bool_()),
        ("tier", pa.string()),
        ("reason", pa.string()),
    ]
)


def suitable_markets(
    rows: Rows,
    segments: pa.Table,
    step_row: Ints,
    markets: Sequence[Market],
    traded: pa.Table | None,
    config: SuitabilityConfig,
) -> pa.Table:
    """One row a market, most active first; see `SCHEMA`.

    Args:
        rows: the book table; memory is one batch.
        segments: segment table.
        step_row: `[T]` rows after which the agent acts.
        markets: of the session.
        traded: traded size by market; None = nothing is known.
        config: the rule.
    """
    markets = sorted(markets, key=lambda market: market.ticker)
    lives = _lives(rows, segments, markets, config)
    tally = new_tally(len(markets))
    for batch in rows(ActivityBatch._fields):
        columns = (batch[name].to_numpy() for name in ActivityBatch._fields)
        count_rows(ActivityBatch._make(columns), lives, step_row, tally)
    finish(tally)
    known = {entry["market"]: entry for entry in traded.to_pylist()} if traded else {}
    table = [
        _describe(market, code, tally, known.get(market.ticker, {}), config)
        for code, market in enumerate(markets)
    ]
    table.sort(key=lambda entry: (-entry["traded_centi"], -entry["steps"], entry["market"]))
    _set_tiers(table)
    return pa.Table.from_pylist(table, schema=SCHEMA)


def in_memory(rows: pa.Table) -> Rows:
    """A book table that lies in memory, as `suitable_markets` reads one."""
    return lambda columns: rows.select(list(columns)).to_batches()


def write_suitable_markets(table: pa.Table, folder: Path) -> None:
    """Write `suitable_markets.parquet` into a folder."""
    pq.write_table(table, folder / "suitable_markets.parquet", compression="zstd")


def judged_until_ms(began_ms: Ints, ends_ms: Ints, config: SuitabilityConfig) -> Ints:
    """Until when the causal universe looks at markets, by their first book and expected end."""
    until: Ints = began_ms + (config.causal_share * (ends_ms - began_ms)).astype(np.int64)
    return until


def temporal_pattern(quarters: Sequence[int]) -> str:
    """Where in its life a market is active: front-loaded, back-loaded, mid-peak or even."""
    first, second, third, last = quarters
    if first > second + third + last:
        return "front-loaded"
    if last > first + second + third:
        return "back-loaded"
    if second + third > first + last:
        return "mid-peak"
    return "even"


def _lives(
    rows: Rows, segments: pa.Table, markets: Sequence[Market], config: SuitabilityConfig
) -> Lives:
    codes = {market.ticker: code for code, market in enumerate(markets)}
    market = np.array([codes[name] for name in segments["market"].to_pylist()], dtype=np.int64)
    start_ms = segments["start_ms"].to_numpy()
    close_ms = np.array([_NEVER if m.close_ms is None else m.close_ms for m in markets], np.int64)
    observed_ms, recorded_until_ms = _observed(rows, segments, close_ms[market])
    order = np.argsort(market, kind="stable")
    lived_ms = np.zeros(len(market), dtype=np.int64)
    lived_ms[order] = np.cumsum(observed_ms[order]) - observed_ms[order]
    has_book, first_of = np.unique(market, return_index=True)
    life_before_ms, life_ms, known_until_ms = (np.zeros(len(markets), np.int64) for _ in range(3))
    life_before_ms[has_book] = lived_ms[first_of]
    np.add.at(life_ms, market, observed_ms)
    known_until_ms[has_book] = judged_until_ms(
        start_ms[first_of], np.minimum(close_ms[has_book], recorded_until_ms), config
    )
    return Lives(
        market,
        segments["first_row"].to_numpy(),
        segments["end_row"].to_numpy(),
        start_ms,
        lived_ms - life_before_ms[market],
        life_ms,
        known_until_ms,
    )


def _observed(rows: Rows, segments: pa.Table, close_ms: Ints) -> tuple[Ints, int]:
    # for how long each segment's market was observed open: a book that rests is still observed, to
    # its market's close or the end of the connection; and when the recording ended
    ended_by = np.array(segments["ended_by"].to_pylist(), dtype=str)
    outlived, closed = np.isin(ended_by, _OUTLIVED), ended_by == _CLOSED
    end_row, until_ms = segments["end_row"].to_numpy(), segments["end_ms"].to_numpy().copy()
    # the last row of a segment tells its connection, the row after it when the market closed
    wanted = np.where(closed, end_row, end_row - 1)
    epoch, at_ms = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    epoch_end_ms: dict[int, int] = {}
    first = 0
    for batch in rows(("epoch", "time_ms")):
        epochs, times_ms = batch["epoch"].to_numpy(), batch["time_ms"].to_numpy()
        inside = (wanted >= first) & (wanted < first + len(epochs))
        epoch[inside], at_ms[inside] = (
            values[wanted[inside] - first] for values in (epochs, times_ms)
        )
        runs = np.concatenate([[0], np.flatnonzero(np.diff(epochs)) + 1])[: len(epochs)]
        for run, end_ms in zip(epochs[runs], np.maximum.reduceat(times_ms, runs), strict=True):
            epoch_end_ms[int(run)] = max(int(end_ms), epoch_end_ms.get(int(run), 0))
        first += len(epochs)
    connection_end_ms = np.array([epoch_end_ms.get(int(e), 0) for e in epoch], dtype=np.int64)
    last_ms = np.minimum(connection_end_ms, close_ms)
    until_ms[outlived] = np.maximum(until_ms, last_ms)[outlived]
    until_ms[closed] = at_ms[closed]
    return until_ms - segments["start_ms"].to_numpy(), max(epoch_end_ms.values(), default=0)


def _describe(
    market: Market, code: int, tally: Tally, traded: Mapping[str, Any], config: SuitabilityConfig
) -> dict[str, Any]:
    counts = [int(value) for value in tally.counts[code]]
    quarters = counts[Count.QUARTER : Count.QUARTER + QUARTERS]
    rows, steps = counts[Count.ROWS], counts[Count.STEPS]
    moves, spreads = counts[Count.MOVES], counts[Count.SPREADS]
    reason = _reason(rows, steps, sum(map(bool, quarters)), config)
    return {
        "market": market.ticker,
        "event": market.event,
        "steps": steps,
        "deltas": counts[Count.DELTAS],
        "trades": traded.get("trades", 0),
        "traded_centi": traded.get("traded_centi", 0),
        "traded_source": traded.get("source", NONE),
        "resting_centi": int(tally.resting_centi[code] / rows) if rows else 0,
        "spread_bp": counts[Count.SPREAD_TWICE_BP] / 2 if spreads else None,
        "volatility_bp": (counts[Count.MOVES_SQUARED] / moves) ** 0.5 / 2 if moves else None,
        **{f"q{i + 1}": count for i, count in enumerate(quarters)},
        "pattern": temporal_pattern(quarters) if rows else "none",
        "suitable": reason is None,
        # the same rule at the same rate, on what is known by then
        "causal": rows > 0 and counts[Count.KNOWN] >= config.min_steps * config.causal_share,
        "reason": reason,
    }


def _reason(rows: int, steps: int, quarters: int, config: SuitabilityConfig) -> str | None:
    if not rows:
        return "no trusted book"
    if steps < config.min_steps:
        return f"under {config.min_steps} steps ({steps})"
    if quarters < config.min_quartiles:
        return f"active in under {config.min_quartiles} of {QUARTERS} quarters ({quarters})"
    return None


def _set_tiers(table: list[dict[str, Any]]) -> None:
    # most active first: thirds of the suitable ones
    suitable = [entry for entry in table if entry["suitable"]]
    for rank, entry in enumerate(suitable):
        entry["tier"] = TIERS[rank * len(TIERS) // len(suitable)]
