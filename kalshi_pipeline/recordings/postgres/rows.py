"""Pages of the database's rows -> columns, each row checked by the rules of a recording's frames.

A block is a mapping of equally long columns, one entry a row (`COLUMNS`). Rows that are refused
stay in it with their reason, so that their sequence number is not taken for a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.config import CENTI_PER_CONTRACT, MAX_SIZE_CENTI
from kalshi_pipeline.market.integrity import Reason
from kalshi_pipeline.market.prices import NO, YES
from kalshi_pipeline.names import is_ticker
from kalshi_pipeline.recordings.postgres.ladders import Convention, Ladder, convention_of

SNAPSHOT_FILE, DELTA_FILE, TRADE_FILE, LIFECYCLE_FILE = range(4)

Block = dict[str, NDArray[Any]]
COLUMNS: Mapping[str, Any] = {
    "file": np.int16,
    "id": np.int64,
    "seq": np.int64,  # -1 = none
    "recv_ms": np.int64,
    "exchange_ms": np.int64,  # -1 = not said
    "market": np.int32,  # code of `Tickers`; -1 = none of the session's
    "side": np.uint8,
    "price_bp": np.int32,
    "old": np.int64,  # DELTA: contracts before
    "new": np.int64,  # DELTA: contracts after; TRADE: hundredths of a contract
    "levels": np.int32,  # SNAPSHOT: its place in `Snapshots`; LIFECYCLE: in its list of texts
    "reason": np.uint8,  # 0 = fine
}
_MAX_CONTRACTS = MAX_SIZE_CENTI // CENTI_PER_CONTRACT
_YEAR_10000_MS = 253_402_300_800_000
_DOLLAR_BP, _CENT_BP = 10_000, 100
_TICKER = pa.dictionary(pa.int32(), pa.string())

DELTA_PAGE = pa.schema(
    [
        ("id", pa.int64()),
        ("market_ticker", _TICKER),
        ("timestamp_ms", pa.int64()),
        ("sequence_number", pa.int64()),
        ("side", pa.string()),
        ("action", pa.string()),
        ("price", pa.int64()),
        ("old_size", pa.int64()),
        ("new_size", pa.int64()),
    ]
)
SNAPSHOT_PAGE = pa.schema(
    [
        ("id", pa.int64()),
        ("market_ticker", _TICKER),
        ("timestamp_ms", pa.int64()),
        ("sequence_number", pa.int64()),
        ("yes_bids", pa.string()),
        ("yes_asks", pa.string()),
        ("no_bids", pa.string()),
        ("no_asks", pa.string()),
    ]
)
TRADE_PAGE = pa.schema(
    [
        ("id", pa.int64()),
        ("market_ticker", _TICKER),
        ("received_at", pa.int64()),
        ("ts", pa.int64()),
        ("taker_side", pa.string()),
        ("yes_price_bp", pa.int64()),
        ("count", pa.int64()),
    ]
)


class Tickers:
    """Codes of the markets that rows name, in order of appearance.

    Args:
        subscribed: the session's markets; empty = any.
    """

    def __init__(self, subscribed: Sequence[str]) -> None:
        self.names: list[str] = list(subscribed)
        self._codes = {name: code for code, name in enumerate(self.names)}
        self._any = not subscribed

    def codes(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """Code of each row; -1 where the session has no such market."""
        names = column.unify_dictionaries().combine_chunks()
        if isinstance(names, pa.ChunkedArray):
            names = names.combine_chunks()
        table = np.array([self._code(name) for name in names.dictionary.to_pylist()] + [-1])
        place = names.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
        codes: NDArray[np.int32] = table.astype(np.int32)[place]
        return codes

    def _code(self, name: str) -> int:
        if self._any and name not in self._codes and is_ticker(name):
            self._codes[name] = len(self.names)
            self.names.append(name)
        return self._codes.get(name, -1)


class Snapshots:
    """The levels of all snapshots of a session, as columns of growing length."""

    def __init__(self) -> None:
        self.conventions: list[Convention] = []
        self._first: list[int] = [0]
        self._levels: tuple[list[int], ...] = ([], [], [], [])

    def add(self, levels: Sequence[tuple[int, int, int, int]], convention: Convention) -> int:
        """Keep one snapshot's (side, cents, contracts, mislaid) levels; returns its place."""
        for column, values in zip(self._levels, zip(*levels, strict=True), strict=False):
            column.extend(values)
        self._first.append(len(self._levels[0]))
        self.conventions.append(convention)
        return len(self.conventions) - 1

    def columns(self) -> Block:
        """`first` `[S + 1]` and side, cents, contracts, mislaid `[V]`; convention `[S]`."""
        names = ("side", "cents", "contracts", "mislaid")
        return {
            "first": np.array(self._first, dtype=np.int64),
            "convention": np.array(self.conventions, dtype=np.uint8),
            **{
                name: np.array(column, dtype=np.int64)
                for name, column in zip(names, self._levels, strict=True)
            },
        }


