"""Messages of tests as the feature twin sees them and as the feature kernels do."""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.features.block import BookColumns
from kalshi_pipeline.trading.tape import RowKind
from tests.oracle import features as oracle
from tests.oracle.book import DictBook
from tests.tapes import Message

COST_SIZE_CENTI = oracle.COST_SIZE_CENTI


def moments_of(messages: list[Message]) -> list[oracle.Moment]:
    ladder, moments = DictBook(), []
    for message in messages:
        if message.kind == RowKind.SNAPSHOT:
            ladder.apply_snapshot(message.ladders[0].items(), message.ladders[1].items())
        elif message.kind == RowKind.DELTA:
            ladder.apply_delta(message.side, message.price_bp, message.change_centi)
        moments.append(oracle.moment_of(message.time_ms, message.kind != RowKind.TRADE, ladder))
    return moments


def columns_of(moments: list[oracle.Moment]) -> BookColumns:
    def centi(contracts: float) -> int:
        return round(contracts * 100)

    rows = [
        (
            m.time_ms, RowKind.DELTA if m.is_update else RowKind.TRADE, m.bid_bp, m.ask_bp,
            *map(centi, (*m.sizes, *m.near, *m.total)), *m.levels,
            m.second_bp[0] or 0, 10_000 if m.second_bp[1] is None else m.second_bp[1],
            round(m.buy_bp * COST_SIZE_CENTI), round(m.sell_bp * COST_SIZE_CENTI),
        )
        for m in moments
    ]  # fmt: skip
    types = [np.int64, np.uint8, np.int32, np.int32, *[np.int64] * 6, *[np.int32] * 4]
    types += [np.int64, np.int64]
    columns = BookColumns(
        *(
            np.array(values, dtype=kind)
            for values, kind in zip(np.transpose(rows), types, strict=True)
        )
    )
    for column in columns:
        column.setflags(write=False)  # as columns of a table are: one compiled kernel for both
    return columns
