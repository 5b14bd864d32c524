"""The slow twin of the depletion kernel: written from the rule, one dictionary a candidate.

A candidate is a trade, or a decrease of the touch: segment, recv_ms, exchange_ms (None = not said),
trade, side (the ladder that lost size), price_bp, size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

Candidate = dict[str, Any]

# confidence of the four passes: (same exchange time?, same size?)
PASSES = {(True, True): 100, (True, False): 95, (False, True): 85, (False, False): 60}
NO_TRADE, TICKER = 95, 90


def touch_decreases(rows: list[dict[str, Any]]) -> list[int]:
    """Rows of a book table that take size from the best level as it stood in the row before."""
    found = []
    for i, (before, row) in enumerate(pairwise(rows), start=1):
        if row["kind"] != 1 or row["size_centi"] >= 0 or row["segment"] < 0:
            continue
        best = {0: before["bid_bp"], 1: 10_000 - before["ask_bp"]}[row["side"]]
        if before["segment"] == row["segment"] and row["price_bp"] == best:
            found.append(i)
    return found


def split_by_trades(
    candidates: list[Candidate], recv_window: int, exchange_window: int, most: int
) -> tuple[list[int], list[int]]:
    """Traded part (of a trade: explained part) and confidence of each candidate of one market."""
    traded, levels = [0] * len(candidates), [[] for _ in candidates]
    for (same_time, same_size), confidence in PASSES.items():
        for i, trade in enumerate(candidates):
            while trade["trade"] and traded[i] < trade["size"]:
                choices = []
                for j in _around(candidates, i, recv_window, most):
                    other = candidates[j]
                    left, missing = other["size"] - traded[j], trade["size"] - traded[i]
                    level = (other["side"], other["price_bp"])
                    if other["trade"] or not left or level != (trade["side"], trade["price_bp"]):
                        continue
                    if same_size and left != missing:
                        continue
                    times = trade["exchange_ms"], other["exchange_ms"]
                    if None not in times:
                        apart, limit = abs(times[0] - times[1]), exchange_window
                    else:
                        apart, limit = abs(trade["recv_ms"] - other["recv_ms"]), recv_window
                    if apart > limit or (same_time and (None in times or apart)):
                        continue
                    choices.append((apart, j > i, abs(j - i), j))
                if not choices:
                    break
                j = min(choices)[-1]
                part = min(trade["size"] - traded[i], candidates[j]["size"] - traded[j])
                for k in (i, j):
                    traded[k] += part
                    levels[k].append(confidence)
    nothing = [0 if c["trade"] else NO_TRADE for c in candidates]
    return traded, [min(found, default=none) for found, none in zip(levels, nothing, strict=True)]


def _around(candidates: list[Candidate], i: int, window: int, most: int) -> list[int]:
    reached = []
    for step in (-1, 1):
        j = i + step
        while (
            0 <= j < len(candidates)
            and abs(j - i) <= most
            and candidates[j]["segment"] == candidates[i]["segment"]
            and abs(candidates[j]["recv_ms"] - candidates[i]["recv_ms"]) <= window
        ):
            reached.append(j)
            j += step
    return reached


def split_by_tickers(
    candidates: list[Candidate], tickers: list[tuple[int, int]], by_exchange: bool
) -> tuple[list[int], list[int]]:
    """The same from tickers (time_ms, size traded since the one before), ascending in time."""
    traded, confidence = [0] * len(candidates), [0] * len(candidates)
    between: dict[int, list[int]] = {}
    for i, candidate in enumerate(candidates):
        time_ms = candidate["exchange_ms" if by_exchange else "recv_ms"]
        if candidate["trade"] or time_ms is None:
            continue
        later = [k for k, (at, _) in enumerate(tickers) if at >= time_ms]
        if later and later[0] > 0:
            between.setdefault(later[0], []).append(i)
    for k, inside in between.items():
        volume = tickers[k][1]
        lost = sum(candidates[i]["size"] for i in inside)
        equal = [i for i in inside if candidates[i]["size"] == volume]
        share = min(1.0, volume / lost)
        seen = given = 0
        for i in inside:
            if volume == 0 or len(equal) == 1:
                confidence[i] = TICKER
                traded[i] = volume if i in equal else 0
                continue
            seen += candidates[i]["size"]
            due = min(volume, lost) if seen == lost else min(volume, int(share * seen))
            traded[i] = max(0, min(candidates[i]["size"], due - given))
            given += traded[i]
            confidence[i] = int(TICKER * (1 - 2 * share) ** 2)
    return traded, confidence
