"""`trades.parquet`, one row a fill, and `trips.parquet`, one row a round trip, of the own cell.

The judged policy and its variants are there whole, of a baseline the first repeat of each episode:
enough to ask what it did, and what the report says of it is measured on all. Keys of both: policy,
session, market, segment, repeat, as in the ledger. Money is in 1/1,000,000 dollar, sizes in 1/100
contract, prices in 1/10,000 dollar on the YES scale, times in Unix milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.evidence import Evidence, Turn
from kalshi_pipeline.evaluation.trades.dissect import HORIZONS_S, NO_MID, Flag
from kalshi_pipeline.evaluation.trades.lots import NONE
from kalshi_pipeline.trading.actions import BUY
from kalshi_pipeline.trading.tape import Tape

Ints = NDArray[np.int64]
_KEYS = ("policy", "session", "event", "market", "segment", "repeat", "label")


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    names = [(key, pa.int64() if key in _NUMBERS else pa.string()) for key in _KEYS]
    return pa.schema([*names, *columns])


_NUMBERS = ("session", "segment", "repeat")
_INT, _FLAG, _TEXT = pa.int64(), pa.bool_(), pa.string()
TRADES = _schema(
    ("fill", _INT),  # in the order they happened in the episode
    ("step", _INT),  # of the episode, at which the order was decided
    ("decided_ms", _INT), ("time_ms", _INT), ("is_buy", _FLAG), ("price_bp", _INT),
    ("size_centi", _INT), ("fee_micro", _INT), ("is_taker", _FLAG), ("improved", _FLAG),
    # the book it met
    ("bid_bp", _INT), ("ask_bp", _INT), ("bid_size_centi", _INT), ("ask_size_centi", _INT),
    ("spread_bp", _INT), ("mid2_bp", _INT),  # twice the mark's mid
    ("age_ms", _INT),  # from the message before to the one it filled on
    ("thin_touch", _FLAG), ("stale_book", _FLAG),
    ("position_centi", _INT), ("cash_micro", _INT),  # after it
    *((f"mid2_{horizon}s_bp", _INT) for horizon in HORIZONS_S),  # null: the segment ends before
    ("opens_trip", _INT), ("closes_trip", _INT),  # of the episode; null: none; the first it closes
)  # fmt: skip
TRIPS = _schema(
    ("trip", _INT),  # in the order they were opened in the episode
    ("opened_by", _INT), ("closed_by", _INT),  # fills; null: the end of the episode
    ("opened_ms", _INT), ("closed_ms", _INT), ("is_buy", _FLAG), ("price_bp", _INT),
    ("size_centi", _INT), ("at_end_centi", _INT),  # what the end of the episode closed
    ("ended_by", _TEXT),  # fill, settlement, liquidation
    ("entry_fee_micro", _INT), ("gain_micro", _INT),
    ("held_micro", _INT),  # the gain, had it been held to the end: see `control`
    ("thin_touch", _FLAG), ("stale_book", _FLAG), ("improved", _FLAG),
)  # fmt: skip


def trades_table(evidence: Evidence) -> pa.Table:
    """`TRADES`."""
    return _table(evidence, TRADES, _fills)


def trips_table(evidence: Evidence) -> pa.Table:
    """`TRIPS`."""
    return _table(evidence, TRIPS, _lots)


def _table(evidence: Evidence, schema: pa.Schema, columns_of: Any) -> pa.Table:
    whole = {policy.name for policy in (evidence.case.judged, *evidence.case.variants)}
    repeat = evidence.ledger["repeat"].to_numpy()
    tables = [schema.empty_table()]
    for turn in evidence.turns:
        job, columns = columns_of(evidence, turn)
        kept = np.flatnonzero((repeat[turn.first + job] == 0) | (turn.policy in whole))
        rows = pa.array(turn.first + job[kept])
        keys = [evidence.ledger[key].combine_chunks().take(rows) for key in _KEYS]
        values = [_array(columns[field.name], kept) for field in list(schema)[len(_KEYS) :]]
        tables.append(pa.Table.from_arrays([*keys, *values], schema=schema))
    return pa.concat_tables(tables)


def _array(values: Any, kept: Ints) -> pa.Array:
    if isinstance(values, tuple):  # values, and where there are none
        return pa.array(values[0][kept], mask=values[1][kept])
    return pa.array(values[kept])


def _first_of(job: Ints) -> Ints:
    """`[n]` place of the first row of each row's job; jobs ascend."""
    return np.searchsorted(job, job)


