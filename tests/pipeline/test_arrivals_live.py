"""A session arrives under a live daemon: sensors find it, its run makes its data, others go on."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections import Counter

import dagster as dg
import pytest

from kalshi_pipeline.resources.environment import open_warehouse
from tests.deployment import Deployment, deployed, wait_until

pytestmark = pytest.mark.drill

DATA = ("raw_messages", "books", "feature_tensors", "suitable_markets")
A_WHILE_S = 900  # generous: the machine may be shared


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("live")) as deployment:
        yield deployment


def lines_of(folder):
    return gzip.decompress((folder / "messages.ndjson.gz").read_bytes()).splitlines(keepends=True)


def deliver(live: Deployment, source, session: int, keep=lambda lines: lines) -> None:
    """Copy a recording in under an id, as a person does: file by file, into its final place."""
    target = live.recordings / str(session)
    target.mkdir(exist_ok=True)
    header = json.loads((source / "session.json").read_text()) | {"session_id": session}
    (target / "session.json").write_text(json.dumps(header))
    (target / "messages.ndjson.gz").write_bytes(gzip.compress(b"".join(keep(lines_of(source)))))
    shutil.copy(source / "markets.json", target)


def without_a_sixth(lines):
    return lines[: len(lines) // 3] + lines[len(lines) // 2 :]


def without_the_last_change(lines):
    cut = max(i for i, line in enumerate(lines) if b'"orderbook_delta"' in line)
    return lines[:cut] + lines[cut + 1 :]


def runs_of(live: Deployment, session: int) -> list[dg.DagsterRun]:
    """The runs in which something was made; what is only looked at again costs nothing."""
    found = [run for run in live.runs() if run.tags.get("dagster/partition") == str(session)]
    return [run for run in found if not run.is_finished or run.is_failure or computed(live, run)]


def computed(live: Deployment, run: dg.DagsterRun) -> list[str]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    with live.instance() as instance:
        told = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=kind)]
    made_now = [each.step_materialization_data.materialization for each in told]
    return [m.asset_key.to_user_string() for m in made_now if is_computed(m)]


def is_computed(materialization: dg.AssetMaterialization) -> bool:
    return materialization.metadata["outcome"].value == "computed and published"


def over(live: Deployment, session: int, count: int) -> list[str] | None:
    """The statuses of a session's runs, once there are so many and all are over."""
    found = [run.status.value for run in runs_of(live, session)]
    done = len(found) == count and all(status in {"SUCCESS", "FAILURE"} for status in found)
    return found if done else None


def ticks(live: Deployment, sensor: str) -> int:
    with live.instance() as instance:
        (state,) = (s for s in instance.all_instigator_state() if s.instigator_name == sensor)
        return len(instance.get_ticks(state.instigator_origin_id, state.selector_id))


def made(live: Deployment, asset: str, session: int) -> int:
    """How often a session's asset was computed."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[str(session)])
    with live.instance() as instance:
        found = instance.fetch_materializations(wanted, limit=100).records
    return sum(is_computed(record.asset_materialization) for record in found)


def test_sessions_that_arrive_become_markets_and_a_corrupt_one_stops_at_its_check(live, generated):
    deliver(live, generated / "902", 904, without_a_sixth)
    deliver(live, generated / "901", 901)
    deliver(live, generated / "902", 902)

    for session in (901, 902):
        told = wait_until(lambda s=session: over(live, s, 1), f"{session} is in", A_WHILE_S)
        assert told == ["SUCCESS"]
        assert [made(live, asset, session) for asset in DATA] == [1, 1, 1, 1]
        assert runs_of(live, session)[0].tags["dagster/sensor_name"] == "recording_folders"
    assert wait_until(lambda: over(live, 904, 1), "904 is in", A_WHILE_S) == ["FAILURE"]
    assert [made(live, asset, 904) for asset in DATA] == [1, 1, 0, 0]
    (run,) = runs_of(live, 904)
    with live.instance() as instance:
        (failed,) = (
            told
            for told in (
                entry.dagster_event.event_specific_data
                for entry in instance.all_logs(
                    run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
                )
            )
            if not told.passed and told.blocking
        )
        assert sorted(instance.get_dynamic_partitions("session")) == ["901", "902", "904"]
    assert failed.asset_key == dg.AssetKey("books")
    assert "at most 1 % of the messages are lost" in failed.description


def test_equal_data_again_is_nothing_and_neither_is_time(live, generated):
    before = Counter(run.tags.get("dagster/partition") for run in live.runs())
    for path in sorted((live.recordings / "901").iterdir()):
        os.utime(path)
    looked = ticks(live, "recording_folders")
    automated = ticks(live, "data_automation")
    wait_until(lambda: ticks(live, "recording_folders") >= looked + 4, "four looks", A_WHILE_S)
    wait_until(lambda: ticks(live, "data_automation") >= automated + 2, "two more", A_WHILE_S)
    after = Counter(run.tags.get("dagster/partition") for run in live.runs())
    sessions = ("901", "902", "904")
    assert {key: after[key] for key in sessions} == {key: before[key] for key in sessions}


def test_a_session_that_changed_is_made_again_and_no_other(live, generated):
    before = open_warehouse(str(live.warehouse)).current("books", "902").content_hash
    deliver(live, generated / "902", 902, without_the_last_change)
    told = wait_until(lambda: over(live, 902, 2), "902 is in again", A_WHILE_S)
    assert told == ["SUCCESS", "SUCCESS"]
    assert open_warehouse(str(live.warehouse)).current("books", "902").content_hash != before
    assert len(runs_of(live, 901)) == len(runs_of(live, 904)) == 1


def test_after_a_reload_what_follows_a_change_is_still_asked_for(live, generated):
    live.reload()
    live.turn("recording_folders", on=False)
    deliver(live, generated / "902", 904)  # the corrupt session is repaired
    assert live.finished(live.launch("raw_messages", partition="904"), A_WHILE_S) == "SUCCESS"
    wait_until(lambda: made(live, "suitable_markets", 904), "markets of 904", A_WHILE_S)
    asked = [run.tags.get("dagster/sensor_name") for run in runs_of(live, 904)]
    assert asked[0] == "recording_folders"
    assert set(asked[2:]) == {"data_automation"}
    assert [made(live, asset, 904) for asset in DATA] == [2, 2, 1, 1]
    # found unchanged: it has been ingested by hand
    live.turn("recording_folders", on=True)
    count, looked = len(runs_of(live, 904)), ticks(live, "recording_folders")
    wait_until(lambda: ticks(live, "recording_folders") >= looked + 4, "four looks", A_WHILE_S)
    assert len(runs_of(live, 904)) == count
