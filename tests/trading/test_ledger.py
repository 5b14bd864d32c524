"""The ledger of an episode: complete, repeatable, and equal to the accounts by SQL of its own."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading import ledger as ledgers
from kalshi_pipeline.trading.journal import EndReason
from kalshi_pipeline.trading.ledger import Ledger, actions_of, record, replay
from kalshi_pipeline.trading.ledger_audit import differences
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator
from tests.tapes import CENT_GRID, DEFAULT_FEES, FEES_PER_FILL, TAPERED_GRID, random_universe

EPISODES, STEPS = 6, 60
MAKERS_PAY = (700, 175, 100, 0)


def at_random(seed, only_valid=True):
    rng = np.random.default_rng(seed)

    def choose(observation, mask):
        if only_valid:
            return np.array([rng.choice(np.flatnonzero(valid)) for valid in mask])
        return rng.integers(0, 7, size=len(mask))

    return choose


def played(seed, config=None, *, only_valid=True, **universe):
    made = random_universe(np.random.default_rng(seed), episodes=EPISODES, steps=STEPS, **universe)
    config = config or TradingConfig(latency_ms=0)
    return made, record(made, range(EPISODES), at_random(seed, only_valid), config)


configs = st.builds(
    TradingConfig,
    cash_start_micro=st.sampled_from((100_000_000, 3_000_000, 1_000_000)),
    order_size_centi=st.sampled_from((100, 37, 500)),
    position_limit_centi=st.sampled_from((1_000, 500)),
    latency_ms=st.sampled_from((0, 250)),
    fees=st.sampled_from((True, True, False)),
    fill_model=st.sampled_from(("cross", "queue", "touch")),
    daily_loss_limit_micro=st.sampled_from((0, 0, 300_000)),
)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    config=configs,
    grid=st.sampled_from((CENT_GRID, TAPERED_GRID)),
    fees=st.sampled_from((DEFAULT_FEES, FEES_PER_FILL, MAKERS_PAY)),
    only_valid=st.booleans(),
)
def test_sql_over_the_fills_comes_to_the_simulators_accounts(seed, config, grid, fees, only_valid):
    _, ledger = played(seed, config, only_valid=only_valid, grid=grid, fee_schedule=fees)
    assert differences(ledger).to_pylist() == []


@pytest.fixture(scope="module")
def some():
    """Two hundred fills and more, by takers and makers, settled and not, long and short."""
    universe, ledger = played(5)
    assert ledger.fills.num_rows > 150
    taken = pc.sum(ledger.fills["is_taker"].cast(pa.int64())).as_py()
    assert 30 < taken < ledger.fills.num_rows - 30
    assert len(set(ledger.episodes["settled"].to_pylist())) == 2
    ends = [(row["settled"], np.sign(row["position_centi"])) for row in ledger.episodes.to_pylist()]
    assert {(False, 1), (False, -1)} & set(ends)
    assert differences(ledger).num_rows == 0
    return universe, ledger


def changed(table, row, column, change):
    values = table[column].to_pylist()
    values[row] = change(values[row])
    place = table.schema.get_field_index(column)
    return table.set_column(
        place, table.schema.field(column), pa.array(values, table.schema.field(column).type)
    )


FAULTS = {
    ("fills", "price_bp"): lambda price: price + 1,
    ("fills", "size_centi"): lambda size: size + 1,
    ("fills", "fee_micro"): lambda fee: fee + 1,
    ("fills", "is_buy"): lambda buy: not buy,
    ("fills", "is_taker"): lambda taker: not taker,
    ("fills", "order"): lambda order: order + 1_000,
    ("fills", "time_ms"): lambda time: time + 10**9,
    ("orders", "size_centi"): lambda size: size + 1,
    ("orders", "unfilled_centi"): lambda size: size + 1,
    ("episodes", "cash_micro"): lambda cash: cash - 1,
    ("episodes", "equity_micro"): lambda equity: equity + 1,
    ("episodes", "position_centi"): lambda position: position - 1,
    ("episodes", "flat_trips"): lambda trips: trips + 1,
    ("episodes", "flat_wins"): lambda trips: trips + 1,
    ("episodes", "cancels"): lambda cancels: cancels + 1,
}


@pytest.mark.parametrize("fault", FAULTS, ids=".".join)
def test_one_unit_of_difference_is_found(some, fault):
    _, ledger = some
    name, column = fault
    table = changed(getattr(ledger, name), 0, column, FAULTS[fault])
    assert differences(replace(ledger, **{name: table})).num_rows > 0


def test_a_lost_fill_and_a_fill_told_twice_are_found(some):
    _, ledger = some
    lost = replace(ledger, fills=ledger.fills.slice(1))
    twice = replace(ledger, fills=pa.concat_tables([ledger.fills, ledger.fills.slice(0, 1)]))
    assert differences(lost).num_rows > 0
    assert differences(twice).num_rows > 0


def test_a_thinner_closing_book_is_found(some):
    _, ledger = some
    open_ones = [
        (row["episode"], "yes" if row["position_centi"] > 0 else "no")
        for row in ledger.episodes.to_pylist()
        if not row["settled"] and row["position_centi"]
    ]
    best = [
        (row["episode"], row["side"]) == open_ones[0] for row in ledger.closing_book.to_pylist()
    ]
    thin = changed(ledger.closing_book, best.index(True), "price_bp", lambda price: price - 100)
    assert {row["what"] for row in differences(replace(ledger, closing_book=thin)).to_pylist()} >= {
        "equity_micro"
    }


def test_the_same_actions_give_the_same_ledger(some, tmp_path):
    universe, ledger = some
    ledger.write(tmp_path)
    kept = Ledger(*(pq.read_table(tmp_path / f"{name}.parquet") for name in ledger.tables()))
    assert kept == ledger
    assert replay(universe, actions_of(kept), TradingConfig(latency_ms=0)) == ledger
    other = replay(universe, actions_of(kept), TradingConfig(latency_ms=250))
    assert other != ledger
    assert differences(other).num_rows == 0


def test_a_journal_that_was_too_small_is_written_again(some, monkeypatch):
    universe, ledger = some
    rooms = []

    class Counted(Simulator):
        def __init__(self, universe, lanes, config, journal=0):
            rooms.append(journal)
            super().__init__(universe, lanes, config, journal)

    monkeypatch.setattr(ledgers, "Simulator", Counted)
    monkeypatch.setattr(ledgers, "first_room", lambda steps: 1)
    assert replay(universe, actions_of(ledger), TradingConfig(latency_ms=0)) == ledger
    assert rooms[0] == 1
    assert len(rooms) == 2 * EPISODES


def test_a_journal_changes_nothing_else(some):
    universe, ledger = some
    for episode, actions in actions_of(ledger).items():
        plain, kept = (
            Simulator(universe, 1, TradingConfig(latency_ms=0), size) for size in (0, 999)
        )
        for simulator in (plain, kept):
            simulator.reset([0], [episode])
            for action in actions:
                simulator.step([action])
        assert plain.state.journal.size == 0
        assert plain.summary(0) == kept.summary(0)
        np.testing.assert_array_equal(plain.observation, kept.observation)
        assert plain.state.account[0, Account.JOURNALLED] == 0
        assert kept.state.account[0, Account.JOURNALLED] > 0


def test_every_order_says_how_it_ended():
    found = set()
    for seed in range(12):
        config = TradingConfig(
            latency_ms=250, cash_start_micro=1_500_000, fill_model="queue",
            daily_loss_limit_micro=(0, 100_000)[seed % 2],
        )  # fmt: skip
        _, ledger = played(seed, config, only_valid=False)
        for order in ledger.orders.to_pylist():
            found.add(order["ended_by"])
            assert order["sent_ms"] <= order["ended_ms"]
            assert (order["unfilled_centi"] == 0) == (order["ended_by"] == "filled")
            if order["rested_ms"] >= 0:
                assert order["post_only"]
                assert order["sent_ms"] + 250 <= order["rested_ms"] <= order["ended_ms"]
    assert found >= {reason.name.lower() for reason in EndReason} - {"not_carried"}
