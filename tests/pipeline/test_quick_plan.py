"""The quick plan, run once from nothing: what it leaves, and what is computed again afterwards.

Nothing whose inputs did not change is computed again, and nothing bad reaches what follows.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from kalshi_pipeline.assets.partitions import register
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.stages import SESSION_STAGES
from kalshi_pipeline.warehouse_views import refresh_views
from tests.queries import MAY_BE_EMPTY, QUERIES, answers

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
SESSIONS = ("901", "902", "903")
PLAN = ("phase_1", "phase_2", "phase_3", "evaluation")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        register(ephemeral, SESSIONS)
        yield ephemeral


@pytest.fixture
def home(quick_plan, tmp_path):
    """All the quick plan left, to be changed."""
    for name in ("recordings", "warehouse"):
        shutil.copytree(quick_plan / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def left(quick_plan, monkeypatch):
    """The instance the quick plan was run on."""
    monkeypatch.setenv("DAGSTER_HOME", str(quick_plan / "dagster_home"))
    with dg.DagsterInstance.get() as kept:
        yield kept


def run(home, instance, job, session=None):
    definitions = build_definitions([str(home / "recordings")], str(home / "warehouse"))
    return definitions.resolve_job_def(job).execute_in_process(
        run_config=QUIET, instance=instance, partition_key=session, raise_on_error=False
    )


def outcomes(result):
    found = {}
    for event in result.get_asset_materialization_events():
        data = event.step_materialization_data.materialization
        found[data.asset_key.to_user_string()] = data.metadata["outcome"].value
    return found


def everything(home, instance):
    results = [run(home, instance, "session_data", session) for session in SESSIONS]
    results.append(run(home, instance, "quick"))
    assert all(result.success for result in results)
    return {
        f"{name}:{place}": outcome
        for place, result in zip((*SESSIONS, "quick"), results, strict=True)
        for name, outcome in outcomes(result).items()
    }


def materializations(instance, *key):
    """By partition, or None."""
    records = instance.fetch_materializations(dg.AssetKey(key), limit=10).records
    return {record.partition_key: record.asset_materialization for record in records}


def test_from_nothing_everything_is_computed_once(left):
    for stage in SESSION_STAGES:
        made = materializations(left, stage)
        assert set(made) == set(SESSIONS)
        assert {one.metadata["outcome"].value for one in made.values()} == {
            "computed and published"
        }
    for name in PLAN:
        (made,) = materializations(left, "quick", name).values()
        assert made.metadata["outcome"].value == "computed and published"


def test_the_command_ends_in_the_verdict_and_the_path_of_a_page_that_stands_alone(quick_plan):
    verdict, report = (quick_plan / "said.txt").read_text().strip().split("\n\n")
    assert "generated sessions" in verdict
    path = Path(report.removeprefix("report: "))
    assert path.is_relative_to(quick_plan)
    page = path.read_text()
    assert verdict in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_only_what_depends_on_a_change_is_computed_again(home, instance):
    again = everything(home, instance)
    assert len(again) == 3 * 4 + 4
    assert set(again.values()) == {"unchanged, nothing was computed"}

    # the test session loses its last line: training must not notice, the verdict must
    path = home / "recordings" / "903" / "messages.ndjson.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    cut = max(i for i, line in enumerate(lines) if b'"orderbook_delta"' in line)
    path.write_bytes(gzip.compress(b"".join(lines[:cut] + lines[cut + 1 :])))
    shutil.rmtree(home / "warehouse" / "raw_messages" / "session=903")
    changed = {
        name for name, outcome in everything(home, instance).items() if "computed and" in outcome
    }
    assert changed == {
        *(
            f"{stage}:903"
            for stage in ("raw_messages", "books", "feature_tensors", "suitable_markets")
        ),
        "quick/evaluation:quick",
    }


def test_data_versions_are_the_content_hashes(quick_plan, left):
    record = left.get_latest_data_version_record(dg.AssetKey("books"), partition_key="901")
    found = dg.DataVersion(_version(record))
    published = open_warehouse(str(quick_plan / "warehouse")).current("books", "901")
    assert found == dg.DataVersion(published.content_hash)


def _version(record):
    from dagster._core.definitions.data_version import extract_data_version_from_entry

    return extract_data_version_from_entry(record.event_log_entry).value


def test_a_session_with_too_much_lost_stops_at_its_books(home, instance):
    path = home / "recordings" / "901" / "messages.ndjson.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    kept = lines[: len(lines) // 3] + lines[len(lines) // 2 :]
    path.write_bytes(gzip.compress(b"".join(kept)))

    result = run(home, instance, "session_data", "901")

    assert not result.success
    assert set(outcomes(result)) == {"raw_messages", "books"}
    (failed,) = (e for e in result.get_asset_check_evaluations() if not e.passed and e.blocking)
    assert failed.asset_key == dg.AssetKey("books")
    assert "at most 1 % of the messages are lost" in failed.description


def test_a_phase_without_its_session_says_which_one_is_missing(home, instance):
    for published in ("quick", *(f"{stage}/session=902" for stage in SESSION_STAGES)):
        shutil.rmtree(home / "warehouse" / published)
    result = run(home, instance, "quick")
    assert not result.success
    failures = {
        event.step_key: event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure
    }
    said = failures["quick__phase_1"]  # it is validated on 902
    assert "session 902" in said
    assert "has not been materialized yet" in said


def test_a_generation_changed_on_disk_is_never_built_upon(home, instance):
    warehouse = home / "warehouse"
    (tensor,) = warehouse.glob("books/session=901/gen=*/books.parquet")
    content = bytearray(tensor.read_bytes())
    content[len(content) // 2] ^= 1
    tensor.write_bytes(content)

    result = run(home, instance, "session_data", "901")

    # the damaged generation is made anew, from what is intact
    assert result.success
    assert outcomes(result)["books"] == "computed and published"


def test_the_report_of_a_plan_is_published_with_its_verdict(quick_plan, left):
    (report,) = (quick_plan / "warehouse").glob("quick/evaluation/gen=*/report.json")
    content = json.loads(report.read_text())
    assert content["verdict"]["sentence"]
    assert content["generated"] is True
    # what training added to the weights it began with, and each phase to the one before
    assert content["baselines"][-3:] == ["Untrained network", "After phase_1", "After phase_2"]
    assert "Own actions, shuffled in time" in content["baselines"]
    assert content["cheating"] == ["One-step oracle"]
    (told,) = materializations(left, "quick", "evaluation").values()
    metadata = told.metadata
    assert {"decisions", "criteria", "labels", "failure modes", "recommendations"} <= set(metadata)
    outcomes_told = [record.data["outcome"] for record in metadata["decisions"].records]
    assert outcomes_told == [point["outcome"] for point in content["decisions"]]
    assert metadata["trials"].value == content["selection"]["trials"] > 1
    assert content["selection"]["trials_missing"] == 0
    database = refresh_views(open_warehouse(str(quick_plan / "warehouse")))
    for query, rows in answers(database, QUERIES).items():
        assert rows or MAY_BE_EMPTY in query, query
    (hold,) = (row for row in content["headline"]["policies"] if row["policy"] == "Hold")
    assert hold["pnl_cents"] == 0
