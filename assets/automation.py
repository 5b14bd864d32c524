"""When an asset is asked for without anybody asking: its inputs changed, or its own code did.

Two sensors evaluate it, so that training can be off while data goes on: `data_automation` runs from
the start, `training_automation` is for a person to turn on.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster import AutomationCondition as When

from kalshi_pipeline import plan_stages, stages
from kalshi_pipeline.plans import Plan

INTERVAL_S = 15
VIEWS = "warehouse_views"
TOGETHER = "kalshi/together"  # of a run: what it makes, up to the last asset that follows
SESSION = "session"


def on_changed_inputs(together: str) -> "When[Any]":
    """Missing with all inputs there, or an input's content or the code differs from last time.

    `AutomationCondition.eager()` would train again on equal data, forget a change that lands while
    training runs, and never start where the data was there first. An asset whose last execution
    failed waits for another input, other code, or a person; a failed blocking check of an input
    holds it back; several assets in a row are asked for one by one, each in a run of its own.

    Args:
        together: value of `TOGETHER` of the runs that make this asset along with its inputs: what
            they change needs no answer.
    """
    # of a partitioned input the root target is known for one partition alone, the latest
    answered = When.executed_with_root_target() | When.all_new_updates_have_run_tags(
        tag_values={TOGETHER: together}
    )
    changed = (
        When.any_deps_match(When.data_version_changed() & ~answered) | When.code_version_changed()
    )
    wanted = (When.missing() & ~When.execution_failed()) | _unanswered(changed)
    # `all_deps_blocking_checks_passed` is content with one of an input's partitions
    failed = When.any_checks_match(~When.check_passed(), blocking_only=True)
    waits = When.any_deps_match(
        When.missing() | When.will_be_requested() | When.in_progress() | failed
    )
    return (wanted & ~waits & ~When.in_progress()).with_label("on_changed_inputs")


def on_changed_code() -> "When[dg.AssetKey]":
    """Of what has no inputs here: made before, by other code.

    A session nobody ingested is left alone: finding sessions is the sensors' part.
    """
    changed = _unanswered(When.code_version_changed())
    return (changed & ~When.missing() & ~When.in_progress()).with_label("on_changed_code")


def on_any_change() -> "When[dg.AssetKey]":
    """Of what looks at all there is: any input's content changed and none is being made."""
    changed = When.any_deps_match(When.data_version_changed()) | When.code_version_changed()
    waits = When.any_deps_in_progress() | When.in_progress()
    return (_unanswered(changed) & ~waits).with_label("on_any_change")


def _unanswered(changed: "When[Any]") -> "When[Any]":
    # what changes in the moment in which the last change is answered is not part of the answer
    return changed.since((When.newly_requested() & ~changed) | When.initial_evaluation())


def automations(plans: Iterable[Plan]) -> list[dg.AutomationConditionSensorDefinition]:
    """One sensor for the data of sessions and one for what the plans train and judge."""
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
            minimum_interval_seconds=INTERVAL_S,
            description="Books, features, markets and views follow what they are made from.",
        ),
        dg.AutomationConditionSensorDefinition(
            "training_automation",
            target=dg.AssetSelection.assets(*trained),
            default_status=dg.DefaultSensorStatus.STOPPED,
            minimum_interval_seconds=INTERVAL_S,
            description="Phases and evaluations of every plan follow the sessions and checkpoints "
            "they are made from. Turned on, it begins every plan whose sessions are there.",
        ),
    ]
