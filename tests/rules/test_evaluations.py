"""Every rule of an evaluation holds for an honest one, and breaks for what it is there to catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import rules
from kalshi_pipeline.evaluation.baselines import baselines
from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
from kalshi_pipeline.evaluation.reports import render_json
from kalshi_pipeline.rules.evaluations import (
    HOLD,
    RANDOM,
    UNTRAINED,
    baselines_are_there,
    chance_earns_nothing,
    claims_only_what_it_shows,
    hold_earns_nothing,
    judged_by_the_strict_rules,
    money_adds_up,
    no_used_session_is_clean,
    report_follows_its_schema,
    report_is_complete,
)
from kalshi_pipeline.storage.publish import Generation
from tests.evaluation.specimen import specimen
from tests.rules.published import published

REPORT = {
    "schema_version": 1,
    "verdict": {"sentence": "no evidence of profit"},
    "sessions": [{"session": 1}],
    "criteria": [{"name": "x"}],
    "provenance": {"plan": "quick"},
    "labels": {"1": "clean"},
    "selection": {"trials": 1},
    "decisions": [{"point": 1}],
    "failure_modes": [{"mode": "Overfitting"}],
    "recommendations": [{"subject": "deployment"}],
}


def test_every_rule_of_an_evaluation_is_tested_here():
    assert set(rules.OF_EVALUATIONS) == {
        baselines_are_there, chance_earns_nothing, claims_only_what_it_shows, hold_earns_nothing,
        judged_by_the_strict_rules, money_adds_up, no_used_session_is_clean,
        report_follows_its_schema, report_is_complete,
    }  # fmt: skip


def ledger(*rows: tuple[str, int]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        entries = [{"policy": policy, "pnl_micro": pnl_micro} for policy, pnl_micro in rows]
        table = pa.Table.from_pylist(entries, schema=JUDGED_SCHEMA)
        pq.write_table(table, folder / "ledger.parquet")

    return fill


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([("Hold", 0), ("Hold", 0), ("Learned", -5)], True),
        ([("Hold", 0), ("Hold", 1)], False),
        ([("Hold", 1), ("Hold", -1)], False),  # what cancels is money moved all the same
        ([("Learned", 0)], False),  # without Hold nothing has been shown
        ([], False),
    ],
)
def test_hold_must_be_there_and_earn_nothing(tmp_path, rows, holds):
    assert hold_earns_nothing(published(tmp_path, ledger(*rows))).holds is holds


@pytest.mark.parametrize("missing", [None, *REPORT])
def test_a_report_without_one_of_its_parts_is_found(tmp_path, missing):
    report = {name: part for name, part in REPORT.items() if name != missing}
    finding = report_is_complete(
        published(tmp_path, lambda folder: (folder / "report.json").write_text(json.dumps(report)))
    )
    assert finding.holds is (missing is None)
    assert finding.says == f"missing parts: {missing or 'none'}"


@pytest.mark.parametrize(
    ("labels", "used", "holds"),
    [
        ({1: "clean_forward", 2: "in_sample"}, {1: 0, 2: 3}, True),
        ({1: "clean_forward", 2: "clean_forward"}, {1: 0, 2: 3}, False),
        ({2: "in_sample"}, {2: 3}, True),  # nothing is called clean
    ],
)
@pytest.mark.parametrize("how", ["markets_trained_on", "markets_selected_on"])
def test_a_used_session_that_is_called_clean_is_found(tmp_path, labels, used, holds, how):
    def fill(folder: Path) -> None:
        rows = [{"session": session, "label": label} for session, label in labels.items()]
        table = pa.Table.from_pylist(rows, schema=JUDGED_SCHEMA)
        pq.write_table(table, folder / "ledger.parquet")
        none = {"markets_trained_on": 0, "markets_selected_on": 0}
        sessions = [{"session": one, **none, how: count} for one, count in used.items()]
        report = {"walk_forward": {"sessions": sessions}}
        (folder / "report.json").write_text(json.dumps(report))

    finding = no_used_session_is_clean(published(tmp_path, fill))
    assert finding.holds is holds
    assert finding.says.endswith("both: none" if holds else "both: 2")


NAMES = [*(baseline.name for baseline in baselines()), UNTRAINED]


def evaluation(root: Path, rows: list[dict[str, Any]], **report: Any) -> Generation:
    """Published: these rows of the ledger, this report."""

    def fill(folder: Path) -> None:
        table = pa.Table.from_pylist(rows, schema=JUDGED_SCHEMA)
        pq.write_table(table, folder / "ledger.parquet")
        (folder / "report.json").write_text(json.dumps({"policy": "Learned"} | report))

    return published(root, fill)


def test_what_the_rules_call_chance_is_what_plays_by_it():
    assert {HOLD, RANDOM} <= set(NAMES)


def everybody(*episodes: tuple[int, str, int]) -> list[dict[str, Any]]:
    return [
        {"policy": policy, "session": session, "market": market, "segment": segment,
         "contracts_centi": 100}
        for policy in ("Learned", *NAMES)
        for session, market, segment in episodes
    ]  # fmt: skip


@pytest.mark.parametrize("absent", [RANDOM, HOLD, UNTRAINED, "Always SELL_BEST", "Learned"])
def test_a_baseline_that_is_not_there_is_found(tmp_path, absent):
    rows = everybody((1, "A", 0), (2, "B", 1))
    assert baselines_are_there(evaluation(tmp_path / "all", rows)).holds
    fewer = [row for row in rows if row["policy"] != absent]
    finding = baselines_are_there(evaluation(tmp_path / "fewer", fewer))
    assert not finding.holds
    assert finding.facts[0].row == absent


def test_an_episode_that_a_baseline_did_not_play_is_named(tmp_path):
    rows = everybody((1, "A", 0), (2, "B", 1))
    rows.remove(next(row for row in rows if row["policy"] == HOLD and row["market"] == "B"))
    (fact,) = baselines_are_there(evaluation(tmp_path, rows)).facts
    assert (fact.session, fact.market, fact.row) == (2, "B", HOLD)


def test_chance_that_never_trades_is_no_baseline(tmp_path):
    rows = [
        row | {"contracts_centi": 0} if row["policy"] == RANDOM else row
        for row in everybody((1, "A", 0))
    ]
    assert not baselines_are_there(evaluation(tmp_path, rows)).holds


HONEST = {
    "policy": "Learned", "session": 5, "market": "KX-A", "segment": 0, "contracts_centi": 200,
    "spread_micro": -20_000, "drift_micro": 500_000, "settlement_micro": 0, "fees_micro": 10_000,
    "pnl_micro": 470_000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("spoilt", "rule"),
    [
        ({}, None),
        ({"pnl_micro": 470_001}, "profit is its parts"),
        ({"drift_micro": 2_100_000, "pnl_micro": 2_070_000}, "at most a dollar a contract traded"),
        ({"fees_micro": -10_000, "pnl_micro": 490_000}, "fees are paid, not earned"),
    ],
)
def test_money_from_nowhere_is_found_with_its_row(tmp_path, spoilt, rule):
    finding = money_adds_up(evaluation(tmp_path, [HONEST, HONEST | spoilt]))
    assert finding.holds is (rule is None)
    if rule:
        (fact,) = finding.facts
        assert (fact.session, fact.market, fact.row, fact.rule) == (5, "KX-A", 1, rule)


@pytest.mark.parametrize(
    ("policy", "cents", "events", "holds"),
    [
        (RANDOM, 50, 40, False),
        ("Always SELL_BEST", 50, 40, False),
        (RANDOM, -50, 40, True),
        (RANDOM, 50, 29, True),  # under 30 events nothing is claimed
        ("Learned", 50, 40, True),  # is the one that may
    ],
)
def test_a_policy_without_skill_that_gains_is_found(tmp_path, policy, cents, events, holds):
    rows = [
        {"policy": name, "session": 1, "event": f"E{event}", "repeat": repeat,
         "pnl_micro": (cents if name == policy else -10) * 10_000 + event}
        for name in {policy, RANDOM, "Always BUY_BEST"}
        for event in range(events)
        for repeat in range(2)
    ]  # fmt: skip
    finding = chance_earns_nothing(evaluation(tmp_path, rows))
    assert finding.holds is holds
    if not holds:
        assert finding.facts[0].row == policy


def test_without_a_policy_without_skill_nothing_is_shown(tmp_path):
    rows = [{"policy": "Learned", "session": 1, "event": "E", "repeat": 0, "pnl_micro": 1}]
    assert not chance_earns_nothing(evaluation(tmp_path, rows)).holds


CELL = {"fill_model": "cross", "mark": "liquidation", "fees": True, "headline": True}


@pytest.mark.parametrize(
    ("name", "value"),
    [(None, None), ("fill_model", "touch"), ("mark", "mid"), ("fees", False), ("headline", False)],
)
def test_kinder_rules_than_the_headlines_are_told(tmp_path, name, value):
    cell = CELL if name is None else CELL | {name: value}
    finding = judged_by_the_strict_rules(evaluation(tmp_path, [], cell=cell))
    assert finding.holds is (name is None)
    assert [fact.row for fact in finding.facts] == ([] if name is None else [name])


BEATEN = {"baseline": "Random", "cheating": False, "difference_cents": 3.0, "p_holm": 0.01}
EARNED = {
    "verdict": {"claim": True, "sentence": "Profitable in replay."},
    "cell": CELL,
    "labels": {"clean_forward": {"events": 30}},
    "selection": {"deflated_sharpe": 0.95},
    "paired": [BEATEN, BEATEN | {"cheating": True, "p_holm": 1.0}],
}


@pytest.mark.parametrize(
    ("spoilt", "holds"),
    [
        ({}, True),
        ({"cell": CELL | {"headline": False}}, False),
        ({"labels": {}}, False),
        ({"labels": {"clean_forward": {"events": 29}}}, False),
        ({"selection": {"deflated_sharpe": 0.94}}, False),
        ({"selection": {"deflated_sharpe": None}}, False),
        ({"selection": None}, False),
        ({"paired": []}, False),
        ({"paired": [BEATEN, BEATEN | {"p_holm": 0.05}]}, False),
        ({"paired": [BEATEN | {"p_holm": None}]}, False),
        ({"paired": [BEATEN | {"difference_cents": -3.0}]}, False),
        # what claims nothing needs nothing
        ({"verdict": {"claim": False, "sentence": "No evidence."}, "paired": []}, True),
    ],
)
def test_a_claim_without_its_figures_is_found(tmp_path, spoilt, holds):
    assert claims_only_what_it_shows(evaluation(tmp_path, [], **EARNED | spoilt)).holds is holds


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda report: report, "every field of its type"),
        (lambda report: report | {"schema_version": 1}, "older"),
        (lambda report: report | {"sessions": []}, "damaged"),
        (lambda report: report | {"verdict": {"sentence": "x", "claim": "yes"}}, "damaged"),
    ],
)
def test_a_report_of_another_schema_is_found(tmp_path, spoil, says):
    report = json.loads(render_json(specimen()))
    finding = report_follows_its_schema(
        published(
            tmp_path,
            lambda folder: (folder / "report.json").write_text(json.dumps(spoil(report))),
        )
    )
    assert finding.holds is (says == "every field of its type")
    assert says in finding.says
