"""The scanner from outside: text in; record batches, and lines it could not be sure of, out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA
from kalshi_pipeline.recordings.scanner.layout import (
    FIELDS,
    GROUPS,
    KNOWN,
    LADDERS,
    MAX_LADDER,
    MAX_ROWS,
    NULLS,
    UNKNOWN_FIELD,
    UNKNOWN_TICKER,
    Columns,
    Cursor,
    OddLines,
    Scratch,
)
from kalshi_pipeline.recordings.scanner.names import NameTable
from kalshi_pipeline.recordings.scanner.scan import scan

_PLAIN_NAME = re.compile(r"[ !#-\[\]-~]*", re.ASCII)
ODD_LINES = 1_024  # at once
MAX_IGNORED_FIELDS = 1_000
MAX_TICKERS = 1 << 20  # then a recording that declares none begins a new table of them
_TYPES = {
    field.name: np.dtype(
        (field.type.index_type if field.name == "market" else field.type).to_pandas_dtype()
    )
    for field in MESSAGE_SCHEMA
    if field.name in Columns._fields
}


class FrameScanner:
    """Frames of one recording as rows of the message table, a row group at a time.

    Rows of odd lines are put between the scanned ones, where their lines stood.

    Args:
        tickers: markets of the session; empty = learnt from the odd lines.
        use_yes_price: NO levels come in the YES scale.
        group_rows: a row group is full when it has this many rows.
    """

    def __init__(self, tickers: Sequence[str], *, use_yes_price: bool, group_rows: int) -> None:
        self._keys = NameTable(KNOWN)
        self._tickers = NameTable((0, ticker) for ticker in tickers)
        self._declared, self._mirrored = bool(tickers), use_yes_price
        self._learning = UNKNOWN_FIELD if tickers else UNKNOWN_FIELD | UNKNOWN_TICKER
        self._group_rows = group_rows
        ladders = len(LADDERS)
        self._scratch = Scratch(
            np.zeros(FIELDS + 2, np.int64),
            np.zeros((ladders, 2), np.int64),
            np.zeros(ladders * MAX_LADDER, np.int32),
            np.zeros(ladders * MAX_LADDER, np.int64),
            np.zeros(MAX_LADDER + 2, np.int64),
            np.full(GROUPS + len(KNOWN) + MAX_IGNORED_FIELDS, -1, np.int32),
        )
        self._cursor = Cursor(*(np.zeros(1, np.int64) for _ in Cursor._fields))
        self._odd_lines = OddLines(*(np.zeros(ODD_LINES, np.int64) for _ in OddLines._fields))
        self._begin_group()

    @property
    def frames(self) -> int:
        """Frames so far."""
        return int(self._cursor.frame[0])

    @property
    def rows(self) -> int:
        """Rows so far in the row group."""
        return int(self._cursor.row[0]) + len(self._odd_rows)

    def scan(
        self, text: NDArray[np.uint8], place: int, end: int, offset: int, file: int
    ) -> tuple[int, list[list[int]]]:
        """Read whole lines from `place` on, until the text ends or the host has to do something.

        Args:
            text: bytes, with a line feed at `end`.
            place: where to begin.
            end: where the text ends.
            offset: of the text in its file.
            file: index of the file.

        Returns:
            How far it came; and start, end, row and frame of each odd line on the way.
        """
        self._cursor.place[0], self._cursor.odd[0] = place, 0
        scan(
            text, end, offset, file, self._mirrored, self._group_rows - len(self._odd_rows),
            self._learning, self._keys.arrays, self._tickers.arrays, self._scratch, self._columns,
            self._odd_lines, self._cursor,
        )  # fmt: skip
        odd = np.array(self._odd_lines)[:, : self._cursor.odd[0]]
        return int(self._cursor.place[0]), odd.T.tolist()

    def count_frame(self) -> int:
        """The ordinal of a frame that is not scanned."""
        self._cursor.frame[0] += 1
        return int(self._cursor.frame[0]) - 1

    def add(self, row: int, rows: Iterable[tuple[Any, ...]]) -> None:
        """Put rows, in the order of the message table's columns, before a scanned row."""
        for values in rows:
            self._odd_at.append(row)
            self._odd_rows.append(values)
            market = values[6]
            if market is not None:
                self._tickers.code(0, market)

    def ignore(self, group: int, name: str) -> None:
        """Pass over a field from now on, if its name is plain enough to be compared as text."""
        room = len(self._keys) < len(KNOWN) + MAX_IGNORED_FIELDS
        if room and _PLAIN_NAME.fullmatch(name):
            self._keys.code(group, name)

    def take_group(self) -> pa.RecordBatch:
        """The rows so far, as a record batch; the next row group begins."""
        count = int(self._cursor.row[0])
        columns = {name: values[:count] for name, values in self._columns._asdict().items()}
        detail = pa.nulls(count, pa.string())
        if self._odd_rows:
            columns, detail = self._merged(columns)
        arrays = {name: _array(values) for name, values in columns.items()}
        arrays["market"] = self._market_array(columns["market"])
        arrays["detail"] = detail
        self._begin_group()
        return pa.record_batch(
            [arrays[name] for name in MESSAGE_SCHEMA.names], schema=MESSAGE_SCHEMA
        )

    def _begin_group(self) -> None:
        # new arrays: the record batch of the last group lives in the old ones
        rows = self._group_rows + MAX_ROWS
        self._columns = Columns(*(np.empty(rows, _TYPES[name]) for name in Columns._fields))
        self._odd_at: list[int] = []
        self._odd_rows: list[tuple[Any, ...]] = []
        self._cursor.row[0] = 0
        if not self._declared and len(self._tickers) > MAX_TICKERS:
            self._tickers = NameTable()

    def _merged(self, scanned: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], pa.Array]:
        # the odd rows between the scanned ones, and the column that only they have
        odd = dict(
            zip((*Columns._fields, "detail"), zip(*self._odd_rows, strict=True), strict=True)
        )
        details = odd.pop("detail")
        tickers = self._tickers
        odd["market"] = tuple(t if t is None else tickers.code(0, t) for t in odd["market"])
        columns = {}
        for name, values in odd.items():
            null = NULLS.get(_TYPES[name])
            between = np.array([null if v is None else v for v in values], _TYPES[name])
            columns[name] = np.insert(scanned[name], self._odd_at, between)
        absent = np.full(len(scanned["frame"]), len(details), np.int64)
        place = np.insert(absent, self._odd_at, np.arange(len(details)))
        return columns, pa.array([*details, None], pa.string()).take(pa.array(place))

    def _market_array(self, codes: NDArray[np.int32]) -> pa.DictionaryArray:
        # only the markets that occur, in the order of the table
        names = self._tickers.names
        absent = codes < 0
        places = np.where(absent, len(names), codes)
        occurs = np.zeros(len(names) + 1, np.bool_)
        occurs[places] = True
        occurs[-1] = False
        rank = (np.cumsum(occurs) - 1).astype(np.int32)
        used = [names[code] for code in np.flatnonzero(occurs)]
        ranks = pa.array(rank[places], mask=absent if absent.any() else None)
        return pa.DictionaryArray.from_arrays(ranks, pa.array(used, pa.string()))


def _array(values: NDArray[Any]) -> pa.Array:
    null = NULLS.get(values.dtype)
    mask = None if null is None else values == null
    return pa.array(values, mask=mask if mask is not None and mask.any() else None)
