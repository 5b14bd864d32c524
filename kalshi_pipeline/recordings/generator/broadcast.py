"""What a collector that hears a broken stream knows of the books: the expectation of a ledger.

A plain model of the replay's rules for the few situations `faults.py` makes, kept apart from the
pipeline's own code so that the two can be held against each other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.market.prices import to_scaled

Key = tuple[str, int]  # side, price_bp


@dataclass(frozen=True)
class BookFrame:
    """A change of a book, decoded."""

    market: str
    side: str
    price_bp: int
    change_centi: int

    @classmethod
    def of(cls, line: dict[str, Any]) -> BookFrame:
        """From a line of either wire."""
        message = line["event"]["msg"]
        change = message["delta_fp"] if "delta_fp" in message else message["delta"]
        return cls(
            message["market_ticker"],
            message["side"],
            to_scaled(message["price_dollars"], 10_000),
            to_scaled(change, 100),
        )


class Broadcast:
    """The books, the counter, and which books a listener may trust.

    Args:
        quarantined: counts rows by reason.
        totals: counts the rest.
        rules: tolerances of the replay.
    """

    TOTALS = ("gaps", "lost_messages", "crossed_states", "clock_back", "drifted_levels", "epochs")

    def __init__(self, quarantined: Counter[str], totals: Counter[str], rules: BookConfig) -> None:
        self._quarantined, self._totals, self._rules = quarantined, totals, rules
        self.connection = 0
        self.next_seq = 1
        self._true: dict[str, dict[Key, int]] = {}
        self._false: dict[str, dict[Key, int]] = defaultdict(dict)
        self._trusted: set[str] = set()
        self._missing = 0  # sequence numbers lost since the last frame heard
        self._time_ms: dict[str, int] = {}
        self._crossed: dict[str, tuple[int, int]] = {}  # since when, frames

    def connect(self, connection: int, *, forget: bool) -> None:
        """A new connection: the counter starts again, what was lost last is never noticed.

        Args:
            connection: its number.
            forget: the recording goes on with all books, whatever they were.
        """
        self.connection, self.next_seq, self._missing = connection, 1, 0
        if forget:
            self._true.clear()
        self._totals["epochs"] += 1
        self._trusted.clear()

    def take_seq(self) -> int:
        """The next number of the subscription; a hole before it is noticed now."""
        if self._missing:
            self._totals["gaps"] += 1
            self._totals["lost_messages"] += self._missing
            self._missing = 0
            self._trusted.clear()
        self.next_seq += 1
        return self.next_seq - 1

    def lose(self, frame: BookFrame) -> None:
        """A change that happened and is not heard."""
        _apply(self._true[frame.market], frame)
        self.next_seq += 1
        self._missing += 1

    def conflict(self, frame: BookFrame) -> None:
        """A change heard twice, differently."""
        _apply(self._true[frame.market], frame)
        self._quarantined[label(Reason.CONFLICT)] += 2
        self._trusted.discard(frame.market)

    def refuse(self, market: str, reason: Reason) -> None:
        """A row of a market that cannot be true."""
        trusted = market in self._trusted
        self._quarantined[label(reason if trusted else Reason.AFTER_GAP)] += 1
        self._trusted.discard(market)

    def hear(self, line: dict[str, Any], *, is_true: bool = True) -> None:
        """A frame that arrives as it was sent.

        Args:
            line: the frame.
            is_true: the change has happened; otherwise the next snapshot will not show it.
        """
        kind, message = line["event"]["type"], line["event"].get("msg", {})
        if kind == "orderbook_snapshot":
            self._snapshot(message, line["recv_ms"])
        elif kind == "orderbook_delta":
            frame = BookFrame.of(line)
            books = self._true if is_true else self._false
            _apply(books[frame.market], frame)
            self._delta(frame, line["recv_ms"])
        elif kind == "trade" and message["market_ticker"] in self._trusted:
            self._pass_time(message["market_ticker"], line["recv_ms"])

    def hear_again(self, market: str, recv_ms: int) -> None:
        """A snapshot that the collector asked for."""
        self._false[market].clear()
        self._crossed.pop(market, None)
        self._trusted.add(market)
        self._time_ms[market] = recv_ms

    def is_broken(self, market: str) -> bool:
        """Whether a listener knows the market and cannot trust its book."""
        return market in self._true and market not in self._trusted

    def broken(self) -> list[str]:
        """Such markets."""
        return [market for market in self._true if market not in self._trusted]

    def open_markets(self) -> list[str]:
        """Markets whose book was sent and that have not closed."""
        return list(self._true)

    def size_centi(self, frame: BookFrame) -> int:
        """What rests at a level."""
        return self._true[frame.market].get((frame.side, frame.price_bp), 0)

    def may_cross(self, market: str) -> bool:
        """Whether a bid at 99 cents crosses a trusted book."""
        return market in self._trusted and self._best_ask_bp(market) <= 9_000

    def levels(self, market: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The true book, ascending."""
        book = sorted(self._true[market].items())
        yes, no = (
            [(price, size) for (side, price), size in book if side == name]
            for name in ("yes", "no")
        )
        return yes, no

    def _snapshot(self, message: dict[str, Any], recv_ms: int) -> None:
        market = message["market_ticker"]
        book: dict[Key, int] = {}
        for side in ("yes", "no"):
            found = message.get(f"{side}_dollars_fp", message.get(f"{side}_dollars", ()))
            book |= {(side, to_scaled(p, 10_000)): to_scaled(size, 100) for p, size in found}
        if not book and market in self._true:  # the market has closed
            del self._true[market]
            self._trusted.discard(market)
            return
        self._true[market] = book
        self.hear_again(market, recv_ms)

    def _delta(self, frame: BookFrame, recv_ms: int) -> None:
        if frame.market not in self._trusted:
            self._quarantined[label(Reason.AFTER_GAP)] += 1
            return
        back = recv_ms < self._time_ms[frame.market] - self._rules.clock_back_ms
        self._totals["clock_back"] += back
        at_ms = max(recv_ms, self._time_ms[frame.market])
        if not self._is_crossed(frame.market):
            self._crossed.pop(frame.market, None)
        else:
            since, count = self._crossed.get(frame.market, (at_ms, 0))
            self._crossed[frame.market] = since, count + 1
            self._totals["crossed_states"] += 1
            if (
                at_ms - since > self._rules.crossed_tolerance_ms
                and count + 1 > self._rules.crossed_tolerance_messages
            ):
                self._quarantined[label(Reason.CROSSED)] += 1
                self._trusted.discard(frame.market)
                return
        self._time_ms[frame.market] = at_ms

    def _pass_time(self, market: str, recv_ms: int) -> None:
        self._totals["clock_back"] += recv_ms < self._time_ms[market] - self._rules.clock_back_ms
        self._time_ms[market] = max(self._time_ms[market], recv_ms)

    def _is_crossed(self, market: str) -> bool:
        bids = [p for side, p in self._true[market] if side == "yes"]
        bids += [p for side, p in self._false[market] if side == "yes"]
        return max(bids, default=0) > self._best_ask_bp(market)

    def _best_ask_bp(self, market: str) -> int:
        return 10_000 - max((p for side, p in self._true[market] if side == "no"), default=0)


def _apply(book: dict[Key, int], frame: BookFrame) -> None:
    key = frame.side, frame.price_bp
    book[key] = book.get(key, 0) + frame.change_centi
    if book[key] == 0:
        del book[key]
