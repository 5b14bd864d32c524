"""Generated sessions look like recordings, replay like recordings, and hand nobody free money."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kalshi_pipeline.market.prices import declared_grid
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.generator import (
    EXTRA_PROFILES,
    PROFILES,
    QUICK_PROFILES,
    SessionProfile,
    is_current,
    write_session,
)
from kalshi_pipeline.recordings.generator.order_flow import (
    UNIFORMS,
    FlowKind,
    Pattern,
    advance,
    event_times,
    fair_value_micro,
    share_before,
)
from kalshi_pipeline.recordings.generator.session_flow import Contract, Levels, Session
from kalshi_pipeline.recordings.generator.styles import (
    BITCOIN,
    BURSTS,
    GOLD,
    Clock,
    FlowStyle,
    ordinary,
)
from kalshi_pipeline.recordings.generator.universe import driver, long_dated, short_dated
from tests.oracle.book import NO, YES, DictBook


@dataclass
class Flow:
    """What one market of a session does: its changes, and its book at each connection."""

    time_ms: np.ndarray
    change: np.ndarray
    books: list[tuple[Levels, Levels]]


def simulate(profile: SessionProfile) -> list[tuple[Contract, Flow]]:
    session = Session(profile)
    pieces = list(session.pieces())
    found = []
    for index, contract in enumerate(session.contracts):
        own = [piece.contract == index for piece in pieces]
        flow = Flow(
            np.concatenate([p.time_ms[mask] for p, mask in zip(pieces, own, strict=True)]),
            np.concatenate([p.change[mask] for p, mask in zip(pieces, own, strict=True)]),
            [piece.books[index] for piece in pieces if index in piece.books],
        )
        found.append((contract, flow))
    return found


SMALL = replace(PROFILES[71], session_id=904, markets=40, active_markets=35, deltas=1_500)
QUARTERS = replace(
    EXTRA_PROFILES[9111], session_id=905, duration_ms=18 * 60_000, markets=2, active_markets=2,
    deltas=5_000,
)  # fmt: skip


def frames_of(folder: Path) -> list[dict]:
    with gzip.open(folder / "messages.ndjson.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def markets_of(folder: Path) -> dict[str, dict]:
    return {m["ticker"]: m for m in json.loads((folder / "markets.json").read_text())}


def exact(number: object, scale: int) -> int:
    scaled = Decimal(str(number)) * scale
    assert scaled == int(scaled)
    return int(scaled)


def levels(message: dict, side: str) -> list[tuple[int, int]]:
    rows = message.get(f"{side}_dollars_fp", message.get(f"{side}_dollars", []))
    return [(exact(price, 10_000), exact(size, 100)) for price, size in rows]


def decode(line: dict) -> tuple:
    """The numbers of a frame, whichever wire it came on."""
    kind, message = line["event"]["type"], line["event"].get("msg", {})
    head = (line["recv_ms"], line["conn"], line["event"].get("seq"), kind)
    ticker = message.get("market_ticker")
    if kind == "orderbook_snapshot":
        return *head, ticker, levels(message, "yes"), levels(message, "no")
    if kind == "orderbook_delta":
        change = message["delta_fp"] if "delta_fp" in message else message["delta"]
        price_bp = exact(message["price_dollars"], 10_000)
        return *head, ticker, message["side"], price_bp, exact(change, 100)
    if kind == "trade":
        size = message["count_fp"] if "count_fp" in message else message["count"]
        yes_bp = exact(message["yes_price_dollars"], 10_000)
        return *head, ticker, message["taker_side"], yes_bp, exact(size, 100)
    return (*head, json.dumps(message, sort_keys=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(
    scope="module", params=[*QUICK_PROFILES.values(), SMALL, QUARTERS], ids=lambda p: p.session_id
)
def session(request: pytest.FixtureRequest, root: Path) -> tuple[SessionProfile, Path]:
    return request.param, write_session(request.param, root)


def test_the_same_profile_gives_the_same_bytes(tmp_path: Path) -> None:
    profile = QUICK_PROFILES[902]
    first = write_session(profile, tmp_path / "a")
    second = write_session(profile, tmp_path / "b")
    for name in ("session.json", "markets.json", "messages.ndjson.gz"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_another_seed_gives_another_session(tmp_path: Path) -> None:
    profile = QUICK_PROFILES[902]
    first = write_session(profile, tmp_path / "a")
    second = write_session(replace(profile, seed=5), tmp_path / "b")
    assert frames_of(first) != frames_of(second)


def test_a_folder_of_another_profile_is_recognised_and_replaced(tmp_path: Path) -> None:
    profile = replace(QUICK_PROFILES[902], deltas=300)
    assert not is_current(tmp_path, profile)
    write_session(replace(profile, seed=5), tmp_path)
    assert not is_current(tmp_path, profile)
    write_session(profile, tmp_path)
    assert is_current(tmp_path, profile)
    assert [path.name for path in tmp_path.iterdir()] == ["902"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("kalshi_pipeline.recordings.generator.folders._Recorder.blocks", fail)
    with pytest.raises(OSError, match="disk full"):
        write_session(QUICK_PROFILES[902], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_counts_are_those_of_the_profile(session: tuple[SessionProfile, Path]) -> None:
    profile, folder = session
    kinds = Counter(line["event"]["type"] for line in frames_of(folder))
    changed = {
        line["event"]["msg"]["market_ticker"]
        for line in frames_of(folder)
        if line["event"]["type"] == "orderbook_delta"
    }
    info = json.loads((folder / "session.json").read_text())
    assert kinds["orderbook_delta"] == profile.deltas
    assert len(changed) == profile.active_markets
    assert len(markets_of(folder)) == len(info["market_tickers"]) == profile.markets
    assert kinds["subscribed"] == 3 * profile.connections
    # half of the first markets are added to the subscription, and each that opens later is
    assert kinds["ok"] == (profile.markets - 1 if profile.intraday else profile.connections)


def test_every_seq_is_used_once_and_none_is_missing(session: tuple[SessionProfile, Path]) -> None:
    _, folder = session
    counters: dict[tuple[int, int], list[int]] = defaultdict(list)
    for line in frames_of(folder):
        event = line["event"]
        if "seq" in event:
            counters[line["conn"], event["sid"]].append(event["seq"])
    assert len(counters) == len({conn for conn, _ in counters})
    for numbers in counters.values():
        assert numbers == list(range(1, len(numbers) + 1))


def test_receive_times_rise_and_stay_inside_the_session(
    session: tuple[SessionProfile, Path],
) -> None:
    profile, folder = session
    times = [line["recv_ms"] for line in frames_of(folder)]
    assert times == sorted(times)
    assert times[0] == profile.started_at_ms
    assert times[-1] <= profile.ended_at_ms + 1_000


def test_replay_is_never_negative_never_crossed_and_on_tick(
    session: tuple[SessionProfile, Path],
) -> None:
    _, folder = session
    valid = {ticker: declared_grid(market).valid for ticker, market in markets_of(folder).items()}
    books: dict[str, DictBook] = defaultdict(DictBook)
    for line in frames_of(folder):
        frame = decode(line)
        if frame[3] == "orderbook_snapshot":
            books[frame[4]].apply_snapshot(frame[5], frame[6])
        elif frame[3] == "orderbook_delta":
            _, _, _, _, ticker, side, price_bp, change_centi = frame
            assert change_centi != 0
            books[ticker].apply_delta(YES if side == "yes" else NO, price_bp, change_centi)
        else:
            continue
        book = books[frame[4]]
        assert not book.is_crossed
        assert all(valid[frame[4]][price] for price, _ in book.bids + book.asks)


def test_a_trade_takes_its_size_from_the_touch_it_hits(
    session: tuple[SessionProfile, Path],
) -> None:
    _, folder = session
    books: dict[str, DictBook] = defaultdict(DictBook)
    before: dict[str, tuple[int, int]] = {}
    last: tuple = ()
    trades = 0
    for line in frames_of(folder):
        frame = decode(line)
        if frame[3] == "orderbook_snapshot":
            books[frame[4]].apply_snapshot(frame[5], frame[6])
        elif frame[3] == "orderbook_delta":
            book = books[frame[4]]
            before[frame[4]] = book.best_bid_bp, book.best_ask_bp
            book.apply_delta(YES if frame[5] == "yes" else NO, frame[6], frame[7])
            last = frame
        elif frame[3] == "trade":
            _, _, _, _, ticker, taker, yes_bp, size_centi = frame
            bid_bp, ask_bp = before[ticker]
            assert yes_bp == (ask_bp if taker == "yes" else bid_bp)
            hit = ("no", 10_000 - yes_bp) if taker == "yes" else ("yes", yes_bp)
            assert last[4:] == (ticker, *hit, -size_centi)
            trades += 1
    assert trades > 20


def test_a_market_ends_with_an_empty_book_and_then_its_result(
    session: tuple[SessionProfile, Path],
) -> None:
    _, folder = session
    markets = markets_of(folder)
    settled = {ticker for ticker, market in markets.items() if market["result"]}
    ended: dict[str, str] = {}
    for line in frames_of(folder):
        event, message = line["event"], line["event"].get("msg", {})
        ticker = message.get("market_ticker")
        close_ms = (
            datetime.fromisoformat(markets[ticker]["close_time"]).timestamp() * 1e3 if ticker else 0
        )
        if event["type"] == "orderbook_delta":
            assert ticker not in ended
            assert message.get("ts_ms", 0) < close_ms
        elif event["type"] == "orderbook_snapshot" and ticker and line["recv_ms"] > close_ms:
            assert not any(
                key in message for key in ("yes", "no", "yes_dollars_fp", "no_dollars_fp")
            )
            ended.setdefault(ticker, "empty")
        elif event["type"] == "market_lifecycle_v2":
            assert ended[ticker] == "empty"
            assert message["result"] == markets[ticker]["result"]
            ended[ticker] = "determined"
    assert {ticker for ticker, state in ended.items() if state == "determined"} == settled
    assert settled
    for market in markets.values():
        pays = {"yes": "1.0000", "no": "0.0000", None: None}[market["result"]]
        assert market["settlement_value_dollars"] == pays
        assert market["can_close_early"] is False


def test_both_wires_carry_the_same_session(tmp_path: Path) -> None:
    legacy = write_session(SMALL, tmp_path / "legacy")
    current = write_session(replace(SMALL, wire="current"), tmp_path / "current")
    assert [decode(a) for a in frames_of(legacy)] == [decode(b) for b in frames_of(current)]
    assert (legacy / "markets.json").read_bytes() == (current / "markets.json").read_bytes()


@pytest.mark.parametrize("profile", [SMALL, QUICK_PROFILES[901]], ids=lambda p: p.session_id)
def test_a_session_made_in_many_pieces_is_as_exact(
    profile: SessionProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kalshi_pipeline.recordings.generator.session_flow.PIECE_DELTAS", profile.deltas // 15
    )
    assert len(list(Session(profile).pieces())) >= 15
    session = profile, write_session(profile, tmp_path)
    test_counts_are_those_of_the_profile(session)
    test_every_seq_is_used_once_and_none_is_missing(session)
    test_receive_times_rise_and_stay_inside_the_session(session)
    test_replay_is_never_negative_never_crossed_and_on_tick(session)
    test_a_trade_takes_its_size_from_the_touch_it_hits(session)
    test_a_market_ends_with_an_empty_book_and_then_its_result(session)


def test_a_market_that_opens_during_the_session_is_added_with_its_book(root: Path) -> None:
    folder = write_session(QUARTERS, root)
    lines = [line["event"] for line in frames_of(folder)]
    ticker = json.loads((folder / "session.json").read_text())["market_tickers"][1]
    first = next(i for i, event in enumerate(lines) if ticker in json.dumps(event))
    assert lines[first]["type"] == "ok"
    assert lines[first + 1]["type"] == "orderbook_snapshot"
    assert lines[first + 1]["msg"]["market_ticker"] == ticker
    assert lines[first + 1]["seq"] == lines[first]["seq"] + 1
    assert levels(lines[first + 1]["msg"], "yes")


def test_compression_changes_no_line(tmp_path: Path) -> None:
    texts = []
    for kind in ("gz", "zst", "none"):
        folder = write_session(replace(SMALL, compression=kind), tmp_path / kind)
        texts.append([line.text for line in open_folder(folder).lines()])
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("number", [9044, 9050])
def test_sessions_of_any_size_begin_like_small_ones(number: int) -> None:
    """The first piece of a long session: bounded, in order, of a thousand markets."""
    profile = EXTRA_PROFILES[number]
    session = Session(profile)
    piece = next(session.pieces())
    assert len(session.contracts) == len(piece.books) == profile.markets == 1_000
    assert sum(contract.deltas for contract in session.contracts) == profile.deltas
    assert len(piece.time_ms) < 3_000_000
    assert np.all(np.diff(piece.time_ms) >= 0)


def test_the_legacy_wire_refuses_what_it_cannot_say() -> None:
    with pytest.raises(ValueError, match="whole cents"):
        replace(QUICK_PROFILES[901], wire="legacy")


def test_quick_sessions_have_sub_cent_prices_and_fractional_sizes(root: Path) -> None:
    deltas = [
        frame
        for frame in map(decode, frames_of(write_session(QUICK_PROFILES[901], root)))
        if frame[3] == "orderbook_delta"
    ]
    assert any(frame[6] % 100 for frame in deltas)
    assert any(frame[7] % 100 for frame in deltas)


def test_the_plans_profiles_have_the_true_figures() -> None:
    true = {32: 188_918, 25: 45_153, 10: 41_227, 9: 53_905, 41: 21_716, 70: 2_213, 6: 635}
    true |= {5: 24_434, 13: 36_201, 14: 2_428, 15: 3_039}
    assert {number: PROFILES[number].deltas for number in true} == true
    assert sum(true.values()) == 419_869
    assert PROFILES[70].active_markets == 62
    order = sorted(PROFILES.values(), key=lambda profile: profile.started_at_ms)
    assert [p.session_id for p in order] == [5, 6, 9, 10, 13, 14, 15, 25, 32, 41, 70, 71]
    assert all(a.ended_at_ms < b.started_at_ms for a, b in pairwise(order))


def flow_of(profile: SessionProfile) -> dict[str, tuple]:
    return {contract.market.ticker: (contract, flow) for contract, flow in simulate(profile)}


def suitable(profile: SessionProfile, contract, flow) -> bool:
    """The plan's rule: 50 updates in two quartiles of the time it was observed."""
    times = np.unique(flow.time_ms)
    end_ms = min(contract.event.close_ms, profile.ended_at_ms)
    quarter = (times - profile.started_at_ms) * 4 // (end_ms - profile.started_at_ms)
    return len(times) >= 50 and len(np.unique(quarter)) >= 2


