"""Which markets are chosen, over what life, in which tier, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kalshi_pipeline.books.build import Market
from kalshi_pipeline.books.traded_size import TRADED_SCHEMA
from kalshi_pipeline.config import StepConfig, SuitabilityConfig
from kalshi_pipeline.suitability import (
    SCHEMA,
    TIERS,
    in_memory,
    suitable_markets,
    temporal_pattern,
    write_suitable_markets,
)
from kalshi_pipeline.trading.tape import RowKind
from tests.oracle.activity import activity
from tests.sessions import Replayed, replayed, tensors_of
from tests.tapes import CENT_GRID

RULE = SuitabilityConfig()
ROWS = pa.schema(
    [
        ("market", pa.string()), ("time_ms", pa.int64()), ("epoch", pa.int32()),
        ("kind", pa.uint8()), ("bid_bp", pa.int32()), ("ask_bp", pa.int32()),
        ("bid_total_centi", pa.int64()), ("ask_total_centi", pa.int64()),
    ]
)  # fmt: skip
HOUR = 3_600_000


class Session:
    """Tables of a made-up session: every row is a step, its book 40 to 60 cents."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.segments: list[dict] = []
        self.markets: dict[str, Market] = {}
        self.traded: list[dict] = []

    def segment(
        self,
        market: str,
        times_ms: list[int],
        ended_by: str = "end_of_recording",
        epoch: int = 1,
        closing_ms: int | None = None,
        **touch: int,
    ) -> Session:
        """One trusted segment; `closing_ms` is the time of the closing snapshot after it."""
        first = len(self.rows)
        book = {"bid_bp": 4_000, "ask_bp": 6_000, **touch}
        for time_ms in times_ms:
            self._row(market, time_ms, RowKind.DELTA, epoch, book)
        self.segments.append(
            {
                "segment": len(self.segments),
                "market": market,
                "first_row": first,
                "end_row": len(self.rows),
                "start_ms": times_ms[0],
                "end_ms": times_ms[-1],
                "ended_by": ended_by,
            }
        )
        if closing_ms is not None:
            self._row(market, closing_ms, RowKind.CLOSE, epoch, book)
        self.market(market)
        return self

    def market(self, ticker: str, close_ms: int | None = None) -> Session:
        """A market of the session, perhaps without a book."""
        self.markets[ticker] = Market(ticker, ticker.rpartition("-")[0], CENT_GRID, close_ms, None)
        return self

    def trade(self, market: str, traded_centi: int, source: str = "trades") -> Session:
        """What was traded in a market."""
        entry = {"market": market, "source": source, "traded_centi": traded_centi, "trades": 7}
        self.traded.append(entry)
        return self

    def _row(self, market: str, time_ms: int, kind: RowKind, epoch: int, book: dict) -> None:
        row = {"market": market, "time_ms": time_ms, "epoch": epoch, "kind": int(kind)}
        sizes = {"bid_total_centi": 100, "ask_total_centi": 300}
        self.rows.append(row | sizes | book)

    def table(self, rule: SuitabilityConfig = RULE) -> dict[str, dict]:
        """The suitable-market table by ticker."""
        steps = [index for index, row in enumerate(self.rows) if row["kind"] != RowKind.CLOSE]
        table = suitable_markets(
            in_memory(pa.Table.from_pylist(self.rows, schema=ROWS)),
            pa.Table.from_pylist(self.segments),
            np.array(steps),
            list(self.markets.values()),
            pa.Table.from_pylist(self.traded, schema=TRADED_SCHEMA),
            rule,
        )
        assert table.schema.equals(SCHEMA)
        return {entry["market"]: entry for entry in table.to_pylist()}


def table_of(session: Replayed, traded: pa.Table | None = None, batch: int = 10_000) -> pa.Table:
    """The suitable-market table of a replayed session, its rows read in batches."""
    books = session.books

    def rows(columns: Sequence[str]) -> list[pa.RecordBatch]:
        return books.rows.select(list(columns)).to_batches(max_chunksize=batch)

    return suitable_markets(
        rows, books.segments, session.tensors.step_row, books.markets, traded, RULE
    )


