"""A database session -> its message table, quarantine and integrity figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.config import CENTI_PER_CONTRACT
from kalshi_pipeline.errors import SourceChanged
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.ingest import IngestSummary, table_writers
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from kalshi_pipeline.recordings.postgres.ladders import (
    Books,
    Figure,
    Levels,
    Policy,
    Repairs,
    Rows,
    empty_books,
    recover,
)
from kalshi_pipeline.recordings.postgres.order import in_order
from kalshi_pipeline.recordings.postgres.rows import (
    COLUMNS,
    DELTA_FILE,
    LIFECYCLE_FILE,
    TRADE_FILE,
    Block,
    Decoder,
    empty_block,
    joined,
)
from kalshi_pipeline.recordings.postgres.schema import DELTAS, SNAPSHOTS, TRADES

if TYPE_CHECKING:
    from kalshi_pipeline.recordings.postgres.sessions import DatabaseSession

_BOOK_SID, _TRADE_SID = 1, 2  # the tables do not say; a connection had one subscription a channel
_CENT_BP = 100
_KINDS = np.array([MessageKind.SNAPSHOT, MessageKind.DELTA, MessageKind.TRADE,
                   MessageKind.LIFECYCLE], dtype=np.uint8)  # fmt: skip
_NAMES = ("orderbook_snapshot", "orderbook_delta", "trade", "market_lifecycle")
REPAIR = "stale level removed"  # detail of a change no row asked for


def read_session(session: DatabaseSession, folder: Path) -> IngestSummary:
    """Write `messages.parquet`, `quarantine.parquet` and `integrity.parquet` into a folder."""
    reading = _Reading(session, folder)
    for block in in_order(
        reading.deltas(),
        [reading.snapshots(), reading.trades(), reading.lifecycle()],
        session.database.config.reorder_rows,
    ):
        reading.write(block)
    return reading.finish()


@dataclass
class _Reading:
    # one pass over a session's rows

    session: DatabaseSession
    folder: Path

    def __post_init__(self) -> None:
        self._decoder = Decoder(self.session.info.tickers)
        self._read: Counter[str] = Counter()
        self._texts: list[str] = []
        snapshots = [
            self._decoder.snapshot_rows(self._counted(SNAPSHOTS, page))
            for page in self.session.pages(SNAPSHOTS)
        ]
        self._snapshots = joined([empty_block(), *snapshots])
        self._levels = Levels(**self._decoder.snapshots.columns())
        self._policy = Policy[self.session.recovery.policy.upper()]
        self._books = empty_books(0)
        self._figures = np.zeros((0, len(Figure)), dtype=np.int64)
        self._messages, self._quarantine = table_writers(self.folder)
        self._frames = self._repairs = 0
        self._kinds: Counter[int] = Counter()

    def deltas(self) -> Iterator[Block]:
        for page in self.session.pages(DELTAS):
            yield self._decoder.deltas(self._counted(DELTAS, page))

    def snapshots(self) -> Iterator[Block]:
        yield self._snapshots

    def trades(self) -> Iterator[Block]:
        for page in self.session.pages(TRADES):
            yield self._decoder.trades(self._counted(TRADES, page))

    def lifecycle(self) -> Iterator[Block]:
        events = self.session.lifecycle()
        block = {name: np.zeros(len(events), dtype=kind) for name, kind in COLUMNS.items()}
        block["file"][:], block["seq"][:] = LIFECYCLE_FILE, -1
        for row, (received, sent, market, text) in enumerate(events):
            block["id"][row], block["recv_ms"][row] = row, received
            block["exchange_ms"][row] = -1 if sent is None else sent
            block["levels"][row] = len(self._texts)
            self._texts.append(text)
            block["market"][row] = self._decoder.tickers.codes(
                pa.chunked_array([pa.array([market]).dictionary_encode()])
            )[0]
        yield block

    def _counted(self, table: str, page: pa.Table) -> pa.Table:
        self._read[table] += page.num_rows
        return page

    def write(self, block: Block) -> None:
        change, repairs = self._recovered(block)
        self._write_quarantine(block, repairs)
        batch = _message_rows(
            block, change, repairs, self._levels, self._policy,
            self._decoder.tickers.names, self._texts, self._frames,
        )  # fmt: skip
        if len(batch):
            self._messages.write(batch)
        heads = np.bincount(batch["kind"].to_numpy(), minlength=len(MessageKind))
        self._kinds.update(dict(enumerate(heads.tolist())))
        self._frames += len(block["id"]) + len(repairs.row)
        self._repairs += len(repairs.row)

    def finish(self) -> IngestSummary:
        for table, extent in self.session.extents.items():
            if self._read[table] != extent.rows:
                raise SourceChanged(
                    f"rows of {table} came or went while they were read: try again",
                    session=self.session.info.session,
                    rule="rows",
                    value=f"{self._read[table]} read, {extent.rows} counted",
                )
        self._messages.close()
        self._quarantine.close()
        self._publish_integrity()
        others = {"repair": self._repairs, "control": self._kinds[MessageKind.CONTROL]}
        return IngestSummary(
            frames=self._frames,
            rows=self._messages.written,
            deltas=self._kinds[MessageKind.DELTA] - self._repairs,
            snapshots=self._kinds[MessageKind.SNAPSHOT],
            trades=self._kinds[MessageKind.TRADE],
            tickers=0,
            rejected=self._quarantine.written,
            other_types={name: count for name, count in others.items() if count},
        )

    def _recovered(self, block: Block) -> tuple[NDArray[np.int64], Repairs]:
        self._grow(len(self._decoder.tickers.names))
        count = len(block["id"])
        change = np.zeros(count, dtype=np.int64)
        levels = int((self._books.hidden > 0).sum()) + int(self._levels.mislaid.sum())
        repairs = Repairs(
            np.zeros(levels, np.int64), np.zeros(levels, np.uint8),
            np.zeros(levels, np.int64), np.zeros(levels, np.int64),
        )  # fmt: skip
        rows = Rows(
            block["file"], block["market"], block["epoch"], block["seq"], block["recv_ms"],
            block["side"], (block["price_bp"] // _CENT_BP).astype(np.int64),
            block["old"], block["new"], block["levels"],
        )  # fmt: skip
        strict = self.session.trust == "strict"
        filled = recover(
            rows, self._levels, int(self._policy), strict, self._books,
            change, block["reason"], repairs, self._figures,
        )  # fmt: skip
        kept = Repairs(
            repairs.row[:filled], repairs.side[:filled],
            repairs.cents[:filled], repairs.contracts[:filled],
        )  # fmt: skip
        return change, kept

    def _grow(self, markets: int) -> None:
        new = markets - len(self._figures)
        if new > 0:
            more = empty_books(new)
            pairs: Any = zip(self._books, more, strict=True)
            grown = [np.concatenate(pair) for pair in pairs]
            self._books = Books(*grown)
            self._figures = np.concatenate([self._figures, np.zeros((new, len(Figure)), np.int64)])

    def _write_quarantine(self, block: Block, repairs: Repairs) -> None:
        bad = np.flatnonzero(block["reason"])
        frames = self._frames + bad + np.searchsorted(repairs.row, bad)
        for row, frame in zip(bad, frames, strict=True):
            market, value = self._decoder.refused.pop(
                (int(block["file"][row]), int(block["id"][row])), (None, None)
            )
            if value is None:  # refused while recovering
                market = self._decoder.tickers.names[block["market"][row]]
                value = f"old_size {block['old'][row]}, new_size {block['new'][row]}"
            seq = int(block["seq"][row])
            sid = _TRADE_SID if block["file"][row] == TRADE_FILE else _BOOK_SID
            # in the order of QUARANTINE_SCHEMA
            self._quarantine.add(
                (
                    market, int(block["epoch"][row]), sid, seq if seq >= 0 else None,
                    int(block["recv_ms"][row]), int(frame), int(block["file"][row]),
                    int(block["id"][row]), label(Reason(block["reason"][row])), value,
                )
            )  # fmt: skip

    def _publish_integrity(self) -> None:
        table = integrity_table(self._decoder.tickers.names, self._figures)
        pq.write_table(table, self.folder / "integrity.parquet", compression="zstd")
        totals = self._figures.sum(axis=0)
        fixed, legacy = int(totals[Figure.FIXED_SNAPSHOTS]), int(totals[Figure.LEGACY_SNAPSHOTS])
        convention = {(0, 0): "none", (1, 0): "fixed", (0, 1): "legacy"}.get(
            (min(fixed, 1), min(legacy, 1)), "mixed"
        )
        integrity = {figure.name.lower(): int(totals[figure]) for figure in Figure}
        found = {
            "ladder_convention": convention,
            "recovery_policy": self.session.recovery.policy,
            "row_trust": self.session.trust,
        }
        self.session.found = {**found, **integrity}
        info = self.session.info
        declared = {**info.declared, **found, "integrity": integrity}
        self.session.info = replace(info, declared=declared)


def integrity_table(tickers: list[str], figures: NDArray[np.int64]) -> pa.Table:
    """Per-market integrity figures.

    Args:
        tickers: `[M]`
        figures: `[M, len(Figure)]`

    Returns:
        market, every figure, share of rows that touch a level in doubt, and share of the observed
        time in which a best quote is such a level.
    """
    columns: dict[str, Any] = {"market": pa.array(tickers, pa.string())}
    columns.update({figure.name.lower(): figures[:, figure] for figure in Figure})
    for name, part, whole in (
        ("share_touching", Figure.TOUCHING_ROWS, Figure.ROWS),
        ("share_doubtful_best", Figure.DOUBTFUL_BEST_MS, Figure.OBSERVED_MS),
    ):
        columns[name] = figures[:, part] / np.maximum(figures[:, whole], 1)
    return pa.table(columns)


def _message_rows(
    block: Block,
    change: NDArray[np.int64],
    repairs: Repairs,
    levels: Levels,
    policy: Policy,
    tickers: list[str],
    texts: list[str],
    first_frame: int,
) -> pa.RecordBatch:
    kind = _KINDS[block["file"]]
    refused = block["reason"] > 0
    of_a_book = (block["file"] <= DELTA_FILE) & (block["reason"] != Reason.UNKNOWN_MARKET)
    kind = np.where(refused, np.where(of_a_book, MessageKind.REJECTED, MessageKind.CONTROL), kind)
    shown = np.flatnonzero((levels.mislaid == 0) | (policy != Policy.AS_RECORDED))
    first = np.searchsorted(shown, levels.first)
    has_levels = kind == MessageKind.SNAPSHOT
    begins = np.where(has_levels, first[block["levels"] * has_levels], 0)
    ends = np.where(has_levels, first[(block["levels"] + 1) * has_levels], 0)
    counts = 1 + ends - begins + np.bincount(repairs.row, minlength=len(kind)).astype(np.int64)
    owner = np.repeat(np.arange(len(kind)), counts)
    start = np.cumsum(counts) - counts
    place = np.arange(len(owner)) - start[owner]
    is_level = (place > 0) & has_levels[owner]
    is_repair = (place > 0) & ~has_levels[owner]
    level = shown[(begins[owner] + place - 1)[is_level]]
    row_kind = kind[owner].astype(np.uint8)
    row_kind[is_level], row_kind[is_repair] = MessageKind.LEVEL, MessageKind.DELTA
    side, price = block["side"][owner], block["price_bp"][owner]
    size = np.where(block["file"] == TRADE_FILE, block["new"], change * CENTI_PER_CONTRACT)[owner]
    for rows, sides, cents, contracts in (
        (is_level, levels.side[level], levels.cents[level], levels.contracts[level]),
        (is_repair, repairs.side, repairs.cents, -repairs.contracts),
    ):
        side[rows], price[rows] = sides, cents * _CENT_BP
        size[rows] = contracts * CENTI_PER_CONTRACT
    priced = np.isin(row_kind, (MessageKind.LEVEL, MessageKind.DELTA, MessageKind.TRADE))
    return pa.record_batch(
        {
            "frame": first_frame + owner + np.cumsum(is_repair),
            "epoch": block["epoch"][owner],
            "sid": np.where(block["file"] <= DELTA_FILE, _BOOK_SID, _TRADE_SID)[owner],
            "seq": _nullable(block["seq"][owner], (block["seq"][owner] < 0) | is_repair),
            "recv_ms": block["recv_ms"][owner],
            "exchange_ms": _nullable(block["exchange_ms"][owner], block["exchange_ms"][owner] < 0),
            "market": _markets(block["market"][owner], row_kind, tickers),
            "kind": row_kind,
            "side": _nullable(side, ~priced),
            "price_bp": _nullable(price, ~priced),
            "size_centi": _nullable(size, ~priced),
            "file": block["file"][owner],
            "offset": block["id"][owner],
            "detail": _details(block, row_kind, is_repair, owner, texts),
        },
        schema=MESSAGE_SCHEMA,
    )


def _nullable(values: NDArray[Any], absent: NDArray[np.bool_]) -> pa.Array:
    return pa.array(values, mask=absent)


def _markets(codes: NDArray[np.int32], kind: NDArray[np.uint8], tickers: list[str]) -> pa.Array:
    absent = (codes < 0) | (kind == MessageKind.CONTROL)
    return pa.DictionaryArray.from_arrays(
        pa.array(np.where(absent, 0, codes), mask=absent), pa.array(tickers, pa.string())
    )


def _details(
    block: Block,
    kind: NDArray[np.uint8],
    is_repair: NDArray[np.bool_],
    owner: NDArray[np.int64],
    texts: list[str],
) -> pa.Array:
    details = np.full(len(kind), None, dtype=object)
    details[is_repair] = REPAIR
    for row in np.flatnonzero((kind == MessageKind.CONTROL) | (kind == MessageKind.LIFECYCLE)):
        file = block["file"][owner[row]]
        is_event = kind[row] == MessageKind.LIFECYCLE
        details[row] = texts[block["levels"][owner[row]]] if is_event else _NAMES[file]
    return pa.array(details, pa.string())
