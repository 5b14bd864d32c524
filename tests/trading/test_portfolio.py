"""The account, function by function: by hand, and against the definition of each number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.market.fees import PER_FILL, PER_ORDER, Fees, fee_product, fill_fee_micro
from kalshi_pipeline.trading import portfolio
from kalshi_pipeline.trading.actions import BUY, SELL
from kalshi_pipeline.trading.journal import Entry
from kalshi_pipeline.trading.portfolio import FLIGHT, SLOTS, Account, FillModel, Lane, Order

CENT = 10_000
DOLLAR = 100 * CENT
STEP_BP = 100
LEVELS = 101
FREE = Fees(0, 0, 100, PER_ORDER)
CHARGED = Fees(700, 175, 100, PER_ORDER)
EACH_FILL = Fees(700, 175, 100, PER_FILL)
sides = st.sampled_from((BUY, SELL))
schedules = st.sampled_from((FREE, CHARGED, EACH_FILL, Fees(700, 700, 300, PER_FILL)))


def account(**columns):
    values = np.zeros(len(Account), dtype=np.int64)
    for name, value in columns.items():
        values[Account[name]] = value
    return values


def order(**columns):
    values = np.zeros(len(Order), dtype=np.int64)
    for name, value in columns.items():
        values[Order[name]] = value
    return values


def orders(**by_side):
    """Resting orders as (price_bp, size_centi)."""
    values = np.zeros((SLOTS, len(Order)), dtype=np.int64)
    for name, (price, size) in by_side.items():
        side = {"buy": BUY, "sell": SELL}[name]
        values[side] = order(PRICE=price, REMAINING=size, SIZE=size, SIDE=side)
    return values


def ladder(yes=(), no=()):
    sizes = np.zeros((2, LEVELS), dtype=np.int64)
    for side, levels in enumerate((yes, no)):
        for price_bp, size in levels:
            sizes[side, price_bp // STEP_BP] = size
    return sizes


def test_every_column_has_its_own_place():
    assert [int(column) for column in Account] == list(range(35))
    assert [int(column) for column in Order] == list(range(14))
    assert [int(model) for model in FillModel] == [0, 1, 2]
    assert sorted((BUY, SELL, FLIGHT)) == list(range(SLOTS))
    assert portfolio.REDUCE_ONLY == 0  # the limit that leaves no room to open


def test_what_is_held_has_the_direction_of_the_side():
    long = account(POSITION=250)
    assert (portfolio.held_centi(long, BUY), portfolio.held_centi(long, SELL)) == (250, -250)


@pytest.mark.parametrize(
    ("limit", "held", "size", "may"),
    [(1_000, 900, 100, True), (1_000, 901, 100, False), (1_000, -500, 1_500, True),
     (0, -1, 100, True), (0, 0, 100, False), (0, 1, 100, False), (1, -1, 2, True),
     (1, -5, 7, False), (100, 0, 100, True)],
)  # fmt: skip
def test_the_limit_is_on_what_would_be_held_and_without_any_orders_only_reduce(
    limit, held, size, may
):
    assert portfolio.fits(limit, held, size) == may


@given(sides, st.integers(1, 1_000), st.integers(-1_000, 1_000))
def test_the_opening_part_is_what_the_other_direction_does_not_hold(side, size, position):
    other_way = max(-position if side == BUY else position, 0)
    assert portfolio.opening_centi(side, size, position) == max(size - other_way, 0)


@pytest.mark.parametrize(
    ("side", "price_bp", "size", "position", "cost"),
    [
        (BUY, 4_000, 100, 0, 40 * CENT),
        (SELL, 4_000, 100, 0, 60 * CENT),
        (BUY, 4_000, 100, -40, 24 * CENT),  # forty of them close
        (SELL, 4_000, 100, 40, 36 * CENT),
        (BUY, 4_000, 100, -99, 4_000),
        (BUY, 4_000, 100, -100, 0),
        (SELL, 4_000, 100, 300, 0),
        (BUY, 4_000, 100, 300, 40 * CENT),
    ],
)
def test_an_order_needs_the_cash_of_its_opening_part(side, price_bp, size, position, cost):
    assert portfolio.cost_micro(side, price_bp, size, position, 0, FREE) == cost
    # the worst fee is of all of it where any of it opens: 0.07 x 0.24 is 1.68 cents
    fee = 2 * CENT if cost else 0
    assert portfolio.cost_micro(side, price_bp, size, position, 700, CHARGED) == cost + fee
    worst = 16_800 + CENT if cost else 0
    assert portfolio.cost_micro(side, price_bp, size, position, 700, EACH_FILL) == cost + worst
    half = Fees(0, 0, 50, PER_ORDER)
    fee = CENT if cost else 0  # 0.84
    assert portfolio.cost_micro(side, price_bp, size, position, 700, half) == cost + fee


def test_resting_orders_reserve_what_they_cost_a_maker():
    resting = orders(buy=(4_000, 100), sell=(7_000, 200))
    assert portfolio.reserved_micro(resting, BUY, 0, FREE) == 40 * CENT
    assert portfolio.reserved_micro(resting, SELL, 0, FREE) == 60 * CENT
    # 0.0175 x 0.24 and 0.0175 x 2 x 0.21: half a cent and three quarters of one, rounded up
    assert portfolio.reserved_micro(resting, BUY, 0, CHARGED) == 41 * CENT
    assert portfolio.reserved_micro(resting, SELL, 0, CHARGED) == 61 * CENT
    assert portfolio.reserved_micro(resting, SELL, 100, FREE) == 30 * CENT
    assert portfolio.reserved_micro(orders(sell=(7_000, 200)), BUY, 0, CHARGED) == 0
    ended = orders(buy=(0, 100), sell=(0, 100))  # what was left of it is still noted
    assert [portfolio.reserved_micro(ended, side, 0, FREE) for side in (BUY, SELL)] == [0, 0]
    cheapest = orders(buy=(1, 100))
    assert portfolio.reserved_micro(cheapest, BUY, 0, FREE) == 100


@pytest.mark.parametrize(
    ("position", "available"),
    [
        (0, 500 - 40 - 60),
        (100, 500 - 40 - 30),
        (-100, 500 - 100 - 0 - 60),
        (-50, 500 - 50 - 20 - 60),
    ],
)
def test_available_cash_is_less_collateral_and_reservations(position, available):
    held = account(CASH=5 * DOLLAR, POSITION=position)
    resting = orders(buy=(4_000, 100), sell=(7_000, 200))
    assert portfolio.available_micro(held, resting, FREE) == available * CENT


@pytest.mark.parametrize(
    ("position", "basis", "invested"),
    [
        (100, 400_000, 400_000),
        (-100, 400_000, 600_000),
        (0, 0, 0),
        (1, 4_000, 4_000),
        (-1, 1, 9_999),
    ],
)
def test_what_was_invested_is_the_price_of_the_outcome_held(position, basis, invested):
    assert portfolio.invested_micro(account(POSITION=position, BASIS=basis)) == invested


BOOK = ladder(yes=[(4_000, 100), (3_900, 50), (100, 500)], no=[(5_500, 80), (5_300, 40)])


@pytest.mark.parametrize(
    ("position", "proceeds", "fee_cents"),
    [
        (60, 60 * 4_000, 2),  # 0.07 x 0.6 x 0.24 = 1.01 cents
        (100, 100 * 4_000, 2),
        (120, 100 * 4_000 + 20 * 3_900, 3),  # 1.68 + 0.33
        (700, 100 * 4_000 + 50 * 3_900 + 500 * 100, 3),  # 50 find no bid
        (-80, 80 * 5_500, 2),
        (-100, 80 * 5_500 + 20 * 5_300, 2),  # 1.386 + 0.349
        (-900, 80 * 5_500 + 40 * 5_300, 3),  # 1.386 + 0.698
        (0, 0, 0),
    ],
)
def test_liquidation_walks_the_bids_of_the_outcome_held(position, proceeds, fee_cents):
    held = account(POSITION=position, BID=4_000, ASK=4_500)
    nothing = np.zeros_like(BOOK)
    free = portfolio.liquidation_micro(held, BOOK, nothing, STEP_BP, FREE)
    charged = portfolio.liquidation_micro(held, BOOK, nothing, STEP_BP, CHARGED)
    assert (free, charged) == (proceeds, proceeds - fee_cents * CENT)


def test_the_last_hundredth_of_a_level_is_sold_and_a_fee_of_whole_cents_stays_one():
    held = account(POSITION=401, BID=5_000, ASK=10_000)
    book = ladder(yes=[(5_000, 400), (200, 1), (100, 9)])
    nothing = np.zeros_like(book)
    # 0.07 x 4 x 0.25 is seven cents exactly; what one hundredth adds makes it eight
    value = portfolio.liquidation_micro(held, book, nothing, STEP_BP, CHARGED)
    assert value == 400 * 5_000 + 200 - 8 * CENT
    held[Account.POSITION] = 400
    value = portfolio.liquidation_micro(held, book, nothing, STEP_BP, CHARGED)
    assert value == 400 * 5_000 - 7 * CENT


def test_what_own_fills_consumed_cannot_be_sold_into():
    taken = ladder(yes=[(4_000, 70)], no=[(5_500, 80), (5_300, 1)])
    held = account(POSITION=100, BID=4_000, ASK=4_500)
    value = portfolio.liquidation_micro(held, BOOK, taken, STEP_BP, FREE)
    assert value == 30 * 4_000 + 50 * 3_900 + 20 * 100
    held[Account.POSITION] = -100
    assert portfolio.liquidation_micro(held, BOOK, taken, STEP_BP, FREE) == 39 * 5_300


def test_a_position_whose_fee_exceeds_its_proceeds_is_worth_nothing():
    held = account(POSITION=1, BID=100, ASK=10_000)
    book = ladder(yes=[(100, 500)])
    assert portfolio.liquidation_micro(held, book, np.zeros_like(book), STEP_BP, CHARGED) == 0
    assert portfolio.liquidation_micro(held, book, np.zeros_like(book), STEP_BP, FREE) == 100


@pytest.mark.parametrize(("side", "signed"), [(BUY, 50), (SELL, -50)])
def test_a_fill_moves_cash_position_and_what_its_order_carries(side, signed):
    held = account(CASH=DOLLAR, POSITION=30)
    filled = order(SIDE=side, FEE_PRODUCT=3 * 10**12, FEE_CARRIED=CENT)
    product = fee_product(700, 100, 50, 4_000)
    for fees in (CHARGED, EACH_FILL):
        fee, carried = fill_fee_micro(fees.rule, product, -signed * 4_000, 3 * 10**12, CENT)
        assert portfolio.fill_outcome(held, filled, 4_000, 50, 700, fees) == (
            DOLLAR - signed * 4_000 - fee, 30 + signed, carried,
        )  # fmt: skip
    assert portfolio.fill_outcome(held, filled, 4_000, 50, 0, FREE)[0] == (
        DOLLAR - signed * 4_000 + (CENT - CENT)
    )


def lane(held, resting, fees, limit_centi):
    return Lane(
        held, resting, BOOK.copy(), np.zeros_like(BOOK), fees, STEP_BP, limit_centi,
        int(FillModel.CROSS), 50, np.zeros((1, len(Entry)), dtype=np.int64),
    )  # fmt: skip


@settings(max_examples=150)
@given(
    side=sides,
    price=st.integers(1, 99).map(lambda cents: 100 * cents),
    wanted=st.integers(1, 60),
    position=st.integers(-40, 40),
    beyond=st.integers(0, 40 * CENT),
    resting=st.tuples(st.integers(1, 99).map(lambda cents: 100 * cents), st.integers(1, 60)),
    rests=st.booleans(),
    limit=st.integers(1, 80),
    fees=schedules,
)
def test_the_affordable_size_is_the_largest_the_account_can_carry(
    side, price, wanted, position, beyond, resting, rests, limit, fees
):
    other = {"sell" if side == BUY else "buy": resting} if rests else {}
    at_rest = orders(**other)
    reserved = portfolio.reserved_micro(at_rest, 1 - side, position, fees)
    cash = 10_000 * max(-position, 0) + reserved + beyond
    held = account(CASH=cash, POSITION=position)
    filled = order(PRICE=price, REMAINING=wanted, SIZE=wanted, SIDE=side)
    played = lane(held, at_rest, fees, limit)

    def carried(size):
        after = portfolio.fill_outcome(held, filled, price, size, fees.taker_rate_bp, fees)
        free = after[0] - 10_000 * max(-after[1], 0)
        within = (after[1] if side == BUY else -after[1]) <= limit
        return within and free >= portfolio.reserved_micro(at_rest, 1 - side, after[1], fees)

    largest = next((size for size in range(wanted, 0, -1) if carried(size)), 0)
    found = portfolio.affordable_centi(played, filled, price, wanted, fees.taker_rate_bp)
    assert found == largest


@pytest.mark.parametrize(("side", "unit"), [(BUY, 4_000), (SELL, 6_000)])
@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_cash_that_just_suffices_suffices(side, unit, size):
    filled = order(PRICE=4_000, REMAINING=90, SIZE=90, SIDE=side)
    for cash, affordable in ((size * unit, size), (size * unit - 1, size - 1)):
        played = lane(account(CASH=cash), orders(), FREE, 1_000)
        assert portfolio.affordable_centi(played, filled, 4_000, 90, 0) == affordable


def booked(held, fills, fees=FREE, rate=0):
    """Book (side, price_bp, size, time_ms), each an order of its own."""
    for side, price, size, time_ms in fills:
        filled = order(PRICE=price, REMAINING=size + 5, SIZE=size + 5, SIDE=side)
        portfolio.book_fill(held, filled, price, size, rate, fees, time_ms)
        assert filled[Order.REMAINING] == 5
        assert filled[Order.FEE_PRODUCT] == fee_product(rate, fees.multiplier_pct, size, price)
    return {name.name: int(held[name]) for name in Account if held[name]}


def test_opening_adding_and_closing_by_hand():
    held = account(CASH=DOLLAR, TRIP_CASH=DOLLAR)
    assert booked(held, [(BUY, 4_000, 100, 7)]) == {
        "CASH": DOLLAR - 400_000, "TRIP_CASH": DOLLAR, "POSITION": 100, "BASIS": 400_000,
        "TRADED": 100, "OPENED_MS": 7,
    }  # fmt: skip
    # more of it: the trip's beginning stays
    assert booked(held, [(BUY, 5_000, 100, 8)]) == {
        "CASH": DOLLAR - 900_000, "TRIP_CASH": DOLLAR, "POSITION": 200, "BASIS": 900_000,
        "TRADED": 200, "OPENED_MS": 7,
    }  # fmt: skip
    # half of it sold at 0.60: its part of the basis goes with it
    assert booked(held, [(SELL, 6_000, 100, 9)]) == {
        "CASH": DOLLAR - 300_000, "TRIP_CASH": DOLLAR, "POSITION": 100, "BASIS": 450_000,
        "REALISED": 150_000, "TRADED": 300, "OPENED_MS": 7,
    }  # fmt: skip
    # the rest at a loss, the trip as a whole a gain
    assert booked(held, [(SELL, 4_000, 100, 10)]) == {
        "CASH": DOLLAR + 100_000, "TRIP_CASH": DOLLAR + 100_000, "REALISED": 100_000,
        "TRADED": 400, "OPENED_MS": 7, "TRIPS": 1, "WINS": 1,
    }  # fmt: skip


def test_a_short_position_gains_when_it_is_bought_back_for_less():
    held = account(CASH=DOLLAR, TRIP_CASH=DOLLAR)
    assert booked(held, [(SELL, 6_000, 100, 3), (BUY, 4_500, 40, 4)]) == {
        "CASH": DOLLAR + 600_000 - 180_000, "TRIP_CASH": DOLLAR, "POSITION": -60,
        "BASIS": 360_000, "REALISED": 60_000, "TRADED": 140, "OPENED_MS": 3,
    }  # fmt: skip
    assert booked(held, [(BUY, 8_000, 60, 5)]) == {
        "CASH": DOLLAR - 60_000, "TRIP_CASH": DOLLAR - 60_000, "REALISED": -60_000,
        "TRADED": 200, "OPENED_MS": 3, "TRIPS": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("first", "second", "gain"), [(BUY, SELL, 100_000), (SELL, BUY, -100_000)])
def test_a_fill_through_zero_ends_a_trip_and_begins_another(first, second, gain):
    held = account(CASH=2 * DOLLAR, TRIP_CASH=2 * DOLLAR)
    after = booked(held, [(first, 4_000, 100, 1), (second, 5_000, 130, 2)])
    sign = 1 if second == BUY else -1
    flat = 2 * DOLLAR + gain  # with the second's 30 not yet paid for
    assert after == {
        "CASH": flat - sign * 30 * 5_000, "TRIP_CASH": flat, "POSITION": 30 * sign,
        "BASIS": 150_000, "REALISED": gain, "TRADED": 230, "OPENED_MS": 2, "TRIPS": 1,
        **({"WINS": 1} if gain > 0 else {}),
    }  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [(BUY, SELL), (SELL, BUY)])
def test_a_hundredth_of_a_contract_makes_a_trip_too(first, second):
    held = account(CASH=DOLLAR, TRIP_CASH=DOLLAR)
    gain = 500 if first == BUY else -500
    assert booked(held, [(first, 4_000, 1, 1), (second, 4_500, 1, 2)]) == {
        "CASH": DOLLAR + gain, "TRIP_CASH": DOLLAR + gain, "REALISED": gain, "TRADED": 2,
        "OPENED_MS": 1, "TRIPS": 1, **({"WINS": 1} if gain > 0 else {}),
    }  # fmt: skip


def test_a_part_of_the_basis_that_is_no_whole_number_leaves_more_behind():
    held = account(CASH=DOLLAR, POSITION=3, BASIS=10_001)
    booked(held, [(SELL, 4_000, 1, 1)])
    assert (held[Account.BASIS], held[Account.REALISED]) == (10_001 - 3_333, 4_000 - 3_333)


def test_a_trip_that_ends_where_it_began_is_no_win_and_fees_make_it_a_loss():
    held = account(CASH=DOLLAR, TRIP_CASH=DOLLAR)
    even = booked(held, [(BUY, 4_000, 100, 1), (SELL, 4_000, 100, 2)])
    assert (even["TRIPS"], even.get("WINS", 0), even["TRIP_CASH"]) == (1, 0, DOLLAR)
    charged = booked(
        held, [(BUY, 4_000, 100, 3), (SELL, 4_100, 130, 4)], CHARGED, CHARGED.taker_rate_bp
    )
    # 1.68 and 2.20 cents, each rounded up; the second order's fee is the first trip's
    assert charged["FEES"] == 2 * CENT + 3 * CENT
    assert charged["TRIP_CASH"] == DOLLAR + CENT - 5 * CENT
    assert (charged["TRIPS"], charged.get("WINS", 0)) == (2, 0)
    assert charged["CASH"] == DOLLAR - 4 * CENT + 30 * 4_100


def test_an_orders_second_fill_pays_what_the_first_left_over():
    held = account(CASH=DOLLAR)
    filled = order(PRICE=4_000, REMAINING=100, SIZE=100, SIDE=BUY)
    for _ in range(2):
        portfolio.book_fill(held, filled, 4_000, 50, 700, CHARGED, 1)
    # 0.84 cents each: a cent for the first, and one more up to two for both
    assert held[Account.FEES] == 2 * CENT == filled[Order.FEE_CARRIED]
    assert filled[Order.FEE_PRODUCT] == fee_product(700, 100, 100, 4_000)
    assert filled[Order.REMAINING] == 0


@pytest.mark.parametrize(
    ("position", "equity", "at_mid"),
    [(100, 500 + 38, 500 + 42), (-100, 500 - 100 + 38, 500 - 42), (0, 500 + 38, 500)],
)
def test_the_account_is_marked_at_the_value_and_at_mid(position, equity, at_mid):
    held = account(CASH=5 * DOLLAR, POSITION=position, MID2=8_400, PEAK=DOLLAR)
    portfolio.mark_to_book(held, 38 * CENT)
    assert held[Account.EQUITY] == held[Account.PEAK] == equity * CENT
    assert held[Account.EQUITY_MID] == at_mid * CENT
    assert held[Account.DRAWDOWN] == 0


def test_half_a_micro_dollar_at_mid_is_rounded_down():
    for position, at_mid in ((1, 4_200), (-1, -4_201)):
        held = account(POSITION=position, MID2=8_401)
        portfolio.mark_to_book(held, 0)
        assert held[Account.EQUITY_MID] == at_mid


def test_peak_and_drawdown_follow_the_equity():
    held = account(PEAK=DOLLAR)
    for equity, at_mid in ((90, 95), (120, 110), (105, 130), (110, 1)):
        portfolio.mark(held, equity * CENT, at_mid * CENT)
    assert held[Account.EQUITY] == 110 * CENT
    assert held[Account.EQUITY_MID] == CENT
    assert (held[Account.PEAK], held[Account.DRAWDOWN]) == (120 * CENT, 15 * CENT)


@pytest.mark.parametrize(
    ("position", "basis", "tied"),
    [(100, 400_000, 40 + 20), (-100, 400_000, 60 + 20), (0, 0, 20)],
)
def test_capital_is_the_most_that_position_and_reservations_tied_up(position, basis, tied):
    held = account(CASH=3 * DOLLAR, POSITION=position, BASIS=basis)
    available = 3 * DOLLAR - 10_000 * max(-position, 0) - 20 * CENT  # twenty are reserved
    assert portfolio.tied_micro(held, available) == tied * CENT
    for known, kept in ((0, tied * CENT), (DOLLAR, DOLLAR)):
        held[Account.CAPITAL] = known
        portfolio.record_capital(held, available)
        assert held[Account.CAPITAL] == kept


@pytest.mark.parametrize(
    ("position", "equity", "trips", "wins"),
    [(100, DOLLAR + 1, 5, 3), (-100, DOLLAR + 1, 5, 3), (100, DOLLAR, 5, 2), (1, 0, 5, 2),
     (0, DOLLAR + 1, 4, 2)],
)  # fmt: skip
def test_an_open_position_at_the_end_is_a_round_trip(position, equity, trips, wins):
    held = account(POSITION=position, EQUITY=equity, TRIP_CASH=DOLLAR, TRIPS=4, WINS=2)
    portfolio.close_trip(held)
    assert (held[Account.TRIPS], held[Account.WINS]) == (trips, wins)
