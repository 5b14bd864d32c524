"""A run that failed is told of in one sentence, where a person looks."""

import json
import sys

import dagster as dg
import pytest

from kalshi_pipeline.assets.failures import failures_in
from kalshi_pipeline.assets.sensors import run_failures
from kalshi_pipeline.errors import CorruptRecording
from kalshi_pipeline.resources.notices import tell_command
from kalshi_pipeline.resources.recordings import Recordings

SESSIONS = dg.DynamicPartitionsDefinition(name="session")


@dg.asset(partitions_def=SESSIONS)
def raw() -> None:
    raise CorruptRecording("session.json is not readable JSON", session=7)


@dg.asset
def trained() -> None:
    raise dg.Failure("phase_1 cannot be trained:\n  nothing to train on")


@dg.asset
def books() -> None:
    return None


@dg.asset_check(asset=books, blocking=True)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="1 of 9 do not hold: 17 % are lost")


@dg.asset_check(asset=books)
def worth_a_look() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="stops nothing")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions("session", ["7"])
        yield ephemeral


def run(instance, *assets, session=None, checks=()):
    return dg.materialize(
        assets, instance=instance, partition_key=session, raise_on_error=False,
        selection=dg.AssetSelection.assets(*assets) | dg.AssetSelection.checks(*checks)
        if checks else None,
    )  # fmt: skip


def failed(instance, result):
    events = [entry.dagster_event for entry in instance.all_logs(result.run_id)]
    return [str(each) for each in failures_in(event for event in events if event)]


def test_an_error_is_told_by_the_step_it_ended(instance):
    (told,) = failed(instance, run(instance, raw, session="7"))
    assert told.startswith("raw failed: ")
    assert "session.json is not readable JSON [session 7]" in told


def test_a_failure_in_a_stage_s_own_words_is_told_in_one_line(instance):
    (told,) = failed(instance, run(instance, trained))
    assert told == "trained failed: phase_1 cannot be trained: nothing to train on"


def test_a_check_is_told_by_what_it_found_and_one_that_stops_nothing_is_not(instance):
    result = dg.materialize([books, sound, worth_a_look], instance=instance, raise_on_error=False)
    told = failed(instance, result)
    assert told == ["check sound of books failed: 1 of 9 do not hold: 17 % are lost"]


def test_a_run_whose_process_died_is_told_too():
    assert [str(each) for each in failures_in([])] == [
        "the run failed: its process ended without a word"
    ]


@pytest.fixture
def tell(instance, tmp_path, monkeypatch):
    """Have the sensor tell of a session that failed; its log and its journal."""
    monkeypatch.delenv("KALSHI_ON_FAILURE", raising=False)
    result = run(instance, raw, session="7")
    resources = {"recordings": Recordings(roots=[], warehouse=str(tmp_path))}

    def told():
        context = dg.build_run_status_sensor_context(
            "run_failures",
            dagster_event=result.all_events[-1],
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            resources=resources,
        ).for_run_failure()
        run_failures(context)
        return [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]

    return told


def test_a_failure_is_a_line_of_the_journal(tell):
    (record,) = tell()
    assert record["session"] == "7"
    assert record["job"]
    assert record["tried_again"] is False
    assert record["failed_ms"] > 1_700_000_000_000
    (failure,) = record["failures"]
    assert failure["what"] == "raw"
    assert "not readable JSON" in failure["says"]


def test_the_user_s_command_is_given_the_record(tell, tmp_path, monkeypatch):
    program = f"import sys; open({str(tmp_path / 'told')!r}, 'w').write(sys.stdin.read())"
    monkeypatch.setenv("KALSHI_ON_FAILURE", f'{sys.executable} -c "{program}"')
    (record,) = tell()
    assert json.loads((tmp_path / "told").read_text()) == record


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (f"{sys.executable} -c 'raise SystemExit(3)'", "ended with 3"),
        ("/no/such/program", "could not be told"),
        ("an 'unfinished quote", "could not be told"),
    ],
)
def test_a_command_that_fails_is_told_of_and_the_journal_is_written(
    tell, monkeypatch, command, problem
):
    monkeypatch.setenv("KALSHI_ON_FAILURE", command)
    assert problem in tell_command("{}")
    assert len(tell()) == 1


def test_without_a_command_nobody_else_is_told(monkeypatch):
    monkeypatch.delenv("KALSHI_ON_FAILURE", raising=False)
    assert tell_command("{}") == ""
