"""The replay of a session, a block of rows of the book table at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kalshi_pipeline.books.markets import known_to_replay, markets_of, valid_places
from kalshi_pipeline.books.quality import session_quality
from kalshi_pipeline.books.tables import BookTables
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.orderbook import replay
from kalshi_pipeline.market.replay_state import STATE_WIDTH
from kalshi_pipeline.market.replay_tables import Counters, Output, Rules
from kalshi_pipeline.recordings.folder import SessionInfo
from kalshi_pipeline.recordings.market_frames import GROUP_RECORDS, MarketFrames, market_frames
from kalshi_pipeline.recordings.order_kernel import RECORDS
from kalshi_pipeline.recordings.replay_order import Batches, survey

BLOCK_ROWS = 1 << 17  # of the book table, replayed and written at a time


@dataclass(frozen=True)
class Block:
    """Some rows of the book table and what ended, was kept and was refused beside them."""

    rows: pa.Table
    segments: pa.Table
    ladders: pa.Table
    quarantine: pa.Table


class SessionReplay:
    """The replay of a session, a block of rows at a time.

    Args:
        batches: its message table.
        rejected: what decoding put into quarantine.
        info: what the collector declared.
        declared_markets: objects of `markets.json`.
        config: tolerances.
    """

    def __init__(
        self,
        batches: Batches,
        rejected: pa.Table,
        info: SessionInfo,
        declared_markets: Sequence[Mapping[str, Any]],
        config: BookConfig,
    ) -> None:
        self.survey = survey(
            batches, rejected, info, config.clock_jump_ms, continuous=config.trust == "continuous"
        )
        self.markets = markets_of(self.survey, info.session, declared_markets)
        self._info, self._declared, self._config = info, declared_markets, config
        self._rejected = Counter(rejected["reason"].to_pylist())
        self._counters = np.zeros(len(Counters), dtype=np.int64)

    @property
    def longest_ladder(self) -> int:
        """Places of the finest grid of the session."""
        return max((market.grid.levels for market in self.markets), default=1)

    @property
    def most_rows(self) -> int:
        """No more rows than this will come."""
        return int(self.survey.of_tickers(RECORDS).sum())

    def blocks(
        self,
        buffers: Callable[[], Output],
        scratch: Path | None = None,
        group_records: int = GROUP_RECORDS,
    ) -> Iterator[Block]:
        """Replay.

        Args:
            buffers: what to fill next; a block's rows are views of them.
            scratch: folder for sorting what does not fit into memory.
            group_records: how many records do.
        """
        tables, valid = BookTables(self.survey), valid_places(self.markets)
        known = known_to_replay(
            self.markets, self.survey, self._info.session, self._declared, self._config.near_bp
        )
        state, counters = np.zeros(STATE_WIDTH, dtype=np.int64), self._counters
        ladder = np.zeros(2 * self.longest_ladder, dtype=np.int64)
        rules, ended = self._rules(), 0
        for part in market_frames(self.survey, scratch, group_records):
            counters[Counters.MARKET] = counters[Counters.FRAME] = 0
            counters[Counters.FIRST_MARKET] = part.first_market
            while counters[Counters.MARKET] < len(part.begins) - 1:
                out = buffers()
                replay(
                    part.frames, part.begins, known[part.first_market :], valid, rules,
                    self.survey.accusations, state, ladder, out, counters,
                )  # fmt: skip
                yield _block(tables, part, out, counters, ended)
                ended += int(counters[Counters.SEGMENTS])
                counters[Counters.ROW_BASE] += counters[Counters.ROWS]
                for count in ("ROWS", "SEGMENTS", "LADDER_LEVELS", "REFUSED"):
                    counters[Counters[count]] = 0

    def quality(self, segments: pa.Table, quarantined: Mapping[str, int]) -> dict[str, Any]:
        """The session's measured figures, once every block has come.

        Args:
            segments: all of them.
            quarantined: rows the replay refused, by reason.
        """
        return session_quality(
            self.survey,
            self._counters,
            segments,
            self._rejected + Counter(quarantined),
            self._info,
            self._declared,
        )

    def _rules(self) -> Rules:
        config = self._config
        return Rules(
            config.cost_size_centi,
            config.crossed_tolerance_ms,
            config.crossed_tolerance_messages,
            config.ladder_every,
            self._info.sequence == "none",
            config.clock_back_ms,
        )


def _block(
    tables: BookTables, part: MarketFrames, out: Output, counters: NDArray[np.int64], ended: int
) -> Block:
    rows, segments, levels, refused = (
        int(counters[count])
        for count in (
            Counters.ROWS, Counters.SEGMENTS, Counters.LADDER_LEVELS, Counters.REFUSED
        )
    )  # fmt: skip
    return Block(
        tables.rows(out, rows),
        tables.segments(out.segments[:segments].copy(), ended),
        tables.ladders(out.ladders[:levels].copy()),
        tables.quarantine(part.frames, out.refused[:refused]),
    )