def empty_block() -> Block:
    """No rows."""
    return {name: np.zeros(0, dtype=kind) for name, kind in COLUMNS.items()}


def joined(blocks: Sequence[Block]) -> Block:
    """Rows of several blocks, one after another."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def taken(block: Block, rows: NDArray[Any] | slice) -> Block:
    """Some rows of a block."""
    return {name: column[rows] for name, column in block.items()}


class Decoder:
    """Turns pages into blocks.

    Args:
        subscribed: the session's markets; empty = any.

    Attributes:
        refused: (file, row id) of rows refused while reading -> market as written, and the value.
    """

    def __init__(self, subscribed: Sequence[str]) -> None:
        self.tickers = Tickers(subscribed)
        self.snapshots = Snapshots()
        self.refused: dict[tuple[int, int], tuple[str | None, str]] = {}

    def deltas(self, page: pa.Table) -> Block:
        """Changes of one level."""
        block = self._common(page, DELTA_FILE, "timestamp_ms", page["sequence_number"])
        side = _place_of(page["side"], ["yes", "no"])
        cents, old, new = (_integers(page[name]) for name in ("price", "old_size", "new_size"))
        block["side"], block["old"], block["new"] = side.clip(0).astype(np.uint8), old, new
        in_range = (cents > 0) & (cents < _DOLLAR_BP // _CENT_BP)
        block["price_bp"] = np.where(in_range, cents * _CENT_BP, 0).astype(np.int32)
        _refuse(block, side < 0, Reason.SIDE_INVALID)
        action = _place_of(page["action"], ["add", "remove", "update"])
        _refuse(block, action < 0, Reason.ACTION_INVALID)
        _refuse(block, ~in_range, Reason.PRICE_OUT_OF_RANGE)
        too_large = (np.minimum(old, new) < 0) | (np.maximum(old, new) > _MAX_CONTRACTS)
        _refuse(block, too_large, Reason.SIZE_INVALID)
        self._remember(block, page, ("side", "action", "price", "old_size", "new_size"))
        return block

    def trades(self, page: pa.Table) -> Block:
        """Public trades; they have no sequence number."""
        block = self._common(page, TRADE_FILE, "received_at", None)
        block["exchange_ms"] = _integers(page["ts"], absent=-1)
        side = _place_of(page["taker_side"], ["yes", "no"])
        price, count = _integers(page["yes_price_bp"]), _integers(page["count"])
        in_range = (price > 0) & (price < _DOLLAR_BP)
        block["side"] = side.clip(0).astype(np.uint8)
        block["price_bp"] = np.where(in_range, price, 0).astype(np.int32)
        fits = (count > 0) & (count <= _MAX_CONTRACTS)
        block["new"] = np.where(fits, count, 0) * CENTI_PER_CONTRACT
        _refuse(block, side < 0, Reason.SIDE_INVALID)
        _refuse(block, ~in_range, Reason.PRICE_OUT_OF_RANGE)
        _refuse(block, ~fits, Reason.SIZE_INVALID)
        self._remember(block, page, ("taker_side", "yes_price_bp", "count"))
        return block

    def snapshot_rows(self, page: pa.Table) -> Block:
        """Whole books; their levels go to `snapshots`."""
        block = self._common(page, SNAPSHOT_FILE, "timestamp_ms", page["sequence_number"])
        ladders = [page[name].to_pylist() for name in SNAPSHOT_PAGE.names[4:]]
        for row, texts in enumerate(zip(*ladders, strict=True)):
            if block["reason"][row]:
                continue
            levels, convention, reason = _snapshot(texts)
            block["reason"][row] = reason
            block["levels"][row] = self.snapshots.add(levels, convention)
        self._remember(block, page, SNAPSHOT_PAGE.names[4:])
        return block

    def _common(
        self, page: pa.Table, file: int, clock: str, sequence: pa.ChunkedArray | None
    ) -> Block:
        block = {name: np.zeros(page.num_rows, dtype=kind) for name, kind in COLUMNS.items()}
        block["file"][:] = file
        block["id"] = _integers(page["id"])
        block["exchange_ms"][:] = -1
        block["market"] = self.tickers.codes(page["market_ticker"])
        time = _integers(page[clock], absent=-1)
        known = (time >= 0) & (time < _YEAR_10000_MS)
        block["recv_ms"] = np.where(known, time, 0)
        missing = ~known
        if sequence is None:
            block["seq"][:] = -1
        else:
            seq = _integers(sequence, absent=-1)
            block["seq"] = np.where((seq >= 0) & (seq < 1 << 62), seq, -1)
            missing |= block["seq"] < 0
        for name in page.column_names:
            if page[name].null_count and name != "ts":
                missing |= page[name].is_null().to_numpy()
        _refuse(block, missing, Reason.MISSING_FIELD)
        _refuse(block, block["market"] < 0, Reason.UNKNOWN_MARKET)
        return block

    def _remember(self, block: Block, page: pa.Table, shown: Sequence[str]) -> None:
        bad = np.flatnonzero(block["reason"])
        for row, values in zip(bad, page.take(pa.array(bad)).to_pylist(), strict=True):
            text = ", ".join(f"{name} {values[name]}" for name in shown)
            key = (int(block["file"][row]), int(block["id"][row]))
            self.refused[key] = (values["market_ticker"], text[:200])


def _integers(column: pa.ChunkedArray, absent: int = 0) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = column.fill_null(absent).to_numpy().astype(np.int64)
    return numbers


def _place_of(column: pa.ChunkedArray, words: list[str]) -> NDArray[np.int64]:
    return _integers(pc.index_in(column, value_set=pa.array(words)), absent=-1)


def _refuse(block: Block, bad: NDArray[np.bool_], reason: Reason) -> None:
    # the first rule a row breaks is its reason
    block["reason"][bad & (block["reason"] == 0)] = reason


def _snapshot(
    texts: Sequence[str],
) -> tuple[list[tuple[int, int, int, int]], Convention, int]:
    try:
        yes_bids, yes_asks, no_bids, no_asks = (_ladder(text) for text in texts)
    except _BadLevel as bad:
        return [], Convention.NEITHER, bad.reason
    convention = convention_of(yes_bids, yes_asks, no_bids, no_asks)
    if convention is Convention.NEITHER:
        return [], convention, Reason.CONVENTION
    levels = [(YES, cents, size, 0) for cents, size in yes_bids.items()]
    levels += [(NO, cents, size, 0) for cents, size in no_bids.items()]
    if convention is Convention.LEGACY:
        levels += [(YES, cents, size, 1) for cents, size in yes_asks.items()]
        levels += [(NO, cents, size, 1) for cents, size in no_asks.items()]
    return levels, convention, 0


class _BadLevel(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _ladder(text: str) -> Ladder:
    try:
        entries = msgspec.json.decode(text)
        if isinstance(entries, str):  # text put into a JSON column as one string
            entries = msgspec.json.decode(entries)
    except msgspec.DecodeError:
        raise _BadLevel(Reason.MISSING_FIELD) from None
    if not isinstance(entries, dict):
        raise _BadLevel(Reason.MISSING_FIELD)
    ladder: Ladder = {}
    for price, size in entries.items():
        if not (price.isascii() and price.isdigit()):
            raise _BadLevel(Reason.NOT_A_NUMBER)
        cents = int(price[:9])
        if not 0 < cents < _DOLLAR_BP // _CENT_BP:
            raise _BadLevel(Reason.PRICE_OUT_OF_RANGE)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_CONTRACTS:
            raise _BadLevel(Reason.SIZE_INVALID)
        if cents in ladder:
            raise _BadLevel(Reason.SIZE_INVALID)
        ladder[cents] = size
    return {cents: size for cents, size in ladder.items() if size}