def test_the_next_collection_has_forty_usable_events_that_no_other_session_has() -> None:
    seen = set()
    for profile in PROFILES.values():
        if profile.session_id != 71:
            light = replace(profile, deltas=profile.markets, active_markets=1)
            seen |= {contract.event.ticker for contract in Session(light).contracts}
    profile = PROFILES[71]
    flows = flow_of(profile).values()
    unseen = {contract.event.ticker for contract, _ in flows} - seen
    usable = {c.event.ticker for c, flow in flows if suitable(profile, c, flow)} & unseen
    settled = {c.event.ticker for c, _ in flows if c.result is not None} & unseen
    assert len(unseen) >= 60
    assert len(usable) >= 40
    assert len(settled) > len(unseen) / 2
    assert seen & {contract.event.ticker for contract, _ in flows}


def test_the_quick_test_session_has_settling_events_of_its_own() -> None:
    seen = {c.event.ticker for i in (901, 902) for c in Session(QUICK_PROFILES[i]).contracts}
    flows = list(simulate(QUICK_PROFILES[903]))
    assert len({contract.event.ticker for contract, _ in flows} - seen) >= 35
    assert all(contract.deltas >= 60 for contract, _ in flows)
    assert all(contract.result is not None for contract, _ in flows)


def test_the_busiest_market_of_session_32_has_the_recorded_share() -> None:
    counts = Counter(
        {contract.market.ticker: contract.deltas for contract in Session(PROFILES[32]).contracts}
    )
    ticker, deltas = counts.most_common(1)[0]
    assert ticker == "KXFEDCHAIRNOM-29-KW"
    assert deltas / PROFILES[32].deltas == pytest.approx(0.135, abs=0.005)
    assert sum(counts.values()) == PROFILES[32].deltas


