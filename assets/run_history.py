"""Old runs of an instance: which of them tell nothing any more, and how they are forgotten."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG

_OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_TOLD = {
    _PLANNED,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
}
_PAGE = 200

_Subject = tuple[dg.DagsterEventType, dg.AssetKey, str | None]


@dataclass(frozen=True)
class OldRun:
    """A run that may be forgotten."""

    run: str
    job: str
    status: str
    partition: str | None
    ended: datetime


def forgettable(instance: dg.DagsterInstance, before: datetime) -> Iterator[OldRun]:
    """Finished runs from before a time, but those that tell the latest of anything.

    Dagster forgets what a run materialized together with the run: an asset whose latest
    materialization went that way would count as missing and be made again. So a run stays while the
    latest materialization or observation of any asset, in any partition, is one of its own. One
    that was the latest to try stays as well: that it failed is what keeps automation from trying
    again. So does one that a sensor or schedule asked for and that did not succeed: without its
    run key it would be asked for again. (Outcomes of checks are kept by Dagster without their run.)

    Args:
        instance: whose runs.
        before: when they were made, at the latest.
    """
    latest: dict[_Subject, str | None] = {}
    wanted = dg.RunsFilter(statuses=_OVER, created_before=before)
    cursor = None
    while records := instance.get_run_records(wanted, limit=_PAGE, cursor=cursor):
        cursor = records[-1].dagster_run.run_id
        for record in records:
            run = record.dagster_run
            if _failed_on_request(run) or _tells_the_latest(instance, run.run_id, latest):
                continue
            yield OldRun(
                run.run_id, run.job_name, run.status.value,
                run.tags.get(PARTITION_NAME_TAG), record.update_timestamp,
            )  # fmt: skip


def forget(instance: dg.DagsterInstance, run: str) -> None:
    """Forget a run: its events, its tags and what its steps printed."""
    instance.delete_run(run)
    instance.compute_log_manager.delete_logs(prefix=[run])
    events = instance.event_log_storage
    if isinstance(events, SqliteEventLogStorage):  # which keeps a file a run, empty now
        for rest in ("", "-wal", "-shm"):
            Path(events.path_for_shard(run) + rest).unlink(missing_ok=True)


def _failed_on_request(run: dg.DagsterRun) -> bool:
    return run.status != dg.DagsterRunStatus.SUCCESS and RUN_KEY_TAG in run.tags


def _tells_the_latest(
    instance: dg.DagsterInstance, run: str, latest: dict[_Subject, str | None]
) -> bool:
    for entry in instance.all_logs(run, of_type=_TOLD):
        event = entry.dagster_event
        if event is None or event.asset_key is None:
            continue
        subject = (event.event_type, event.asset_key, event.partition)
        if subject not in latest:
            latest[subject] = _latest_run(instance, *subject)
        if latest[subject] == run:
            return True
    return False


def _latest_run(
    instance: dg.DagsterInstance, kind: dg.DagsterEventType, asset: dg.AssetKey, key: str | None
) -> str | None:
    if kind == _PLANNED:
        planned = instance.event_log_storage.get_latest_planned_materialization_info(asset, key)
        return planned.run_id if planned else None
    made = kind == dg.DagsterEventType.ASSET_MATERIALIZATION
    fetch = instance.fetch_materializations if made else instance.fetch_observations
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=None if key is None else [key])
    records = fetch(wanted, limit=1).records
    return records[0].run_id if records else None
