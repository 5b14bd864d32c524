"""What is drawn is what is so: text and chart change with the book, the orders and the account."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.vec_env.base_vec_env import tile_images

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import NotInPlay
from kalshi_pipeline.trading.actions import BUY, SELL, Action
from kalshi_pipeline.trading.environment import ENVIRONMENT_ID, MarketAgnosticKalshiEnv
from kalshi_pipeline.trading.ledger import replay
from kalshi_pipeline.trading.portfolio import Account, Order
from kalshi_pipeline.trading.render import (
    HEIGHT,
    RENDER_FPS,
    RENDER_MODES,
    WIDTH,
    WINDOW,
    Film,
    Moment,
    journal_room,
)
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.vector import KalshiVecEnv
from tests.tapes import book, delta, random_universe, snapshot, trade, universe_from_messages

NO_LATENCY = TradingConfig(latency_ms=0)
START_MS = 1_765_000_000_000  # 2025-12-06 05:46:40 UTC
BLUE, ORANGE = (9, 105, 218), (194, 65, 12)  # bid and buys, ask and sells
PRICES, EQUITY = slice(86, 356), slice(394, 491)  # rows of the two panels
PANEL = slice(64, 736)  # and their columns


def market(*messages):
    return universe_from_messages([list(messages)])


def quiet(steps):
    """A book that stands still, but for sizes far from the touch."""
    first = snapshot(START_MS, {4_000: 500, 3_900: 700}, {5_800: 300})
    changes = [delta(START_MS + 1_000 * k, 0, 3_000, 1) for k in range(1, steps)]
    return market(first, *changes)


def env_of(universe, mode, config=NO_LATENCY, episode=0):
    env = MarketAgnosticKalshiEnv(universe, config, render_mode=mode)
    env.reset(options={"episode": episode})
    return env


def shown(universe, mode, *actions):
    env = env_of(universe, mode)
    for action in actions:
        env.step(action)
    return env.render()


def pixels(image, colour, rows=PRICES):
    """`[rows, columns]` of a panel, where it has exactly this colour."""
    return (image[rows, PANEL] == np.array(colour, np.uint8)).all(axis=2)


def test_every_mode_passes_both_checkers():
    universe = random_universe(np.random.default_rng(2), episodes=3, steps=8)
    for mode in RENDER_MODES:
        env = gymnasium.make(ENVIRONMENT_ID, universe=universe, render_mode=mode).unwrapped
        assert env.render_mode == mode
        check_env(env)
        check_env_for_sb3(env)
    assert env.metadata == {"render_modes": ["ansi", "rgb_array"], "render_fps": RENDER_FPS}


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="was 'human'"):
        MarketAgnosticKalshiEnv(quiet(3), render_mode="human")
    with pytest.raises(ValueError, match="was 'text'"):
        KalshiVecEnv(quiet(3), 1, NO_LATENCY, render_mode="text")


@pytest.mark.parametrize("mode", RENDER_MODES)
def test_nothing_is_shown_before_the_first_reset(mode):
    with pytest.raises(NotInPlay, match="rendered"):
        MarketAgnosticKalshiEnv(quiet(3), render_mode=mode).render()


def test_without_a_mode_nothing_is_kept_and_nothing_is_shown():
    env = env_of(quiet(3), None)
    assert env._film is None
    assert env.simulator.state.journal.size == 0
    with pytest.warns(UserWarning, match="no render_mode"):
        assert env.render() is None


def test_the_plotting_library_waits_for_the_first_chart():
    code = (
        "import sys, kalshi_pipeline.trading.environment; "
        "sys.exit(any(name.split('.')[0] == 'matplotlib' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_ladder_is_the_book_with_own_orders_in_it():
    text = shown(quiet(6), "ansi", Action.BUY_PASSIVE, Action.SELL_IMPROVE)
    assert text.splitlines() == [
        "KXTEST-E0-M0  session 1, segment 0  step 2 of 5  2025-12-06 05:46:42.000 UTC",
        "position +0.00  cash $100.0000 ($0.9900 reserved)  equity $100.0000  at mid $100.0000",
        "",
        "        bids    YES             asks",
        "               0.4200           3.00",
        "               0.4100                 <- sell 1.00, 0.00 ahead",
        "        5.00   0.4000                 <- buy 1.00, 5.00 ahead",
        "        7.00   0.3900",
        "        0.02   0.3000",
    ]


def test_the_queue_ahead_and_the_fill_show_in_the_ladder():
    universe = market(
        book(START_MS, (4_000, 500), (4_200, 300)),
        delta(START_MS + 1_000, 0, 3_900, 100),
        delta(START_MS + 2_000, 0, 4_000, -400),
        trade(START_MS + 3_000, 3_900, 40, taker_side=1),
        delta(START_MS + 4_000, 0, 3_900, 1),
    )
    env = env_of(universe, "ansi")
    env.step(Action.BUY_PASSIVE)
    assert "5.00   0.4000                 <- buy 1.00, 5.00 ahead\n" in env.render()
    env.step(Action.HOLD)
    assert "1.00   0.4000                 <- buy 1.00, 1.00 ahead\n" in env.render()
    env.step(Action.HOLD)
    assert "<- buy 0.60, 1.00 ahead\n" in env.render()
    assert "position +0.40  cash $99.8400 ($0.2400 reserved)" in env.render()
    env.step(Action.HOLD)
    assert "truncated" in env.render()
    assert "<-" not in env.render()


def test_what_own_fills_took_is_not_shown():
    assert "0.4200           3.00\n" in shown(quiet(4), "ansi", Action.HOLD)
    assert "0.4200           2.00\n" in shown(quiet(4), "ansi", Action.BUY_BEST)


def test_an_order_in_flight_is_shown_until_it_arrives():
    env = env_of(quiet(6), "ansi", TradingConfig(latency_ms=1_500))
    env.step(Action.SELL_BEST)
    assert env.render().endswith(
        "in flight: sell 1.00 at 0.4000, immediate or cancel, "
        "arrives after 2025-12-06 05:46:41.500 UTC\n"
    )
    env.step(Action.HOLD)
    assert "in flight" not in env.render()
    assert "position -1.00" in env.render()


def test_an_empty_book_says_so_above_the_last_one():
    universe = market(
        book(START_MS, (4_000, 500), (4_200, 300)),
        snapshot(START_MS + 1_000, {}, {}),
        book(START_MS + 2_000, (3_000, 100), None),
    )
    assert "empty" not in shown(universe, "ansi")
    empty = shown(universe, "ansi", Action.HOLD)
    assert "the book is empty" in empty
    assert "0.4200           3.00" in empty
    one_sided = shown(universe, "ansi", Action.HOLD, Action.HOLD)
    assert "empty" not in one_sided
    assert "0.4200" not in one_sided


def test_a_chart_is_an_image_of_its_own():
    env = env_of(quiet(9), "rgb_array")
    env.step(Action.HOLD)
    image = env.render()
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    kept = image.copy()
    np.testing.assert_array_equal(env.render(), kept)
    image[:] = 0
    np.testing.assert_array_equal(env.render(), kept)


def test_the_quotes_of_the_chart_are_those_of_the_book():
    def heights(bid_bp, ask_bp):
        quotes = [book(START_MS + 1_000 * k, (4_000, 100), (4_400, 100)) for k in range(5)]
        quotes.append(book(START_MS + 5_000, (bid_bp, 100), (ask_bp, 100)))
        quotes.append(book(START_MS + 6_000, (4_000, 100), (4_400, 100)))
        image = shown(market(*quotes), "rgb_array", *[Action.HOLD] * 6)
        # the row each line is at in the middle of the last but one step, of which there are 10
        column = slice(round(672 * 5.9 / 10.5), round(672 * 6.1 / 10.5))
        return [np.flatnonzero(pixels(image, c)[:, column].any(axis=1)) for c in (BLUE, ORANGE)]

    bid, ask = heights(4_000, 4_400)
    bid_inside, ask_inside = heights(4_100, 4_300)
    assert ask.mean() < ask_inside.mean() < bid_inside.mean() < bid.mean()  # row 0 is on top
    # a tick is a tick wherever the line is
    assert bid.mean() - bid_inside.mean() == pytest.approx(ask_inside.mean() - ask.mean(), abs=2)
    bid_alone, none = heights(4_000, 10_000)
    assert len(none) == 0
    assert len(bid_alone) > 0


@pytest.mark.parametrize(
    ("action", "colour", "other"),
    [(Action.BUY_BEST, BLUE, ORANGE), (Action.SELL_BEST, ORANGE, BLUE)],
)
def test_a_fill_is_marked_in_the_colour_of_its_side(action, colour, other):
    without = shown(quiet(9), "rgb_array", Action.HOLD, Action.HOLD)
    image = shown(quiet(9), "rgb_array", action, Action.HOLD)
    new = pixels(image, colour) & ~pixels(without, colour)
    assert new.sum() > 20
    rows, columns = np.nonzero(new)
    assert np.ptp(rows) < 20
    assert np.ptp(columns) < 20
    assert (pixels(image, other) & ~pixels(without, other)).sum() == 0
    # at the price the other side shows: a buy at the ask, a sell at the bid
    line = np.flatnonzero(pixels(without, other).any(axis=1)).mean()
    assert abs(rows.mean() - line) < 6


def test_a_resting_order_is_drawn_and_named_at_its_price():
    hold = shown(quiet(9), "rgb_array", Action.HOLD, Action.HOLD)
    order = shown(quiet(9), "rgb_array", Action.SELL_IMPROVE, Action.HOLD)
    changed = (hold[PRICES] != order[PRICES]).any(axis=2)
    rows, columns = np.nonzero(changed[:, PANEL])
    middle = np.mean([np.flatnonzero(pixels(hold, c).any(axis=1)).mean() for c in (BLUE, ORANGE)])
    assert abs(np.median(rows) - middle) < 4  # 41 cents, between 40 and 42
    # from the first step after it to the end: 2 of 10.5 steps
    assert np.ptp(columns) == pytest.approx(2 * 672 / 10.5, abs=4)
    assert changed[:, PANEL.stop :].sum() > 100  # its size and queue, on the right
    longer_queue = shown(quiet(9), "rgb_array", Action.SELL_PASSIVE, Action.HOLD)
    assert (longer_queue[PRICES, PANEL.stop :] != order[PRICES, PANEL.stop :]).any()


def test_a_loss_lowers_the_line_of_the_equity():
    def line(*actions):
        image = shown(quiet(9), "rgb_array", *actions)
        return np.flatnonzero((image[EQUITY, PANEL] < 60).all(axis=2).any(axis=1))

    flat = line(Action.HOLD, Action.HOLD)
    loses = line(Action.BUY_BEST, Action.SELL_BEST)  # the spread and two fees
    assert np.ptp(flat) < 4
    assert np.ptp(loses) > 60


def play(universe, steps, seed=0):
    """A filmed simulator in play, and the actions of its lane."""
    simulator = Simulator(universe, 1, NO_LATENCY, journal_room("rgb_array", NO_LATENCY))
    film = Film(simulator)
    simulator.reset([0], [0])
    film.record()
    rng, actions = np.random.default_rng(seed), []
    seen = [simulator.state.account[0].copy()]
    resting = [simulator.state.orders[0, :2, Order.PRICE].copy()]
    for _ in range(steps):
        actions.append(int(rng.choice(np.flatnonzero(simulator.mask[0]))))
        simulator.step(actions[-1:])
        film.record()
        seen.append(simulator.state.account[0].copy())
        resting.append(simulator.state.orders[0, :2, Order.PRICE].copy())
    return film, actions, np.array(seen), np.array(resting)


@pytest.mark.parametrize("steps", [7, WINDOW - 1, WINDOW, 3 * WINDOW + 11])
def test_a_film_holds_the_last_steps_in_order(steps):
    universe = random_universe(np.random.default_rng(8), episodes=1, steps=3 * WINDOW + 12)
    film, _, seen, resting = play(universe, steps)
    moments, seen, resting = film.moments(0), seen[-WINDOW:], resting[-WINDOW:]
    tape = universe.tape
    rows = tape.step_row[seen[:, Account.STEP]]
    for column, expected in (
        (Moment.STEP, seen[:, Account.STEP]),
        (Moment.BID, tape.bid_bp[rows]),
        (Moment.ASK, tape.ask_bp[rows]),
        (Moment.BUY, resting[:, BUY]),
        (Moment.SELL, resting[:, SELL]),
        (Moment.EQUITY, seen[:, Account.EQUITY]),
        (Moment.EQUITY_MID, seen[:, Account.EQUITY_MID]),
    ):
        np.testing.assert_array_equal(moments[:, column], expected)
    assert (resting > 0).any()


def test_the_fills_of_a_film_are_those_of_the_ledger():
    universe = random_universe(np.random.default_rng(9), episodes=1, steps=300)
    film, actions, *_ = play(universe, 299)
    first = int(film.moments(0)[0, Moment.STEP])
    ledger = replay(universe, {0: actions}, NO_LATENCY).fills.to_pylist()
    times = universe.tape.time_ms[universe.tape.step_row]
    expected = [
        (step, fill["is_buy"], fill["price_bp"], fill["is_taker"])
        for fill in ledger
        if (step := int(np.searchsorted(times, fill["time_ms"]))) >= first
    ]
    assert [(f.step, f.side == BUY, f.price_bp, f.is_taker) for f in film.fills(0)] == expected
    assert 20 < len(expected) < len(ledger)
    assert {fill[3] for fill in expected} == {True, False}


def test_a_film_is_cut_where_its_lane_goes_elsewhere():
    universe = random_universe(np.random.default_rng(10), episodes=2, steps=30)
    film, *_ = play(universe, 20)
    simulator = film.simulator
    simulator.step([0])
    simulator.step([0])  # two steps it did not see
    film.record()
    assert len(film.moments(0)) == 1
    assert film.fills(0) == []
    while not (simulator.terminated | simulator.truncated)[0]:
        simulator.step([0])
        film.record()
    simulator.reset([0], [1])  # whose first step is the next of the tape
    film.record()
    assert film.moments(0)[:, Moment.STEP].tolist() == [30]


def test_the_images_of_the_lanes_are_those_of_single_environments():
    universe = random_universe(np.random.default_rng(12), episodes=4, steps=12)

    class FirstThree:
        def draw(self, count):
            return np.arange(count)

    vec = KalshiVecEnv(universe, 3, NO_LATENCY, FirstThree(), render_mode="rgb_array")
    singles = [env_of(universe, "rgb_array", episode=lane) for lane in range(3)]
    vec.reset()
    for step in range(6):
        actions = np.array([1 + step, 3, 6 - step])
        vec.step(actions)
        for env, action in zip(singles, actions, strict=True):
            env.step(action)
    images = vec.get_images()
    for image, env in zip(images, singles, strict=True):
        np.testing.assert_array_equal(image, env.render())
    np.testing.assert_array_equal(vec.render(), tile_images(images))
    assert vec.metadata == {"render_modes": ["human", "rgb_array"], "render_fps": RENDER_FPS}
    for _ in range(5):
        vec.step(np.zeros(3, np.int64))
    assert [len(vec._film.moments(lane)) for lane in range(3)] == [1, 1, 1]  # each began anew
    (image,) = vec.env_method("render", indices=1)
    np.testing.assert_array_equal(image, env_of(universe, "rgb_array", episode=1).render())


def test_lanes_that_show_text_have_no_images():
    universe = random_universe(np.random.default_rng(13), episodes=2, steps=9)
    vec = KalshiVecEnv(universe, 2, NO_LATENCY, render_mode="ansi")
    vec.reset()
    vec.seed(4)
    texts = vec.env_method("render")
    assert [text.splitlines()[0].split()[0] for text in texts] == [
        universe.episodes[number].market for number in vec.simulator.state.account[:, 0]
    ]
    assert vec.render() is None  # Stable-Baselines3 asks the lanes and keeps what they say
    with pytest.warns(UserWarning, match="no images"):
        assert vec.get_images() == [None, None]
