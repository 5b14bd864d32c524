"""What `kalshi sessions` says: facts agree with what is published, and all can be shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kalshi_pipeline.errors import SessionNotFound
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.recordings.sources import SessionSources
from kalshi_pipeline.sessions import report as sessions_report
from kalshi_pipeline.sessions.report import Report, analysis, listing, summary, view
from kalshi_pipeline.storage.publish import Warehouse

WIDTH = 100


@pytest.fixture(scope="module")
def sources(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> SessionSources:
    return SessionSources([generated], tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("warehouse"))


@pytest.fixture(scope="module")
def analyzed(sources: SessionSources, warehouse: Warehouse) -> Report:
    return analysis(sources, warehouse, 901)


def text(report: Report, width: int = WIDTH) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for part in report.parts():
            console.print(part)
    return capture.get()


def test_facts_are_plain_json(sources, warehouse, analyzed):
    viewed = view(sources, warehouse, 901, None)
    for report in (listing(sources, warehouse), analyzed, viewed):
        assert json.loads(json.dumps(report.facts)) == report.facts


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(
    sources, warehouse, analyzed, width
):
    for report in (analyzed, view(sources, warehouse, 901, None)):
        shown = text(report, width)
        assert all(len(line.rstrip()) <= width for line in shown.splitlines())
        assert "…" not in shown


def test_every_frame_lies_in_one_part_of_the_session(analyzed):
    facts = analyzed.facts
    assert sum(facts["activity"]["frames"]) == facts["frames"] - sum(facts["quarantined"].values())
    parts = len(facts["activity"]["frames"])
    assert facts["activity"]["bin_ms"] * parts >= facts["duration_s"] * 1000


def test_every_market_is_counted_once_in_each_figure(analyzed):
    facts = analyzed.facts
    assert sum(facts["quarter_coverage"].values()) == facts["markets"]
    assert sum(facts["left_out"].values()) == facts["markets"] - facts["suitable_markets"]
    assert sum(facts["temporal_patterns"].values()) == facts["suitable_markets"]
    assert sum(facts["spreads_bp"]["classes"].values()) == facts["spreads_bp"]["markets"]
    assert sum(facts["traded_known"].values()) == facts["markets"]


def test_the_top_markets_are_those_most_traded(analyzed):
    traded = [entry["traded_centi"] for entry in analyzed.facts["top_markets"]]
    assert traded == sorted(traded, reverse=True)
    assert len(traded) == sessions_report.TOP_MARKETS
    shown = text(analyzed)
    assert all(entry["market"] in shown for entry in analyzed.facts["top_markets"])


def test_the_plots_of_an_analysis_are_there(analyzed):
    shown = text(analyzed)
    for title in ("Frames received", "Median spread", "Pattern, suitable", "Active quarters"):
        assert title in shown
    assert "█" in shown


def test_a_view_splits_what_the_touch_lost(sources, warehouse, analyzed):
    everything = 0
    for entry in analyzed.facts["top_markets"]:
        facts = view(sources, warehouse, 901, entry["market"]).facts
        assert facts["depletion"]["traded_centi"] == entry["traded_centi"]
        assert facts["steps"] == entry["steps"] >= facts["two_sided_steps"]
        everything += facts["depletion"]["traded_centi"]
    assert 0 < everything <= analyzed.facts["touch_traded_centi"]


def test_the_path_of_a_view_lies_within_the_market(sources, warehouse):
    facts = view(sources, warehouse, 901, None).facts
    shown = min(sessions_report.PATH_POINTS, facts["two_sided_steps"])
    assert len(facts["mid_path_bp"]) == len(facts["path_ms"]) == shown > 30
    assert facts["path_ms"] == sorted(facts["path_ms"])
    assert all(0 < mid < 10_000 for mid in facts["mid_path_bp"])
    first, last = facts["segments"][0]["start_ms"], facts["segments"][-1]["end_ms"]
    assert first <= facts["path_ms"][0] <= facts["path_ms"][-1] <= last


def test_a_market_that_is_not_there_is_refused_with_those_that_are(sources, warehouse, analyzed):
    with pytest.raises(SessionNotFound, match=analyzed.facts["top_markets"][0]["market"]):
        view(sources, warehouse, 901, "KXNONE-1")


def test_the_summary_holds_the_measured_beside_the_believed(sources, warehouse):
    told: list[str] = []
    belief = {
        "session": 901, "quality_score": 0.5, "data_points": "9", "suitable_markets": "~7",
        "priority": "PRIMARY",
    }  # fmt: skip
    plan = replace(load_plan("quick"), believed={901: belief})
    report = summary(sources, warehouse, (901, 902, 903), plan, told.append)
    entries = {entry["session_id"]: entry for entry in report.facts["sessions"]}
    assert told == [f"session {session}" for session in (901, 902, 903)]
    assert entries[901]["believed"]["suitable_markets"] == "~7"
    assert entries[901]["usable_data_points"] <= entries[901]["data_points"]
    assert entries[901]["suggested_role"] == "PRIMARY"
    assert {entries[902]["suggested_role"], entries[903]["suggested_role"]} <= {
        "VALIDATION", "FORWARD TEST",
    }  # fmt: skip
    shown = text(report)
    assert "~7" in shown
    assert "Generated, not recorded: 901, 902, 903." in shown
    assert all(entry["why"].split()[0] in shown for entry in entries.values())


@pytest.mark.parametrize("session", [101, 141])
def test_real_sessions_are_shown_whole(recordings, warehouse, tmp_path, session):
    # tickers without trades; polls without deltas
    sources = SessionSources([recordings], tmp_path)
    facts = analysis(sources, warehouse, session).facts
    known = facts["traded_known"]
    assert known["ticker" if session == 101 else "none"] == facts["markets"]
    for report in (analysis(sources, warehouse, session), view(sources, warehouse, session, None)):
        assert "…" not in text(report)
