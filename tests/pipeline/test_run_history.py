"""Old runs are forgotten, with all they printed; what they made still counts as made."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.assets.run_history import forget, forgettable

SESSIONS = dg.DynamicPartitionsDefinition(name="session")


@dg.asset(partitions_def=SESSIONS)
def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    print("something to read later")
    if context.partition_key == "9":
        raise ValueError("no such session")
    context.log_event(dg.AssetObservation("watched", metadata={"rows": 1}))
    return dg.MaterializeResult(data_version=dg.DataVersion("one"))


@dg.asset_check(asset=table, partitions_def=SESSIONS)
def complete() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(request, pipeline_home, monkeypatch):
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.create_owned("history"))
    with dg.DagsterInstance.get() as opened:
        opened.add_dynamic_partitions("session", ["7", "8", "9"])
        yield opened


def made(instance, partition, **tags):
    done = dg.materialize(
        [table, complete], partition_key=partition, instance=instance, raise_on_error=False,
        tags={name.replace("__", "/"): value for name, value in tags.items()},
    )  # fmt: skip
    return done.run_id


def version(instance, partition):
    record = instance.get_latest_data_version_record(table.key, partition_key=partition)
    return record and record.run_id


def test_a_run_that_tells_the_latest_of_anything_stays(instance, pipeline_home, capsys):
    first, second, failed = made(instance, "7"), made(instance, "7"), made(instance, "9")
    last_try, only = made(instance, "9"), made(instance, "8")
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert list(forgettable(instance, datetime.now(UTC) - timedelta(days=1))) == []
    old = {entry.run: entry for entry in forgettable(instance, later)}
    assert set(old) == {first, failed}, "the others made what is there now, or tried last"
    assert (old[failed].status, old[failed].partition) == ("FAILURE", "9")

    home = pipeline_home / "dagster_home"
    assert [path for path in home.rglob("*") if failed in str(path)]
    for run in old:
        forget(instance, run)
    for run in old:
        assert instance.get_run_by_id(run) is None
        assert not [path for path in home.rglob("*") if run in str(path)]
    assert (version(instance, "7"), version(instance, "8")) == (second, only)
    assert instance.get_materialized_partitions(table.key) == {"7", "8"}
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [complete.check_key]
    )
    assert checks[complete.check_key].run_id == only
    assert list(forgettable(instance, later)) == []
    planned = instance.event_log_storage.get_latest_planned_materialization_info(table.key, "9")
    assert planned.run_id == last_try
    with dg.DagsterInstance.get() as again:
        assert [again.all_logs(run) for run in old] == [[], []]


def test_a_failed_run_that_a_sensor_asked_for_keeps_its_key(instance):
    """Without it the sensor would ask again; a later try by hand does not free it."""
    asked = made(instance, "9", dagster__run_key="quick/retrained/9/abc")
    by_hand, last_try = made(instance, "9"), made(instance, "9")
    served = made(instance, "7", dagster__run_key="quick/retrained/7/abc")
    made(instance, "7")
    old = {entry.run for entry in forgettable(instance, datetime.now(UTC) + timedelta(minutes=1))}
    assert old == {by_hand, served}
    assert not {asked, last_try} & old


def test_the_command_lists_and_forgets_only_when_asked(instance, capsys):
    made(instance, "7")
    failed = made(instance, "9")
    made(instance, "9")
    capsys.readouterr()
    assert cli.main(["runs", "prune"]) == 0
    assert "0 runs: can go" in capsys.readouterr().out, "nothing is old enough"
    # as if it had been long ago
    with instance.run_storage.connect() as rows:
        from dagster._core.storage.runs.schema import RunsTable

        rows.execute(RunsTable.update().values(create_timestamp=datetime(2020, 1, 1)))  # noqa: DTZ001
    assert cli.main(["runs", "prune"]) == 0
    said = capsys.readouterr().out
    assert failed in said
    assert "nothing was removed" in said
    assert instance.get_run_by_id(failed)
    assert cli.main(["runs", "prune", "--apply", "--json"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == [failed]
    assert instance.get_run_by_id(failed) is None
    assert len(instance.get_runs()) == 2
