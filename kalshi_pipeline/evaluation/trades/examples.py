"""Single trades with the book around them, as plain numbers for a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR, MICRO_PER_CENT
from kalshi_pipeline.evaluation.evidence import Evidence, Turn
from kalshi_pipeline.evaluation.trades.lots import NONE
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.tape import RowKind, Tape

Ints = NDArray[np.int64]
AROUND = 30  # messages before the entry and after the exit
POINTS = 200  # messages shown at most; those with a fill always are
LEVELS = 5


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
        "Best trade": order[-1],
        "Worst trade": order[0],
        "Median trade": order[len(order) // 2],
    }
    losses = order[: int(np.count_nonzero(gain < 0))]
    if len(losses):
        chosen["Median losing trade"] = losses[len(losses) // 2]
    shown: dict[tuple[int, int], str] = {}
    for title, place in chosen.items():
        shown.setdefault((int(turn_of[place]), int(lot_of[place])), title)
    return [_example(evidence, turns[turn], lot, title) for (turn, lot), title in shown.items()]


def _example(evidence: Evidence, turn: Turn, lot: int, title: str) -> dict[str, Any]:
    found = turn.dissection
    fills, lots = found.fills, found.lots
    universe = evidence.case.universes[turn.session]
    tape = universe.tape
    job = int(lots.job[lot])
    episode = int(found.episode[job])
    opened, closed = int(lots.opened_by[lot]), int(lots.closed_by[lot])
    end = int(tape.end_row[episode]) - 1
    last = end if closed == NONE else int(fills.row[closed])
    first = max(int(tape.first_row[episode]), int(fills.row[opened]) - AROUND)
    within = np.flatnonzero(
        (fills.job == job) & (fills.row >= first) & (fills.row <= min(last + AROUND, end))
    )
    rows = _shown(first, min(last + AROUND, end), fills.row[within])
    names = universe.episodes[episode]
    bids, asks = _levels(tape, episode, rows)
    return {
        "title": title,
        "session": turn.session,
        "event": names.event,
        "market": names.market,
        "gain_cents": int(lots.gain_micro[lot]) / MICRO_PER_CENT,
        "ended_by": "fill"
        if closed != NONE
        else ("settlement" if tape.settlement_bp[episode] >= 0 else "liquidation"),
        "fills": [
            {
                "time_ms": int(fills.time_ms[fill]),
                "side": "buy" if fills.side[fill] == BUY else "sell",
                "price_bp": int(fills.price_bp[fill]),
                "size_centi": int(fills.size_centi[fill]),
                "fee_cents": int(fills.fee_micro[fill]) / MICRO_PER_CENT,
                "taker": bool(fills.taker[fill]),
                "of_trade": fill in (opened, closed),
            }
            for fill in within.tolist()
        ],
        "times_ms": tape.time_ms[rows].tolist(),
        "bid_bp": [int(bid) if bid > 0 else None for bid in tape.bid_bp[rows]],
        "ask_bp": [int(ask) if ask < BP_PER_DOLLAR else None for ask in tape.ask_bp[rows]],
        "bid_size_centi": tape.bid_size_centi[rows].tolist(),
        "ask_size_centi": tape.ask_size_centi[rows].tolist(),
        "bids": bids,
        "asks": asks,
    }


def _shown(first: int, last: int, always: Ints) -> Ints:
    # evenly spaced messages; those a fill was on, and the one before each
    spaced = np.linspace(first, last, min(POINTS, last - first + 1)).astype(np.int64)
    return np.unique(np.concatenate([spaced, always, np.maximum(always - 1, first)]))


def _levels(
    tape: Tape, episode: int, rows: Ints
) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
    """The best `LEVELS` levels of each side after each row: `[YES price_bp, size_centi]`."""
    begin = int(tape.first_row[episode])
    snapshots = np.flatnonzero(tape.kind[begin : int(rows[0]) + 1] == RowKind.SNAPSHOT)
    at = begin + int(snapshots[-1])  # the last that replaces what came before
    ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})
    bids, asks = [], []
    for row in rows.tolist():
        while at <= row:
            _apply(tape, at, ladders)
            at += 1
        yes, no = (sorted(ladder.items(), reverse=True)[:LEVELS] for ladder in ladders)
        bids.append([[price, size] for price, size in yes])
        asks.append([[BP_PER_DOLLAR - price, size] for price, size in no])
    return bids, asks


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
