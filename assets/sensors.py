"""What watches: sessions that arrive, inputs that change, runs that fail.

A session is registered as a partition and requested as one run of its data. Asking twice does
nothing: content that has been ingested is not asked for, and a run that was asked for is known by
its key, so a cursor may be reset at any time.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

import dagster as dg

from kalshi_pipeline import plan_stages, stages
from kalshi_pipeline.assets.failures import failures_in
from kalshi_pipeline.assets.jobs import ON_THE_CPU, WORK, session_data
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.errors import RecordingError, StorageError
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.recordings.arrivals import Sight, Watch, database_sights, folder_sights
from kalshi_pipeline.recordings.folder import Recording, RecordingFolders
from kalshi_pipeline.resources.environment import open_warehouse, warehouse_folder
from kalshi_pipeline.resources.notices import ON_FAILURE, tell_command
from kalshi_pipeline.resources.recordings import Recordings
from kalshi_pipeline.storage.journal import FAILURES, append_line
from kalshi_pipeline.storage.publish import Warehouse, canonical_json

INTERVAL_S, DATABASE_INTERVAL_S, AUTOMATION_INTERVAL_S = 10, 60, 15
VIEWS = "warehouse_views"
QUIET_MS = 10_000  # a folder in which nothing changed for so long is no longer being copied
# of one tick, which has a minute: sessions it asks for, and bytes it reads to know their content,
# and for how long. One that alone takes longer is known as a larger recording is
OFFERED_AT_ONCE = 20
READ_AT_ONCE = 2 << 30
READ_FOR_S = 30
# a larger recording is known by names, sizes and times: copied again, or looked at with a cursor
# that was reset, it is asked for again, and found unchanged by its run
READ_OF_ONE = 1 << 30
SESSION_TAG = "kalshi/session"
PARTITION_TAG = "dagster/partition"
REQUESTED_BY_TAG, RETRIED_TAG = "dagster/sensor_name", "dagster/will_retry"
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
    minimum_interval_seconds=DATABASE_INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sessions of the collector's database (`DATABASE_URL`) whose collector is done "
    "with them: registered, and requested from ingest to suitable markets. A session is known by "
    "its row in the table of sessions: rows that come later without a trace there are found when "
    "it is materialized by hand. What was ingested from a folder waits for that folder: it may be "
    "on a disk that is not mounted.",
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
    warehouse = open_warehouse(recordings.warehouse)
    for session, sight in sights.items():
        if _is_from_a_folder(warehouse, session):
            sights[session] = Sight(sight.mark, "its folder, or to be materialized by hand")
    return _offered(context, sights, 0, lambda session, mark: f"database:{session}:{mark}")


@dg.run_failure_sensor(
    name="run_failures",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every run that failed, in one sentence: in this sensor's log, as a line of "
    "`failures.jsonl` in the warehouse, and as JSON to the command `KALSHI_ON_FAILURE` names.",
)
def run_failures(context: dg.RunFailureSensorContext, recordings: Recordings) -> None:
    """Tell a person what failed."""
    run, instance = context.dagster_run, context.instance
    entries = instance.all_logs(run.run_id)
    failed = failures_in(entry.dagster_event for entry in entries if entry.dagster_event)
    record = {
        "failed_ms": round(entries[-1].timestamp * 1000),
        "run": run.run_id,
        "job": run.job_name,
        "session": run.tags.get(PARTITION_TAG),
        "requested_by": run.tags.get(REQUESTED_BY_TAG),
        "tried_again": run.tags.get(RETRIED_TAG) == "true",
        "failures": [asdict(failure) for failure in failed],
    }
    told = "; ".join(map(str, failed))
    context.log.error(f"run {run.run_id} of {run.job_name}: {told}")
    append_line(warehouse_folder(recordings.warehouse) / FAILURES, canonical_json(record))
    if problem := tell_command(canonical_json(record)):
        context.log.warning(f"{ON_FAILURE}: {problem}")


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


def _is_from_a_folder(warehouse: Warehouse, session: int) -> bool:
    # a generated session is no recording: the database is asked before it
    try:
        raw = warehouse.current(stages.RAW, str(session))
        declared = json.loads(raw.path("session.json").read_bytes())
    except StorageError:
        return False
    return declared.get("kind") != "database" and not declared.get("generated")


def automations(plans: Iterable[Plan]) -> list[dg.AutomationConditionSensorDefinition]:
    """Two that evaluate conditions, so that training can be off while data goes on."""
    trained = [
        dg.AssetKey([plan.name, output])
        for plan in plans
        for output in (*(phase.name for phase in plan.phases), plan_stages.EVALUATION)
    ]
    data = dg.AssetSelection.assets(*stages.SESSION_STAGES, VIEWS)
    return [
        dg.AutomationConditionSensorDefinition(
            "data_automation",
            target=data,
            default_status=dg.DefaultSensorStatus.RUNNING,
            minimum_interval_seconds=AUTOMATION_INTERVAL_S,
            description="Books, features, markets and views follow what they are made from.",
        ),
        dg.AutomationConditionSensorDefinition(
            "training_automation",
            target=dg.AssetSelection.assets(*trained),
            default_status=dg.DefaultSensorStatus.STOPPED,
            minimum_interval_seconds=AUTOMATION_INTERVAL_S,
            run_tags={WORK: "training", **ON_THE_CPU},
            description="Phases and evaluations of every plan follow the sessions and checkpoints "
            "they are made from. Turned on, it begins every plan whose sessions are there.",
        ),
    ]


class _EnoughRead(Exception):
    """What one tick may read has been read; the rest is for the next one."""


class _FolderContent:
    """Run keys of recording folders; None where the content has been ingested as it is."""

    def __init__(
        self, context: dg.SensorEvaluationContext, folders: RecordingFolders, warehouse: Warehouse
    ) -> None:
        self.context, self.folders, self.warehouse = context, folders, warehouse
        self.to_read, self.until_s = READ_AT_ONCE, time.monotonic() + READ_FOR_S

    def run_key(self, session: int, mark: str) -> str | None:
        """See `RunKey`; a folder that cannot be read is asked for, and its run says why."""
        known, told = self._known(session)
        unread = f"{session}:{mark}:{told}"
        try:
            recording = self.folders.open(session)
            size = sum(path.stat().st_size for path in recording.files)
            if size > READ_OF_ONE:
                return unread
            if self.to_read <= 0:
                raise _EnoughRead
            is_first = self.to_read == READ_AT_ONCE
            self.to_read -= size
            try:
                ingested, digest = self._ingested(recording)
            except _EnoughRead:
                if not is_first:  # the next tick begins with it
                    raise
                return unread
        except (RecordingError, OSError) as error:
            self.context.log.warning(f"session {session} cannot be read: {error}")
            return unread
        return None if known and known == ingested else f"{session}:{digest}:{told}"

    def _ingested(self, recording: Recording) -> tuple[str | None, str]:
        recipe = stages.message_recipe(recording, recording.fingerprint(self._go_on)).digest
        try:
            current = self.warehouse.current(stages.RAW, str(recording.info.session))
        except StorageError:
            return None, recipe[:16]
        return current.content_hash if current.recipe_digest == recipe else None, recipe[:16]

    def _go_on(self) -> None:
        if time.monotonic() > self.until_s:
            raise _EnoughRead

    def _known(self, session: int) -> tuple[str | None, str]:
        # what the instance believes to be the content of a session's message table, and which
        # event told so: content that comes back after another one, however often, is a new request
        wanted = dg.AssetRecordsFilter(dg.AssetKey(stages.RAW), asset_partitions=[str(session)])
        for record in self.context.instance.fetch_materializations(wanted, limit=1).records:
            if told := record.asset_materialization:
                return (told.tags or {}).get("dagster/data_version"), str(record.storage_id)
        return None, "new"


watchers = [recording_folders, database_sessions, run_failures]
