"""A session arrives under Dagster: its look, its retraining, and who asks for them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from kalshi_pipeline import plan_retraining, rules, stages
from kalshi_pipeline.assets import retraining
from kalshi_pipeline.assets.partitions import register
from kalshi_pipeline.assets.retraining import SESSION_CHECKS, _passed
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.past import looked_forward
from kalshi_pipeline.plan_retraining import FORWARD_VALIDATION
from kalshi_pipeline.plans import RETRAINED, Plan
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.seals import seal
from kalshi_pipeline.storage.trials import read_trials
from tests.pipeline.test_training_process import QUIET, trainer_of
from tests.sessions import arrives

PHASES = [dg.AssetKey(["quick", f"phase_{n}"]) for n in (1, 2, 3)]


@pytest.fixture
def instance(tmp_path: Path):
    (tmp_path / "dagster_home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster_home")) as kept:
        yield kept


class Home:
    """Recordings, a warehouse, and the definitions over them."""

    def __init__(self, instance: dg.DagsterInstance, recordings: list[str], root: str) -> None:
        self.instance, self.root = instance, root
        self.definitions = build_definitions(recordings, root)
        self.sensor = self.definitions.resolve_sensor_def("retraining")

    def run(self, *keys: dg.AssetKey, session: str | None = None) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            run_config=QUIET, instance=self.instance, asset_selection=list(keys),
            partition_key=session, raise_on_error=False,
        )  # fmt: skip

    def prepare(self, session: str) -> None:
        register(self.instance, [session])
        job = self.definitions.resolve_job_def("session_data")
        done = job.execute_in_process(
            run_config=QUIET, instance=self.instance, partition_key=session
        )
        assert done.success

    def tick(self) -> list[tuple[str, str, str]]:
        """Asset, session and run key of each request of a tick."""
        known = self.definitions.get_repository_def()
        with dg.build_sensor_context(
            instance_ref=self.instance.get_ref(), repository_def=known
        ) as context:
            requests = self.sensor.evaluate_tick(context).run_requests
        return [
            (key.to_user_string(), str(request.partition_key), str(request.run_key))
            for request in requests or ()
            for key in request.asset_selection or ()
        ]


@pytest.mark.drill
def test_a_new_session_is_looked_at_then_learned_from_and_never_clean_again(
    generated: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    arrives(tmp_path / "recordings", 904)
    root = str(tmp_path / "warehouse")
    home = Home(instance, [str(generated), str(tmp_path / "recordings")], root)
    for session in ("901", "902"):
        home.prepare(session)
    assert home.run(*PHASES).success
    assert home.tick() == []  # what has a role is nobody's new session

    home.prepare("904")
    (asked,) = home.tick()
    assert asked[:2] == ("quick/forward_validation", "904")
    assert home.tick() == [asked]  # the same run key: the daemon asks once
    looked = home.run(dg.AssetKey(["quick", "forward_validation"]), session="904")
    assert looked.success
    checks = {one.check_name: one for one in looked.get_asset_check_evaluations()}
    assert {name: one.passed for name, one in checks.items()} == {
        "look_is_counted": True,
        "session_was_not_seen": True,
        "has_not_decayed": True,
    }
    assert not checks["has_not_decayed"].blocking
    assert "not assessable" in str(checks["has_not_decayed"].description)
    (event,) = looked.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    assert metadata["trained"].value == "phase_3"
    assert metadata["compared"].records[0].data["what"] == "new session"

    (asked,) = home.tick()  # the quick plan learns from every session
    assert asked[:2] == ("quick/retrained", "904")
    kill = threading.Thread(
        target=lambda: trainer_of(os.getpid(), root, 180.0, runs="904_*").kill()
    )
    kill.start()
    retrained = home.run(dg.AssetKey(["quick", "retrained"]), session="904")
    kill.join()
    assert retrained.success
    assert len([event for event in retrained.all_events if event.is_step_up_for_retry]) == 1
    assert len(list(Path(root).glob("trained_models/904_*/run.json"))) == 1
    assert all(one.passed for one in retrained.get_asset_check_evaluations())
    assert home.tick() == []

    warehouse = open_warehouse(root)
    made = warehouse.current("quick/retrained", "904")
    assert made.summary["trained"][0]["timesteps"] == 4_096
    assert looked_forward(warehouse, (902, 904)) == {904}
    forward = warehouse.current("quick/forward_validation", "904")
    assert rules.retraining.look_is_counted(warehouse, forward).holds
    assert "forward" in set(read_trials(warehouse)["kind"].to_pylist())


def test_a_session_with_a_role_or_a_seal_is_refused_in_a_sentence(
    generated: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    home = Home(instance, [str(generated)], str(tmp_path))
    seal(open_warehouse(str(tmp_path)), 904, 1)
    for output in ("forward_validation", "retrained"):
        for session, said in (("903", "it has a role in quick"), ("904", "session 904 is sealed")):
            register(instance, [session])
            done = home.run(dg.AssetKey(["quick", output]), session=session)
            (failure,) = [event for event in done.all_events if event.is_step_failure]
            assert said in str(failure.step_failure_data)


def tell(
    instance: dg.DagsterInstance, asset: str, session: str, *checks: str, passed: bool = True
) -> None:
    """An asset's partition was materialized and these checks looked at it."""
    key = dg.AssetKey(asset.split("/"))
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=session))
    made = instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=[session]), limit=1
    ).records[0]
    target = AssetCheckEvaluationTargetMaterializationData(
        storage_id=made.storage_id, run_id=made.run_id, timestamp=made.timestamp
    )
    for check in checks:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key, check_name=check, passed=passed, partition=session,
                blocking=True, target_materialization_data=target,
            )
        )  # fmt: skip