def test_tickers_are_unique_across_the_universe() -> None:
    universe = PROFILES[71].universe
    events = long_dated(universe) + short_dated(universe)
    tickers = [market.ticker for event in events for market in event.markets]
    assert len(set(tickers)) == len(tickers)
    assert {"KXFEDCHAIRNOM-29-KW", "POWER-28-DH-DS-DP"} <= set(tickers)


def test_the_result_is_the_end_of_the_fair_value() -> None:
    universe = PROFILES[71].universe
    for event in short_dated(universe)[:40]:
        path = driver(universe, event)
        before_close = np.array([event.close_ms - 1])
        for market in event.markets:
            w, remaining = path.at(before_close)
            fair = fair_value_micro(w, remaining, market.low, market.high)[0]
            # One step before the end the driver may still cross the strike, hardly more.
            if abs(fair - 500_000) > 499_000:
                assert path.pays(market) == (fair > 500_000)
        assert path.at(np.array([event.close_ms]))[1][0] == pytest.approx(0, abs=1e-9)


def test_exclusive_outcomes_cost_at_most_a_dollar_and_strikes_are_nested() -> None:
    universe = PROFILES[71].universe
    for events, nested in ((long_dated(universe)[:20], False), (short_dated(universe)[:20], True)):
        for event in events:
            at = driver(universe, event).at(np.array([event.close_ms - 7_200_000]))
            fair = [fair_value_micro(*at, m.low, m.high)[0] for m in event.markets]
            assert fair == sorted(fair, reverse=True) if nested else sum(fair) <= 1_000_003


