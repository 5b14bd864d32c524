"""From published tables to the tape: its promises, the settlements, who is left out and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kalshi_pipeline.config import SuitabilityConfig, TradingConfig
from kalshi_pipeline.market.fees import schedule_for
from kalshi_pipeline.suitability import in_memory, suitable_markets
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import ROW_COLUMNS, SessionData, build_universe
from tests.sessions import Replayed, replayed
from tests.tape_contract import assert_keeps_its_promises
from tests.tapes import TAPERED_GRID, random_universe

MIN_STEPS = 50


def data_of(session: Replayed) -> SessionData:
    books = session.books
    return SessionData(
        session.info.session,
        books.rows.select(ROW_COLUMNS),
        books.ladders,
        session.tensors,
        suitable_markets(
            in_memory(books.rows),
            books.segments,
            session.tensors.step_row,
            books.markets,
            None,
            SuitabilityConfig(),
        ),
        books.markets,
    )


@pytest.fixture(scope="module")
def session(generated: Path) -> Replayed:
    return replayed(generated / "901")


@pytest.fixture(scope="module")
def data(session: Replayed) -> SessionData:
    return data_of(session)


@pytest.fixture(scope="module")
def universe(data: SessionData) -> Universe:
    return build_universe([data], MIN_STEPS)[0]


# --- later beginnings


def test_a_market_can_be_traded_from_some_time_on(data, universe):
    from_ms = {
        episode.market: (episode.start_ms + episode.end_ms) // 2 for episode in universe.episodes
    }
    left_out = min(from_ms)
    del from_ms[left_out]
    later, excluded = build_universe([data], MIN_STEPS, from_ms)
    assert_keeps_its_promises(later)
    assert 0 < len(later) < len(universe)
    assert left_out not in {episode.market for episode in later.episodes}
    assert (left_out, "not chosen") in {(entry.market, entry.reason) for entry in excluded}
    times_ms, whole = later.tape.time_ms[later.tape.step_row], {}
    for index, episode in enumerate(universe.episodes):
        whole[episode.market, episode.segment] = index
    cut = 0
    for index, episode in enumerate(later.episodes):
        assert times_ms[later.tape.first_step[index]] >= from_ms[episode.market]
        before = universe.episodes[whole[episode.market, episode.segment]]
        cut += before.steps - episode.steps
        # the messages before are replayed: the book is the same at the end
        steps = slice(later.tape.first_step[index], later.tape.end_step[index])
        old_end = universe.tape.end_step[whole[episode.market, episode.segment]]
        old = universe.tape.features[old_end - episode.steps : old_end]
        np.testing.assert_array_equal(later.tape.features[steps], old)
    assert cut > 0


# --- the promises of the tape


def test_a_generated_session_keeps_every_promise(universe):
    assert len(universe) > 20
    assert_keeps_its_promises(universe)


@pytest.mark.parametrize("number", ["131", "102", "112"])
def test_a_recorded_session_keeps_every_promise(recordings, number):
    recorded = data_of(replayed(recordings / number, head=True))
    universe, _ = build_universe([recorded], MIN_STEPS)
    assert len(universe)
    assert_keeps_its_promises(universe)


@pytest.mark.parametrize("seed", range(3))
def test_the_tapes_other_tests_use_keep_them_too(seed):
    assert_keeps_its_promises(random_universe(np.random.default_rng(seed)))
    assert_keeps_its_promises(random_universe(np.random.default_rng(seed), grid=TAPERED_GRID))


@pytest.mark.parametrize(
    ("column", "place", "value"),
    [
        ("bid_bp", 5, 9_900),
        ("ask_size_centi", 3, -1),
        ("kind", 0, 1),
        ("time_ms", 1, 0),
        ("settlement_bp", 0, 5_000),
        ("step_row", -1, 0),
        ("features", 0, 2.0),
        ("grid", 0, 7),
        ("fee_schedule", 0, -1),
        ("level_size_centi", 0, 0),
        ("change_centi", 0, 1),
    ],
)
def test_the_checker_finds_a_broken_promise(column, place, value):
    universe = random_universe(np.random.default_rng(1), episodes=2, steps=20)
    broken = getattr(universe.tape, column).copy()
    broken[place] = value
    doctored = replace(universe, tape=universe.tape._replace(**{column: broken}))
    with pytest.raises((AssertionError, IndexError)):
        assert_keeps_its_promises(doctored)


# --- what an episode is


def test_an_episode_is_a_long_enough_segment_of_a_suitable_market(session, data, universe):
    suitable = {entry["market"]: entry for entry in data.suitable.to_pylist() if entry["suitable"]}
    expected = {
        (entry["market"], entry["segment"])
        for entry in session.tensors.index.to_pylist()
        if entry["market"] in suitable and entry["end_step"] - entry["first_step"] >= MIN_STEPS
    }
    assert {(episode.market, episode.segment) for episode in universe.episodes} == expected
    for episode in universe.episodes:
        assert episode.session == 901
        assert episode.tier == suitable[episode.market]["tier"]
        assert episode.event == suitable[episode.market]["event"]


def test_rows_steps_and_features_are_those_of_the_session(session, universe):
    tape = universe.tape
    segments = {entry["segment"]: entry for entry in session.tensors.index.to_pylist()}
    for index, episode in enumerate(universe.episodes):
        segment = segments[episode.segment]
        steps = slice(tape.first_step[index], tape.end_step[index])
        own = slice(segment["first_step"], segment["end_step"])
        assert np.array_equal(tape.features[steps], session.tensors.features[own])
        rows = tape.step_row[steps] - tape.first_row[index] + segment["first_row"]
        assert np.array_equal(rows, session.tensors.step_row[own])


def test_only_a_market_that_closed_with_a_known_result_settles(session, universe):
    ended_by = {row["segment"]: row["ended_by"] for row in session.books.segments.to_pylist()}
    results = {market.ticker: market.result for market in session.books.markets}
    settled = set()
    for index, episode in enumerate(universe.episodes):
        closed = ended_by[episode.segment] == "market_closed"
        expected = {"yes": 10_000, "no": 0, None: -1}[results[episode.market] if closed else None]
        assert universe.tape.settlement_bp[index] == expected
        settled.add(expected)
    assert settled == {-1, 0, 10_000}


def test_fees_are_those_of_the_series_on_the_day(session, universe):
    for index, episode in enumerate(universe.episodes):
        series = episode.market.split("-")[0]
        expected = schedule_for(series, episode.start_ms)
        assert tuple(universe.tape.fee_schedule[index]) == tuple(expected)


def test_markets_of_one_grid_share_it(session, universe):
    grids = {market.ticker: market.grid for market in session.books.markets}
    used = {grids[episode.market] for episode in universe.episodes}
    assert len(universe.tape.grid_step_bp) == len(used) > 1
    for index, episode in enumerate(universe.episodes):
        place = universe.tape.grid[index]
        assert universe.tape.grid_step_bp[place] == grids[episode.market].step_bp
        assert np.array_equal(universe.tape.tick_up_bp[place], grids[episode.market].tick_up_bp)


# --- who is left out


def test_every_market_has_an_episode_or_a_reason(data, universe):
    _, excluded = build_universe([data], MIN_STEPS)
    traded = {episode.market for episode in universe.episodes}
    left_out = {entry.market: entry.reason for entry in excluded}
    assert not traded & set(left_out)
    assert traded | set(left_out) == {market.ticker for market in data.markets}
    for entry in data.suitable.to_pylist():
        if not entry["suitable"]:
            assert left_out[entry["market"]] == entry["reason"]


def test_a_market_in_short_pieces_is_left_out_with_the_limit(data):
    longest = max(e["end_step"] - e["first_step"] for e in data.tensors.index.to_pylist())
    universe, excluded = build_universe([data], longest)
    assert len(universe) >= 1
    reasons = {entry.reason for entry in excluded if entry.market not in unsuitable(data)}
    assert reasons == {f"every trusted segment has under {longest} steps"}
    empty, excluded = build_universe([data], longest + 1)
    assert len(empty) == 0
    assert len(excluded) == len(data.markets)
    assert_keeps_its_promises(empty)


def unsuitable(data: SessionData) -> set[str]:
    return {entry["market"] for entry in data.suitable.to_pylist() if not entry["suitable"]}


def test_an_episode_has_two_steps_at_least(data):
    universe, _ = build_universe([data], min_steps=1)
    assert_keeps_its_promises(universe)


# --- several sessions


def test_sessions_follow_each_other_on_one_tape(data, universe, generated):
    other = data_of(replayed(generated / "902"))
    alone, _ = build_universe([other], MIN_STEPS)
    both, excluded = build_universe([data, other], MIN_STEPS)
    assert_keeps_its_promises(both)
    assert both.episodes == universe.episodes + alone.episodes
    assert {entry.session for entry in excluded} <= {901, 902}
    for name in ("time_ms", "bid_bp", "features", "settlement_bp", "level_size_centi"):
        joined = np.concatenate([getattr(universe.tape, name), getattr(alone.tape, name)])
        assert np.array_equal(getattr(both.tape, name), joined)


def test_no_session_is_an_empty_universe():
    universe, excluded = build_universe([], MIN_STEPS)
    assert len(universe) == 0
    assert excluded == ()
    assert_keeps_its_promises(universe)


# --- the simulator on it


def test_hold_earns_nothing_on_any_episode(universe):
    lanes = np.arange(len(universe))
    simulator = Simulator(universe, len(universe), TradingConfig())
    simulator.reset(lanes, lanes)
    steps = 0
    while not (simulator.terminated | simulator.truncated).all():
        simulator.step(np.full(len(universe), int(Action.HOLD)))
        assert not simulator.reward.any()
        steps += 1
    assert steps == max(episode.steps for episode in universe.episodes) - 1
    for lane, episode in enumerate(universe.episodes):
        summary = simulator.summary(lane)
        assert summary.pnl_micro == summary.fees_micro == summary.orders == 0
        assert summary.terminated == episode.settles
