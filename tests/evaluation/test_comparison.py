"""Several evaluations on one page: side by side, and told apart where they must not be."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.errors import NotPublished, UnreadableReport
from kalshi_pipeline.evaluation.evaluate import Evaluation
from kalshi_pipeline.evaluation.reports import render_comparison, render_html, render_json
from kalshi_pipeline.evaluation.reports.comparison import Evaluated, compared
from kalshi_pipeline.evaluation_pages import LATEST, compare, find_evaluation, page_of
from kalshi_pipeline.storage.publish import Recipe, Warehouse
from tests.evaluation.specimen import specimen
from tests.evaluation.test_evaluate import run
from tests.evaluation.universes import named_universe

EVENTS = frozenset({(71, "A"), (71, "B")})


def written(evaluation: Evaluation, folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_bytes(render_json(evaluation.report))
    (folder / "report.html").write_bytes(render_html(evaluation.report))
    for name, table in evaluation.tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("evaluations")
    few, more = named_universe(1, 3), named_universe(1, 4)
    return written(run({1: few}), root / "few"), written(run({1: more}), root / "more")


def test_the_same_events_in_the_same_cell_may_be_compared() -> None:
    two = [Evaluated("a", specimen(), EVENTS), Evaluated("b", specimen(seed=6), EVENTS)]
    assert compared(two)["common_ground"] == []
    page = render_comparison(two).decode()
    assert "All were judged on the same events" in page
    assert page.count("No evidence of profit on generated sessions") == 2


def test_other_events_and_other_cells_are_told() -> None:
    other = specimen() | {"cell": specimen()["cell"] | {"fill_model": "touch"}, "generated": False}
    doubts = compared(
        [Evaluated("a", specimen(), EVENTS), Evaluated("b", other, EVENTS | {(9, "C")})]
    )["common_ground"]
    assert "2 in common, of a 2, b 3" in doubts[0]
    assert "fill model touch" in doubts[1]
    assert "generated sessions, others on recorded" in doubts[2]


def test_an_evaluation_without_its_ledger_is_not_said_to_share_events() -> None:
    (doubt,) = compared([Evaluated("a", specimen(), EVENTS), Evaluated("b", specimen())])[
        "common_ground"
    ]
    assert "Of b there is no ledger" in doubt


def test_differences_of_provenance_and_settings_are_listed_and_nothing_else() -> None:
    other = specimen()
    other["provenance"]["checkpoint"] = "fedcba"
    other["settings"]["trading"]["latency_ms"] = 1_000
    rows = compared([Evaluated("a", specimen()), Evaluated("b", other)])["differences"]
    assert rows == [
        ("provenance · checkpoint", ["0123456789abcdef", "fedcba"]),
        ("settings · trading · latency ms", ["250", "1000"]),
    ]


def test_a_policy_that_only_one_has_leaves_the_other_empty() -> None:
    other = specimen()
    other["headline"]["policies"] = other["headline"]["policies"][:2]
    rows = dict(compared([Evaluated("a", specimen()), Evaluated("b", other)])["headline"])
    assert rows["Random"][0].value != ""
    assert rows["Random"][1].value == ""


def test_the_events_come_from_the_ledgers(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = compare(Warehouse(tmp_path), [str(folder) for folder in folders]).read_text()
    assert "3 in common, of" in page


def test_folders_files_plans_and_the_latest_are_found(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    warehouse = Warehouse(tmp_path)
    assert find_evaluation(warehouse, str(folders[0] / "report.html")) == folders[0]
    with pytest.raises(NotPublished, match="nothing has been evaluated"):
        find_evaluation(warehouse, LATEST)
    with warehouse.stage("specimen/evaluation", None, Recipe("1", {}, {})) as staging:
        for name, render in (("report.json", render_json), ("report.html", render_html)):
            (staging.folder / name).write_bytes(render(specimen()))
    published = staging.generation.folder
    assert find_evaluation(warehouse, "specimen") == published
    assert find_evaluation(warehouse, LATEST) == published
    assert page_of(published) == published / "report.html"
    with pytest.raises(NotPublished, match="there is no such evaluation"):
        find_evaluation(warehouse, "training_plan")


def test_a_report_of_another_schema_is_neither_opened_nor_compared(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "report.json").write_text(json.dumps(specimen() | {"schema_version": 2}))
    (old / "report.html").write_text("<p>old</p>")
    with pytest.raises(UnreadableReport, match="older schema"):
        page_of(old)
    with pytest.raises(UnreadableReport, match="older schema"):
        compare(Warehouse(tmp_path), [str(old), str(folders[0])])


def test_the_command_line_prints_the_page_and_one_sentence_where_there_is_none(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KALSHI_WAREHOUSE", str(tmp_path))
    assert cli.main(["report", "open", str(folders[0]), "--print-path"]) == 0
    assert capsys.readouterr().out.strip() == str(folders[0] / "report.html")
    target = tmp_path / "side by side.html"
    names = [str(folder) for folder in folders]
    assert cli.main(["report", "compare", *names, "--to", str(target), "--print-path"]) == 0
    assert target.read_bytes().startswith(b"<!doctype html>")
    assert cli.main(["report", "open", "--print-path"]) == 1
    assert "nothing has been evaluated yet" in capsys.readouterr().err
