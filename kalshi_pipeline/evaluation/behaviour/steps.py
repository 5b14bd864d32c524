"""Every step of every episode of a policy, summed up by market and bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.behaviour.states import Dimension
from kalshi_pipeline.evaluation.behaviour.walks import Detail, Markets
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.record import Fills, Trace
from kalshi_pipeline.trading.tape import Tape, Universe

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What a policy did in each bucket of one dimension, all repeats together.

    Args:
        pnl_micro: `[N, B]` change of liquidation equity in the steps that began in the bucket.
        actions: `[N, B, 7]` how often each was chosen.
        contracts_centi: `[N, B]` filled during those steps.
    """

    pnl_micro: Floats
    actions: Floats
    contracts_centi: Floats


def gains_micro(trace: Trace, start_micro: int) -> Ints:
    """`[T]` change of liquidation equity in each step; sums to a job's P&L."""
    before = np.empty_like(trace.equity_micro)
    before[1:] = trace.equity_micro[:-1]
    before[trace.first[:-1][np.diff(trace.first) > 0]] = start_micro
    gains: Ints = trace.equity_micro - before
    return gains


def held_before(trace: Trace) -> Ints:
    """`[T]` position at the start of each step."""
    before = np.empty_like(trace.position_centi)
    before[1:] = trace.position_centi[:-1]
    before[trace.first[:-1][np.diff(trace.first) > 0]] = 0
    return np.asarray(before)


def lasted_ms(tape: Tape, trace: Trace) -> Ints:
    """`[T]` market time of each step."""
    times_ms = tape.time_ms[tape.step_row]
    lasted: Ints = times_ms[trace.step + 1] - times_ms[trace.step]
    return lasted


def step_of_fill(tape: Tape, fills: Fills) -> Ints:
    """`[F]` step of the tape during which each fill happened, whenever it was decided."""
    return np.asarray(np.searchsorted(tape.step_row, fills.row, side="left") - 1)


def tally(
    detail: Detail,
    universes: Mapping[int, Universe],
    codes: Mapping[int, Mapping[str, Ints]],
    markets: Markets,
    dimensions: Sequence[Dimension],
    start_micro: int,
) -> dict[str, Tally]:
    """Sum one policy's steps up, by dimension.

    Args:
        detail: what it played.
        universes: session -> its episodes.
        codes: session in scope -> name of a dimension -> `[T]` bucket of each step of its tape.
        markets: those in scope.
        dimensions: to sum up by.
        start_micro: cash an episode starts with.
    """
    sums = {
        dimension.name: np.zeros((len(markets.names), len(dimension.buckets), 2 + ACTIONS))
        for dimension in dimensions
    }
    for session, code_of in codes.items():
        trace, fills, jobs = detail.sessions[session]
        market = markets.of_episode[session][jobs]
        of_step = np.repeat(market, np.diff(trace.first))
        of_fill = market[fills.job]
        steps, filled = of_step >= 0, of_fill >= 0
        gains, actions = gains_micro(trace, start_micro)[steps], trace.action[steps]
        at_step = trace.step[steps]
        at_fill = step_of_fill(universes[session].tape, fills)[filled]
        for name, total in sums.items():
            code, (_, width, columns) = code_of[name], total.shape
            flat = total.reshape(-1)
            place = (of_step[steps] * width + code[at_step]) * columns
            place_filled = (of_fill[filled] * width + code[at_fill]) * columns
            _add(flat, place, gains)
            _add(flat, place + 2 + actions, np.ones(len(place)))
            _add(flat, place_filled + 1, fills.size_centi[filled])
    return {
        name: Tally(total[:, :, 0], total[:, :, 2:], total[:, :, 1]) for name, total in sums.items()
    }


def _add(flat: Floats, place: Ints, values: NDArray[Any]) -> None:
    # whole numbers below 2^53: exact
    flat += np.bincount(place, values, minlength=len(flat))


def event_pnl_micro(detail: Detail, markets: Markets, start_micro: int) -> Floats:
    """`[C]` P&L of each event in scope: sum over its segments of the mean over repeats."""
    totals = np.zeros(markets.events)
    for session, (trace, _, jobs) in detail.sessions.items():
        market = markets.of_episode[session][jobs]
        inside = market >= 0
        pnl = trace.equity_micro[trace.first[1:] - 1] - start_micro
        np.add.at(totals, markets.event[market[inside]], pnl[inside])
    return totals / detail.repeats
