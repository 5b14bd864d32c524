"""What goes wrong in recordings, done to a generated one on purpose, with a ledger of it.

Faults are spread over the session, one at a time: each is over, and every book sent again, before
the next begins. So the ledger can say exactly what the pipeline must count: gaps, lost messages,
quarantined rows by reason, crossed states, steps of the clock.

Source: reliability rules D1-D20.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.generator import frames
from kalshi_pipeline.recordings.generator.broadcast import BookFrame, Broadcast

RECOVER_AFTER = 25  # book changes until the collector has asked for the books again
SPACING = 4 * RECOVER_AFTER  # book changes between two faults, at least
CLOCK_STEP_MS = 3_000
SPELL_MS = 300  # between two changes of a crossed book
BOM = b"\xef\xbb\xbf"
FOREIGN = "KXFOREIGN-99DEC31-T1"


@dataclass(frozen=True)
class Faults:
    """How often each fault happens in a session.

    Args:
        gaps: runs of 1 to 3 frames that are lost.
        duplicates: frames that come twice.
        conflicts: sequence numbers that come with two contents.
        late: frames that arrive after their successors.
        reconnects: connections that break without a pause: the counter starts again.
        unknown_markets: changes of a market nobody subscribed to.
        off_tick: changes at a price between two ticks.
        negative: changes that take more than there is.
        crossed: books that stay crossed for longer than is tolerated.
        crossed_briefly: books that cross, and uncross with the next frame.
        clock_back: steps of the receive clock.
        garbled: lines whose middle is overwritten.
        cut: lines that end in the middle.
        carriage_returns: lines that end in CR LF.
        byte_order_mark: whether the file begins with one.
    """

    gaps: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    reconnects: int = 0
    unknown_markets: int = 0
    off_tick: int = 0
    negative: int = 0
    crossed: int = 0
    crossed_briefly: int = 0
    clock_back: int = 0
    garbled: int = 0
    cut: int = 0
    carriage_returns: int = 0
    byte_order_mark: bool = False


@dataclass
class Ledger:
    """What was injected, and what must come of it.

    Args:
        injected: fault, line (from 0), market, connection and seq of each.
        quarantined: rows by reason.
        totals: gaps, lost_messages, crossed_states, clock_back, drifted_levels, epochs.
    """

    injected: list[dict[str, Any]] = field(default_factory=list)
    quarantined: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "injected": self.injected,
            "expected": {
                "quarantined": dict(sorted(self.quarantined.items())),
                **{name: self.totals[name] for name in Broadcast.TOTALS},
            },
        }


def inject(
    blocks: Iterable[bytes | memoryview], faults: Faults, deltas: int, seed: int, ledger: Ledger
) -> Iterator[bytes]:
    """Put faults into the lines of a recording.

    Args:
        blocks: bytes of a flawless recording, whole lines at a time.
        faults: how many of each.
        deltas: book changes in the recording.
        seed: where they fall is drawn from.
        ledger: filled as the lines go by.

    Raises:
        ValueError: more faults than the session has room for.
    """
    return _Injector(faults, deltas, seed, ledger).run(blocks)


class _Injector:
    def __init__(self, faults: Faults, deltas: int, seed: int, ledger: Ledger) -> None:
        self._faults, self._ledger = faults, ledger
        self._rng = np.random.default_rng([seed, deltas, 3])
        counts = asdict(faults)
        plain = {name: int(counts.pop(name)) for name in ("byte_order_mark", "carriage_returns")}
        kinds = [name for name, count in counts.items() for _ in range(count)]
        self._rng.shuffle(kinds)
        room = deltas // (len(kinds) + 1)
        if room < SPACING:
            raise ValueError(f"{len(kinds)} faults need {SPACING} changes each, {deltas} are few")
        self._due = [(room * (i + 1), kind) for i, kind in enumerate(kinds)]
        returns = self._rng.choice(deltas, plain["carriage_returns"], replace=False)
        self._returns = set(returns.tolist())
        self._sent = Broadcast(ledger.quarantined, ledger.totals, BookConfig())
        self._seen = 0  # book changes of the flawless recording so far
        self._dropping = 0  # further changes to lose
        self._recover_at: int | None = None
        self._held: list[tuple[int, dict[str, Any]]] = []
        self._spell: tuple[str, int] | None = None  # market, when its next change is due
        self._uncross: dict[str, Any] | None = None
        self._lines: list[bytes] = []
        self._written = 0
        # a clock that is put back was fast before; after the last step it is right
        self._fast_ms = faults.clock_back * CLOCK_STEP_MS
        self._epoch_shift = 0

    def run(self, blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        if self._faults.byte_order_mark:
            self._note("byte_order_mark", None)
            yield BOM
        for block in blocks:
            for text in bytes(block).splitlines():
                self._take(json.loads(text))
            yield b"".join(self._lines)
            self._lines.clear()
        if self._due:
            raise ValueError(f"no place was found for {[kind for _, kind in self._due]}")

    def _take(self, line: dict[str, Any]) -> None:
        # one line of the flawless recording, and whatever is to happen there
        line["recv_ms"] += self._fast_ms
        line["conn"] += self._epoch_shift
        event = line["event"]
        if line["conn"] != self._sent.connection:
            self._release()
            self._sent.connect(line["conn"], forget=True)
            self._recover_at = self._spell = self._uncross = None
            self._dropping = 0
        self._continue(line)
        if event["type"] != "orderbook_delta":
            self._send(line)
            return
        self._seen += 1
        if self._dropping:
            self._dropping -= 1
            self._lose(line)
        elif self._due and self._seen >= self._due[0][0] and self._quiet():
            kind = self._due[0][1]
            action: Callable[[dict[str, Any]], bool] = getattr(self, f"_{kind}")
            if action(line):
                self._due.pop(0)
            else:
                self._send(line)
        else:
            returns = self._seen in self._returns
            self._send(line, fault="carriage_returns" if returns else None)

    def _quiet(self) -> bool:
        return not (self._held or self._spell or self._uncross or self._recover_at)

    def _continue(self, line: dict[str, Any]) -> None:
        # faults that take their time
        if self._uncross is not None:
            end, self._uncross = self._uncross, None
            self._send({**end, "recv_ms": line["recv_ms"]}, is_true=False)
        if self._spell and self._spell[0] not in self._sent.open_markets():
            self._spell = None  # the market has closed
        if self._spell and line["recv_ms"] >= self._spell[1]:
            market = self._spell[0]
            self._send(self._made(line, market, "yes", 100, 100), is_true=False)
            self._spell = (market, line["recv_ms"] + SPELL_MS)
        if self._spell and self._sent.is_broken(self._spell[0]):
            self._spell = None
            self._recover_at = self._seen + RECOVER_AFTER
        if self._held and self._seen >= self._held[0][0]:
            self._release()
        if self._recover_at is not None and self._seen >= self._recover_at:
            self._recover_at = None
            for market in self._sent.broken():
                self._send_book(line, market)

    def _release(self) -> None:
        for _, line in self._held:
            self._write(line)
        self._held.clear()

    def _send(
        self, line: dict[str, Any], *, is_true: bool = True, fault: str | None = None
    ) -> None:
        # numbered, heard, written
        if "seq" in line["event"]:
            line["event"]["seq"] = self._sent.take_seq()
        self._sent.hear(line, is_true=is_true)
        if fault:
            self._note(fault, line)
        self._write(line, b"\r\n" if fault == "carriage_returns" else b"\n")

    def _lose(self, line: dict[str, Any]) -> None:
        line["event"]["seq"] = self._sent.next_seq
        self._sent.lose(BookFrame.of(line))

    def _write(self, line: dict[str, Any], end: bytes = b"\n") -> None:
        self._lines.append(json.dumps(line, separators=(",", ":")).encode() + end)
        self._written += 1

    def _note(self, fault: str, line: dict[str, Any] | None) -> None:
        entry: dict[str, Any] = {"fault": fault, "line": self._written}
        if line is not None:
            message = line["event"]["msg"]
            entry |= {"market": message["market_ticker"], "connection": line["conn"]}
            entry["seq"] = line["event"]["seq"]
        self._ledger.injected.append(entry)

    def _made(
        self, line: dict[str, Any], market: str, side: str, price_bp: int, change_centi: int
    ) -> dict[str, Any]:
        # another change of a book, received with this line
        message = {
            **line["event"]["msg"],
            "market_ticker": market,
            "price_dollars": frames.dollars(price_bp),
            "delta_fp": frames.count(change_centi),
            "side": side,
        }
        head = {"type": "orderbook_delta", "sid": frames.BOOK_SID, "seq": 0}
        kept = ("market_ticker", "price_dollars", "delta_fp", "side", "ts_ms")
        body = {name: message[name] for name in kept if name in message}
        return {**line, "event": {**head, "msg": body}}

    def _send_book(self, line: dict[str, Any], market: str) -> None:
        seq = self._sent.take_seq()
        text = frames.snapshot("current", market, seq, *self._sent.levels(market))
        self._sent.hear_again(market, line["recv_ms"])
        self._write({**line, "event": json.loads(text)})

    # the faults: True where one could be done at this change

    def _gaps(self, line: dict[str, Any]) -> bool:
        self._dropping = int(self._rng.integers(0, 3))
        self._lose(line)
        self._note("gaps", line)
        self._recover_at = self._seen + RECOVER_AFTER
        return True

    def _duplicates(self, line: dict[str, Any]) -> bool:
        self._send(line)
        self._note("duplicates", line)
        self._ledger.quarantined[label(Reason.DUPLICATE)] += 1
        self._write(line)
        return True

    def _conflicts(self, line: dict[str, Any]) -> bool:
        frame = BookFrame.of(line)
        line["event"]["seq"] = self._sent.take_seq()
        self._note("conflicts", line)
        self._sent.conflict(frame)
        self._write(line)
        other = self._made(line, frame.market, frame.side, frame.price_bp, frame.change_centi + 100)
        other["event"]["seq"] = line["event"]["seq"]
        self._write(other)
        self._recover_at = self._seen + RECOVER_AFTER
        return True

    def _late(self, line: dict[str, Any]) -> bool:
        line["event"]["seq"] = self._sent.take_seq()
        self._note("late", line)
        self._sent.hear(line)
        self._held.append((self._seen + int(self._rng.integers(2, 8)), line))
        return True

    def _reconnects(self, line: dict[str, Any]) -> bool:
        self._epoch_shift += 1
        line["conn"] += 1
        self._note("reconnects", line)
        present = self._sent.open_markets()
        self._sent.connect(line["conn"], forget=False)
        for market in present:
            self._send_book(line, market)
        self._send(line)
        return True

    def _unknown_markets(self, line: dict[str, Any]) -> bool:
        self._send(line)
        foreign = self._made(line, FOREIGN, "yes", 4_000, 100)
        foreign["event"]["seq"] = self._sent.take_seq()
        self._note("unknown_markets", foreign)
        self._ledger.quarantined[label(Reason.UNKNOWN_MARKET)] += 1
        self._write(foreign)
        return True

    def _off_tick(self, line: dict[str, Any]) -> bool:
        return self._refused(line, "off_tick", Reason.PRICE_OFF_TICK, 5, 100)

    def _negative(self, line: dict[str, Any]) -> bool:
        frame = BookFrame.of(line)
        held_centi = self._sent.size_centi(frame) + frame.change_centi
        return self._refused(line, "negative", Reason.NEGATIVE_SIZE, 0, -held_centi - 100)

    def _refused(
        self, line: dict[str, Any], fault: str, reason: Reason, off_bp: int, change_centi: int
    ) -> bool:
        frame = BookFrame.of(line)
        self._send(line)
        bad = self._made(line, frame.market, frame.side, frame.price_bp + off_bp, change_centi)
        bad["event"]["seq"] = self._sent.take_seq()
        self._note(fault, bad)
        self._sent.refuse(frame.market, reason)
        self._write(bad)
        self._recover_at = self._seen + RECOVER_AFTER
        return True

    def _crossed(self, line: dict[str, Any]) -> bool:
        crossing = self._crossing(line)
        if crossing is None:
            return False
        self._send(line)
        self._send(crossing, is_true=False, fault="crossed")
        market = crossing["event"]["msg"]["market_ticker"]
        self._spell = (market, line["recv_ms"] + SPELL_MS)
        return True

    def _crossed_briefly(self, line: dict[str, Any]) -> bool:
        crossing = self._crossing(line)
        if crossing is None:
            return False
        self._send(line)
        frame = BookFrame.of(crossing)
        self._send(crossing, is_true=False, fault="crossed_briefly")
        self._uncross = self._made(
            crossing, frame.market, frame.side, frame.price_bp, -frame.change_centi
        )
        return True

    def _crossing(self, line: dict[str, Any]) -> dict[str, Any] | None:
        # a bid far above the best offer
        frame = BookFrame.of(line)
        if not self._sent.may_cross(frame.market):
            return None
        return self._made(line, frame.market, "yes", 9_900, 100)

    def _clock_back(self, line: dict[str, Any]) -> bool:
        self._fast_ms -= CLOCK_STEP_MS
        line["recv_ms"] -= CLOCK_STEP_MS
        self._send(line, fault="clock_back")
        return True

    def _garbled(self, line: dict[str, Any]) -> bool:
        return self._unreadable(line, "garbled", lambda text: text[:40] + b"\0" * 30 + text[70:])

    def _cut(self, line: dict[str, Any]) -> bool:
        return self._unreadable(line, "cut", lambda text: text[: len(text) // 2])

    def _unreadable(
        self, line: dict[str, Any], fault: str, damage: Callable[[bytes], bytes]
    ) -> bool:
        self._lose(line)
        self._note(fault, line)
        self._ledger.quarantined[label(Reason.CORRUPT_LINE)] += 1
        self._lines.append(damage(json.dumps(line, separators=(",", ":")).encode()) + b"\n")
        self._written += 1
        self._recover_at = self._seen + RECOVER_AFTER
        return True