def test_the_fair_value_is_a_martingale() -> None:
    """Over independent events the mean change to half-time and to the end is no more than noise."""
    universe = replace(PROFILES[71].universe, seed=7)
    halves, ends = [], []
    for event in short_dated(universe):
        path = driver(universe, event)
        if not path.settled:
            continue
        market = event.markets[0]
        half_ms = (path.start_ms + event.close_ms) // 2
        start, half = fair_value_micro(
            *path.at(np.array([path.start_ms, half_ms])), market.low, market.high
        )
        halves.append(half - start)
        ends.append(1_000_000 * path.pays(market) - start)
    for changes in (np.array(halves), np.array(ends)):
        assert len(changes) == 300
        error = changes.std(ddof=1) / np.sqrt(len(changes))
        assert error > 1_000
        assert abs(changes.mean()) < 2.6 * error


def test_a_quote_that_is_traded_through_was_on_the_wrong_side_of_the_fair_value() -> None:
    """Whoever joins the touch and is filled by a later book that trades through it, loses."""
    profile = QUICK_PROFILES[901]
    fills = 0
    for contract, flow in simulate(profile):
        path = driver(profile.universe, contract.event)
        fair_bp = (
            fair_value_micro(*path.at(flow.time_ms), contract.market.low, contract.market.high)
            / 100
        )
        book, opened = DictBook(), -1
        connections = Session(profile).connections
        bids: list[int] = []
        for time_ms, (_, side, price_bp, change), fair in zip(
            flow.time_ms, flow.change.tolist(), fair_bp, strict=True
        ):
            while opened + 1 < len(connections) and time_ms > connections[opened + 1].opened_ms:
                opened += 1
                book.apply_snapshot(*flow.books[opened])
                bids = []
            book.apply_delta(side, price_bp, change)
            crossed = [bid for bid in bids if bid >= book.best_ask_bp]
            fills += len(crossed)
            assert all(fair <= bid for bid in crossed)
            bids = [bid for bid in bids if bid < book.best_ask_bp]
            if book.bids:
                bids = [*bids[-20:], book.best_bid_bp]
    assert fills > 100


