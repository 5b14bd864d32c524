"""The figures of the suitable-market table, slowly: all rows of a market at once."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, median
from typing import Any

Row = dict[str, Any]


def activity(
    rows: list[Row],
    segments: list[Row],
    steps: set[int],
    market: str,
    close_ms: int | None,
    causal_share: float,
) -> Row:
    """Figures of one market; its steps by quarter, and those known when the choice is made."""
    own = [s for s in segments if s["market"] == market]
    inside = [i for s in own for i in range(s["first_row"], s["end_row"])]
    touch = [(rows[i]["bid_bp"], rows[i]["ask_bp"]) for i in inside]
    spreads = [ask - bid for bid, ask in touch if bid > 0 and ask < 10_000]
    mids = [
        (rows[i]["bid_bp"] + rows[i]["ask_bp"]) / 2
        for i in inside
        if i in steps and rows[i]["bid_bp"] > 0 and rows[i]["ask_bp"] < 10_000
    ]
    moves = [later - earlier for earlier, later in pairwise(mids)]
    lives = [_observed_ms(s, rows, close_ms) for s in own]
    life_ms, quarters, known = sum(lives), [0, 0, 0, 0], 0
    if own:
        began_ms = own[0]["start_ms"]
        ends = [rows[-1]["time_ms"], *(row["time_ms"] for row in rows)]
        end_ms = min(max(ends), max(ends) if close_ms is None else close_ms)
        until_ms = began_ms + int(causal_share * (end_ms - began_ms))
    for place, segment in enumerate(own):
        for i in range(segment["first_row"], segment["end_row"]):
            if i in steps:
                age_ms = sum(lives[:place]) + rows[i]["time_ms"] - segment["start_ms"]
                quarters[min(4 * age_ms // max(life_ms, 1), 3)] += 1
                known += rows[i]["time_ms"] < until_ms
    resting = [rows[i]["bid_total_centi"] + rows[i]["ask_total_centi"] for i in inside]
    return {
        "steps": sum(quarters),
        "deltas": sum(rows[i]["kind"] == 1 for i in inside),
        "resting_centi": int(fmean(resting)) if resting else 0,
        "spread_bp": median(spreads) if spreads else None,
        "volatility_bp": fmean(m**2 for m in moves) ** 0.5 if moves else None,
        "quarters": quarters,
        "known": known,
    }


def _observed_ms(segment: Row, rows: list[Row], close_ms: int | None) -> int:
    if segment["ended_by"] == "market_closed":
        return rows[segment["end_row"]]["time_ms"] - segment["start_ms"]
    if segment["ended_by"] not in ("end_of_recording", "new_epoch"):
        return segment["end_ms"] - segment["start_ms"]
    epoch = rows[segment["end_row"] - 1]["epoch"]
    last_ms = max(row["time_ms"] for row in rows if row["epoch"] == epoch)
    if close_ms is not None:
        last_ms = min(last_ms, close_ms)
    return max(segment["end_ms"], last_ms) - segment["start_ms"]
