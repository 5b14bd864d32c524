"""report.json and report.html: complete, sober, escaped, self-contained, equal bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from kalshi_pipeline.evaluation.baselines import RandomUniform, baselines
from kalshi_pipeline.evaluation.reports import render_html, render_json
from kalshi_pipeline.evaluation.reports.schema import Report
from kalshi_pipeline.evaluation.wording import CLAIMS
from tests.evaluation.test_evaluate import Renamed, run
from tests.evaluation.test_report_page import painted, variables
from tests.evaluation.universes import named_universe, ranges

EVIL = "<script>alert('$x^2$ & \"y\"')</script>"


def evil_report() -> dict[str, Any]:
    seen, forward = named_universe(1, 3, prefix=EVIL), named_universe(2, 31, prefix=EVIL)
    return run(
        {1: seen, 2: forward},
        roles={1: EVIL, 2: "forward"},
        policies=[Renamed(RandomUniform(), name=EVIL), *baselines()],
        lineage=ranges(seen, end_ms=0),
        provenance={
            "plan": EVIL,
            "generated": True,
            "sessions": {"1": EVIL},
            "phases": [{"phase": 1, EVIL: [1, 2]}],
            "note": None,
        },
        exclusions=[{"session": 1, "reason": EVIL}],
    ).report


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return evil_report()


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return render_html(report).decode()


def test_every_foreign_name_is_escaped(page: str) -> None:
    assert page.count("<script>") == 1, "our own, at the end"
    data = page.count('<script type="application/json">')
    assert page.count("<script") == page.count("</script>") == 1 + data
    assert "alert('" not in page
    assert "&lt;script&gt;" in page


def test_nothing_is_asked_for_from_anywhere(page: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http:" not in without_namespaces
    assert "https:" not in without_namespaces
    assert not re.search(
        r"@import|url\((?!#)|\bsrc=|<link|<!DOCTYPE svg|(?<!-)\bstyle=|\bon\w+=", page
    )
    assert "default-src 'none'" in page


def test_only_the_script_and_the_style_sheet_that_are_ours_may_run(page: str) -> None:
    for element in ("style", "script"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page


def test_the_verdict_comes_first_and_claims_nothing(report: dict[str, Any], page: str) -> None:
    main = page[page.index("<main>") : page.index("</main>")]
    text = re.sub(r"<[^>]+>", " ", main)
    assert text.index("generated sessions: ") < text.index("Headline")
    assert not CLAIMS.search(text)
    assert not CLAIMS.search(json.dumps(report))


def test_every_baseline_is_in_the_headline_table(page: str) -> None:
    headline = page[page.index('id="headline"') : page.index('id="curves"')]
    for policy in baselines():
        assert f'<th scope="row">{policy.name}</th>' in headline


def test_plots_are_well_formed_and_follow_the_theme(page: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(plots) >= 8
    for plot in plots:
        drawing = ElementTree.fromstring(plot)
        assert drawing.get("aria-label")
        assert painted(drawing) <= variables(page), "the page colours it"
        assert not re.search(r"(?<!-)\bstyle=|#[0-9a-fA-F]{6}", plot)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_bytes_are_the_same_every_time(report: dict[str, Any]) -> None:
    again = evil_report()
    assert render_json(report) == render_json(again)
    assert render_html(report) == render_html(again)


def test_the_page_can_be_made_from_the_json_alone(report: dict[str, Any]) -> None:
    reread = json.loads(render_json(report))
    assert render_json(reread) == render_json(report)
    assert render_html(reread) == render_html(report)


def test_report_json_has_its_schema(report: dict[str, Any]) -> None:
    read = json.loads(render_json(report))
    assert read["schema_version"] == 3
    assert set(read) <= set(Report.__struct_fields__), "every key is read back typed"
    assert read["cell"] == {
        "fill_model": "cross", "mark": "liquidation", "fees": True, "headline": True,
        "latency_ms": 250,
    }  # fmt: skip
    assert len(read["criteria"]) == 8
    for table in (read["headline"], *read["sessions"]):
        assert [row["policy"] for row in table["policies"]] == [read["policy"], *read["baselines"]]
        for row in table["policies"]:
            assert isinstance(row["pnl_cents"], float)
            interval = row["pnl_interval"]
            assert (interval is None) == (table["events"] < 30)
            assert interval is None or interval[0] <= row["pnl_cents"] <= interval[1]


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        render_json({"verdict": {"claim": False}, "value": float("nan")})


@pytest.mark.parametrize("events", [1, 2])
def test_few_units_print_no_interval_possible(events: int) -> None:
    report = run({1: named_universe(1, events)}).report
    page = render_html(report).decode()
    assert "No interval possible: " in page
    assert {criterion["status"] for criterion in report["criteria"]} == {"not assessable"}
    assert f"{events} clean-forward event" in report["verdict"]["sentence"]


def test_no_clean_forward_rows_still_make_a_page() -> None:
    universe = named_universe(1, 3)
    page = render_html(run({1: universe}, lineage=ranges(universe)).report).decode()
    assert "There are no clean-forward events" in page


def test_a_skewed_figure_shows_both_intervals(report: dict[str, Any]) -> None:
    judged, *others = report["headline"]["policies"]
    skewed = {**judged, "pnl_bca_interval": [-12.5, 17.5]}
    shown = {**report, "headline": {**report["headline"], "policies": [skewed, *others]}}
    assert "[−12.5, +17.5]" in render_html(shown).decode()
