"""Every rule holds for what the stages make, and breaks for what it is there to catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import rules
from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
from kalshi_pipeline.rules import Finding
from kalshi_pipeline.storage import checkpoints
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.publish import Generation, Recipe, Warehouse
from tests.checkpoints import small_checkpoint

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


def published(root: Path, fill: Callable[[Path], object]) -> Generation:
    with Warehouse(root).stage("made_up", None, Recipe("1")) as staging:
        fill(staging.folder)
    return staging.generation


OF_PLANS = {
    rules.hold_earns_nothing,
    rules.no_used_session_is_clean,
    rules.report_is_complete,
    rules.weights_are_sound,
}


def test_every_rule_is_tested_here():
    found = {
        rule
        for rule in vars(rules).values()
        if callable(rule) and rule is not Finding and rule.__module__ == rules.__name__
        if signature(rule).return_annotation == "Finding" and not rule.__name__.startswith("_")
    }
    assert found == OF_PLANS


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
    assert rules.hold_earns_nothing(published(tmp_path, ledger(*rows))).holds is holds


@pytest.mark.parametrize("missing", [None, *REPORT])
def test_a_report_without_one_of_its_parts_is_found(tmp_path, missing):
    report = {name: part for name, part in REPORT.items() if name != missing}
    finding = rules.report_is_complete(
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

    finding = rules.no_used_session_is_clean(published(tmp_path, fill))
    assert finding.holds is holds
    assert finding.says.endswith("both: none" if holds else "both: 2")


def saved(folder: Path, checkpoint: Checkpoint, seed: int = 0) -> Path:
    """The folder of a seed, as a phase's output holds it."""
    own = folder / checkpoints.seed_folder(seed)
    own.mkdir()
    checkpoints.save(checkpoint, own)
    return own


def test_whole_checkpoints_are_sound(tmp_path):
    def fill(folder: Path) -> None:
        for seed in (0, 1):
            saved(folder, small_checkpoint(), seed)

    finding = rules.weights_are_sound(published(tmp_path, fill))
    assert finding.holds
    assert finding.says == "8, 8 steps in all, 1 markets in the lineage"


def test_a_checkpoint_that_learned_from_nothing_is_not_sound(tmp_path):
    checkpoint = small_checkpoint()
    nothing = replace(checkpoint, state=replace(checkpoint.state, lineage=()))
    finding = rules.weights_are_sound(published(tmp_path, lambda folder: saved(folder, nothing)))
    assert not finding.holds
    assert "0 markets" in finding.says


def test_a_damaged_checkpoint_is_not_sound_and_the_reason_is_told(tmp_path):
    def fill(folder: Path) -> None:
        weights = next(saved(folder, small_checkpoint()).glob("*policy*"))
        weights.write_bytes(weights.read_bytes()[:-8])

    finding = rules.weights_are_sound(published(tmp_path, fill))
    assert not finding.holds
    assert "policy" in finding.says
