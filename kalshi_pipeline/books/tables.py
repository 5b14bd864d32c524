"""What the replay leaves in its buffers -> the tables of a session's books."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.books.schemas import BOOK_SCHEMA, LADDER_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.market.integrity import Reason, SegmentEnd, label
from kalshi_pipeline.market.replay_tables import (
    Frames,
    LadderColumn,
    Output,
    RefusedColumn,
    SegmentColumn,
)
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.replay_order import Survey


class BookTables:
    """Buffers of one session -> tables.

    Args:
        survey: the session.
    """

    def __init__(self, survey: Survey) -> None:
        self._tickers = pa.array(survey.tickers, pa.string())
        self._epoch = np.ascontiguousarray(survey.subscriptions[:, 0])
        self._sid = np.ascontiguousarray(survey.subscriptions[:, 1])
        self._frame_of = survey.frame_of

    def rows(self, out: Output, count: int) -> pa.Table:
        """The book table: each applied message, its segment, the book after it. Not copied."""
        columns: dict[str, Any] = out.rows(count)
        position, subscription = columns.pop("position"), columns.pop("subscription")
        seq = columns["seq"]
        columns |= {
            "market": pa.DictionaryArray.from_arrays(pa.array(columns["market"]), self._tickers),
            "frame": position if self._frame_of is None else self._frame_of[position],
            "epoch": self._epoch[subscription],
            "sid": self._sid[subscription],
            "seq": pa.array(seq, mask=seq < 0) if seq.min(initial=0) < 0 else seq,
        }
        return pa.table([columns[name] for name in BOOK_SCHEMA.names], schema=BOOK_SCHEMA)

    def segments(self, ended: NDArray[np.int64], first: int) -> pa.Table:
        """One row a trusted stretch, with the rows of the book table it spans.

        Args:
            ended: `[S, 6]` see `SegmentColumn`.
            first: number of the first of them.
        """
        begin, end = ended[:, SegmentColumn.FIRST_ROW], ended[:, SegmentColumn.END_ROW]
        names = {end: label(SegmentEnd(end)) for end in np.unique(ended[:, SegmentColumn.ENDED_BY])}
        columns = [
            np.arange(first, first + len(ended), dtype=np.int32),
            self._names(ended[:, SegmentColumn.MARKET]),
            begin,
            end,
            ended[:, SegmentColumn.START_MS],
            ended[:, SegmentColumn.END_MS],
            end - begin,
            pa.array([names[end] for end in ended[:, SegmentColumn.ENDED_BY]], pa.string()),
        ]
        return pa.table(columns, schema=SEGMENT_SCHEMA)

    def ladders(self, kept: NDArray[np.int64]) -> pa.Table:
        """Full ladders as (row of the book table, side, price_bp, size_centi)."""
        columns = [
            kept[:, LadderColumn.ROW],
            kept[:, LadderColumn.SIDE].astype(np.uint8),
            kept[:, LadderColumn.PRICE_BP].astype(np.int32),
            kept[:, LadderColumn.SIZE_CENTI],
        ]
        return pa.table(columns, schema=LADDER_SCHEMA)

    def quarantine(self, frames: Frames, refused: NDArray[np.int64]) -> pa.Table:
        """Every frame that the replay rejected, with its reason."""
        rows = frames[refused[:, RefusedColumn.FRAME]]
        names = {why: label(Reason(why)) for why in np.unique(refused[:, RefusedColumn.REASON])}
        reasons = [names[why] for why in refused[:, RefusedColumn.REASON]]
        price, size = (
            pa.array(np.ascontiguousarray(rows[name])).cast(pa.string())
            for name in ("price_bp", "size_centi")
        )
        seq, position = np.ascontiguousarray(rows["seq"]), rows["position"]
        columns = [
            self._names(rows["market"]),
            self._epoch[rows["subscription"]],
            pa.array(sid := self._sid[rows["subscription"]], mask=sid < 0),
            pa.array(seq, mask=seq < 0),
            np.ascontiguousarray(rows["time_ms"]),
            np.ascontiguousarray(position if self._frame_of is None else self._frame_of[position]),
            np.ascontiguousarray(rows["file"]),
            np.ascontiguousarray(rows["offset"]),
            pa.array(reasons, pa.string()),
            pc.binary_join_element_wise(price, size, ":"),
        ]
        return pa.table(columns, schema=QUARANTINE_SCHEMA)

    def _names(self, codes: NDArray[Any]) -> pa.Array:
        return self._tickers.take(pa.array(np.ascontiguousarray(codes)))
