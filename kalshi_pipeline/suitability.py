"""Which markets are worth an episode, how active they are, and why the others are left out.

Source of the rule: training plan, section 1.3 (at least 50 timesteps, in at least 2 quartiles),
with the quartiles cut over the market's *life*: the time in which it was observed open, gaps in the
recording left out. For a market observed all session long that is the plan's rule. The *hindsight*
universe looks at the whole session; the *causal* one only at what happened in the first part of
each market's life (how long that life would be was known only afterwards).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books import Market
from kalshi_pipeline.config import BP_PER_DOLLAR, SuitabilityConfig
from kalshi_pipeline.features import Tensors
from kalshi_pipeline.market.integrity import SegmentEnd, label
from kalshi_pipeline.market.replay_tables import RowKind

SUITABILITY_VERSION = "2"
QUARTILES = 4
TIERS = ("high", "medium", "low")  # thirds of the suitable markets by number of steps

Columns = dict[str, NDArray[Any]]
Segment = dict[str, Any]

_CLOSED = label(SegmentEnd.MARKET_CLOSED)
_OUTLIVED = (label(SegmentEnd.END_OF_RECORDING), label(SegmentEnd.NEW_EPOCH))
_COLUMNS = (
    "time_ms", "epoch", "kind", "size_centi",
    "bid_bp", "ask_bp", "bid_total_centi", "ask_total_centi",
)  # fmt: skip


def suitable_markets(
    rows: pa.Table,
    segments: pa.Table,
    tensors: Tensors,
    markets: Sequence[Market],
    config: SuitabilityConfig,
) -> pa.Table:
    """One row a market, most active first.

    Args:
        rows: book table.
        segments: segment table.
        tensors: steps of the session.
        markets: of the session.
        config: the rule.

    Returns:
        market, event, steps, deltas, trades, traded_centi, resting_centi (mean total size),
        spread_bp (median), volatility_bp (root mean square mid change between steps), q1 .. q4
        (steps by quarter of its life), pattern, suitable, causal, tier, reason.
    """
    columns = {name: rows[name].to_numpy() for name in _COLUMNS}
    segments_of: dict[str, list[Segment]] = {market.ticker: [] for market in markets}
    for segment in _observed(segments, columns, markets):
        segments_of[segment["market"]].append(segment)
    table = [
        _describe(market, segments_of[market.ticker], columns, tensors.step_row, config)
        for market in sorted(markets, key=lambda entry: entry.ticker)
    ]
    table.sort(key=lambda entry: (-entry["steps"], entry["market"]))
    _set_tiers(table)
    return pa.Table.from_pylist(table, schema=SCHEMA)


SCHEMA = pa.schema(
    [
        ("market", pa.string()),
        ("event", pa.string()),
        ("steps", pa.int64()),
        ("deltas", pa.int64()),
        ("trades", pa.int64()),
        ("traded_centi", pa.int64()),
        ("resting_centi", pa.int64()),
        ("spread_bp", pa.float64()),
        ("volatility_bp", pa.float64()),
        *((f"q{quarter}", pa.int64()) for quarter in range(1, QUARTILES + 1)),
        ("pattern", pa.string()),
        ("suitable", pa.bool_()),
        ("causal", pa.bool_()),
        ("tier", pa.string()),
        ("reason", pa.string()),
    ]
)


def write_suitable_markets(table: pa.Table, folder: Path) -> None:
    """Write `suitable_markets.parquet` into a folder."""
    pq.write_table(table, folder / "suitable_markets.parquet", compression="zstd")


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


def _observed(segments: pa.Table, columns: Columns, markets: Sequence[Market]) -> list[Segment]:
    # the segments, each with the time for which its market was observed open: a book that rests is
    # still observed, to its market's close or the end of the connection
    close_ms = {market.ticker: market.close_ms for market in markets}
    epochs, place = np.unique(columns["epoch"], return_inverse=True)
    epoch_end_ms = np.zeros(len(epochs), dtype=np.int64)
    np.maximum.at(epoch_end_ms, place, columns["time_ms"])
    found: list[Segment] = segments.to_pylist()
    for segment in found:
        until_ms, end_row = segment["end_ms"], segment["end_row"]
        if segment["ended_by"] in _OUTLIVED:
            closing_ms = close_ms[segment["market"]]
            last_ms = int(epoch_end_ms[place[end_row - 1]])
            last_ms = last_ms if closing_ms is None else min(last_ms, closing_ms)
            until_ms = max(until_ms, last_ms)
        elif segment["ended_by"] == _CLOSED:
            until_ms = int(columns["time_ms"][end_row])  # the closing snapshot follows
        segment["observed_ms"] = until_ms - segment["start_ms"]
    return found


def _describe(
    market: Market,
    segments: list[Segment],
    columns: Columns,
    step_row: NDArray[np.int64],
    config: SuitabilityConfig,
) -> dict[str, Any]:
    if not segments:
        return _nothing(market, "no trusted book")
    spans = [slice(segment["first_row"], segment["end_row"]) for segment in segments]
    own = {
        name: np.concatenate([values[span] for span in spans]) for name, values in columns.items()
    }
    life_ms, steps, ages_ms = 0, [], []
    for segment, span in zip(segments, spans, strict=True):
        steps.append(step_row[slice(*np.searchsorted(step_row, [span.start, span.stop]))])
        ages_ms.append(life_ms + columns["time_ms"][steps[-1]] - segment["start_ms"])
        life_ms += segment["observed_ms"]
    step, age_ms = np.concatenate(steps), np.concatenate(ages_ms)
    quarter = np.minimum(QUARTILES * age_ms // max(life_ms, 1), QUARTILES - 1)
    quarters = np.bincount(quarter, minlength=QUARTILES)
    reason = _reason(len(step), int(np.count_nonzero(quarters)), config)
    known = np.count_nonzero(age_ms < config.causal_share * life_ms)
    return {
        "market": market.ticker,
        "event": market.event,
        "steps": len(step),
        **_figures(own, columns["bid_bp"][step], columns["ask_bp"][step]),
        **{f"q{i + 1}": int(count) for i, count in enumerate(quarters)},
        "pattern": temporal_pattern(quarters.tolist()),
        "reason": reason,
        "suitable": reason is None,
        # the same rule at the same rate, on what is known after the first part
        "causal": bool(known >= config.min_steps * config.causal_share),
    }


def _figures(
    columns: Columns, bid_bp: NDArray[np.int32], ask_bp: NDArray[np.int32]
) -> dict[str, Any]:
    # of all rows, and of the touch at the steps
    two_sided = (columns["bid_bp"] > 0) & (columns["ask_bp"] < BP_PER_DOLLAR)
    spread = (columns["ask_bp"] - columns["bid_bp"])[two_sided]
    trades = columns["kind"] == RowKind.TRADE
    mid = ((bid_bp + ask_bp) / 2)[(bid_bp > 0) & (ask_bp < BP_PER_DOLLAR)]
    moves = np.diff(mid)
    return {
        "deltas": int(np.count_nonzero(columns["kind"] == RowKind.DELTA)),
        "trades": int(np.count_nonzero(trades)),
        "traded_centi": int(columns["size_centi"][trades].sum()),
        "resting_centi": int((columns["bid_total_centi"] + columns["ask_total_centi"]).mean()),
        "spread_bp": float(np.median(spread)) if len(spread) else None,
        "volatility_bp": float(np.sqrt(np.mean(moves**2))) if len(moves) else None,
    }


def _reason(steps: int, quartiles: int, config: SuitabilityConfig) -> str | None:
    if steps < config.min_steps:
        return f"under {config.min_steps} steps ({steps})"
    if quartiles < config.min_quartiles:
        return f"active in under {config.min_quartiles} of {QUARTILES} quarters ({quartiles})"
    return None


def _nothing(market: Market, reason: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"market": market.ticker, "event": market.event, "reason": reason}
    empty |= {f"q{quarter}": 0 for quarter in range(1, QUARTILES + 1)}
    empty |= dict.fromkeys(("steps", "deltas", "trades", "traded_centi", "resting_centi"), 0)
    return empty | {"suitable": False, "causal": False, "pattern": "none"}


def _set_tiers(table: list[dict[str, Any]]) -> None:
    # most active first: thirds of the suitable ones
    suitable = [entry for entry in table if entry["suitable"]]
    for rank, entry in enumerate(suitable):
        entry["tier"] = TIERS[rank * len(TIERS) // len(suitable)]
