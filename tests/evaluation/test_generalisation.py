"""One kind of episodes against another: the reference, what is claimed, what subsets show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.evaluation.baselines import Always
from kalshi_pipeline.evaluation.evidence import Case, Evidence
from kalshi_pipeline.evaluation.generalisation import (
    Group,
    generalisation,
    market_counts,
    underlying_of,
)
from kalshi_pipeline.evaluation.lineage import Label, Lineage
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.universe import CAUSAL, SAME_TIME
from tests.evaluation.ledgers import event_ledger, labelled, ledger, row
from tests.evaluation.universes import named_universe

CONFIG = EvaluationConfig(resamples=400)
JUDGED = Always(Action.BUY_BEST)
NAME = JUDGED.name


def evidence(rows: pa.Table, *, lineage: Any = (), **options: Any) -> Evidence:
    universes = {
        session: named_universe(session, 2) for session in set(rows["session"].to_pylist())
    }
    case = Case(
        universes, dict.fromkeys(universes, "forward"), judged=JUDGED, baselines=(),
        used=Lineage.of(lineage), provenance=options.pop("provenance", {}), evaluation=CONFIG,
        **options,
    )  # fmt: skip
    return Evidence(case, rows, lambda _: None)


def axis(rows: pa.Table, name: str, **options: Any) -> dict[str, dict[str, Any]]:
    axes = {a["axis"]: a["rows"] for a in generalisation(evidence(rows, **options))["axes"]}
    return {made["name"]: made for made in axes[name]}


def session_rows(session: int, cents: np.ndarray, label: Label, role: str = "forward") -> pa.Table:
    return labelled(event_ledger({NAME: cents}, session=session), label, role)


def test_a_group_sums_segments_and_averages_repeats():
    rows = ledger(
        [
            row(NAME, 10, event="E", market="E-1", repeat=0),
            row(NAME, 20, event="E", market="E-1", repeat=1),
            row(NAME, 5, event="E", market="E-1", segment=1),
            row(NAME, 1, event="E", market="E-2"),
            row(NAME, -4, event="F", market="F-1"),
        ]
    )
    group = Group.of("all", labelled(rows))
    assert group.event_cents.tolist() == [15 + 5 + 1, -4]
    assert (len(group.market_cents), group.label) == (3, "clean_forward")


def test_sessions_degrade_against_the_training_level_with_an_interval():
    rng = np.random.default_rng(0)
    trained = session_rows(1, rng.normal(30, 5, 40), Label.IN_SAMPLE)
    later = session_rows(2, rng.normal(10, 5, 40), Label.CLEAN_FORWARD)
    few = session_rows(3, rng.normal(10, 5, 29), Label.CLEAN_FORWARD)
    rows = axis(pa.concat_tables([trained, later, few]), "sessions")
    assert {made["reference"] for made in rows.values()} == {"in-sample markets"}
    low, high = rows["session 2"]["degradation_interval"]
    assert low < 20 < high
    assert high - low < 10
    assert rows["session 2"]["degradation_cents"] == pytest.approx(20, abs=3)
    assert rows["session 3"]["degradation_interval"] is rows["session 3"]["pnl_interval"] is None
    assert rows["session 3"]["degradation_cents"] is not None
    assert rows["session 1"]["label"] == "in_sample"


def test_without_in_sample_rows_the_validation_session_is_the_reference():
    rows = pa.concat_tables(
        [
            session_rows(1, np.full(4, 8.0), Label.SELECTED_ON, role="validation"),
            session_rows(2, np.full(4, 2.0), Label.CLEAN_FORWARD),
        ]
    )
    found = axis(rows, "sessions")
    assert found["session 2"]["degradation_cents"] == 6.0
    assert found["session 1"]["degradation_cents"] is None
    assert axis(rows, "label")["selected_on"]["reference"] is None  # nothing is in-sample


def test_a_session_that_is_its_own_reference_degrades_by_nothing_for_certain():
    cents = np.random.default_rng(2).normal(0, 100, 40)
    other = session_rows(2, cents, Label.CLEAN_FORWARD)
    rows = axis(pa.concat_tables([session_rows(1, cents, Label.IN_SAMPLE), other]), "sessions")
    assert rows["session 1"]["degradation_cents"] == 0.0
    assert tuple(rows["session 1"]["degradation_interval"]) == (0.0, 0.0)
    low, high = rows["session 2"]["degradation_interval"]  # other events that look alike
    assert low < -10
    assert high > 10


def test_what_a_session_shares_with_the_reference_narrows_its_interval():
    cents = np.random.default_rng(2).normal(0, 100, 80)
    trained, rest = (
        labelled(event_ledger({NAME: cents}), label) for label in (Label.IN_SAMPLE, Label.BACKWARD)
    )
    rows = axis(pa.concat_tables([trained.slice(0, 72), rest.slice(72)]), "sessions")
    low, high = rows["session 1"]["degradation_interval"]
    difference = rows["session 1"]["degradation_cents"]
    assert low < difference < high
    apart = 2 * 1.96 * np.std(cents) * np.sqrt(1 / 72 + 1 / 80)  # were all of them others
    assert high - low < 0.5 * apart


def test_groups_that_do_not_differ_are_seldom_told_apart():
    told = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = pa.concat_tables(
            [
                session_rows(1, rng.normal(0, 10, 35), Label.IN_SAMPLE),
                session_rows(2, rng.normal(0, 10, 35), Label.CLEAN_FORWARD),
            ]
        )
        low, high = axis(rows, "sessions")["session 2"]["degradation_interval"]
        told += not low <= 0 <= high
    assert told <= 6  # 2 expected, 6 with probability 0.99


@pytest.mark.parametrize(
    ("event", "underlying"),
    [
        ("KXBTC15M-26MAY131200", "BTC"),
        ("KXGOLD15M-26AUG05", "GOLD"),
        ("KXETH-26MAY1312", "ETH"),
        ("INXD-23DEC29", "INXD"),
        ("KXSP500-1", "SP500"),
    ],
)
def test_the_underlying_is_the_series_without_prefix_and_period(event, underlying):
    assert underlying_of(event) == underlying


def test_another_underlying_and_unseen_events_are_told_by_the_lineage():
    def rows_of(series: str, session: int, cents: float) -> pa.Table:
        made = [
            row(NAME, cents, session=session, event=f"{series}-{i}", market=f"{series}-{i}-M")
            for i in range(3)
        ]
        return labelled(ledger(made))

    rows = pa.concat_tables([rows_of("KXBTC15M", 1, 9.0), rows_of("KXGOLD15M", 2, 4.0)])
    used = [{"session": 7, "event": "KXBTC15M-1", "market": "X", "start_ms": 0, "end_ms": 1}]
    found = axis(rows, "underlying", lineage=used)
    assert (found["GOLD"]["reference"], found["GOLD"]["degradation_cents"]) == ("BTC", 5.0)
    assert (found["GOLD"]["events"], found["GOLD"]["markets"]) == (3, 3)
    seen = axis(rows, "unseen_events", lineage=used)
    assert (seen["events used"]["events"], seen["unseen events"]["events"]) == (1, 5)


def test_results_are_shown_by_recording_convention():
    rows = pa.concat_tables(
        [
            session_rows(s, np.full(n, c), Label.CLEAN_FORWARD)
            for s, n, c in ((1, 5, 1.0), (2, 3, 7.0))
        ]
    )
    names = {"1": "frames as received", "2": "database rows, legacy ladders, sizes: uncross"}
    found = axis(rows, "convention", provenance={"conventions": names})
    assert found[names["2"]]["degradation_cents"] == -6.0
    assert axis(rows, "convention") == {}


# --- market counts


def test_a_small_session_is_cut_by_the_plans_proportions():
    rows = session_rows(1, np.arange(20.0), Label.CLEAN_FORWARD)
    found = market_counts(rows, CONFIG)
    assert [(made["markets"], made["of_markets"]) for made in found] == [
        (20, 20),
        (10, 20),
        (6, 20),
    ]
    whole, half, third = found
    assert whole["pnl_cents"] == 9.5
    assert {q["cents"] for q in whole["pnl_quantiles"]} == {9.5}
    for made in (half, third):
        assert made["pnl_cents"] == pytest.approx(9.5, abs=0.5)
        assert made["degradation_cents"] == pytest.approx(9.5 - made["pnl_cents"])
        assert made["pnl_interval"] is made["degradation_interval"] is None
    spread = [made["pnl_quantiles"][-1]["cents"] - made["pnl_quantiles"][0]["cents"]
              for made in found]  # fmt: skip
    assert 0 == spread[0] < spread[1] < spread[2]
    # drawn without replacement: sd of a mean of 10 of 20
    sd = np.std(np.arange(20.0), ddof=1) * np.sqrt((1 - 10 / 20) / 10)
    assert spread[1] == pytest.approx(2 * 1.645 * sd, rel=0.1)


def test_a_large_session_is_cut_to_the_plans_counts():
    made = [row(NAME, 1.0, event=f"E{i // 4}", market=f"E{i // 4}-{i}") for i in range(1_200)]
    found = market_counts(labelled(ledger(made)), CONFIG)
    assert [each["markets"] for each in found] == [1_000, 500, 300]
    assert found[0]["events"] == 300
    assert found[2]["events"] < 300
    assert all(each["profitable_share"] == 1.0 for each in found)


def test_fewer_markets_an_event_are_no_degradation():
    made = [row(NAME, 1.0, event=f"E{i // 10}", market=f"E{i // 10}-{i}") for i in range(400)]
    whole, half, third = market_counts(labelled(ledger(made)), CONFIG)
    assert (whole["pnl_cents"], whole["degradation_cents"]) == (10.0, None)
    for fewer in (half, third):
        assert fewer["pnl_cents"] == pytest.approx(10.0)
        assert fewer["degradation_cents"] == pytest.approx(0.0)


def test_a_subset_stands_for_its_session_where_events_differ_in_size():
    rng = np.random.default_rng(5)
    made = [
        row(NAME, float(rng.normal(event % 3, 1)), event=f"E{event}", market=f"E{event}-{i}")
        for event in range(30)
        for i in range(1 + event % 7)
    ]
    whole, half, _ = market_counts(labelled(ledger(made)), CONFIG)
    low, high = (half["pnl_quantiles"][place]["cents"] for place in (0, -1))
    assert abs(half["degradation_cents"]) < 0.05 * (high - low)
    assert low < whole["pnl_cents"] < high


def test_one_market_is_enough_to_count():
    (only,) = market_counts(session_rows(1, np.array([3.0]), Label.CLEAN_FORWARD), CONFIG)
    assert (only["markets"], only["events"], only["pnl_cents"]) == (1, 1, 3.0)


# --- hindsight against causal


def test_the_choice_of_markets_is_compared_over_the_same_time():
    hindsight = named_universe(1, 6)
    causal = replace(hindsight, episodes=tuple(
        replace(episode, event="OTHER", market="OTHER-M") if index == 0 else episode
        for index, episode in enumerate(hindsight.episodes)
    ))  # fmt: skip
    rows = session_rows(1, np.zeros(6), Label.CLEAN_FORWARD)
    found = axis(rows, "universe", later=lambda _: {CAUSAL: causal, SAME_TIME: hindsight})
    assert set(found) == {"hindsight, whole session", CAUSAL, SAME_TIME}
    assert found[CAUSAL]["reference"] == SAME_TIME
    assert found[CAUSAL]["degradation_cents"] == pytest.approx(0.0)  # the same episodes, renamed
    assert found[SAME_TIME]["pnl_cents"] < 0
    assert axis(rows, "universe") == {}


def test_the_same_events_are_drawn_together():
    universe = named_universe(1, 35)
    rows = session_rows(1, np.zeros(35), Label.CLEAN_FORWARD)
    found = axis(rows, "universe", later=lambda _: {CAUSAL: universe, SAME_TIME: universe})
    assert tuple(found[CAUSAL]["degradation_interval"]) == (0.0, 0.0)
    low, high = found[CAUSAL]["pnl_interval"]
    assert low < high
