"""The report's `trades` and its tables: SQL over the Parquet files comes to the same money."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.baselines import Always, PassiveTwoSided, RandomUniform
from kalshi_pipeline.evaluation.evidence import Case, Evidence, gather
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.metrics import measure, panel
from kalshi_pipeline.evaluation.trades.section import section
from kalshi_pipeline.evaluation.trades.tables import TRADES, TRIPS, trades_table, trips_table
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe
from tests.evaluation.universes import named_universe, ranges
from tests.tapes import random_universe

CONFIG = EvaluationConfig(n_envs=8, stochastic_repeats=2, resamples=300)
POLICIES = (PassiveTwoSided(), Always(Action.HOLD), RandomUniform(), Always(Action.BUY_BEST))
ACCOUNT = ("policy", "session", "market", "segment", "repeat")


def gathered(**options) -> Evidence:
    universes = {1: named_universe(1, 22), 2: named_universe(2, 12)}
    used = Lineage.of(options.pop("lineage", ()), ())
    case = Case(
        universes, dict.fromkeys(universes, "forward"), POLICIES[0], POLICIES[1:], used, {},
        TradingConfig(fill_model="queue", latency_ms=0), CONFIG, **options,
    )  # fmt: skip
    return gather(case, lambda _: None)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return gathered()


@pytest.fixture(scope="module")
def report(evidence) -> dict:
    return section(evidence)


@pytest.fixture(scope="module")
def database(evidence, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    with duckdb.connect() as connection:
        for name, table in (
            ("ledger", evidence.ledger),
            ("trades", trades_table(evidence)),
            ("trips", trips_table(evidence)),
        ):
            pq.write_table(table, folder / f"{name}.parquet")
            file = folder / f"{name}.parquet"
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{file}')")
        yield connection


def ask(database, query: str) -> list[tuple]:
    return database.execute(query).fetchall()


def test_the_tables_have_the_columns_they_promise(evidence):
    assert trades_table(evidence).schema.equals(TRADES)
    assert trips_table(evidence).schema.equals(TRIPS)


KEPT = "(SELECT * FROM ledger WHERE repeat = 0 OR policy = 'Passive two-sided') AS ledger"


def test_single_trades_in_sql_come_to_the_accounts_of_the_ledger(database):
    keys = ", ".join(ACCOUNT)
    wrong = ask(
        database,
        f"""
        WITH of_trades AS (
            SELECT {keys}, sum(fee_micro) AS fees, sum(size_centi) AS traded,
                sum(if(is_buy, size_centi, -size_centi)) AS position,
                count(*) FILTER (is_taker) AS taker, count(*) FILTER (NOT is_taker) AS maker,
                arg_max(position_centi, fill) AS last_position, arg_max(cash_micro, fill) AS cash,
                sum(if(is_buy, -1, 1) * size_centi * price_bp - fee_micro) AS paid,
                sum(if(is_buy, 1, -1) * size_centi * (mid2_bp - 2 * price_bp)) AS spread2
            FROM trades GROUP BY ALL
        ), of_trips AS (
            SELECT {keys}, sum(gain_micro) AS gain, count(*) AS trips,
                count(*) FILTER (gain_micro > 0) AS wins
            FROM trips GROUP BY ALL
        )
        SELECT {keys} FROM {KEPT}
        LEFT JOIN of_trades USING ({keys}) LEFT JOIN of_trips USING ({keys})
        WHERE pnl_micro != coalesce(gain, 0) OR fees_micro != coalesce(fees, 0)
            OR contracts_centi != coalesce(traded, 0) OR taker_fills != coalesce(taker, 0)
            OR maker_fills != coalesce(maker, 0) OR round_trips != coalesce(trips, 0)
            OR winning_trips != coalesce(wins, 0) OR final_position_centi != coalesce(position, 0)
            OR coalesce(position != last_position, false)
            OR coalesce(cash != 100000000 + paid, false)
            OR spread_micro != coalesce(spread2, 0) // 2
            OR pnl_micro != spread_micro - fees_micro + drift_micro + settlement_micro
        """,
    )
    assert wrong == []
    assert ask(database, "SELECT count(*) > 100, count(DISTINCT policy) FROM trades") == [(True, 3)]


def test_sql_and_python_say_the_same_of_every_policy_and_market(database, evidence):
    found = {
        (policy, market): sums
        for policy, market, *sums in ask(
            database,
            "SELECT policy, market, sum(pnl_micro), sum(fees_micro), sum(spread_micro), "
            "sum(drift_micro), sum(settlement_micro) FROM ledger GROUP BY ALL",
        )
    }
    expected: dict[tuple[str, str], np.ndarray] = {}
    for turn in evidence.turns:
        universe, looked = evidence.case.universes[turn.session], turn.dissection
        for job, episode in enumerate(looked.episode.tolist()):
            pnl = int(looked.lots.gain_micro[looked.lots.job == job].sum())
            parts = [int(part[job]) for part in looked.split]
            key = turn.policy, universe.episodes[episode].market
            sums = np.array([pnl, parts[1], parts[0], *parts[2:]])
            expected[key] = expected.get(key, 0) + sums
    assert {key: list(sums) for key, sums in found.items()} == {
        key: sums.tolist() for key, sums in expected.items()
    }


def test_only_the_judged_policy_is_there_with_every_repeat(evidence, database):
    judged = replace(evidence.case, judged=RandomUniform(), baselines=())
    alone = gather(judged, lambda _: None)
    assert set(trades_table(alone)["repeat"].to_pylist()) == {0, 1}
    assert ask(database, "SELECT DISTINCT repeat FROM trades WHERE policy = 'Random'") == [(0,)]


def test_parts_add_up_to_the_headline(report, evidence):
    sample = {
        one.policy: one for one in measure(panel(evidence.scope, evidence.case.shown), CONFIG)
    }
    for row in report["split"]:
        parts = [row[f"{part}_cents"] for part in ("spread", "fees", "drift", "settlement")]
        assert sum(parts) == pytest.approx(row["total_cents"], abs=1e-9)
        assert row["total_cents"] == pytest.approx(sample[row["policy"]].pnl_cents)
    for row in report["trips"]:
        assert row["win_rate"] == pytest.approx(sample[row["policy"]].win_rate)
        assert row["win_interval"] == sample[row["policy"]].win_interval


def test_who_does_nothing_has_no_figures(report):
    for name in ("trips", "concentration", "flags"):
        (hold,) = [row for row in report[name] if row["policy"] == "Hold"]
        shares = {key: value for key, value in hold.items() if key.endswith(("share", "rate"))}
        assert shares
        assert set(shares.values()) == {None}
    assert {row["cents"] for row in report["markouts"] if row["policy"] == "Hold"} == {None}


def test_the_best_trades_share_does_not_shrink_with_repeats():
    shares = {}
    for repeats in (1, 8):
        config = replace(CONFIG, stochastic_repeats=repeats)
        universes = {1: named_universe(1, 22)}
        case = Case(
            universes, {1: "forward"}, RandomUniform(), POLICIES[:1], Lineage.of((), ()), {},
            TradingConfig(fill_model="queue", latency_ms=0), config,
        )  # fmt: skip
        one = gather(case, lambda _: None)
        shares[repeats], _ = (row["best_trade_share"] for row in section(one)["concentration"])
        gains = {}  # of each repeat
        for turn in one.turns[:1]:
            repeat = one.ledger["repeat"].to_numpy()[turn.first + turn.dissection.lots.job]
            for number, gain in zip(repeat, turn.dissection.lots.gain_micro, strict=True):
                gains.setdefault(number, []).append(max(gain, 0))
        assert len(gains) == repeats
        by_repeat = [max(each) / sum(each) for each in gains.values()]
        assert shares[repeats] == pytest.approx(np.mean(by_repeat))
    assert shares[8] > shares[1] / 2


def test_mark_outs_are_weighted_by_size_and_split_by_side(database, report):
    seen = 0
    for row in report["markouts"]:
        if row["policy"] != POLICIES[0].name:
            continue
        where = "TRUE" if row["side"] == "all" else f"is_taker = {row['side'] == 'taker'}"
        mid = f"mid2_{row['horizon_s']}s_bp"
        ((cents, fills),) = ask(
            database,
            f"SELECT sum(if(is_buy, 1, -1) * size_centi * ({mid} - mid2_bp)) / 200 / "
            f"sum(size_centi), count(*) FROM trades WHERE {where} AND {mid} IS NOT NULL "
            f"AND policy = '{POLICIES[0].name}'",
        )
        assert row["fills"] == fills
        assert row["cents"] == (None if cents is None else pytest.approx(cents))
        assert (row["interval"] is not None) <= (cents is not None)
        seen += row["interval"] is not None
    assert seen


def test_without_flagged_trips_is_what_the_others_gained(database, report):
    events = 34
    for flag in ("thin_touch", "stale_book", "improved"):
        for kept, key in (("NOT", "without"), ("", "of")):
            ((cents,),) = ask(
                database,
                f"SELECT coalesce(sum(gain_micro), 0) / 1e4 FROM trips "
                f"WHERE {kept} {flag} AND policy = '{POLICIES[0].name}'",
            )
            assert report["flags"][0][f"pnl_{key}_{flag}_cents"] == pytest.approx(cents / events)


def test_only_clean_rows_count_where_there_are_any():
    seen = named_universe(1, 22)
    some = gathered(lineage=ranges(seen, end_ms=0))
    found = section(some)
    clean = some.scope
    assert 0 < clean.num_rows < some.ledger.num_rows
    (row,) = [row for row in found["split"] if row["policy"] == POLICIES[0].name]
    pnl = sum(
        pnl
        for policy, pnl in zip(
            clean["policy"].to_pylist(), clean["pnl_micro"].to_pylist(), strict=True
        )
        if policy == POLICIES[0].name
    )
    assert row["total_cents"] * 12 == pytest.approx(pnl / 10_000)
    assert found["portfolio"]["points"][-1]["equity_cents"] == pytest.approx(pnl / 10_000)
    assert {one["session"] for one in found["examples"]} == {2}


def test_single_trades_stand_in_the_book_of_the_tape(report, evidence):
    titles = [one["title"] for one in report["examples"]]
    assert titles[:2] == ["Best trade", "Worst trade"]
    best, worst = report["examples"][:2]
    gains = [
        gain
        for turn in evidence.turns
        if turn.policy == POLICIES[0].name
        for gain in turn.dissection.lots.gain_micro.tolist()
    ]
    assert best["gain_cents"] == max(gains) / 10_000
    assert worst["gain_cents"] == min(gains) / 10_000
    for one in report["examples"]:
        quotes = quotes_of(evidence.case.universes[one["session"]], one["market"])
        columns = ("times_ms", "bid_bp", "ask_bp", "bid_size_centi", "ask_size_centi")
        for at, bid, ask, *sizes, bids, asks in zip(
            *(one[name] for name in columns), one["bids"], one["asks"], strict=True
        ):
            assert (at, bid, ask, *sizes) in quotes
            assert bids[:1] == ([] if bid is None else [[bid, sizes[0]]])
            assert asks[:1] == ([] if ask is None else [[ask, sizes[1]]])
            assert bids == sorted(bids, reverse=True)
            assert asks == sorted(asks)
        assert any(fill["of_trade"] for fill in one["fills"])
        assert {fill["time_ms"] for fill in one["fills"]} <= set(one["times_ms"])


def quotes_of(universe: Universe, market: str) -> set[tuple]:
    """Time and quotes after every message of a market."""
    tape, found = universe.tape, set()
    for episode, name in enumerate(universe.episodes):
        if name.market != market:
            continue
        for row in range(tape.first_row[episode], tape.end_row[episode]):
            bid, ask = int(tape.bid_bp[row]), int(tape.ask_bp[row])
            quotes = bid if bid > 0 else None, ask if ask < 10_000 else None
            sizes = int(tape.bid_size_centi[row]), int(tape.ask_size_centi[row])
            found.add((int(tape.time_ms[row]), *quotes, *sizes))
    return found


def test_nothing_known_later_changes_what_was_done_before():
    universe = random_universe(np.random.default_rng(4), episodes=2, steps=40)
    tape = universe.tape
    cut = int(tape.step_row[tape.first_step[0] + 20])
    bid, ask = tape.bid_bp.copy(), tape.ask_bp.copy()
    later = np.arange(cut + 1, tape.end_row[0])
    bid[later], ask[later] = 4_900, 5_100
    other = Universe(tape._replace(bid_bp=bid, ask_bp=ask), universe.episodes)
    filled = []
    for each in (universe, other):
        played = PassiveTwoSided().play(
            each, TradingConfig(), [0], np.random.default_rng(0), detail=True
        )
        before = played.fills.row <= cut
        filled.append((played.fills.row[before].tolist(), played.trace.action[:20].tolist()))
    assert filled[0] == filled[1]
