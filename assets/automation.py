"""When an asset is asked for without anybody asking: its inputs changed, or its own code did.

The sensors `data_automation` and `training_automation` evaluate it.
"""

from typing import Any

import dagster as dg
from dagster import AutomationCondition as When

TOGETHER = "kalshi/together"  # of a run: what it makes, up to the last asset that follows
SESSION = "session"


def on_changed_inputs(together: str) -> "When[Any]":
    """Missing with all inputs there, or an input's content or the code differs from last time.

    `AutomationCondition.eager()` would train again on equal data, forget a change that lands while
    training runs, and never start where the data was there first. An asset whose last execution
    failed or was cancelled waits for another input, other code, or a person; a failed blocking
    check of an input holds it back; several assets in a row are asked for one by one, each in a run
    of its own.

    Args:
        together: value of `TOGETHER` of the runs that make this asset along with its inputs: what
            they change needs no answer.
    """
    new = When.data_version_changed() & ~When.executed_with_root_target()
    # of a partitioned input the root target is known for one partition alone, the latest
    in_one = When.all_new_updates_have_run_tags(tag_values={TOGETHER: together})
    same_run = When.in_progress() | When.newly_updated() | When.execution_failed()
    changed = (
        When.any_deps_match(new & ~in_one)
        | (When.any_deps_match(new & in_one) & ~same_run)  # a run of some of them, not of this one
        | When.code_version_changed()
    )
    # a run that was cancelled leaves no mark of its own: that one was begun is remembered
    begun = When.newly_requested() | When.in_progress().newly_true()
    # two "since" of an "or" and an "or" would share their memory: Dagster names them by that alone
    other = ~(~changed & ~When.newly_missing())
    tried = When.execution_failed() | begun.since(other)
    wanted = (When.missing() & ~tried) | _unanswered(
        changed, begun | (When.any_deps_match(in_one) & same_run)
    )
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
    changed = _unanswered(When.code_version_changed(), When.newly_requested())
    return (changed & ~When.missing() & ~When.in_progress()).with_label("on_changed_code")


def on_any_change() -> "When[dg.AssetKey]":
    """Of what looks at all there is: any input's content changed and none is being made."""
    changed = When.any_deps_match(When.data_version_changed()) | When.code_version_changed()
    waits = When.any_deps_in_progress() | When.in_progress()
    return (_unanswered(changed, When.newly_requested()) & ~waits).with_label("on_any_change")


def _unanswered(changed: "When[Any]", answer: "When[Any]") -> "When[Any]":
    # what changes in the moment of an answer is no part of it; and a change is seen at once, the
    # run it belongs to perhaps one tick later
    return changed.since((answer & ~changed) | When.initial_evaluation())
