"""Generated sessions on disk, in the form of recording folders."""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.market.prices import STRUCTURES
from kalshi_pipeline.recordings.generator import frames
from kalshi_pipeline.recordings.generator.faults import Ledger, inject
from kalshi_pipeline.recordings.generator.frame_writer import texts_of, write_rows
from kalshi_pipeline.recordings.generator.order_flow import FlowKind
from kalshi_pipeline.recordings.generator.profiles import SessionProfile
from kalshi_pipeline.recordings.generator.session_flow import Contract, Levels, Piece, Session

# kinds of rows beside FlowKind
OPENED, CLOSED, DETERMINED = len(FlowKind), len(FlowKind) + 1, len(FlowKind) + 2
SNAPSHOTS_PER_MS = 4
# The receive clock behind the exchange's: smallest, mean of the rest; and one frame in so many is
# held up by so much, and what follows with it. Source: recordings 112 and 113 (median 30 ms above
# the smallest, 1 % of the frames late by 2 s).
DELAY_MS = (15, 8.0)
STALL_EVERY, STALL_MS = 6_000, 1_500.0
CLOSED_MS = (100, 3_000)  # from a market's close to the empty book: least, most
LATEST_MS = 900  # after the end of a connection
WRITE_BYTES = 1 << 22
GZIP_LEVEL, ZSTD_LEVEL = 4, 3


