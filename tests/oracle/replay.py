"""The replay of a session written from the rules, slowly: lists, dictionaries, one frame at a time.

The rules: order is (epoch, sid, seq), never the clock; a hole in a complete counter accuses every
market of the subscription; a book is trusted from a snapshot to whatever first speaks against it,
and not again before the next snapshot; every frame ends as applied, quarantined with a reason, or
before the first snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.oracle.book import DOLLAR_BP, NO, YES, DictBook, NegativeSize

DAY_MS = 86_400_000
BOOK_KINDS = ("snapshot", "delta")


@dataclass(frozen=True)
class Frame:
    """One line of a recording as its author meant it.

    Args:
        kind: snapshot, delta, trade, other (nothing about a book), unreadable (not even the
            connection can be read).
        market: None = the line does not tell.
        rejected: why it cannot be decoded.
    """

    kind: str
    recv_ms: int = 0
    conn: int = 1
    sid: int | None = 1
    seq: int | None = None
    market: str | None = None
    side: int = YES
    price_bp: int = 0
    size_centi: int = 0
    levels: tuple[tuple[int, int, int], ...] = ()  # (side, price_bp, size_centi)
    exchange_ms: int = -1
    rejected: str | None = None

    @property
    def content(self) -> tuple:
        """What makes two frames of one sequence number the same."""
        if self.rejected or self.kind == "other":
            return (self.kind, self.rejected is not None, self.market)
        return (self.kind, self.market, self.side, self.price_bp, self.size_centi, self.levels)


@dataclass(frozen=True)
class Rule:
    """What is known about a market."""

    valid: frozenset[int]  # YES prices an order may rest at
    close_ms: int | None = None
    may_close_early: bool = False  # then the last book frame is the close, if it is empty


@dataclass
class Segment:
    """A trusted stretch."""

    market: str
    frames: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    ended_by: str = "end_of_recording"


@dataclass
class Row:
    """The book after an applied frame."""

    kind: str
    segment: int
    time_ms: int
    columns: dict[str, int]
    ladders: tuple[dict[int, int], dict[int, int]]
    kept: bool


@dataclass
class Outcome:
    """What the replay made of the frames, by their ordinals."""

    verdicts: dict[int, str] = field(default_factory=dict)  # book frames and rejected ones
    rows: dict[int, Row] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    crossed_states: int = 0
    crossed_ms: int = 0
    drifted_levels: int = 0
    clock_back: int = 0
    gaps: int = 0
    lost: int = 0


@dataclass
class _Market:
    rule: Rule
    book: DictBook = field(default_factory=DictBook)
    subscription: int = -1
    status: str = "no book"  # no book, open, broken, over
    segment: int = -1
    exchange_ms: int = -1
    crossed_at_ms: list[int] = field(default_factory=list)  # crossed states in a row


def replay(
    frames: Sequence[Frame],
    rules: Mapping[str, Rule],
    *,
    sequence: str,
    near_bp: int,
    cost_size_centi: int,
    tolerance_ms: int,
    tolerance_messages: int,
    ladder_every: int,
    continuous: bool = False,
) -> Outcome:
    """Replay frames given in order of receipt.

    Args:
        frames: all lines of the recording.
        rules: of every market that is on the session's list.
        sequence: complete, shared or none.
        near_bp: near the touch is this near.
        cost_size_centi: k of the marginal cost.
        tolerance_ms: a crossed book may last this long ...
        tolerance_messages: ... or this many messages.
        ladder_every: full ladders are kept every so many messages of a segment.
        continuous: losses are counted and held against nobody.
    """
    outcome = Outcome()
    for ordinal, frame in enumerate(frames):
        if frame.rejected:
            outcome.verdicts[ordinal] = frame.rejected
    order, subscriptions = _order(frames)
    marks = _marks(frames, order, subscriptions, sequence, outcome)
    markets = {ticker: _Market(rule) for ticker, rule in rules.items()}
    last_of = {
        frames[o].market: o
        for o in order
        if frames[o].kind in BOOK_KINDS and not frames[o].rejected
    }

    def end(market: _Market, why: str, status: str = "broken") -> None:
        if market.status == "open":
            outcome.segments[market.segment].ended_by = why
            market.status = status

    def record(ordinal: int, frame: Frame, market: _Market) -> bool:
        # False: crossed for too long
        segment = outcome.segments[market.segment]
        last_ms = segment.times[-1] if segment.times else frame.recv_ms
        time_ms = max(frame.recv_ms, last_ms)
        outcome.clock_back += frame.recv_ms < last_ms - 1_000
        outcome.crossed_ms += time_ms - last_ms if market.crossed_at_ms else 0
        if frame.kind in BOOK_KINDS:
            book = market.book
            if book.bids and book.asks and book.best_bid_bp > book.best_ask_bp:
                market.crossed_at_ms.append(time_ms)
                outcome.crossed_states += 1
                lasted_ms = time_ms - market.crossed_at_ms[0]
                if lasted_ms > tolerance_ms and len(market.crossed_at_ms) > tolerance_messages:
                    return False
            else:
                market.crossed_at_ms = []
        segment.frames.append(ordinal)
        segment.times.append(time_ms)
        kept = frame.kind == "snapshot" or (
            frame.kind == "delta" and len(segment.frames) % ladder_every == 0
        )
        outcome.rows[ordinal] = Row(
            frame.kind,
            market.segment,
            time_ms,
            _columns(market.book, near_bp, cost_size_centi),
            (dict(market.book.ladders[YES]), dict(market.book.ladders[NO])),
            kept,
        )
        return True

    for ordinal in order:
        frame, subscription, marked = frames[ordinal], subscriptions[ordinal], marks[ordinal]
        for market in markets.values():
            if "line lost" in marked and not continuous:
                end(market, "gap")
            if market.subscription == subscription:
                if "gap" in marked and not continuous:
                    end(market, "gap")
                if "clock" in marked:
                    end(market, "clock_jump")
                if frame.rejected and frame.kind in BOOK_KINDS and frame.market is None:
                    end(market, "rejected_row")
        market = markets.get(frame.market or "")
        if market is None or frame.kind not in (*BOOK_KINDS, "trade"):
            continue
        if frame.rejected:
            if frame.kind in BOOK_KINDS and subscription >= market.subscription:
                end(market, "rejected_row")
            continue
        market.exchange_ms = max(market.exchange_ms, frame.exchange_ms)
        if frame.kind == "trade":
            if market.status == "open":
                record(ordinal, frame, market)
            continue
        verdict = "applied"
        if "duplicate" in marked:
            verdict = "duplicate"
        elif subscription < market.subscription:
            verdict = "stale_epoch"
        elif frame.kind == "delta" or "conflict" in marked:
            if subscription > market.subscription:
                end(market, "new_epoch")
                market.status, market.subscription = "no book", subscription
            if "conflict" in marked:
                end(market, "conflict")
                verdict = "conflict"
            elif market.status != "open":
                verdict = {
                    "no book": "before_snapshot", "broken": "after_gap", "over": "after_close",
                }[market.status]  # fmt: skip
            elif _yes_price(frame.side, frame.price_bp) not in market.rule.valid:
                end(market, "rejected_row")
                verdict = "price_off_tick"
            else:
                try:
                    market.book.apply_delta(frame.side, frame.price_bp, frame.size_centi)
                except NegativeSize:
                    end(market, "negative_size")
                    verdict = "negative_size"
        elif _closes(frame, market, last=last_of[frame.market] == ordinal):
            time_ms = frame.recv_ms
            segment = -1
            if market.status == "open":
                segment = market.segment
                time_ms = max(time_ms, outcome.segments[segment].times[-1])
            end(market, "market_closed")
            market.status, market.subscription = "over", subscription
            empty = _columns(DictBook(), near_bp, cost_size_centi)
            outcome.rows[ordinal] = Row("close", segment, time_ms, empty, ({}, {}), kept=False)
            outcome.verdicts[ordinal] = "applied"
            continue
        elif any(_yes_price(s, price) not in market.rule.valid for s, price, _ in frame.levels):
            end(market, "rejected_row")
            verdict = "price_off_tick"
        else:
            _take_snapshot(frame, subscription, market, outcome, polls=sequence == "none")
        if verdict == "applied" and not record(ordinal, frame, market):
            end(market, "crossed")
            verdict = "crossed"
        outcome.verdicts[ordinal] = verdict
    _number_market_by_market(outcome)
    return outcome


def _number_market_by_market(outcome: Outcome) -> None:
    places = range(len(outcome.segments))
    order = sorted(places, key=lambda place: (outcome.segments[place].market, place))
    outcome.segments = [outcome.segments[place] for place in order]
    number = {place: new for new, place in enumerate(order)} | {-1: -1}
    for row in outcome.rows.values():
        row.segment = number[row.segment]


def _take_snapshot(
    frame: Frame, subscription: int, market: _Market, outcome: Outcome, *, polls: bool
) -> None:
    new = DictBook()
    ladders = [[(p, size) for s, p, size in frame.levels if s == side] for side in (YES, NO)]
    new.apply_snapshot(*ladders)
    differing = sum(
        new.ladders[side].get(price) != market.book.ladders[side].get(price)
        for side in (YES, NO)
        for price in {*new.ladders[side], *market.book.ladders[side]}
    )
    market.book = new
    if market.status == "open" and market.subscription == subscription:
        if not differing or polls:
            return
        outcome.drifted_levels += differing
        outcome.segments[market.segment].ended_by = "drift"
    elif market.status == "open":
        outcome.segments[market.segment].ended_by = "new_epoch"
    market.status, market.subscription = "open", subscription
    market.segment, market.crossed_at_ms = len(outcome.segments), []
    outcome.segments.append(Segment(frame.market or ""))


def _order(frames: Sequence[Frame]) -> tuple[list[int], dict[int, int]]:
    # ordinals in replay order, and each one's subscription, numbered as they appear
    readable = [o for o, frame in enumerate(frames) if frame.kind != "unreadable"]
    numbers: dict[tuple[int, int | None], int] = {}
    subscriptions = {
        o: numbers.setdefault((frames[o].conn, frames[o].sid), len(numbers)) for o in readable
    }
    order = list(readable)
    for number in numbers.values():
        places = [
            place
            for place, o in enumerate(readable)
            if subscriptions[o] == number and frames[o].seq is not None
        ]
        by_seq = sorted((readable[place] for place in places), key=lambda o: frames[o].seq)
        for place, o in zip(places, by_seq, strict=True):
            order[place] = o
    return order, subscriptions


def _marks(
    frames: Sequence[Frame],
    order: list[int],
    subscriptions: dict[int, int],
    sequence: str,
    outcome: Outcome,
) -> dict[int, set[str]]:
    marks: dict[int, set[str]] = defaultdict(set)
    for number in set(subscriptions.values()):
        own = [o for o in order if subscriptions[o] == number]
        for before, after in pairwise(own):
            if abs(frames[after].recv_ms - frames[before].recv_ms) > DAY_MS:
                marks[after].add("clock")
        if any(frames[o].kind in BOOK_KINDS for o in own):
            _mark_counter(
                frames, [o for o in own if frames[o].seq is not None], sequence, marks, outcome
            )
    if sequence == "shared":
        receipt = sorted(order)
        for ordinal, frame in enumerate(frames):
            unknown = frame.kind in BOOK_KINDS and frame.rejected and frame.sid is None
            if frame.kind == "unreadable" or unknown:
                place = sum(o <= ordinal for o in receipt)
                if place < len(order):
                    marks[order[place]].add("line lost")
    return marks


def _mark_counter(
    frames: Sequence[Frame],
    counted: list[int],
    sequence: str,
    marks: dict[int, set[str]],
    outcome: Outcome,
) -> None:
    by_seq: dict[int, list[int]] = defaultdict(list)
    for o in counted:
        by_seq[frames[o].seq or 0].append(o)
    numbers = sorted(by_seq)
    for before, after in pairwise(numbers):
        if after > before + 1 and sequence == "complete":
            marks[by_seq[after][0]].add("gap")
            outcome.gaps += 1
            outcome.lost += after - before - 1
    for same in by_seq.values():
        if len({frames[o].content for o in same}) > 1:
            for o in same:
                marks[o].add("conflict")
        else:
            for o in same[1:]:
                marks[o].add("duplicate")


def _closes(frame: Frame, market: _Market, *, last: bool) -> bool:
    close_ms = market.rule.close_ms
    if frame.levels:
        return False
    if last and market.rule.may_close_early:
        return True
    return close_ms is not None and max(frame.recv_ms, market.exchange_ms) >= close_ms


def _yes_price(side: int, price_bp: int) -> int:
    return price_bp if side == YES else DOLLAR_BP - price_bp


def _columns(book: DictBook, near_bp: int, cost_size_centi: int) -> dict[str, int]:
    second_bid, second_ask = book.second_level_bp(YES), book.second_level_bp(NO)
    return {
        "bid_bp": book.best_bid_bp,
        "ask_bp": book.best_ask_bp,
        "bid_size_centi": book.bid_size_centi,
        "ask_size_centi": book.ask_size_centi,
        "bid_near_centi": book.depth_within_centi(YES, near_bp),
        "ask_near_centi": book.depth_within_centi(NO, near_bp),
        "bid_total_centi": book.total_centi(YES),
        "ask_total_centi": book.total_centi(NO),
        "bid_levels": book.level_count(YES),
        "ask_levels": book.level_count(NO),
        "bid_second_bp": 0 if second_bid is None else second_bid,
        "ask_second_bp": DOLLAR_BP if second_ask is None else second_ask,
        "buy_cost_micro": int(book.average_buy_bp(cost_size_centi) * cost_size_centi),
        "sell_value_micro": int(book.average_sell_bp(cost_size_centi) * cost_size_centi),
    }
