"""report.json is read back typed; anything else is refused in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kalshi_pipeline.errors import UnreadableReport
from kalshi_pipeline.evaluation.reports import render_html, render_json
from kalshi_pipeline.evaluation.reports.schema import SCHEMA_VERSION, read_report
from tests.evaluation.specimen import specimen
from tests.evaluation.test_evaluate import run
from tests.evaluation.universes import named_universe, ranges


def test_what_an_evaluation_writes_is_read_back_whole() -> None:
    forward, seen = named_universe(2, 31), named_universe(1, 2)
    report = run({1: seen, 2: forward}, lineage=ranges(seen, end_ms=0)).report
    content = render_json(report)
    assert read_report(content, "report.json") == json.loads(content)
    assert render_html(read_report(content, "report.json")) == render_html(report)


def test_every_section_is_read_back() -> None:
    content = render_json(specimen())
    assert read_report(content, "report.json") == json.loads(content)


def changed(**keys: Any) -> bytes:
    return render_json(specimen() | keys)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(schema_version=SCHEMA_VERSION - 1), "an older schema"),
        (changed(schema_version=SCHEMA_VERSION + 1), "a newer schema"),
        (b"{", "is no report"),
        (b"[1]", "is no report"),
        (b"\xff\xfe", "is no report"),
        (b"{}", "is no report"),
        (changed(verdict={"sentence": 7, "claim": False}), r"\$.verdict.sentence"),
        (changed(sessions=[]), r"\$.sessions"),
        (changed(labels={"clean_forward": {"episodes": 1, "markets": 1}}), "events"),
    ],
)
def test_anything_else_is_refused_by_name(content: bytes, says: str) -> None:
    with pytest.raises(UnreadableReport, match=says):
        read_report(content, "report.json")
