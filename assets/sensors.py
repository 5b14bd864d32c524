"""What watches the world: sessions that arrive, in folders and in the database.

A session is registered as a partition and requested as one run of its data. Asking twice does
nothing: content that has been ingested is not asked for, and a run that was asked for is known by
its key, so a cursor may be reset at any time.
"""

import time
from collections.abc import Callable, Iterable, Mapping

import dagster as dg

from kalshi_pipeline import stages
from kalshi_pipeline.assets.jobs import session_data
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.errors import RecordingError, StorageError
from kalshi_pipeline.recordings.arrivals import Sight, Watch, database_sights, folder_sights
from kalshi_pipeline.recordings.folder import Recording, RecordingFolders
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.storage.publish import Warehouse

INTERVAL_S = 15
QUIET_MS = 10_000  # a folder in which nothing changed for so long is no longer being copied
# of one tick, which has a minute: sessions it asks for, and bytes it reads to know their content
OFFERED_AT_ONCE = 20
READ_AT_ONCE = 2 << 30
# a larger recording is known by names, sizes and times: copied again it is asked for again, and
# found unchanged by its run
READ_OF_ONE = 1 << 30
SESSION_TAG = "kalshi/session"
PARTITION_TAG = "dagster/partition"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

RunKey = Callable[[int, str], str | None]


@dg.sensor(
    job=session_data,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Recording folders that are new or changed and have come to rest: registered, and "
    "requested from ingest to suitable markets. Generated sessions are not looked for: whoever "
    "materializes one has asked for it already.",
)
def recording_folders(
    context: dg.SensorEvaluationContext, recordings: Recordings
) -> dg.SensorResult:
    """Ask for the sessions under `KALSHI_RECORDINGS`."""
    folders = recordings.sources().recorded
    content = _FolderContent(context, folders, open_warehouse(recordings.warehouse))
    return _offered(context, folder_sights(folders.roots), QUIET_MS, content.run_key)


@dg.sensor(
    job=session_data,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sessions of the collector's database (`DATABASE_URL`) whose collector is done "
    "with them: registered, and requested from ingest to suitable markets. A session is known by "
    "its row in the table of sessions: rows that come later without a trace there are found when "
    "it is materialized by hand.",
)
def database_sessions(
    context: dg.SensorEvaluationContext, recordings: Recordings
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the sessions of `DATABASE_URL`."""
    sources = recordings.sources()
    if sources.database is None:
        return dg.SkipReason("DATABASE_URL is not set")
    sights = database_sights(sources.database.infos())
    for recorded in folder_sights(sources.recorded.roots):  # a folder wins over the database
        sights.pop(recorded, None)
    return _offered(context, sights, 0, lambda session, mark: f"database:{session}:{mark}")


def _offered(
    context: dg.SensorEvaluationContext,
    sights: Mapping[int, Sight],
    quiet_ms: int,
    run_key: RunKey,
) -> dg.SensorResult:
    watch = Watch.from_text(context.cursor)
    ready = watch.ready(sights, time.time_ns() // 1_000_000, quiet_ms)
    busy = _in_flight(context.instance)
    requests: list[dg.RunRequest] = []
    for session in ready:
        if session in busy:  # two runs of one session, the older content published last
            continue
        if len(requests) == OFFERED_AT_ONCE:
            break
        try:
            key = run_key(session, watch.changing[session][0])
        except _EnoughRead:
            break
        watch.take(session)
        if key is not None:
            tags = {SESSION_TAG: str(session)}
            requests.append(dg.RunRequest(key, partition_key=str(session), tags=tags))
    return _result(context, watch, sights, requests)


def _result(
    context: dg.SensorEvaluationContext,
    watch: Watch,
    sights: Mapping[int, Sight],
    requests: list[dg.RunRequest],
) -> dg.SensorResult:
    known = set(context.instance.get_dynamic_partitions("session"))
    new = [str(session) for session in sorted(watch.taken) if str(session) not in known]
    waiting = [
        f"session {session} waits for {sights[session].waits_for or 'quiet, or its turn'}"
        for session in sorted(watch.changing)
    ]
    for line in waiting:
        context.log.info(line)
    nothing = None if requests else "; ".join(waiting[:10]) or "nothing new"
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=nothing,
        cursor=watch.to_text(),
        dynamic_partitions_requests=[sessions.build_add_request(new)] if new else [],
    )


def _in_flight(instance: dg.DagsterInstance) -> set[int]:
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    keys: Iterable[str] = (run.tags.get(PARTITION_TAG, "") for run in unfinished)
    return {int(key) for key in keys if key.isdecimal()}


class _EnoughRead(Exception):
    """What one tick may read has been read; the rest is for the next one."""


class _FolderContent:
    """Run keys of recording folders; None where the content has been ingested as it is."""

    def __init__(
        self, context: dg.SensorEvaluationContext, folders: RecordingFolders, warehouse: Warehouse
    ) -> None:
        self.context, self.folders, self.warehouse = context, folders, warehouse
        self.to_read = READ_AT_ONCE

    def run_key(self, session: int, mark: str) -> str | None:
        """See `RunKey`; a folder that cannot be read is asked for, and its run says why."""
        known = self._known(session)
        try:
            recording = self.folders.open(session)
            size = sum(path.stat().st_size for path in recording.files)
            if size > READ_OF_ONE:
                return f"{session}:{mark}"
            if self.to_read <= 0:
                raise _EnoughRead
            self.to_read -= size
            ingested, digest = self._ingested(recording)
        except (RecordingError, OSError) as error:
            self.context.log.warning(f"session {session} cannot be read: {error}")
            return f"{session}:{mark}"
        # content that comes back after another one is a new request
        return None if known and known == ingested else f"{session}:{digest}:{known or 'new'}"

    def _ingested(self, recording: Recording) -> tuple[str | None, str]:
        recipe = stages.message_recipe(recording).digest
        try:
            current = self.warehouse.current(stages.RAW, str(recording.info.session))
        except StorageError:
            return None, recipe[:16]
        return current.content_hash if current.recipe_digest == recipe else None, recipe[:16]

    def _known(self, session: int) -> str | None:
        # what the instance believes to be the content of a session's message table
        wanted = dg.AssetRecordsFilter(dg.AssetKey(stages.RAW), asset_partitions=[str(session)])
        for record in self.context.instance.fetch_materializations(wanted, limit=1).records:
            if told := record.asset_materialization:
                return (told.tags or {}).get("dagster/data_version")
        return None


watchers = [recording_folders, database_sessions]
