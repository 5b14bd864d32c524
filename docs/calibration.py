"""Generated sessions beside recorded ones: measures both and writes docs/GENERATOR.md.

    python -m docs.calibration ../shared/recordings

Both go through the project's own ingest and books. Figures of a quarter-hour market are taken over
its changes, then the median over the markets of a group is given; figures of the cross-section are
taken over one book a market and poll.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.books.build import Market, build_books
from kalshi_pipeline.config import BookConfig
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.generator import EXTRA_PROFILES, PROFILES, write_session
from kalshi_pipeline.recordings.generator.faults import RECOVER_AFTER
from kalshi_pipeline.recordings.ingest import ingest

Figures = dict[str, float]
FEWEST_CHANGES = 5_000  # of a market that is measured
SECOND_MS, MINUTE_MS = 1_000, 60_000

# what the quarter-hour markets are measured by, in the order of the table
INTRADAY = (
    "changes a second",
    "changes a second, busiest market",
    "variance of changes a second / mean",
    "gap p10 ms", "gap p50 ms", "gap p90 ms", "gap p99 ms",
    "share of gaps of 0 ms",
    "share of book changes that add",
    "share that cancels or adds what the change before added or cancelled",
    "trades per change",
    "trades per decrease at the touch",
    "share of changes at the touch or better",
    "share of changes within 5 cents of the touch",
    "share of prices between whole cents",
    "share of sizes between whole contracts",
    "size p25", "size p50", "size p75", "size p99",
    "share of time two-sided",
    "spread p25 cents", "spread p50 cents", "spread p75 cents",
    "share of spreads of at most a cent",
    "size at the touch", "size within 5 cents", "levels a side",
    "mean move of the mid in a minute, cents",
    "closing snapshot after the close, s",
    "received after the fastest frame, p50 ms", "received after the fastest frame, p99 ms",
)  # fmt: skip
CROSS_SECTION = (
    "share of books two-sided",
    "share of books one-sided",
    "spread of a market p25 cents",
    "spread of a market p50 cents",
    "spread of a market p75 cents",
    "spread of a market p90 cents",
    "share of markets below 5 cents",
    "share of markets above 20 cents",
    "size at the bid p25", "size at the bid p50", "size at the bid p75",
    "size within 5 cents of the bid p50",
    "levels a side p50",
)  # fmt: skip


@dataclass(frozen=True)
class Session:
    """A session's books and its messages' exchange clock."""

    columns: Mapping[str, NDArray[Any]]
    names: tuple[str, ...]
    close_ms: Mapping[str, int | None]

    @classmethod
    def of(cls, folder: Path) -> Session:
        """Through ingest and books."""
        recording = open_folder(folder)
        with tempfile.TemporaryDirectory() as scratch:
            ingest(recording, Path(scratch))
            messages = pq.read_table(Path(scratch) / "messages.parquet", read_dictionary=["market"])
            rejected = pq.read_table(Path(scratch) / "quarantine.parquet")
        books = build_books(messages, rejected, recording.info, recording.markets, BookConfig())
        return cls(
            _columns(books.rows, messages),
            tuple(books.rows["market"].unify_dictionaries().chunk(0).dictionary.to_pylist()),
            _closes(books.markets),
        )

    def markets(self) -> Iterable[tuple[str, dict[str, NDArray[Any]]]]:
        """Rows of each market."""
        code = self.columns["market"]
        for value in np.unique(code):
            rows = code == value
            yield self.names[value], {name: column[rows] for name, column in self.columns.items()}


def _columns(rows: pa.Table, messages: pa.Table) -> dict[str, NDArray[Any]]:
    columns = {name: rows[name].to_numpy() for name in rows.column_names if name != "market"}
    market = rows["market"].unify_dictionaries().combine_chunks()
    columns["market"] = market.indices.to_numpy()
    frame = messages["frame"].to_numpy()
    exchange_ms = messages["exchange_ms"].fill_null(-1).to_numpy()
    columns["exchange_ms"] = exchange_ms[np.searchsorted(frame, columns["frame"])]
    return columns


def _closes(markets: Sequence[Market]) -> dict[str, int | None]:
    return {market.ticker: market.close_ms for market in markets}


def intraday(sessions: Iterable[Session]) -> Figures:
    """Figures of quarter-hour markets: the median over all that changed often enough."""
    found: list[Figures] = []
    for session in sessions:
        for name, rows in session.markets():
            if (rows["kind"] == RowKind.DELTA).sum() >= FEWEST_CHANGES:
                found.append(_market_figures(rows, session.close_ms.get(name)))
    figures = {name: _median([f[name] for f in found]) for name in found[0]}
    rates = [f["changes a second"] for f in found]
    figures["changes a second, busiest market"] = max(rates)
    return figures


def _market_figures(rows: Mapping[str, NDArray[Any]], close_ms: int | None) -> Figures:
    delta = np.flatnonzero(rows["kind"] == RowKind.DELTA)
    trades = int((rows["kind"] == RowKind.TRADE).sum())
    size, price = rows["size_centi"][delta], rows["price_bp"][delta]
    at_ms = rows["exchange_ms"][delta]
    span_s = (at_ms[-1] - at_ms[0]) / SECOND_MS
    gap_ms = np.diff(at_ms)
    in_second = np.bincount((at_ms - at_ms[0]) // SECOND_MS)
    before = np.maximum(delta - 1, 0)
    touch = np.where(
        rows["side"][delta] == 0, rows["bid_bp"][before], 10_000 - rows["ask_bp"][before]
    )
    behind = touch - price
    opposite = size[1:] == -size[:-1]
    figures = {
        "changes a second": len(delta) / span_s,
        "variance of changes a second / mean": in_second.var() / in_second.mean(),
        **_quantiles("gap p{} ms", gap_ms, (10, 50, 90, 99)),
        "share of gaps of 0 ms": float((gap_ms == 0).mean()),
        "share of book changes that add": float((size > 0).mean()),
        "share that cancels or adds what the change before added or cancelled": opposite.mean(),
        # recordings without a trade channel say nothing about trades
        "trades per change": trades / len(delta) if trades else np.nan,
        "trades per decrease at the touch": trades / ((size < 0) & (behind == 0)).sum()
        if trades
        else np.nan,
        "share of changes at the touch or better": float((behind <= 0).mean()),
        "share of changes within 5 cents of the touch": float((behind <= 500).mean()),
        "share of prices between whole cents": float((price % 100 != 0).mean()),
        "share of sizes between whole contracts": float((size % 100 != 0).mean()),
        **_quantiles("size p{}", np.abs(size) / 100, (25, 50, 75, 99)),
    }
    return figures | _book_figures(rows, delta) | _clock_figures(rows, delta, close_ms)


def _book_figures(rows: Mapping[str, NDArray[Any]], delta: NDArray[np.int64]) -> Figures:
    bid, ask, at_ms = (rows[name][delta] for name in ("bid_bp", "ask_bp", "time_ms"))
    two_sided = (bid > 0) & (ask < 10_000)
    spread = (ask - bid)[two_sided] / 100
    lasted_ms = np.append(np.diff(at_ms), 0)
    mid = ((bid + ask) / 200)[two_sided]
    minutes = np.arange(at_ms[two_sided][0], at_ms[two_sided][-1], MINUTE_MS)
    by_minute = mid[np.searchsorted(at_ms[two_sided], minutes, side="right") - 1]
    levels = np.concatenate([rows["bid_levels"][delta], rows["ask_levels"][delta]])
    sides = {
        name: np.concatenate([rows[f"bid_{part}_centi"][delta], rows[f"ask_{part}_centi"][delta]])
        for name, part in (("size at the touch", "size"), ("size within 5 cents", "near"))
    }
    return {
        "share of time two-sided": float(lasted_ms[two_sided].sum() / lasted_ms.sum()),
        **_quantiles("spread p{} cents", spread, (25, 50, 75)),
        "share of spreads of at most a cent": float((spread <= 1).mean()),
        **{name: float(np.median(values[values > 0])) / 100 for name, values in sides.items()},
        "levels a side": float(np.median(levels)),
        "mean move of the mid in a minute, cents": float(np.abs(np.diff(by_minute)).mean())
        if len(by_minute) > 1
        else np.nan,
    }


def _clock_figures(
    rows: Mapping[str, NDArray[Any]], delta: NDArray[np.int64], close_ms: int | None
) -> Figures:
    late_ms = rows["recv_ms"][delta] - rows["exchange_ms"][delta]
    late_ms = late_ms - np.quantile(late_ms, 0.001)
    closing = rows["recv_ms"][rows["kind"] == RowKind.CLOSE]
    after_s = (closing[0] - close_ms) / SECOND_MS if len(closing) and close_ms else np.nan
    return {
        "closing snapshot after the close, s": float(after_s),
        **_quantiles("received after the fastest frame, p{} ms", late_ms, (50, 99)),
    }


def cross_section(session: Session, *, first_only: bool) -> Figures:
    """Figures of many markets at one time.

    Args:
        session: polls, or a session that begins with a book of each market.
        first_only: of each market its first book.
    """
    spreads, bids, nears, levels, kinds = [], [], [], [], []
    for _, rows in session.markets():
        book = np.flatnonzero(rows["kind"] == RowKind.SNAPSHOT)[: 1 if first_only else None]
        bid, ask = rows["bid_bp"][book], rows["ask_bp"][book]
        sides = (bid > 0).astype(int) + (ask < 10_000)
        kinds.append(sides)
        if (sides == 2).any():
            spreads.append((ask - bid)[sides == 2].mean() / 100)
        bids.append(rows["bid_size_centi"][book][bid > 0] / 100)
        nears.append(rows["bid_near_centi"][book][bid > 0] / 100)
        levels += [rows["bid_levels"][book], rows["ask_levels"][book]]
    spread, sides = np.array(spreads), np.concatenate(kinds)
    return {
        "share of books two-sided": float((sides == 2).mean()),
        "share of books one-sided": float((sides == 1).mean()),
        **_quantiles("spread of a market p{} cents", spread, (25, 50, 75, 90)),
        "share of markets below 5 cents": float((spread < 5).mean()),
        "share of markets above 20 cents": float((spread > 20).mean()),
        **_quantiles("size at the bid p{}", np.concatenate(bids), (25, 50, 75)),
        **_quantiles("size within 5 cents of the bid p{}", np.concatenate(nears), (50,)),
        **_quantiles("levels a side p{}", np.concatenate(levels), (50,)),
    }


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")


def _quantiles(name: str, values: NDArray[Any], parts: Sequence[int]) -> Figures:
    return {name.format(part): float(np.quantile(values, part / 100)) for part in parts}


@dataclass(frozen=True)
class Within:
    """How far a generated figure may be from the recorded one.

    Args:
        factor: times or divided by; 1 = no such bound.
        plus: or this much more or less.
    """

    factor: float = 1.0
    plus: float = 0.0

    def holds(self, recorded: float, generated: float) -> bool:
        """Whether two figures are close enough."""
        if abs(generated - recorded) <= self.plus:
            return True
        low, high = sorted((recorded, generated))
        return low > 0 and high / low <= self.factor

    def __str__(self) -> str:
        """As the table says it."""
        factor = f"x {self.factor:g}" if self.factor > 1 else ""
        plus = f"± {self.plus:g}" if self.plus else ""
        return " or ".join(filter(None, (factor, plus)))


# tests/recordings/test_calibration.py keeps these
INTRADAY_WITHIN = {
    "changes a second": Within(1.5),
    "variance of changes a second / mean": Within(2),
    "gap p50 ms": Within(2, 1),
    "gap p90 ms": Within(2),
    "gap p99 ms": Within(2),
    "share of gaps of 0 ms": Within(plus=0.1),
    "share of book changes that add": Within(plus=0.05),
    "share that cancels or adds what the change before added or cancelled": Within(plus=0.1),
    "trades per change": Within(2),
    "trades per decrease at the touch": Within(2),
    "share of changes at the touch or better": Within(plus=0.1),
    "share of changes within 5 cents of the touch": Within(plus=0.1),
    "share of prices between whole cents": Within(plus=0.1),
    "share of sizes between whole contracts": Within(plus=0.1),
    "size p50": Within(2),
    "size p75": Within(2),
    "share of time two-sided": Within(plus=0.15),
    "spread p50 cents": Within(1.5),
    "share of spreads of at most a cent": Within(plus=0.25),
    "size at the touch": Within(2.5),
    "size within 5 cents": Within(2),
    "mean move of the mid in a minute, cents": Within(2),
}
CROSS_SECTION_WITHIN = {
    "spread of a market p25 cents": Within(1.5),
    "spread of a market p50 cents": Within(1.5),
    "spread of a market p75 cents": Within(2),
    "share of markets below 5 cents": Within(plus=0.1),
    "share of markets above 20 cents": Within(plus=0.1),
    "size at the bid p25": Within(2),
    "size at the bid p50": Within(2),
    "size within 5 cents of the bid p50": Within(2.5),
    "levels a side p50": Within(1.5),
}
BITCOIN, GOLD, CROSS = 9101, 9111, 32  # generated sessions
ALL_PROFILES = {**PROFILES, **EXTRA_PROFILES}


def generated(session: int, scratch: Path) -> Session:
    """A generated session, measured like a recorded one."""
    return Session.of(write_session(ALL_PROFILES[session], scratch))


HEAD = f"""# Generated sessions beside recorded ones

