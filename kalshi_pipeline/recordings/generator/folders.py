"""Generated sessions on disk, in the form of recording folders."""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.market.prices import STRUCTURES
from kalshi_pipeline.recordings.generator import frames
from kalshi_pipeline.recordings.generator.order_flow import FlowKind
from kalshi_pipeline.recordings.generator.profiles import SessionProfile
from kalshi_pipeline.recordings.generator.session_flow import (
    Connection,
    Contract,
    MarketFlow,
    connections_of,
    simulate,
)

CLOSED, DETERMINED = len(FlowKind), len(FlowKind) + 1  # kinds of rows beside FlowKind
SNAPSHOTS_PER_MS = 4
DELAY_MS = (15, 20.0)  # receive clock behind the exchange's: smallest, mean of the rest
LINES_AT_ONCE = 4_096
COMPRESSION = 4


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
        contracts, flows = zip(*simulate(profile, progress), strict=True)
        _write_json(folder / "session.json", _session(profile, contracts))
        _write_json(folder / "markets.json", [_market(contract) for contract in contracts])
        with (
            (folder / "messages.ndjson.gz").open("wb") as raw,
            gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as packed,
        ):
            lines = _lines(profile, contracts, flows)
            while block := "".join(itertools.islice(lines, LINES_AT_ONCE)):
                packed.write(block.encode())
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


@dataclass(frozen=True)
class _Rows:
    # Everything that happens in the session after the snapshots, in receive order, `[n]` each.
    time_ms: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    connection: NDArray[np.int64]
    market: NDArray[np.int64]
    change: NDArray[np.int64]  # [n, 4]: kind, side, price_bp, change_centi


def _rows(
    profile: SessionProfile,
    connections: Sequence[Connection],
    contracts: Sequence[Contract],
    flows: Sequence[MarketFlow],
) -> _Rows:
    rng = np.random.default_rng([profile.seed, profile.session_id, len(contracts), 2])
    settled = [(i, c.event.close_ms) for i, c in enumerate(contracts) if c.result is not None]
    market = np.array([i for i, _ in settled], dtype=np.int64)
    closed_ms = np.array([at for _, at in settled], dtype=np.int64)
    closed_ms += rng.integers(100, 3_000, len(settled))
    determined_ms = closed_ms + rng.integers(5_000, 60_000, len(settled))
    opened_ms = np.array([connection.opened_ms for connection in connections])
    endings = np.zeros((2 * len(settled), 4), dtype=np.int64)
    endings[:, 0] = np.repeat([CLOSED, DETERMINED], len(settled))
    end_ms = np.concatenate([closed_ms, determined_ms])

    time_ms = np.concatenate([*(flow.time_ms for flow in flows), end_ms])
    owner = np.repeat(np.arange(len(flows)), [len(flow.time_ms) for flow in flows])
    order = np.argsort(time_ms, kind="stable")
    sent_ms = time_ms[order]
    delay_ms = DELAY_MS[0] + rng.exponential(DELAY_MS[1], len(order)).astype(np.int64)
    connection = np.searchsorted(opened_ms, sent_ms, side="right") - 1
    return _Rows(
        sent_ms,
        np.maximum.accumulate(sent_ms + delay_ms),
        connection,
        np.concatenate([owner, market, market])[order],
        np.concatenate([*(flow.change for flow in flows), endings])[order],
    )


def _lines(
    profile: SessionProfile, contracts: Sequence[Contract], flows: Sequence[MarketFlow]
) -> Iterator[str]:
    wire: frames.Wire = frames.LegacyWire() if profile.wire == "legacy" else frames.CurrentWire()
    connections = connections_of(profile)
    tickers = [contract.market.ticker for contract in contracts]
    rows = _rows(profile, connections, contracts, flows)
    bounds = np.searchsorted(rows.connection, np.arange(len(connections) + 1))
    for index, connection in enumerate(connections):
        books = [flow.books[index] for flow in flows]
        seq = itertools.count(1)
        for number, frame in enumerate(_opening(wire, tickers, books, seq)):
            yield _line(connection.opened_ms + number // SNAPSHOTS_PER_MS, index, frame)
        piece = slice(bounds[index], bounds[index + 1])
        columns = (rows.time_ms, rows.recv_ms, rows.market, rows.change)
        for time_ms, recv_ms, market, change in zip(
            *(column[piece].tolist() for column in columns), strict=True
        ):
            result = contracts[market].result
            for frame in _frames(wire, tickers[market], result, time_ms, change, seq):
                yield _line(recv_ms, index, frame)


def _line(recv_ms: int, connection: int, frame: str) -> str:
    return f'{{"recv_ms":{recv_ms},"conn":{connection + 1},"event":{frame}}}\n'


def _opening(
    wire: frames.Wire,
    tickers: Sequence[str],
    books: Sequence[tuple[frames.Levels, frames.Levels]],
    seq: Iterator[int],
) -> Iterator[str]:
    # Half of the markets come with the subscription, the others are added to it.
    for sid, channel in enumerate(frames.CHANNELS, start=1):
        yield frames.subscribed(channel, sid)
    half = (len(tickers) + 1) // 2
    for number, (ticker, (yes, no)) in enumerate(zip(tickers, books, strict=True)):
        if number == half:
            yield frames.markets_added(next(seq), tickers)
        yield wire.snapshot(ticker, next(seq), yes, no)


def _frames(
    wire: frames.Wire,
    ticker: str,
    result: bool | None,
    time_ms: int,
    change: list[int],
    seq: Iterator[int],
) -> Iterator[str]:
    kind, side, price_bp, change_centi = change
    if kind == CLOSED:
        yield wire.snapshot(ticker, next(seq), (), ())
    elif kind == DETERMINED:
        yield frames.determined(ticker, bool(result), time_ms)
    else:
        number = next(seq)
        yield wire.delta(ticker, number, side, price_bp, change_centi, time_ms)
        if kind == FlowKind.TRADE:  # the taker of a resting YES bid buys NO
            yes_bp = price_bp if side == 0 else BP_PER_DOLLAR - price_bp
            trade_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ticker}/{time_ms}/{number}"))
            yield wire.trade(ticker, trade_id, 1 - side, yes_bp, -change_centi, time_ms)
