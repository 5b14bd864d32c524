"""What went wrong in a run, in the words of whoever noticed."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Failure:
    """One thing that failed.

    Args:
        what: a step, a check of an asset, or the run itself.
        says: one sentence.
    """

    what: str
    says: str

    def __str__(self) -> str:
        return f"{self.what} failed: {self.says}"


def failures_in(events: Iterable[dg.DagsterEvent]) -> list[Failure]:
    """The failures among a run's events, in their order; never none of a run that failed."""
    found, of_run = [], Failure("the run", "its process ended without a word")
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found += _of_check(event.asset_check_evaluation_data)
        elif event.is_step_failure:
            found += _of_step(event)
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE and event.message:
            of_run = Failure("the run", _line(event.message))
    return found or [of_run]


def _of_check(told: dg.AssetCheckEvaluation) -> list[Failure]:
    if told.passed or not told.blocking:
        return []
    asset = told.asset_key.to_user_string()
    return [Failure(f"check {told.check_name} of {asset}", _line(told.description or ""))]


def _of_step(event: dg.DagsterEvent) -> list[Failure]:
    step = (event.step_key or "").replace("__", "/")
    told = event.step_failure_data.user_failure_data
    if told and told.description:  # a sentence of its own
        return [Failure(step, _line(told.description))]
    error = event.step_failure_data.error
    if error and error.cls_name == "DagsterAssetCheckFailedError":
        return []  # its evaluation says more
    cause = error.cause if error and error.cause else error
    return [Failure(step, _line(cause.message) if cause else "unknown cause")]


def _line(text: str) -> str:
    return " ".join(text.split())