def _fills(evidence: Evidence, turn: Turn) -> tuple[Ints, dict[str, Any]]:
    found, fills = turn.dissection, turn.dissection.fills
    tape: Tape = evidence.case.universes[turn.session].tape
    lots, met = found.lots, found.book_row
    lot_first = np.searchsorted(lots.job, fills.job)
    episode_step = tape.first_step[found.episode[fills.job]]
    bid, ask = tape.bid_bp[met].astype(np.int64), tape.ask_bp[met].astype(np.int64)
    return fills.job, {
        "fill": np.arange(len(fills.job)) - _first_of(fills.job),
        "step": fills.step - episode_step,
        "decided_ms": tape.time_ms[tape.step_row[fills.step]],
        "time_ms": fills.time_ms,
        "is_buy": fills.side == BUY,
        "price_bp": fills.price_bp,
        "size_centi": fills.size_centi,
        "fee_micro": fills.fee_micro,
        "is_taker": fills.taker,
        "improved": fills.improved,
        "bid_bp": bid,
        "ask_bp": ask,
        "bid_size_centi": tape.bid_size_centi[met],
        "ask_size_centi": tape.ask_size_centi[met],
        "spread_bp": ask - bid,
        "mid2_bp": found.mid2_bp,
        "age_ms": found.age_ms,
        "thin_touch": found.flags & Flag.THIN_TOUCH > 0,
        "stale_book": found.flags & Flag.STALE_BOOK > 0,
        "position_centi": found.position_centi,
        "cash_micro": found.cash_micro,
        **{
            f"mid2_{horizon}s_bp": (later, later == NO_MID)
            for horizon, later in zip(HORIZONS_S, found.later_mid2_bp, strict=True)
        },
        "opens_trip": (lots.opens - lot_first, lots.opens == NONE),
        "closes_trip": (lots.closes - lot_first, lots.closes == NONE),
    }


def _lots(evidence: Evidence, turn: Turn) -> tuple[Ints, dict[str, Any]]:
    found, fills, lots = turn.dissection, turn.dissection.fills, turn.dissection.lots
    tape: Tape = evidence.case.universes[turn.session].tape
    fill_first = np.searchsorted(fills.job, lots.job)
    at_end = lots.closed_by == NONE
    over_ms = tape.time_ms[tape.end_row[found.episode[lots.job]] - 1]
    closed_ms = np.where(at_end, over_ms, fills.time_ms[lots.closed_by])
    settled = tape.settlement_bp[found.episode[lots.job]] >= 0
    return lots.job, {
        "trip": np.arange(len(lots.job)) - _first_of(lots.job),
        "opened_by": lots.opened_by - fill_first,
        "closed_by": (lots.closed_by - fill_first, at_end),
        "opened_ms": fills.time_ms[lots.opened_by],
        "closed_ms": closed_ms,
        "is_buy": fills.side[lots.opened_by] == BUY,
        "price_bp": fills.price_bp[lots.opened_by],
        "size_centi": lots.size_centi,
        "at_end_centi": lots.at_end_centi,
        "ended_by": np.where(at_end, np.where(settled, "settlement", "liquidation"), "fill"),
        "entry_fee_micro": lots.entry_fee_micro,
        "gain_micro": lots.gain_micro,
        "held_micro": found.matched_micro,
        "thin_touch": lots.flags & Flag.THIN_TOUCH > 0,
        "stale_book": lots.flags & Flag.STALE_BOOK > 0,
        "improved": lots.flags & Flag.IMPROVED > 0,
    }
