"""Single trades with the book around them, as plain numbers for a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT, MICRO_PER_CENT
from kalshi_pipeline.evaluation.evidence import Evidence, Turn
from kalshi_pipeline.evaluation.trades.dissect import Dissection
from kalshi_pipeline.evaluation.trades.lots import NONE
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.tape import RowKind, Tape

Ints = NDArray[np.int64]
AROUND = 30  # messages before the entry and after the exit
POINTS = 200  # messages shown at most; those with a fill always are
LEVELS = 5
BP_PER_CENT = 100


def examples(evidence: Evidence, weight: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The judged policy's best, worst and median round trip, and the median loss.

    Args:
        evidence: what was played.
        weight: of each row of the ledger; 0: out of scope.
    """
    turns = [turn for turn in evidence.turns if turn.policy == evidence.case.judged.name]
    gains = [turn.dissection.lots.gain_micro for turn in turns]
    kept = [weight[turn.first + turn.dissection.lots.job] > 0 for turn in turns]
    gain = np.concatenate(gains)[np.concatenate(kept)]
    turn_of = np.repeat(np.arange(len(turns)), [int(mask.sum()) for mask in kept])
    lot_of = np.concatenate([np.flatnonzero(mask) for mask in kept])
    if not len(gain):
        return []
    order = np.argsort(gain, kind="stable")
    chosen = {
        "the best trade": order[-1],
        "the worst trade": order[0],
        "the median trade": order[len(order) // 2],
    }
    losses = order[: int(np.count_nonzero(gain < 0))]
    if len(losses):
        chosen["the median losing trade"] = losses[len(losses) // 2]
    shown: dict[tuple[int, int], str] = {}
    for why, place in chosen.items():
        shown.setdefault((int(turn_of[place]), int(lot_of[place])), why)
    return [_example(evidence, turns[turn], lot, why) for (turn, lot), why in shown.items()]


def _example(evidence: Evidence, turn: Turn, lot: int, why: str) -> dict[str, Any]:
    found, universe = turn.dissection, evidence.case.universes[turn.session]
    fills, lots, tape = found.fills, found.lots, universe.tape
    job, opened, closed = (
        int(column[lot]) for column in (lots.job, lots.opened_by, lots.closed_by)
    )
    episode = int(found.episode[job])
    names, end = universe.episodes[episode], int(tape.end_row[episode]) - 1
    first = max(int(tape.first_row[episode]), int(fills.row[opened]) - AROUND)
    last = min(end if closed == NONE else int(fills.row[closed]) + AROUND, end)
    within = np.flatnonzero((fills.job == job) & (fills.row >= first) & (fills.row <= last))
    rows = _shown(first, last, fills.row[within])
    at_end = "settlement" if tape.settlement_bp[episode] >= 0 else "liquidation"
    opened_ms = int(fills.time_ms[opened])
    return {
        "why": why,
        "policy": turn.policy,
        "session": turn.session,
        "event": names.event,
        "market": names.market,
        "segment": names.segment,
        "opened_ms": opened_ms,
        "pnl_cents": int(lots.gain_micro[lot]) / MICRO_PER_CENT,
        "ended_by": at_end if closed == NONE else "fill",
        "fills": [_fill(found, fill, opened_ms) for fill in within.tolist()],
        "book": _book(tape, episode, rows, opened_ms),
    }


def _shown(first: int, last: int, always: Ints) -> Ints:
    # evenly spaced messages; those a fill was on, and the one before each
    spaced = np.linspace(first, last, min(POINTS, last - first + 1)).astype(np.int64)
    return np.unique(np.concatenate([spaced, always, np.maximum(always - 1, first)]))


def _fill(found: Dissection, fill: int, opened_ms: int) -> dict[str, Any]:
    fills = found.fills
    return {
        "at_s": (int(fills.time_ms[fill]) - opened_ms) / 1_000,
        "side": "buy" if fills.side[fill] == BUY else "sell",
        "price_cents": int(fills.price_bp[fill]) / BP_PER_CENT,
        "contracts": int(fills.size_centi[fill]) / CENTI_PER_CONTRACT,
        "fee_cents": int(fills.fee_micro[fill]) / MICRO_PER_CENT,
        "taker": bool(fills.taker[fill]),
        "position_contracts": int(found.position_centi[fill]) / CENTI_PER_CONTRACT,
    }


def _book(tape: Tape, episode: int, rows: Ints, opened_ms: int) -> list[dict[str, Any]]:
    """The book after each row: its best quotes, and levels `[cents, contracts]`, best first."""
    begin = int(tape.first_row[episode])
    snapshots = np.flatnonzero(tape.kind[begin : int(rows[0]) + 1] == RowKind.SNAPSHOT)
    at = begin + int(snapshots[-1])  # the last that replaces what came before
    ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})
    book = []
    for row in rows.tolist():
        while at <= row:
            _apply(tape, at, ladders)
            at += 1
        yes, no = (sorted(ladder.items(), reverse=True)[:LEVELS] for ladder in ladders)
        bids = [_level(price, size) for price, size in yes]
        asks = [_level(BP_PER_DOLLAR - price, size) for price, size in no]
        bid, ask = (levels[0] if levels else (None, 0.0) for levels in (bids, asks))
        book.append(
            {
                "at_s": (int(tape.time_ms[row]) - opened_ms) / 1_000,
                "bid_cents": bid[0],
                "ask_cents": ask[0],
                "bid_contracts": bid[1],
                "ask_contracts": ask[1],
                "bids": bids,
                "asks": asks,
            }
        )
    return book


def _level(price_bp: int, size_centi: int) -> tuple[float, float]:
    return price_bp / BP_PER_CENT, size_centi / CENTI_PER_CONTRACT


def _apply(tape: Tape, row: int, ladders: tuple[dict[int, int], dict[int, int]]) -> None:
    if tape.kind[row] == RowKind.SNAPSHOT:
        shot = int(tape.change_centi[row])
        for ladder in ladders:
            ladder.clear()
        for level in range(int(tape.snapshot_first[shot]), int(tape.snapshot_first[shot + 1])):
            price, size = int(tape.level_price_bp[level]), int(tape.level_size_centi[level])
            ladders[int(tape.level_side[level])][price] = size
    elif tape.kind[row] == RowKind.DELTA:
        ladder, price = ladders[int(tape.side[row])], int(tape.price_bp[row])
        ladder[price] = ladder.get(price, 0) + int(tape.change_centi[row])
        if ladder[price] <= 0:
            del ladder[price]
