"""The message table -> frame records, market by market, each in replay order; memory is bounded.

A session that fits is sorted in memory. A larger one is cut into groups of whole markets, each
written to a scratch file as it is read, and the groups are then sorted one after the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.errors import RecordingError
from kalshi_pipeline.market.replay_tables import FRAME, Frames
from kalshi_pipeline.recordings.order_kernel import (
    RECORDS,
    Batch,
    Rest,
    count_groups,
    scatter_rows,
    sort_records,
)
from kalshi_pipeline.recordings.replay_order import MarketCodes, Survey, ahead, batch_columns

GROUP_RECORDS = 12_000_000  # sorted in memory at a time: 768 MB
MAX_MARKET_RECORDS = 24_000_000  # one market's: 1.5 GB
_READ_RECORDS = 1 << 18


@dataclass(frozen=True)
class MarketFrames:
    """Frames of the markets from `first_market` on, the m-th from `begins[m]` on."""

    first_market: int
    frames: Frames
    begins: NDArray[np.int64]


def market_frames(
    survey: Survey, scratch: Path | None = None, group_records: int = GROUP_RECORDS
) -> Iterator[MarketFrames]:
    """The frames of a session, whole markets in the order of their tickers.

    Args:
        survey: the session.
        scratch: folder for what does not fit into memory; None = the system's.
        group_records: how many records fit.

    Raises:
        RecordingError: one market alone has more records than can be sorted.
    """
    records = survey.of_tickers(RECORDS)
    for ticker, count in zip(survey.tickers, records.tolist(), strict=True):
        if count > MAX_MARKET_RECORDS:
            raise RecordingError(
                f"one market has {count:,} frames and levels; up to {MAX_MARKET_RECORDS:,} can be "
                "sorted",
                market=ticker,
                rule="market_records",
                value=count,
            )
    groups = _groups(records, group_records)
    if len(groups) == 1:
        yield _sorted_at_once(survey, records)
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".frames-") as place:
        paths = [Path(place) / str(group) for group in range(len(groups))]
        _spill(survey, groups, paths)
        for (first, end), path in zip(groups, paths, strict=True):
            yield _sorted_from(path, first, records[first:end])
            path.unlink()


def _groups(records: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    # whole markets, first and end, of at most so many records where a market has no more
    groups, first, held = [], 0, 0
    for market, count in enumerate(records.tolist()):
        if held and held + count > most:
            groups.append((first, market))
            first, held = market, 0
        held += count
    return [*groups, (first, len(records))]


def _begins(records: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(records)]).astype(np.int64)


def _rows(survey: Survey) -> Iterator[tuple[Batch, Rest, NDArray[np.int64]]]:
    codes = MarketCodes(dict(survey.codes))
    for table in ahead(survey.batches((*Batch._fields, *Rest._fields))):
        columns = batch_columns(table, (*Batch._fields, *Rest._fields), codes)
        batch = Batch(*(columns[name] for name in Batch._fields))
        rest = Rest(*(columns[name] for name in Rest._fields))
        first = batch.frame[0] if len(batch.frame) else 0
        yield batch, rest, survey.marks[np.searchsorted(survey.marks[:, 0], first) :]


def _final_codes(survey: Survey) -> NDArray[np.int32]:
    final = np.full(len(survey.codes), -1, dtype=np.int32)
    for market, ticker in enumerate(survey.tickers):
        final[survey.codes[ticker]] = market
    return final


def _sorted_at_once(survey: Survey, records: NDArray[np.int64]) -> MarketFrames:
    begins, final = _begins(records), _final_codes(survey)
    frames, cursor = np.empty(int(begins[-1]), FRAME), begins[:-1].copy()
    for batch, rest, marks in _rows(survey):
        scatter_rows(batch, rest, final, final, survey.table, survey.known, marks, cursor, frames)
    return MarketFrames(0, frames, begins)


def _spill(survey: Survey, groups: list[tuple[int, int]], paths: list[Path]) -> None:
    final = _final_codes(survey)
    starts = np.array([first for first, _ in groups])
    group_of = (np.searchsorted(starts, final, side="right") - 1).astype(np.int32)
    records: NDArray[Any] = np.zeros(0, FRAME)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb", buffering=0)) for path in paths]
        for batch, rest, marks in _rows(survey):
            if len(records) < len(batch.kind):
                records = np.empty(len(batch.kind), FRAME)
            counts = np.zeros(len(groups), np.int64)
            count_groups(batch.kind, batch.market, group_of, counts)
            ends = np.cumsum(counts)
            cursor = ends - counts
            scatter_rows(
                batch, rest, final, group_of, survey.table, survey.known, marks, cursor, records
            )
            for file, start, end in zip(files, ends - counts, ends, strict=True):
                file.write(records[start:end].data)


def _sorted_from(path: Path, first_market: int, records: NDArray[np.int64]) -> MarketFrames:
    begins = _begins(records)
    frames, cursor = np.empty(int(begins[-1]), FRAME), begins[:-1].copy()
    with path.open("rb") as file:
        while len(part := np.fromfile(file, FRAME, _READ_RECORDS)):
            sort_records(part, first_market, cursor, frames)
    return MarketFrames(first_market, frames, begins)