def write_session(
    profile: SessionProfile, root: Path, progress: Callable[[str], None] | None = None
) -> Path:
    """Write one session as a recording folder, whole or not at all; the same bytes every time.

    Args:
        profile: what to write.
        root: parent of the session's folder; created where missing. A folder already there under
            the session's id is replaced.
        progress: gets a line of text now and then.

    Returns:
        The folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    target = root / str(profile.session_id)
    with tempfile.TemporaryDirectory(prefix=".generating-", dir=root) as staging:
        folder = Path(staging) / "new"
        folder.mkdir()
        session = Session(profile)
        _write_json(folder / "session.json", _session(profile, session.contracts))
        _write_json(folder / "markets.json", [_market(c) for c in session.contracts])
        blocks = _Recorder(session, progress).blocks()
        ledger = None
        if profile.faults:
            ledger = Ledger()
            blocks = inject(blocks, profile.faults, profile.deltas, profile.seed, ledger)
        with _opened(folder, profile) as file:
            for block in blocks:
                file.write(block)
        if ledger is not None:
            _write_json(folder / "faults.json", ledger.facts())
        if target.exists():
            target.rename(Path(staging) / "old")
        folder.rename(target)
    return target


def is_current(root: Path, profile: SessionProfile) -> bool:
    """Whether the folder under `root` is what this profile and this generator would write."""
    try:
        session = json.loads((root / str(profile.session_id) / "session.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(session, dict) and session.get("profile") == profile.digest


@contextmanager
def _opened(folder: Path, profile: SessionProfile) -> Iterator[IO[bytes]]:
    # equal content gives equal bytes: no names and times in the compressed files
    suffix = {"gz": ".gz", "zst": ".zst", "none": ""}[profile.compression]
    with (folder / f"messages.ndjson{suffix}").open("wb") as raw:
        if profile.compression == "gz":
            with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        elif profile.compression == "zst":
            import zstandard

            with zstandard.ZstdCompressor(ZSTD_LEVEL).stream_writer(raw, closefd=False) as packed:
                yield packed
        else:
            yield raw


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _session(profile: SessionProfile, contracts: Sequence[Contract]) -> dict[str, Any]:
    return {
        "session_id": profile.session_id,
        "title": profile.title,
        "kind": "websocket",
        "sequence": "complete",
        "environment": "generated",
        "exchange": "generated",
        "started_at": frames.rfc3339(profile.started_at_ms),
        "ended_at": frames.rfc3339(profile.ended_at_ms),
        "use_yes_price": False,
        "market_tickers": [contract.market.ticker for contract in contracts],
        "channels": list(frames.CHANNELS),
        "generated": True,
        "profile": profile.digest,
    }


def _market(contract: Contract) -> dict[str, Any]:
    event, result = contract.event, contract.result
    return {
        "ticker": contract.market.ticker,
        "event_ticker": event.ticker,
        "title": contract.market.title,
        "open_time": frames.rfc3339(event.open_ms),
        "close_time": frames.rfc3339(event.close_ms),
        "can_close_early": False,
        "price_level_structure": contract.structure,
        "price_ranges": [
            dict(zip(("start", "end", "step"), map(frames.dollars, part), strict=True))
            for part in STRUCTURES[contract.structure]
        ],
        "result": None if result is None else frames.outcome(result),
        "settlement_value_dollars": None if result is None else frames.settlement_dollars(result),
    }


class _Recorder:
    # The collector: what it receives, and when, as lines of the recording.

    def __init__(self, session: Session, progress: Callable[[str], None] | None) -> None:
        self._session, self._progress = session, progress
        profile, contracts = session.profile, session.contracts
        self._wire: frames.Wire = profile.wire
        self._tickers = [contract.market.ticker for contract in contracts]
        self._texts = texts_of(self._wire, 1, self._tickers)
        self._rng = np.random.default_rng([profile.seed, profile.session_id, len(contracts), 2])
        self._buffer = np.empty(WRITE_BYTES, dtype=np.uint8)
        self._seq = 1
        self._recv_ms = profile.started_at_ms
        self._endings = self._endings_of(contracts)

    def blocks(self) -> Iterator[bytes | memoryview]:
        """The bytes of the recording, whole lines at a time."""
        deltas = 0
        for piece in self._session.pieces():
            if piece.opens:
                self._texts = texts_of(self._wire, piece.connection + 1, self._tickers)
                yield self._opening(piece)
            yield from self._rows(piece)
            deltas += len(piece.time_ms)
            if self._progress:
                wanted = self._session.profile
                self._progress(
                    f"session {wanted.session_id}: {deltas:,} of {wanted.deltas:,} changes"
                )

    def _endings_of(self, contracts: Sequence[Contract]) -> list[tuple[int, int, int]]:
        # (time, kind, contract) of what is neither change nor trade, in order
        settled = [i for i, c in enumerate(contracts) if c.result is not None]
        events = [contracts[i].event for i in settled]
        closed_ms = np.array([event.close_ms for event in events], dtype=np.int64)
        bounds = [e.intraday.closed_ms if e.intraday else CLOSED_MS for e in events]
        least_ms, most_ms = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
        closed_ms += self._rng.integers(least_ms, most_ms)
        determined_ms = closed_ms + self._rng.integers(5_000, 60_000, len(settled))
        first = self._session.connections[0].opened_ms
        found = [(c.subscribed_ms, OPENED, i) for i, c in enumerate(contracts)]
        found = [entry for entry in found if entry[0] > first]
        found += [(int(at), CLOSED, i) for i, at in zip(settled, closed_ms, strict=True)]
        found += [(int(at), DETERMINED, i) for i, at in zip(settled, determined_ms, strict=True)]
        return sorted(found)

    def _opening(self, piece: Piece) -> bytes:
        # Half of the markets come with the subscription, the others are added to it.
        connection = self._session.connections[piece.connection]
        contracts = self._session.contracts
        present = [i for i in piece.books if contracts[i].subscribed_ms <= connection.opened_ms]
        tickers = [self._tickers[i] for i in present]
        numbers = itertools.count(1)
        texts = [frames.subscribed(name, sid) for sid, name in enumerate(frames.CHANNELS, start=1)]
        half = (len(present) + 1) // 2
        for number, (ticker, index) in enumerate(zip(tickers, present, strict=True)):
            if number == half:
                texts.append(frames.markets_added(next(numbers), tickers))
            books = piece.books[index]
            texts.append(frames.snapshot(self._wire, ticker, next(numbers), *books))
        self._seq = next(numbers)
        self._recv_ms = connection.opened_ms + len(texts) // SNAPSHOTS_PER_MS
        lines = (
            frames.line(
                connection.opened_ms + number // SNAPSHOTS_PER_MS, piece.connection + 1, text
            )
            for number, text in enumerate(texts)
        )
        return "".join(lines).encode()

    def _rows(self, piece: Piece) -> Iterator[bytes | memoryview]:
        time_ms, contract, change = self._with_endings(piece)
        recv_ms = self._received(time_ms, self._session.connections[piece.connection].ended_ms)
        number, row = piece.connection + 1, 0
        while row < len(time_ms):
            row, size, self._seq = write_rows(
                self._buffer,
                self._texts,
                row,
                recv_ms,
                time_ms,
                contract,
                change,
                number,
                self._seq,
            )
            if size:
                yield self._buffer[:size].data
            if row < len(time_ms) and change[row, 0] >= OPENED:
                index, kind = int(contract[row]), int(change[row, 0])
                texts = self._ending(index, kind, int(time_ms[row]), piece.books.get(index))
                at_ms = int(recv_ms[row])
                yield "".join(frames.line(at_ms, number, text) for text in texts).encode()
                row += 1

    def _with_endings(
        self, piece: Piece
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        # Openings, closings and results belong to the piece in whose connection they fall; those
        # between two connections nobody saw, but for results, which the next one is told.
        connection = self._session.connections[piece.connection]
        due = list(itertools.takewhile(lambda entry: entry[0] < piece.until_ms, self._endings))
        del self._endings[: len(due)]
        opened_ms = connection.opened_ms
        due = [entry for entry in due if entry[0] > opened_ms or entry[1] == DETERMINED]
        extra = np.zeros((len(due), 4), dtype=np.int64)
        extra[:, 0] = [kind for _, kind, _ in due]
        time_ms = np.array([at for at, _, _ in due], dtype=np.int64)
        contract = np.array([index for _, _, index in due], dtype=np.int32)
        # an opening comes before the market's first change
        place = np.searchsorted(piece.time_ms, time_ms, side="left")
        return (
            np.insert(piece.time_ms, place, time_ms),
            np.insert(piece.contract, place, contract),
            np.insert(piece.change, place, extra, axis=0),
        )

    def _received(self, time_ms: NDArray[np.int64], ended_ms: int) -> NDArray[np.int64]:
        delay_ms = DELAY_MS[0] + self._rng.exponential(DELAY_MS[1], len(time_ms)).astype(np.int64)
        stalls = self._rng.poisson(len(time_ms) / STALL_EVERY)
        if stalls:
            held = self._rng.integers(0, len(time_ms), stalls)
            delay_ms[held] += self._rng.exponential(STALL_MS, stalls).astype(np.int64)
        recv_ms = np.maximum.accumulate(np.append(self._recv_ms, time_ms + delay_ms))[1:]
        np.minimum(recv_ms, ended_ms + LATEST_MS, out=recv_ms)
        if len(recv_ms):
            self._recv_ms = int(recv_ms[-1])
        return recv_ms

    def _ending(
        self, index: int, kind: int, time_ms: int, books: tuple[Levels, Levels] | None
    ) -> Iterator[str]:
        ticker = self._tickers[index]
        if kind == OPENED:
            yield frames.markets_added(self._take(), [ticker])
            yield frames.snapshot(self._wire, ticker, self._take(), *(books or ([], [])))
        elif kind == CLOSED:
            yield frames.snapshot(self._wire, ticker, self._take(), (), ())
        else:
            result = bool(self._session.contracts[index].result)
            yield frames.determined(ticker, result, time_ms)

    def _take(self) -> int:
        self._seq += 1
        return self._seq - 1