def evenly(count: int, start_ms: int, end_ms: int) -> list[int]:
    return np.linspace(start_ms, end_ms, count).astype(int).tolist()


def quarters(entry: dict) -> list[int]:
    return [entry[f"q{i}"] for i in range(1, 5)]


def assert_lives(entry: dict, expected: list[int]) -> None:
    """Steps by quarter; one that falls on a boundary may count on either side."""
    assert np.abs(np.subtract(quarters(entry), expected)).max() <= 1


# --- the rule


@pytest.mark.parametrize(("steps", "suitable"), [(49, False), (50, True), (51, True)])
def test_fifty_steps_are_enough(steps, suitable):
    entry = Session().segment("A-1", evenly(steps, 0, HOUR)).table()["A-1"]
    assert entry["steps"] == steps
    assert entry["suitable"] is suitable
    assert entry["reason"] == (None if suitable else f"under 50 steps ({steps})")


def test_activity_in_one_quarter_is_not_enough():
    session = Session().segment("A-1", [*evenly(80, 0, HOUR // 5)])
    session.segment("A-2", [*evenly(80, 0, HOUR // 5), HOUR])  # to the last moment of the recording
    table = session.table()
    assert quarters(table["A-1"]) == [80, 0, 0, 0]
    assert table["A-1"]["reason"] == "active in under 2 of 4 quarters (1)"
    assert quarters(table["A-2"]) == [80, 0, 0, 1]
    assert table["A-2"]["suitable"]


def test_the_rule_is_configuration():
    session = Session().segment("A-1", evenly(10, 0, HOUR))
    assert not session.table()["A-1"]["suitable"]
    assert session.table(SuitabilityConfig(min_steps=10, min_quartiles=4))["A-1"]["suitable"]
    assert not session.table(SuitabilityConfig(min_steps=10, min_quartiles=5))["A-1"]["suitable"]


def test_a_market_without_a_trusted_book_says_so():
    entry = Session().segment("A-1", evenly(60, 0, HOUR)).market("A-2").table()["A-2"]
    assert entry["reason"] == "no trusted book"
    assert entry["suitable"] is entry["causal"] is False
    assert (entry["steps"], quarters(entry), entry["tier"]) == (0, [0, 0, 0, 0], None)
    assert entry["event"] == "A"


# --- the life the quarters are cut from


def test_a_resting_book_is_observed_to_the_end_of_its_connection():
    session = Session().segment("A-1", evenly(60, 0, HOUR))
    session.segment("A-2", evenly(60, 0, 4 * HOUR))
    assert_lives(session.table()["A-1"], [60, 0, 0, 0])


def test_a_market_that_closes_has_lived_to_its_close():
    session = Session().segment("A-1", evenly(60, 0, HOUR), "market_closed", closing_ms=2 * HOUR)
    session.segment("A-2", evenly(60, 0, 100 * HOUR))
    assert_lives(session.table()["A-1"], [30, 30, 0, 0])


def test_a_close_that_was_not_seen_but_is_known_ends_the_life_too():
    session = Session().segment("A-1", evenly(60, 0, HOUR)).market("A-1", close_ms=2 * HOUR)
    session.segment("A-2", evenly(60, 0, 100 * HOUR))
    assert_lives(session.table()["A-1"], [30, 30, 0, 0])


def test_gaps_between_segments_are_no_life():
    # two hours of book, forty hours apart
    session = Session()
    session.segment("A-1", evenly(40, 0, HOUR), "gap")
    session.segment("A-1", evenly(40, 41 * HOUR, 42 * HOUR))
    entry = session.table()["A-1"]
    assert_lives(entry, [20, 20, 20, 20])
    assert entry["pattern"] == "even"


def test_the_connection_that_ended_bounds_the_life_not_the_one_after_it():
    session = Session()
    session.segment("A-1", evenly(40, 0, HOUR), "new_epoch", epoch=1)
    session.segment("A-1", evenly(40, 10 * HOUR, 11 * HOUR), epoch=2)
    session.segment("A-2", evenly(60, 0, HOUR), "new_epoch", epoch=1)
    session.segment("A-2", evenly(60, 10 * HOUR, 13 * HOUR), epoch=2)
    assert_lives(session.table()["A-1"], [40, 40, 0, 0])


def test_a_clock_set_back_between_segments_breaks_nothing():
    session = Session()
    session.segment("A-1", evenly(40, HOUR, 2 * HOUR), "gap")
    session.segment("A-1", evenly(40, 0, HOUR), "gap")
    assert_lives(session.table()["A-1"], [20, 20, 20, 20])


def test_a_market_seen_for_one_moment_has_a_life_all_the_same():
    entry = Session().segment("A-1", [5, 5, 5], "gap").table()["A-1"]
    assert quarters(entry) == [3, 0, 0, 0]


def test_every_step_is_in_one_quarter(generated: Path):
    session = replayed(generated / "901")
    table = table_of(session).to_pylist()
    assert all(sum(quarters(entry)) == entry["steps"] for entry in table)
    assert sum(entry["steps"] for entry in table) == len(session.tensors.step_row)
    assert {entry["market"] for entry in table} == {m.ticker for m in session.books.markets}


# --- patterns, tiers, the causal choice


@pytest.mark.parametrize(
    ("counts", "pattern"),
    [
        ((10, 3, 3, 3), "front-loaded"),
        ((3, 3, 3, 10), "back-loaded"),
        ((2, 9, 9, 2), "mid-peak"),
        ((5, 5, 5, 5), "even"),
        ((9, 1, 1, 9), "even"),
        ((9, 3, 3, 3), "even"),
        ((0, 0, 0, 0), "even"),
    ],
)
def test_the_pattern_is_where_most_of_the_activity_lies(counts, pattern):
    assert temporal_pattern(counts) == pattern


def test_tiers_are_thirds_of_the_suitable_markets_by_steps():
    session = Session()
    for number in range(7):
        session.segment(f"A-{number}", evenly(60 + number, 0, HOUR))
    session.segment("A-99", evenly(10, 0, HOUR))
    table = session.table()
    order = list(table)
    assert order == [f"A-{number}" for number in (6, 5, 4, 3, 2, 1, 0, 99)]
    assert [table[ticker]["tier"] for ticker in order] == [
        "high", "high", "high", "medium", "medium", "low", "low", None,
    ]  # fmt: skip
    assert set(TIERS) == {"high", "medium", "low"}


def test_what_was_traded_comes_before_the_steps_and_what_rests_never_counts():
    session = Session()
    for number, size in enumerate((0, 900, 500)):
        session.segment(f"A-{number}", evenly(90 - number, 0, HOUR), bid_total_centi=10**9 * number)
        session.trade(f"A-{number}", size)
    session.segment("A-3", evenly(99, 0, HOUR))  # nothing is known of what was traded
    table = session.table()
    assert list(table) == ["A-1", "A-2", "A-3", "A-0"]
    assert [table[ticker]["tier"] for ticker in table] == ["high", "high", "medium", "low"]
    assert [table[ticker]["traded_centi"] for ticker in table] == [900, 500, 0, 0]
    assert (table["A-0"]["trades"], table["A-0"]["traded_source"]) == (7, "trades")
    assert (table["A-3"]["trades"], table["A-3"]["traded_source"]) == (0, "none")


def test_markets_as_active_as_each_other_are_ordered_by_name():
    session = Session()
    for ticker in ("C-1", "A-1", "B-1"):
        session.segment(ticker, evenly(60, 0, HOUR))
    assert list(session.table()) == ["A-1", "B-1", "C-1"]


def test_the_causal_choice_knows_only_the_first_fifth():
    session = Session()
    early = [*evenly(10, 0, HOUR // 10), HOUR]
    session.segment("EARLY-1", early, "gap")
    session.segment("LATE-1", [0, *evenly(99, HOUR // 2, HOUR)], "gap")
    table = session.table()
    assert (table["EARLY-1"]["causal"], table["EARLY-1"]["suitable"]) == (True, False)
    assert (table["LATE-1"]["causal"], table["LATE-1"]["suitable"]) == (False, True)


def test_the_causal_choice_does_not_change_with_what_comes_later():
    known = evenly(30, 0, HOUR // 5 - 1)
    chosen = set()
    for later in ([], evenly(3, HOUR // 2, HOUR - 1), evenly(500, HOUR // 4, HOUR - 1)):
        entry = Session().segment("A-1", [*known, *later, HOUR], "gap").table()["A-1"]
        chosen.add(entry["causal"])
    assert chosen == {True}


def test_the_causal_choice_reckons_with_the_declared_close():
    # a quarter of an hour of life is known beforehand, however long the recording goes on
    steps = [*evenly(10, 0, HOUR // 20 - 1), *evenly(90, HOUR // 20, HOUR // 4)]
    session = Session().segment("A-1", evenly(60, 0, 9 * HOUR))
    session.segment("A-2", steps, "gap").market("A-2", close_ms=HOUR // 4)
    session.segment("A-3", [0, *steps[10:]], "gap").market("A-3", close_ms=HOUR // 4)
    table = session.table()
    assert (table["A-2"]["causal"], table["A-3"]["causal"]) == (True, False)
    assert table["A-3"]["suitable"]


# --- figures


@pytest.mark.parametrize("batch", [1, 13, 100_000])
def test_every_figure_is_that_of_the_rule(generated: Path, batch: int):
    session = replayed(generated / "901")
    rows, segments = session.books.rows.to_pylist(), session.books.segments.to_pylist()
    steps = set(session.tensors.step_row.tolist())
    close_ms = {market.ticker: market.close_ms for market in session.books.markets}
    found = {entry["market"]: entry for entry in table_of(session, batch=batch).to_pylist()}
    for ticker in list(found)[:: 1 if batch > 13 else 6]:
        rule = activity(rows, segments, steps, ticker, close_ms[ticker], RULE.causal_share)
        entry = found[ticker]
        assert quarters(entry) == rule.pop("quarters")
        assert entry["causal"] == (rule.pop("known") >= RULE.min_steps * RULE.causal_share)
        volatility = rule.pop("volatility_bp")
        assert entry["volatility_bp"] == (None if volatility is None else pytest.approx(volatility))
        assert {name: entry[name] for name in rule} == rule


def test_figures_are_of_two_sided_books_and_of_the_steps():
    session = Session()
    session.segment("A-1", evenly(2, 0, 10), "gap", bid_bp=4_000, ask_bp=4_300)
    session.segment("A-1", evenly(2, 20, 30), "gap", bid_bp=4_100, ask_bp=4_400)
    session.segment("A-1", evenly(2, 40, 50), "gap", bid_bp=0)
    entry = session.table()["A-1"]
    assert entry["spread_bp"] == 300
    assert entry["volatility_bp"] == pytest.approx(np.sqrt(100**2 / 3))
    assert (entry["deltas"], entry["trades"], entry["traded_centi"]) == (6, 0, 0)
    assert entry["traded_source"] == "none"
    assert entry["resting_centi"] == 400


def test_a_market_that_never_was_two_sided_has_no_spread():
    entry = Session().segment("A-1", evenly(60, 0, HOUR), bid_bp=0).table()["A-1"]
    assert entry["spread_bp"] is None
    assert entry["volatility_bp"] is None
    assert entry["suitable"]


def test_a_session_without_markets_is_an_empty_table(generated: Path, tmp_path: Path):
    session = replayed(generated / "901")
    empty = session.books_of(session.messages.slice(0, 0))
    table = table_of(replace(session, books=empty, tensors=tensors_of(empty, StepConfig())))
    assert table.num_rows == 0
    assert table.schema.equals(SCHEMA)
    write_suitable_markets(table, tmp_path)
    assert pa.parquet.read_table(tmp_path / "suitable_markets.parquet").schema.equals(SCHEMA)


def test_a_generated_session_has_all_tiers(generated: Path):
    session = replayed(generated / "901")
    table = table_of(session).to_pylist()
    tiers = Counter(entry["tier"] for entry in table if entry["suitable"])
    assert set(tiers) == set(TIERS)
    assert max(tiers.values()) - min(tiers.values()) <= 1
    assert all((entry["tier"] is None) == (entry["reason"] is not None) for entry in table)
