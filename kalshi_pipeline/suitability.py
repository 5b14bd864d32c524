"""Which markets are worth an episode, how active they are, and why the others are left out.

Source of the rule: training plan, section 1.3 (at least 50 timesteps, in at least 2 quartiles),
with the quartiles cut in time over the market's own observed life, as design section 7 asks. The
*hindsight* universe looks at the whole session; the *causal* one only at the first part of each
market's observed life, so that it could have been chosen live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books import Market
from kalshi_pipeline.config import SuitabilityConfig
from kalshi_pipeline.features import Tensors
from kalshi_pipeline.market.orderbook import RowKind

SUITABILITY_VERSION = "1"
QUARTILES = 4
TIERS = ("high", "medium", "low")  # thirds of the suitable markets by number of steps


@dataclass(frozen=True)
class _Life:
    # one market's rows and steps
    market: Market
    time_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    steps_ms: NDArray[np.int64]


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
        (steps by quarter of observed life), pattern, suitable, causal, tier, reason.
    """
    table = [
        _describe(market, rows, segments, tensors, config)
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


def _describe(
    market: Market,
    rows: pa.Table,
    segments: pa.Table,
    tensors: Tensors,
    config: SuitabilityConfig,
) -> dict[str, Any]:
    own = segments.filter(pc.equal(segments["market"], market.ticker))
    if not own.num_rows:
        return _nothing(market, "no trusted book")
    spans = list(zip(own["first_row"].to_pylist(), own["end_row"].to_pylist(), strict=True))
    columns = {
        name: np.concatenate([rows[name].slice(a, b - a).to_numpy() for a, b in spans])
        for name in (
            "kind", "size_centi", "bid_bp", "ask_bp", "bid_total_centi", "ask_total_centi",
        )
    }  # fmt: skip
    in_span = [
        tensors.step_row[
            np.searchsorted(tensors.step_row, a) : np.searchsorted(tensors.step_row, b)
        ]
        for a, b in spans
    ]
    steps = np.concatenate(in_span)
    opened, ended = min(own["start_ms"].to_pylist()), max(own["end_ms"].to_pylist())
    steps_ms = rows["time_ms"].take(pa.array(steps)).to_numpy()
    quarters = np.histogram(steps_ms, bins=QUARTILES, range=(opened, max(ended, opened + 1)))[0]
    described = _figures(columns, rows, steps)
    described |= {"market": market.ticker, "event": market.event, "steps": len(steps)}
    described |= {f"q{i + 1}": int(count) for i, count in enumerate(quarters)}
    described["pattern"] = temporal_pattern(quarters.tolist())
    described["reason"] = _reason(len(steps), int(np.count_nonzero(quarters)), config)
    described["suitable"] = described["reason"] is None
    described["causal"] = _is_causal(steps_ms, opened, ended, config)
    return described


def _figures(
    columns: dict[str, NDArray[Any]], rows: pa.Table, steps: NDArray[np.int64]
) -> dict[str, Any]:
    two_sided = (columns["bid_bp"] > 0) & (columns["ask_bp"] < 10_000)
    spread = (columns["ask_bp"] - columns["bid_bp"])[two_sided]
    trades = columns["kind"] == RowKind.TRADE
    at_steps = rows.select(["bid_bp", "ask_bp"]).take(pa.array(steps))
    bid, ask = at_steps["bid_bp"].to_numpy(), at_steps["ask_bp"].to_numpy()
    mid = ((bid + ask) / 2)[(bid > 0) & (ask < 10_000)]
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
        return f"{steps} steps, under {config.min_steps}"
    if quartiles < config.min_quartiles:
        return f"active in {quartiles} of {QUARTILES} quarters, under {config.min_quartiles}"
    return None


def _is_causal(
    steps_ms: NDArray[np.int64], opened: int, ended: int, config: SuitabilityConfig
) -> bool:
    # the same rule at the same rate, on what is known after the first part
    known = steps_ms[steps_ms < opened + config.causal_share * (ended - opened)]
    return bool(len(known) >= config.min_steps * config.causal_share)


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