Made by `python -m docs.calibration RECORDINGS`; do not edit. The parameters are in
`kalshi_pipeline/recordings/generator/styles.py`. Both columns went through the project's own
ingest and books. *Held to* is what `tests/recordings/test_calibration.py` insists on where the
recordings are present; a figure without it is shown, not promised.

## The sessions

| ids | what |
|---|---|
| 5 to 71 | the training plan's, with their true durations, markets and numbers of changes |
| 901 to 903 | the quick plan's |
| 9001, 9010, 9050 | 1, 10, 50 million changes of 1,000 markets; 278 bytes each, not packed |
| 9044 | 44 days and a half: what the plan took session 32 for |
| 9099 | every fault there is, in a small session |
| 9101, 9111 | quarter-hour markets after KXBTC15M and KXGOLD15M |

Those from 9001 on are made when asked for by number (`kalshi sessions analyze 9111`) and not
listed otherwise. The same profile gives the same bytes; everything after the folder is the same
code as for real data. A session is made in pieces of about a million and a half changes, every
market carrying its book from piece to piece, so that memory does not grow with the session.

## Faults

A profile's `faults` (`recordings/generator/faults.py`) says how often each thing goes wrong:
lost frames, duplicates, conflicts, late frames, reconnects, foreign markets, prices off the
tick, sizes below zero, books that cross for long or briefly, steps of the clock, garbled and
cut lines, CR LF, a byte order mark. `faults.json` in the folder lists each with its line,
market, connection and seq, and what must come of it: gaps, lost messages, quarantined rows by
reason, crossed states, clock steps. The pipeline's figures equal it exactly
(`tests/recordings/test_faults.py`). The collector of such a session asks for the books again
{RECOVER_AFTER} changes after each damage.
"""
INTRADAY_TEXT = """
A quarter-hour market's figures are taken over its changes; the median over the markets of a group
is shown. Gaps are those of the exchange's clock.
"""
NOT_LIKE = """
## What is not like the recordings