def test_makers_pay_for_the_spread_they_earn() -> None:
    """A large part of the traded size is bought from quotes the fair value has moved through."""
    profile = QUICK_PROFILES[903]
    adverse = traded = 0
    for contract, flow in simulate(profile):
        market = contract.market
        path = driver(profile.universe, contract.event)
        fair_bp = fair_value_micro(*path.at(flow.time_ms), market.low, market.high) / 100
        kind, side, price_bp, _ = flow.change.T
        trades = kind == FlowKind.TRADE
        edge = np.where(side == YES, fair_bp - price_bp, 10_000 - price_bp - fair_bp)
        traded += int(trades.sum())
        adverse += int((edge[trades] < 0).sum())
    assert 0.3 < adverse / traded < 0.95


@pytest.mark.parametrize("pattern", list(Pattern))
@pytest.mark.parametrize("clock", [BURSTS, GOLD.clock], ids=["bursts", "one burst"])
def test_patterns_put_the_activity_where_they_say(pattern: Pattern, clock: Clock) -> None:
    window = (0.0, 1e7, 0.0, 1e7)
    times = event_times(np.random.default_rng(3), 50_000, clock, pattern, window)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 10_000_000
    first, middle, _, last = np.bincount(times // 2_500_000, minlength=4) / len(times)
    expected = {
        Pattern.EVEN: abs(first - last) < 0.06,
        Pattern.FRONT: first > 0.36 and last < 0.12,
        Pattern.MIDDLE: middle > 0.3 and first < 0.2,
        Pattern.BACK: last > 0.36 and first < 0.12,
    }
    assert expected[pattern]


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_times_of_two_halves_are_like_those_of_the_whole(pattern: Pattern) -> None:
    """A session made in pieces: each piece gets its share, inside its own time."""
    rng = np.random.default_rng(6)
    share = share_before(pattern, 0.5)
    counts = rng.multinomial(20_000, [share, 1 - share])
    halves = [
        event_times(rng, int(n), BURSTS, pattern, (begin, begin + 5e6, 0.0, 1e7))
        for n, begin in zip(counts, (0.0, 5e6), strict=True)
    ]
    whole = event_times(rng, 20_000, BURSTS, pattern, (0.0, 1e7, 0.0, 1e7))
    assert halves[0].max() < 5_000_000 <= halves[1].min()
    in_pieces = np.bincount(np.concatenate(halves) // 1_000_000, minlength=10) / 20_000
    at_once = np.bincount(whole // 1_000_000, minlength=10) / 20_000
    assert np.abs(in_pieces - at_once).max() < 0.03


def test_changes_come_in_bursts() -> None:
    window = (0.0, 6e7, 0.0, 6e7)
    rng = np.random.default_rng(4)
    gaps = np.diff(event_times(rng, 500, BURSTS, Pattern.EVEN, window))
    assert 60 <= np.median(gaps) <= 600
    assert np.quantile(gaps, 0.97) > 10_000


def test_a_market_that_becomes_certain_loses_the_quotes_beyond_the_fair_value() -> None:
    prices_micro = np.arange(1, 100) * 10_000
    ladders = np.zeros((2, 99), dtype=np.int64)
    rng = np.random.default_rng(5)
    fair = np.concatenate([np.full(500, 500_000), np.full(500, 4_000)])
    out = np.zeros((1_000, 4), dtype=np.int64)
    style = ordinary(rng, 0.1, short_dated=True, fractional=False)
    advance(
        ladders,
        np.zeros((4, 2), dtype=np.int64),
        prices_micro,
        np.arange(1_000),
        fair,
        rng.random((1_000, UNIFORMS)),
        style,
        out,
    )
    assert ladders.min() == 0
    assert ladders[0].sum() == 0  # nobody bids a cent for what is worth less
    assert ladders[1].sum() > 0


STYLES = [
    BITCOIN.flow,
    GOLD.flow,
    ordinary(np.random.default_rng(1), 0.5, short_dated=False, fractional=True),
]


@pytest.mark.parametrize("style", STYLES, ids=["bitcoin", "gold", "ordinary"])
def test_every_change_is_of_one_level_and_none_crosses_or_goes_below_zero(style: FlowStyle) -> None:
    """The kernel against a book of dictionaries, over jumps of the fair value."""
    rng = np.random.default_rng(8)
    prices_bp = np.arange(100, 10_000, 100)
    count = 4_000
    fair = np.clip(500_000 + np.cumsum(rng.normal(0, 6_000, count)), 0, 1_000_000).astype(np.int64)
    ladders, out = np.zeros((2, 99), dtype=np.int64), np.zeros((count, 4), dtype=np.int64)
    times = np.arange(count) * 10
    random = rng.random((count, UNIFORMS))
    state = np.zeros((4, 2), dtype=np.int64)
    for part in (slice(0, 1_500), slice(1_500, count)):  # carried from one piece to the next
        advance(
            ladders, state, prices_bp * 100, times[part], fair[part], random[part], style, out[part]
        )
    assert np.all(np.diff(times) >= 0)
    book = DictBook()
    for kind, side, place, change in out.tolist():
        price_bp = int(prices_bp[place])
        assert (change > 0) == (kind == FlowKind.ADD)
        if kind == FlowKind.TRADE:
            assert price_bp == (book.best_bid_bp if side == YES else book.best_ask_bp)
        book.apply_delta(side, price_bp if side == YES else 10_000 - price_bp, change)
        assert not book.is_crossed
        assert book.best_bid_bp < book.best_ask_bp  # nor locked
    left = {
        (s, int(prices_bp[i])): int(ladders[s, i]) for s, i in zip(*ladders.nonzero(), strict=True)
    }
    held = {(YES, p): size for p, size in book.ladders[YES].items()}
    held |= {(NO, 10_000 - p): size for p, size in book.ladders[NO].items()}
    assert left == held
    assert len(np.unique(out[:, 0])) == len(FlowKind)