def test_only_what_holds_of_the_present_content_counts_as_passed(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(instance, [], str(tmp_path))
    register(instance, ["904", "905"])
    assert _passed(instance, SESSION_CHECKS) == set()
    for stage in stages.SESSION_STAGES:
        assert _passed(instance, SESSION_CHECKS) == set()
        tell(instance, stage, "904", "expectations")
        tell(instance, stage, "905", "expectations", passed=stage != stages.BOOKS)
    assert _passed(instance, SESSION_CHECKS) == {"904"}
    assert home.tick() == []  # nothing is trained
    waits = plan_retraining.Due(FORWARD_VALIDATION, "planted, " * 40, "a" * 16)
    monkeypatch.setattr(plan_retraining, "due", lambda *_: waits)
    assert home.tick() == [
        (f"{plan}/forward_validation", "904", f"{plan}/forward_validation/904/{'a' * 16}")
        for plan in ("quick", "training_plan")
    ]
    made_anew = dg.AssetMaterialization(stages.TENSORS, partition="904")
    instance.report_runless_asset_event(made_anew)  # which no check has looked at
    assert _passed(instance, SESSION_CHECKS) == set()
    assert home.tick() == []


def test_nothing_is_learned_after_a_look_that_did_not_stand_its_checks(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(instance, [], str(tmp_path))
    arrived = {"904", "905", "906", "907", "908"}
    register(instance, sorted(arrived))
    monkeypatch.setattr(retraining, "_passed", lambda *_: arrived)
    waits = plan_retraining.Due(RETRAINED, "validation has decayed: planted", "a" * 16)
    monkeypatch.setattr(plan_retraining, "due", lambda *_: waits)
    assert len(home.tick()) == 2 * len(arrived)
    monkeypatch.undo()

    monkeypatch.setattr(plan_retraining, "due", lambda *_: waits)
    for stage in stages.SESSION_STAGES:
        for session in arrived:
            tell(instance, stage, session, "expectations")
    assert home.tick() == []  # 904: no check has looked at any look
    blocking = [rule.__name__ for rule, blocks in rules.OF_FORWARD.items() if blocks]
    look = "quick/forward_validation"
    tell(instance, look, "905", *blocking)
    tell(instance, look, "906", blocking[0])
    tell(instance, look, "907", *blocking, passed=False)
    tell(instance, look, "908", *blocking)
    tell(instance, look, "908")  # made anew, and not looked at yet
    # by the other plan none has been looked at
    assert home.tick() == [("quick/retrained", "905", f"quick/retrained/905/{'a' * 16}")]


def test_what_is_damaged_of_one_session_holds_up_no_other(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(instance, [], str(tmp_path))
    register(instance, ["904", "905"])
    monkeypatch.setattr(retraining, "_passed", lambda *_: {"904", "905"})

    def due(_: Warehouse, plan: Plan, session: int) -> plan_retraining.Due | None:
        if session == 904:
            raise CorruptFile("the pointer names no generation", session=session)
        return plan_retraining.Due(FORWARD_VALIDATION, "planted", "a" * 16)

    monkeypatch.setattr(plan_retraining, "due", due)
    assert [asked[:2] for asked in home.tick()] == [
        (f"{plan}/forward_validation", "905") for plan in ("quick", "training_plan")
    ]


def test_what_trains_or_spends_a_session_is_off_until_a_person_turns_it_on(tmp_path: Path) -> None:
    sensor = build_definitions([], str(tmp_path)).resolve_sensor_def("retraining")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