* Ladders of KXBTC15M hold 100 levels a side, a third of that here: standing orders of 50 to 80
  contracts at every price far from the touch are left out. Size near the touch is as recorded.
* A spread of one tick is a little rarer than recorded, because a generated maker quotes in its turn
  and not at once when the fair value has moved.
* A third of the books of recording 141 are one-sided: strikes of KXBTC far from the money.
  The plan's universe has few such ladders, and its books are two-sided more often.
* Receive clocks: the recorders' clocks were behind or ahead by up to 0.3 s, one of them ticked in
  steps of 15.6 ms. Generated receive times are the exchange's plus a delay.
* Every generated change of a book is one frame at one level; a taker that walks through ten levels
  is ten trades within milliseconds, as recorded, but with changes of other orders in between.
* Long-dated markets: no recording shows their changes. Rates are the plan's (domain notes, session
  32), gaps inside bursts those of the domain notes.
"""


def _table(
    names: Sequence[str], recorded: Figures, made: Figures, within: Mapping[str, Within]
) -> str:
    lines = ["| | recorded | generated | held to |", "|---|--:|--:|---|"]
    for name in names:
        values = (recorded[name], made[name])
        shown = (f"{v:.3g}" if abs(v) < 1000 else f"{v:,.0f}" for v in values)
        cells = ("not recorded" if text == "nan" else text for text in shown)
        bound = "" if np.isnan(recorded[name]) else within.get(name, "")
        lines.append(f"| {name} | {' | '.join(cells)} | {bound} |")
    return "\n".join(lines) + "\n"


def report(recordings: Path) -> str:
    """The page, from all recordings it needs."""
    parts = [HEAD, INTRADAY_TEXT]
    groups = (
        ("KXBTC15M, recordings 101 to 105", range(101, 106), BITCOIN),
        ("KXGOLD15M, recordings 111 to 113", range(111, 114), GOLD),
    )
    with tempfile.TemporaryDirectory() as scratch:
        for title, sessions, ours in groups:
            found = intraday(Session.of(recordings / str(number)) for number in sessions)
            made = intraday([generated(ours, Path(scratch))])
            parts.append(f"\n## {title}, beside generated session {ours}\n")
            parts.append(_table(INTRADAY, found, made, INTRADAY_WITHIN))
        polls = cross_section(Session.of(recordings / "141"), first_only=False)
        made = cross_section(generated(CROSS, Path(scratch)), first_only=True)
    parts.append(f"\n## Recording 141, polls of 860 markets, beside generated session {CROSS}\n")
    parts.append(_table(CROSS_SECTION, polls, made, CROSS_SECTION_WITHIN))
    return "\n".join([*parts, NOT_LIKE])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", type=Path)
    page = report(parser.parse_args().recordings)
    (Path(__file__).parent / "GENERATOR.md").write_text(page)
