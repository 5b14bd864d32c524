"""What the clock asks for: only plans a person has trained once, each on its own."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from kalshi_pipeline.assets.schedules import schedules
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.plans import load_plan, plan_names

PLANS = [load_plan(name) for name in plan_names()]
NIGHTLY, WEEKLY = schedules(PLANS)
MONDAY = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.fixture
def instance():
    with dg.instance_for_test() as temporary:
        yield temporary


def asked(schedule, instance, moment=MONDAY):
    context = dg.build_schedule_context(instance, scheduled_execution_time=moment)
    return schedule.evaluate_tick(context)


def train(instance, plan):
    last = load_plan(plan).phases[-1].name
    instance.report_runless_asset_event(dg.AssetMaterialization([plan, last]))


def names(request):
    return [key.to_user_string() for key in request.asset_selection]


@pytest.mark.parametrize("schedule", [NIGHTLY, WEEKLY], ids=["nightly", "weekly"])
def test_a_schedule_is_for_a_person_to_turn_on_and_begins_nobody_s_training(schedule, instance):
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    told = asked(schedule, instance)
    assert told.run_requests == []
    assert told.skip_message == "no plan has been trained yet"


def test_every_night_the_verdict_of_each_trained_plan_is_asked_for(instance):
    train(instance, "quick")
    (request,) = asked(NIGHTLY, instance).run_requests
    assert names(request) == ["quick/evaluation"]
    assert request.tags["kalshi/plan"] == "quick"
    train(instance, "recorded")
    both = asked(NIGHTLY, instance).run_requests
    assert sorted(name for each in both for name in names(each)) == [
        "quick/evaluation", "recorded/evaluation",
    ]  # fmt: skip
    assert len({each.run_key for each in both}) == 2


def test_every_week_a_trained_plan_is_asked_for_whole_on_its_device(instance):
    train(instance, "quick")
    (request,) = asked(WEEKLY, instance).run_requests
    assert names(request) == [
        "quick/phase_1", "quick/phase_2", "quick/phase_3", "quick/evaluation",
    ]  # fmt: skip
    assert request.tags["kalshi/accelerator"] == "cpu"
    assert request.tags["kalshi/together"] == "quick"


def test_a_tick_that_is_repeated_asks_with_the_same_key(instance):
    train(instance, "quick")
    (first,), (again,) = (asked(NIGHTLY, instance).run_requests for _ in range(2))
    (next_night,) = asked(NIGHTLY, instance, MONDAY.replace(day=24)).run_requests
    assert first.run_key == again.run_key != next_night.run_key


def test_what_a_schedule_asks_for_can_be_run_with_its_checks(instance, tmp_path):
    definitions = build_definitions([], str(tmp_path))
    names = [schedule.name for schedule in definitions.schedules]
    assert names == ["nightly_evaluation", "weekly_retraining"]
    repository = definitions.get_repository_def()
    job = repository.get_job("__anonymous_asset_job_weekly_retraining")
    wanted = job.get_subset(asset_selection={dg.AssetKey(["quick", "evaluation"])})
    checked = {key.asset_key for key in wanted.asset_layer.asset_graph.asset_check_keys}
    assert dg.AssetKey(["quick", "evaluation"]) in checked
