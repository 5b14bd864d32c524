"""What is asked for by the clock: verdicts at night, training at the weekend.

Both are for a person to turn on, and ask only for plans that have been trained once: nobody's
training begins by itself. What did not change is not computed again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from kalshi_pipeline import plan_stages
from kalshi_pipeline.assets.automation import TOGETHER
from kalshi_pipeline.assets.jobs import ON_THE_CPU, PLAN, WORK
from kalshi_pipeline.plans import Plan

NIGHTLY, WEEKLY = "0 3 * * *", "0 5 * * 6"  # UTC: before the exchange's day begins; Saturday
DAY = "%Y-%m-%d"


def schedules(plans: Iterable[Plan]) -> list[dg.ScheduleDefinition]:
    """The nightly evaluation and the weekly retraining of all plans."""
    plans = tuple(plans)
    return [_nightly_evaluation(plans), _weekly_retraining(plans)]


def _nightly_evaluation(plans: Sequence[Plan]) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="nightly_evaluation",
        cron_schedule=NIGHTLY,
        target=dg.AssetSelection.assets(*(_verdict(plan) for plan in plans)),
        description="The verdict on every plan's last checkpoint, where anything it rests on "
        "changed since.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from _requests(context, plans, lambda plan: [_verdict(plan)], "evaluation", {})

    return nightly


def _weekly_retraining(plans: Sequence[Plan]) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="weekly_retraining",
        cron_schedule=WEEKLY,
        target=dg.AssetSelection.assets(*(key for plan in plans for key in _all(plan))),
        description="Every plan from its first phase to its verdict, where sessions or code "
        "changed since it was trained.",
    )
    def weekly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from _requests(context, plans, _all, "training", ON_THE_CPU)

    return weekly


def _all(plan: Plan) -> list[dg.AssetKey]:
    phases = [dg.AssetKey([plan.name, phase.name]) for phase in plan.phases]
    return [*phases, _verdict(plan)]


def _verdict(plan: Plan) -> dg.AssetKey:
    return dg.AssetKey([plan.name, plan_stages.EVALUATION])


def _requests(
    context: dg.ScheduleEvaluationContext,
    plans: Sequence[Plan],
    wanted: Callable[[Plan], list[dg.AssetKey]],
    work: str,
    tags: Mapping[str, str],
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    trained = [plan for plan in plans if _is_trained(context.instance, plan)]
    if not trained:
        yield dg.SkipReason("no plan has been trained yet")
    for plan in trained:
        yield dg.RunRequest(
            run_key=f"{plan.name}:{context.scheduled_execution_time.strftime(DAY)}",
            asset_selection=wanted(plan),
            tags={PLAN: plan.name, TOGETHER: plan.name, WORK: work, **tags},
        )


def _is_trained(instance: dg.DagsterInstance, plan: Plan) -> bool:
    last = dg.AssetKey([plan.name, plan.phases[-1].name])
    return instance.get_latest_materialization_event(last) is not None
