"""Every rule holds for what the stages make, and breaks for what it is there to catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import rules, stages
from kalshi_pipeline.feature_table import COLUMN, TENSOR_WIDTH
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.rules import Finding
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from tests.checkpoints import small_checkpoint

REPORT = {
    "schema_version": 1,
    "verdict": {"sentence": "no evidence of profit"},
    "sessions": [{"session": 1}],
    "criteria": [{"name": "x"}],
    "provenance": {"plan": "quick"},
    "labels": {"1": "clean"},
}


@pytest.fixture(scope="module")
def session(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generation]:
    warehouse = Warehouse(tmp_path_factory.mktemp("rules"))
    return {
        stages.RAW: stages.ingest_session(warehouse, open_folder(generated / "901")),
        stages.BOOKS: stages.build_session_books(warehouse, 901),
        stages.TENSORS: stages.build_session_tensors(warehouse, 901),
        stages.SUITABLE: stages.choose_session_markets(warehouse, 901),
    }


def published(root: Path, fill: Callable[[Path], object]) -> Generation:
    with Warehouse(root).stage("made_up", None, Recipe("1")) as staging:
        fill(staging.folder)
    return staging.generation


def told(generation: Generation, **figures: Any) -> Generation:
    """The generation as if its stage had said something else."""
    return replace(generation, summary={**generation.summary, **figures})


OF_SESSIONS = {
    rules.capture_is_readable: stages.RAW,
    rules.rows_are_conserved: stages.BOOKS,
    rules.losses_are_bounded: stages.BOOKS,
    rules.sizes_are_never_negative: stages.BOOKS,
    rules.crossed_books_are_brief: stages.BOOKS,
    rules.features_lie_in_their_ranges: stages.TENSORS,
    rules.there_is_something_to_trade: stages.SUITABLE,
}
OF_PLANS = {rules.hold_earns_nothing, rules.report_is_complete, rules.weights_are_sound}


def test_every_rule_is_tested_here():
    found = {
        rule
        for rule in vars(rules).values()
        if callable(rule) and rule is not Finding and rule.__module__ == rules.__name__
        if signature(rule).return_annotation == "Finding" and not rule.__name__.startswith("_")
    }
    assert found == {*OF_SESSIONS, *OF_PLANS}


@pytest.mark.parametrize("rule", OF_SESSIONS, ids=lambda rule: rule.__name__)
def test_a_generated_session_keeps_every_rule(session, rule):
    finding = rule(session[OF_SESSIONS[rule]])
    assert finding.holds, finding.says
    assert finding.says


@pytest.mark.parametrize(
    ("rule", "figures", "says"),
    [
        (rules.capture_is_readable, {"frames": 1_000, "rejected": 11}, "11 of 1,000"),
        (rules.rows_are_conserved, {"rows_in": 7}, "7 rows in"),
        (rules.rows_are_conserved, {"before_snapshot": 10**6}, "1,000,000 before a snapshot"),
        (rules.losses_are_bounded, {"lost_messages": 11, "rows_in": 989, "gaps": 3}, "1.10%"),
        (rules.losses_are_bounded, {"lost_messages": 5, "rows_in": 0}, "100.00%"),
        (rules.sizes_are_never_negative, {"quarantined": {"negative_size": 2}}, "2 changes"),
        (rules.crossed_books_are_brief, {"segments_ended_by": {"crossed": 1}}, "1 segments"),
        (rules.there_is_something_to_trade, {"suitable_markets": 0}, "0 of 36 markets"),
    ],
)
def test_a_session_that_breaks_a_rule_is_told_with_its_figures(session, rule, figures, says):
    finding = rule(told(session[OF_SESSIONS[rule]], **figures))
    assert not finding.holds
    assert says in finding.says


@pytest.mark.parametrize(
    ("rule", "figures"),
    [
        (rules.capture_is_readable, {"frames": 1_000, "rejected": 10}),
        (rules.capture_is_readable, {"frames": 0, "rejected": 0}),
        (rules.losses_are_bounded, {"lost_messages": 10, "rows_in": 990}),
        (rules.losses_are_bounded, {"lost_messages": 0, "rows_in": 0}),
    ],
)
def test_a_rule_holds_up_to_its_limit_and_for_an_empty_session(session, rule, figures):
    assert rule(told(session[OF_SESSIONS[rule]], **figures)).holds


def test_only_what_harms_no_one_warns(session):
    warnings = {rule for rule, stage in OF_SESSIONS.items() if rule(session[stage]).warns}
    assert warnings == {
        rules.sizes_are_never_negative,
        rules.crossed_books_are_brief,
        rules.there_is_something_to_trade,
    }


@pytest.mark.parametrize(
    ("column", "value"),
    [("mid", 1.5), ("best_bid", -0.01), ("imbalance_touch", np.nan), ("spread", np.inf)],
)
def test_a_feature_out_of_its_range_is_named(tmp_path, column, value):
    features = np.zeros((9, TENSOR_WIDTH), dtype=np.float32)
    features[4, COLUMN[column]] = value

    def fill(folder: Path) -> None:
        np.save(folder / "features.npy", features)
        np.save(folder / "step_row.npy", np.arange(9))
        pq.write_table(pa.table({}), folder / "index.parquet")

    finding = rules.features_lie_in_their_ranges(published(tmp_path, fill))
    assert not finding.holds
    assert finding.says == f"9 steps; features out of range: {column}"


# --- evaluations and checkpoints


def ledger(*rows: tuple[str, int]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        schema = pa.schema([("policy", pa.string()), ("pnl_micro", pa.int64())])
        entries = [dict(zip(schema.names, row, strict=True)) for row in rows]
        table = pa.Table.from_pylist(entries, schema=schema)
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
    assert rules.hold_earns_nothing(published(tmp_path, ledger(*rows))).holds is holds


@pytest.mark.parametrize("missing", [None, *REPORT])
def test_a_report_without_one_of_its_parts_is_found(tmp_path, missing):
    report = {name: part for name, part in REPORT.items() if name != missing}
    finding = rules.report_is_complete(
        published(tmp_path, lambda folder: (folder / "report.json").write_text(json.dumps(report)))
    )
    assert finding.holds is (missing is None)
    assert finding.says == f"missing parts: {missing or 'none'}"


def test_a_whole_checkpoint_is_sound(tmp_path):
    generation = published(tmp_path, lambda folder: checkpoints.save(small_checkpoint(), folder))
    finding = rules.weights_are_sound(generation)
    assert finding.holds
    assert finding.says == "8 steps in all, 1 markets in its lineage"


def test_a_checkpoint_that_learned_from_nothing_is_not_sound(tmp_path):
    checkpoint = small_checkpoint()
    nothing = replace(checkpoint, state=replace(checkpoint.state, lineage=()))
    generation = published(tmp_path, lambda folder: checkpoints.save(nothing, folder))
    assert not rules.weights_are_sound(generation).holds


def test_a_damaged_checkpoint_is_not_sound_and_the_reason_is_told(tmp_path):
    def fill(folder: Path) -> None:
        checkpoints.save(small_checkpoint(), folder)
        weights = next(folder.glob("*policy*"))
        weights.write_bytes(weights.read_bytes()[:-8])

    finding = rules.weights_are_sound(published(tmp_path, fill))
    assert not finding.holds
    assert finding.says
