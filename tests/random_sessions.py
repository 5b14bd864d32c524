"""Random sessions with everything that goes wrong in them, as lines and as what the lines mean.

An exchange with true books is played; the feed of it is then spoilt: numbers are skipped, frames
repeated, contradicted, delayed, damaged or made up.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.books.build import Books, build_books
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.recordings.folder import Recording, session_info
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA, IngestSummary, ingest
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from tests.oracle.book import NO, YES, DictBook
from tests.oracle.replay import Frame, Rule

START_MS = 1_780_000_000_000
CLOSE_MS = START_MS + 30_000  # 2026-05-28T20:27:10Z
CENT, TAPERED, BARE = "KXCENT-26-A", "KXTAPER-26-B", "KXBARE-26-C"
TICKERS = (CENT, TAPERED, BARE)  # of the second nobody knows when it closes, but it may do so early
CENT_GRID = frozenset(range(100, 10_000, 100))
TAPERED_GRID = CENT_GRID | {*range(10, 1_000, 10), *range(9_000, 10_000, 10)}
MARKETS = [
    {
        "ticker": CENT,
        "price_level_structure": "linear_cent",
        "close_time": "2026-05-28T20:27:10Z",
    },
    {
        "ticker": TAPERED,
        "can_close_early": True,
        "price_ranges": [
            {"start": "0.0000", "end": "0.1000", "step": "0.0010"},
            {"start": "0.1000", "end": "0.9000", "step": "0.0100"},
            {"start": "0.9000", "end": "1.0000", "step": "0.0010"},
        ],
    },
]


class Lines(Recording):
    """A recording that lies in memory."""

    def __init__(
        self, lines: Sequence[bytes], header: dict[str, Any], markets: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__(Path(), session_info(1, header), tuple(markets), ())
        object.__setattr__(self, "texts", lines)

    def blocks(self) -> Iterator[tuple[int, bytes | None]]:
        yield 0, b"\n".join(self.texts)  # type: ignore[attr-defined]
        yield 0, b""


@dataclass(frozen=True)
class Ingested:
    """Both tables of a recording."""

    summary: IngestSummary
    messages: pa.Table
    rejected: pa.Table


def ingested(recording: Recording) -> Ingested:
    """The two tables of a recording, as the next stage reads them."""
    with tempfile.TemporaryDirectory() as place:
        summary = ingest(recording, Path(place))
        return Ingested(
            summary,
            pq.read_table(Path(place) / "messages.parquet", read_dictionary=["market"]),
            pq.read_table(Path(place) / "quarantine.parquet"),
        )


def books_of(recording: Recording, config: BookConfig | None = None) -> Books:
    """A recording through ingest and replay."""
    tables = ingested(recording)
    return build_books(
        tables.messages, tables.rejected, recording.info, recording.markets, config or BookConfig()
    )


def wire_line(frame: Frame, *, legacy: bool = False, use_yes_price: bool = False) -> bytes:
    """A frame as the collector would have written it, on either wire."""

    def price(side: int, price_bp: int) -> dict[str, Any]:
        shown = 10_000 - price_bp if use_yes_price and side == NO else price_bp
        if legacy:
            return {"price": shown // 100}
        return {"price_dollars": f"{Decimal(shown) / 10_000:.4f}"}

    def size(size_centi: int) -> int | str:
        return size_centi // 100 if legacy else f"{Decimal(size_centi) / 100:.2f}"

    message: dict[str, Any] = {"market_ticker": frame.market, "market_id": "x"}
    event: dict[str, Any] = {"type": frame.kind, "sid": frame.sid, "seq": frame.seq}
    side = ("yes", "no")[frame.side]
    if frame.kind == "snapshot":
        event["type"] = "orderbook_snapshot"
        for code, name in ((YES, "yes"), (NO, "no")):
            levels = [
                [next(iter(price(code, level).values())), size(count)]
                for owner, level, count in frame.levels
                if owner == code
            ]
            if levels:
                message[name if legacy else f"{name}_dollars_fp"] = levels
    elif frame.kind == "delta":
        event["type"] = "orderbook_delta"
        message |= {"side": side} | price(frame.side, frame.price_bp)
        message["delta" if legacy else "delta_fp"] = size(frame.size_centi)
    elif frame.kind == "trade":
        message |= {"taker_side": side} | {
            f"yes_{name}": number for name, number in price(YES, frame.price_bp).items()
        }
        message["count" if legacy else "count_fp"] = size(frame.size_centi)
    else:
        event["type"] = "ok"
    if frame.exchange_ms >= 0 and frame.kind in ("delta", "trade"):
        message["ts_ms"] = frame.exchange_ms
    event = {name: value for name, value in event.items() if value is not None}
    if frame.market is not None or frame.kind not in ("snapshot", "delta"):
        event["msg"] = message
    return json.dumps({"recv_ms": frame.recv_ms, "conn": frame.conn, "event": event}).encode()


@dataclass
class RandomSession:
    """Lines in order of receipt, what each means, and what session.json and markets.json say."""

    header: dict[str, Any]
    markets: list[dict[str, Any]]
    frames: list[Frame] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)

    @property
    def recording(self) -> Lines:
        return Lines(self.lines, self.header, self.markets)

    @property
    def rules(self) -> dict[str, Rule]:
        """What the recording lets one know about its markets."""
        prices = [
            price
            for frame in self.frames
            if frame.market == BARE and not frame.rejected
            for price in (frame.price_bp, *(level[1] for level in frame.levels))
        ]
        step = next(step for step in (100, 10, 1) if all(price % step == 0 for price in prices))
        return {
            CENT: Rule(CENT_GRID, CLOSE_MS),
            TAPERED: Rule(frozenset(TAPERED_GRID), may_close_early=True),
            BARE: Rule(frozenset({*range(step, 10_000, step), *CENT_GRID})),
        }


def random_session(
    operations: Sequence[int], sequence: str, seed: int, *, lines: bool = True
) -> RandomSession:
    """Play operations, each an integer that seeds its own choices.

    Args:
        operations: what is played.
        sequence: complete, shared or none.
        seed: of the session's own choices.
        lines: write each frame as a line, too.
    """
    return _Player(sequence, Random(seed), lines=lines).play(operations)


def message_table(frames: Sequence[Frame]) -> tuple[pa.Table, pa.Table]:
    """Message table and quarantine as decoding would leave them, without any line of text."""
    rows: list[tuple[Any, ...]] = []
    refused: list[dict[str, Any]] = []
    for ordinal, frame in enumerate(frames):
        known = frame.kind != "unreadable"
        if frame.rejected:
            refused.append(
                {"frame": ordinal, "reason": frame.rejected, "epoch": frame.conn if known else None}
            )
        if not known:
            continue
        kind = MESSAGE_KINDS[frame.kind]
        if frame.rejected and frame.kind != "other":
            kind = MessageKind.REJECTED
        market = frame.market if kind != MessageKind.CONTROL else None
        said = kind in (MessageKind.DELTA, MessageKind.TRADE)
        at = (ordinal, frame.conn, frame.sid, frame.seq, frame.recv_ms)
        exchange_ms = frame.exchange_ms if said and frame.exchange_ms >= 0 else None
        change = (frame.side, frame.price_bp, frame.size_centi) if said else (None,) * 3
        rows.append((*at, exchange_ms, market, kind, *change, 0, ordinal * 1_000, None))
        if kind == MessageKind.SNAPSHOT:
            # as the decoder does: the YES levels first
            levels = sorted(frame.levels, key=lambda level: level[0])
            head, tail = (*at, None, market, MessageKind.LEVEL), (0, ordinal * 1_000, None)
            rows += [(*head, *level, *tail) for level in levels]
    columns = zip(*rows, strict=True) if rows else [[] for _ in MESSAGE_SCHEMA]
    arrays = [
        pa.array(column, pa.string()).dictionary_encode()
        if field.name == "market"
        else pa.array(column, field.type)
        for column, field in zip(columns, MESSAGE_SCHEMA, strict=True)
    ]
    rejected = pa.Table.from_pylist(refused, schema=QUARANTINE_SCHEMA)
    return pa.table(arrays, schema=MESSAGE_SCHEMA), rejected


MESSAGE_KINDS = {
    "snapshot": MessageKind.SNAPSHOT, "delta": MessageKind.DELTA, "trade": MessageKind.TRADE,
    "other": MessageKind.CONTROL,
}  # fmt: skip


class _Player:
    def __init__(self, sequence: str, random: Random, *, lines: bool) -> None:
        self.writes_lines = lines
        self.legacy, self.use_yes_price = random.random() < 0.3, random.random() < 0.3
        self.session = RandomSession(
            {
                "sequence": sequence,
                "use_yes_price": self.use_yes_price,
                "market_tickers": [*TICKERS],
            },
            MARKETS,
        )
        self.books = {ticker: DictBook() for ticker in TICKERS}
        self.now_ms, self.conn, self.seq = START_MS, 1, 0

    def play(self, operations: Sequence[int]) -> RandomSession:
        for ticker in TICKERS[:2]:
            self.snapshot(ticker)
        for operation in operations:
            random = Random(operation)
            self.now_ms += random.choice((0, 0, 1, 40, 300, 1_500))
            names, weights = zip(*_OPERATIONS.items(), strict=True)
            act = getattr(self, random.choices(names, weights)[0])
            act(random.choice(TICKERS), random)
        return self.session

    def send(self, frame: Frame, line: bytes | None = None) -> None:
        self.session.frames.append(frame)
        if not self.writes_lines:
            self.session.lines.append(b"")
            return
        self.session.lines.append(
            line or wire_line(frame, legacy=self.legacy, use_yes_price=self.use_yes_price)
        )

    def next(self, kind: str, market: str | None = None, **parts: Any) -> Frame:
        self.seq += 1
        return Frame(kind, self.now_ms, self.conn, 7, self.seq, market, **parts)

    def size(self, random: Random) -> int:
        return 100 * random.randint(1, 9) if self.legacy else random.randint(1, 900)

    def price(self, market: str, random: Random) -> int:
        if market == CENT or self.legacy:
            return 100 * random.randint(1, 99)
        if market == TAPERED:
            return random.choice(sorted(TAPERED_GRID))
        return random.choice((100 * random.randint(1, 99), 10 * random.randint(1, 999)))

    def uncrossed(self, market: str, side: int, price_bp: int) -> bool:
        book = self.books[market]
        others = book.ladders[1 - side]
        return not others or price_bp + max(others) < 10_000

    def levels(self, market: str) -> tuple[tuple[int, int, int], ...]:
        ladders = self.books[market].ladders
        return tuple((side, *level) for side in (YES, NO) for level in ladders[side].items())

    # what a feed does

    def add(self, market: str, random: Random) -> None:
        side, price_bp = random.choice((YES, NO)), self.price(market, random)
        if self.uncrossed(market, side, price_bp):
            self.change(market, side, price_bp, self.size(random), random)

    def change(
        self, market: str, side: int, price_bp: int, change_centi: int, random: Random
    ) -> None:
        self.books[market].apply_delta(side, price_bp, change_centi)
        exchange_ms = random.choice((-1, self.now_ms - 20, self.now_ms + 200))
        self.send(
            self.next(
                "delta", market, side=side, price_bp=price_bp, size_centi=change_centi,
                exchange_ms=exchange_ms,
            )
        )  # fmt: skip

    def cross(self, market: str, random: Random) -> None:
        side = random.choice((YES, NO))
        others = self.books[market].ladders[1 - side]
        if others and max(others) > 100:
            locked_bp = (10_000 - max(others)) // 100 * 100
            price_bp = locked_bp + random.choice((0, 100))
            self.change(market, side, min(max(price_bp, 100), 9_900), self.size(random), random)

    def remove(self, market: str, random: Random) -> None:
        if levels := self.levels(market):
            side, price_bp, size_centi = random.choice(sorted(levels))
            taken = size_centi if self.legacy else random.randint(1, size_centi)
            self.change(market, side, price_bp, -random.choice((size_centi, taken)), random)

    def trade(self, market: str, random: Random) -> None:
        self.send(
            Frame(
                "trade", self.now_ms, self.conn, 8, random.choice((None, 5)), market,
                random.choice((YES, NO)), 100 * random.randint(1, 99), self.size(random),
                exchange_ms=self.now_ms,
            )
        )  # fmt: skip

    def snapshot(self, market: str, random: Random | None = None) -> None:
        self.send(self.next("snapshot", market, levels=self.levels(market)))

    def other_snapshot(self, market: str, random: Random) -> None:
        self.books[market] = DictBook()
        for _ in range(random.randint(0, 4)):
            side, price_bp = random.choice((YES, NO)), self.price(market, random)
            if random.random() < 0.1 or self.uncrossed(market, side, price_bp):
                self.books[market].apply_delta(side, price_bp, self.size(random))
        self.snapshot(market)

    def empty_snapshot(self, market: str, random: Random) -> None:
        self.books[market] = DictBook()
        self.now_ms = max(self.now_ms, CLOSE_MS - random.choice((0, 0, 1)))
        self.snapshot(market)

    def control(self, market: str, random: Random) -> None:
        self.send(self.next("other"))

    def reconnect(self, market: str, random: Random) -> None:
        self.conn, self.seq = self.conn + 1, 0
        for ticker in random.sample(TICKERS, random.randint(0, 3)):
            self.snapshot(ticker)

    # what goes wrong

    def skip(self, market: str, random: Random) -> None:
        self.seq += random.randint(1, 5)

    def repeat(self, market: str, random: Random) -> None:
        numbered = [f for f in self.session.frames if f.seq is not None and not f.rejected]
        for _ in range(random.randint(1, 2)):
            self.send(replace(numbered[-1], recv_ms=self.now_ms))

    def contradict(self, market: str, random: Random) -> None:
        deltas = [f for f in self.session.frames if f.kind == "delta" and not f.rejected and f.seq]
        if deltas:
            shown = 100 * random.randint(1, 99)
            self.send(replace(deltas[-1], recv_ms=self.now_ms, price_bp=shown))

    def delay(self, market: str, random: Random) -> None:
        # the last frame overtakes some before it
        frames, lines = self.session.frames, self.session.lines
        place = max(0, len(frames) - random.randint(2, 5))
        frames.insert(place, frames.pop())
        lines.insert(place, lines.pop())

    def straggle(self, market: str, random: Random) -> None:
        if self.conn > 1:
            late = Frame(
                random.choice(("delta", "snapshot")), self.now_ms, self.conn - 1, 7, 10_000, market
            )
            if late.kind == "delta":
                late = replace(late, price_bp=4_000, size_centi=100)
            self.send(late)

    def take_too_much(self, market: str, random: Random) -> None:
        side = random.choice((YES, NO))
        price_bp = 100 * random.randint(1, 99)
        self.send(self.next("delta", market, side=side, price_bp=price_bp, size_centi=-100_000))

    def off_tick(self, market: str, random: Random) -> None:
        if self.legacy:
            return
        price_bp = 100 * random.randint(11, 89) + 5
        if random.random() < 0.7:
            self.send(self.next("delta", market, price_bp=price_bp, size_centi=100))
        else:
            self.send(self.next("snapshot", market, levels=((NO, price_bp, 100),)))

    def reject(self, market: str, random: Random) -> None:
        frame = self.next("delta", market, rejected="price_out_of_range", size_centi=100)
        self.send(frame)

    def reject_without_market(self, market: str, random: Random) -> None:
        sid = random.choice((7, None))
        frame = replace(self.next("delta", None, rejected="missing_field"), sid=sid)
        self.send(frame)

    def reject_foreign(self, market: str, random: Random) -> None:
        frame = self.next("delta", "KXFOREIGN-26", price_bp=100, size_centi=100)
        line = wire_line(frame, use_yes_price=self.use_yes_price) if self.writes_lines else None
        self.send(replace(frame, kind="other", market=None, rejected="unknown_market"), line)

    def corrupt(self, market: str, random: Random) -> None:
        self.seq += random.choice((0, 1))
        self.send(Frame("unreadable", rejected="corrupt_line"), b'{"recv_ms":1780')

    def unnumbered(self, market: str, random: Random) -> None:
        price_bp = 100 * random.randint(1, 99)
        frame = Frame("delta", self.now_ms, self.conn, 7, None, market, YES, price_bp, 100)
        self.send(frame)

    def set_clock(self, market: str, random: Random) -> None:
        hour_ms = 3_600_000
        self.now_ms += random.choice((-700, -5_000, 25 * hour_ms, -25 * hour_ms))
        self.now_ms = max(self.now_ms, 0)


_OPERATIONS = {
    "add": 60, "remove": 40, "cross": 10, "trade": 10, "snapshot": 8, "other_snapshot": 8,
    "empty_snapshot": 1, "control": 3, "reconnect": 4, "skip": 2, "repeat": 3, "contradict": 2,
    "delay": 3, "straggle": 3, "take_too_much": 3, "off_tick": 3, "reject": 2,
    "reject_without_market": 1, "reject_foreign": 2, "corrupt": 2, "unnumbered": 2, "set_clock": 1,
}  # fmt: skip
