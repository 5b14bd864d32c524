"""What was read of a line -> rows of the message table, by the rules of `FrameDecoder`."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR, MAX_SIZE_CENTI
from kalshi_pipeline.market.prices import NO
from kalshi_pipeline.recordings.messages import MAX_VOLUME_CENTI, MessageKind
from kalshi_pipeline.recordings.scanner.layout import (
    F_CONN,
    F_COUNT,
    F_COUNT_FP,
    F_DELTA,
    F_DELTA_FP,
    F_EVENT,
    F_LADDER,
    F_MARKET,
    F_MSG,
    F_OUTCOME_SIDE,
    F_PRICE,
    F_PRICE_DOLLARS,
    F_RECV_MS,
    F_SEQ,
    F_SID,
    F_SIDE,
    F_TAKER_SIDE,
    F_TS_MS,
    F_TYPE,
    F_VOLUME_FP,
    F_YES_PRICE,
    F_YES_PRICE_DOLLARS,
    NULL_32,
    NULL_64,
    NULL_SIDE,
    ODD,
    SEEN,
    T_DELTA,
    T_SNAPSHOT,
    T_TRADE,
)
from kalshi_pipeline.recordings.scanner.values import centi, price_bp

_ENVELOPE = 1 << F_RECV_MS | 1 << F_CONN | 1 << F_EVENT | 1 << F_TYPE | 1 << F_MSG | 1 << F_MARKET
_OF_DELTA = 1 << F_SIDE | 1 << F_SID
_SNAPSHOT, _LEVEL = np.uint8(MessageKind.SNAPSHOT), np.uint8(MessageKind.LEVEL)
_DELTA, _TRADE = np.uint8(MessageKind.DELTA), np.uint8(MessageKind.TRADE)
_TICKER = np.uint8(MessageKind.TICKER)


@part
def write(scratch, columns, row, mirrored):  # type: ignore[no-untyped-def]
    """Write the rows of the frame in the scratch; how many, `ODD` = the reference must look."""
    values = scratch.values
    seen = values[SEEN]
    if seen & _ENVELOPE != _ENVELOPE:
        return ODD
    kind = values[F_TYPE]
    if kind == T_SNAPSHOT:
        rows = _write_snapshot(scratch, columns, row, mirrored)
    elif kind == T_DELTA:
        rows = _write_delta(values, seen, columns, row, mirrored)
    elif kind == T_TRADE:
        rows = _write_trade(values, seen, columns, row)
    else:
        rows = _write_ticker(values, seen, columns, row)
    sid = np.int32(values[F_SID]) if seen >> F_SID & 1 else NULL_32
    seq = values[F_SEQ] if seen >> F_SEQ & 1 else NULL_64
    exchange_ms = NULL_64
    if kind != T_SNAPSHOT and seen >> F_TS_MS & 1:
        exchange_ms = values[F_TS_MS]
    for i in range(row, row + rows):
        columns.epoch[i], columns.sid[i], columns.seq[i] = values[F_CONN], sid, seq
        columns.recv_ms[i], columns.exchange_ms[i] = values[F_RECV_MS], exchange_ms
        columns.market[i] = values[F_MARKET]
    return rows


@part
def _write_delta(values, seen, columns, row, mirrored):  # type: ignore[no-untyped-def]
    if seen & _OF_DELTA != _OF_DELTA or not seen >> F_SID & 1:
        return ODD
    price = _either_price(values, seen, F_PRICE_DOLLARS, F_PRICE)
    change = _either_size(values, seen, F_DELTA_FP, F_DELTA, -MAX_SIZE_CENTI)
    if price < 0 or change == NULL_64:
        return ODD
    if mirrored and values[F_SIDE] == NO:
        price = BP_PER_DOLLAR - price
    columns.kind[row], columns.side[row] = _DELTA, values[F_SIDE]
    columns.price_bp[row], columns.size_centi[row] = price, change
    return 1


@part
def _write_trade(values, seen, columns, row):  # type: ignore[no-untyped-def]
    price = _either_price(values, seen, F_YES_PRICE_DOLLARS, F_YES_PRICE)
    size = _either_size(values, seen, F_COUNT_FP, F_COUNT, 1)
    if price < 0 or size == NULL_64:
        return ODD
    if seen >> F_OUTCOME_SIDE & 1:
        side = values[F_OUTCOME_SIDE]
    elif seen >> F_TAKER_SIDE & 1:
        side = values[F_TAKER_SIDE]
    else:
        return ODD
    columns.kind[row], columns.side[row] = _TRADE, side
    columns.price_bp[row], columns.size_centi[row] = price, size
    return 1


@part
def _write_ticker(values, seen, columns, row):  # type: ignore[no-untyped-def]
    price, volume = np.int64(NULL_32), NULL_64
    if seen >> F_PRICE_DOLLARS & 1:
        price = values[F_PRICE_DOLLARS]
        if not 0 <= price <= BP_PER_DOLLAR:
            return ODD
    if seen >> F_VOLUME_FP & 1:
        volume = centi(values[F_VOLUME_FP], 0, MAX_VOLUME_CENTI)
        if volume == NULL_64:
            return ODD
    columns.kind[row], columns.side[row] = _TICKER, NULL_SIDE
    columns.price_bp[row], columns.size_centi[row] = price, volume
    return 1


@kernel
def _write_snapshot(scratch, columns, row, mirrored):  # type: ignore[no-untyped-def]
    seen = scratch.values[SEEN]
    if not seen >> F_SID & 1:
        return ODD
    columns.kind[row], columns.side[row] = _SNAPSHOT, NULL_SIDE
    columns.price_bp[row], columns.size_centi[row] = NULL_32, NULL_64
    rows = 1
    for side in range(2):
        ladder = 3 * side
        while ladder < 3 * side + 3 and not seen >> (F_LADDER + ladder) & 1:
            ladder += 1
        if ladder == 3 * side + 3:
            continue
        for level in range(scratch.ladder[ladder, 0], scratch.ladder[ladder, 1]):
            price = scratch.level_bp[level]
            if mirrored and side == NO:
                price = BP_PER_DOLLAR - price
            columns.kind[row + rows], columns.side[row + rows] = _LEVEL, side
            columns.price_bp[row + rows] = price
            columns.size_centi[row + rows] = scratch.level_centi[level]
            rows += 1
    return rows


@part
def _either_price(values, seen, dollars, cents):  # type: ignore[no-untyped-def]
    if seen >> dollars & 1:
        return price_bp(values[dollars], False)
    if seen >> cents & 1:
        return price_bp(values[cents], True)
    return ODD


@part
def _either_size(values, seen, present, legacy, least):  # type: ignore[no-untyped-def]
    if seen >> present & 1:
        return centi(values[present], least, MAX_SIZE_CENTI)
    if seen >> legacy & 1:
        return centi(values[legacy], least, MAX_SIZE_CENTI)
    return NULL_64
