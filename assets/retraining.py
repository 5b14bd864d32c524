"""Sessions that arrive after a plan was trained: forward validation, retraining, and who asks.

A session with a role in a plan is none of these partitions' business, nor is a sealed one.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (  # no public name for it
    AssetCheckExecutionRecordStatus,
)

from kalshi_pipeline import plan_retraining, plan_stages, rules
from kalshi_pipeline.assets.checkpoints import SESSION_ASSETS, course_shown
from kalshi_pipeline.assets.checks import finding_result, looked, session_checks
from kalshi_pipeline.assets.groups import plan_group
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import columns_of, published, table_facts, table_metadata
from kalshi_pipeline.assets.sensors import SESSION_TAG
from kalshi_pipeline.assets.training import TrainingRun, trained
from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA
from kalshi_pipeline.names import session_id
from kalshi_pipeline.plan_retraining import FORWARD_VALIDATION
from kalshi_pipeline.plans import RETRAINED, Plan
from kalshi_pipeline.resources.engine import Engine
from kalshi_pipeline.resources.environment import open_warehouse
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.rules import Finding, Trained
from kalshi_pipeline.storage.publish import Generation, Warehouse

INTERVAL_S = 60
SESSION_CHECKS = [
    spec.key for check in session_checks for spec in check.check_specs if spec.blocking
]

Rule = Callable[..., Finding]
Look = Callable[[Rule, Warehouse, Plan, int], Finding]


def retraining_assets(plans: Iterable[Plan]) -> list[dg.AssetsDefinition]:
    """Both assets of every plan that goes on with new sessions."""
    return [
        made
        for plan in plans
        if plan.retrain
        for made in (_forward_validation(plan), _retrained(plan))
    ]


def _forward_validation(plan: Plan) -> dg.AssetsDefinition:
    @dg.asset(
        name=FORWARD_VALIDATION,
        key_prefix=[plan.name],
        deps=[*SESSION_ASSETS, _last(plan)],
        partitions_def=sessions,
        group_name=plan_group(plan),
        kinds={"parquet"},
        owners=["team:evaluation"],
        metadata=columns_of(FORWARD_VALIDATION, JUDGED_SCHEMA),
        code_version=plan_retraining.FORWARD_VERSION,
        tags={"stage": "evaluation", "plan": plan.name},
        description=f"The newest checkpoint of {plan.name} on a session it has not seen: the "
        "likeliest action, fees on, cross fills, liquidation marks; P&L an event with its "
        "interval, beside what the same weights reach on the plan's validation sessions, and "
        "whether that has decayed. The look is noted in the trials ledger: no evaluation calls "
        "the session clean forward after it.",
    )
    def forward_validation(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[Any]:
        generation = plan_retraining.validate_forward(
            warehouse.open(), plan, session_id(context.partition_key), context.log.info
        )
        return published(
            generation,
            context,
            compared=table_metadata(_compared(generation)),
            labels=table_metadata(
                [{"label": one, "events": n} for one, n in generation.summary["labels"].items()]
            ),
            **table_facts(generation, FORWARD_VALIDATION),
        )

    return forward_validation


def _compared(generation: Generation) -> list[dict[str, Any]]:
    told = generation.summary
    rows = [
        ("new session", told["events"], told["pnl_cents"], told["pnl_interval"]),
        ("validation sessions", told["validation_events"], told["validation_cents"], None),
        ("drop", None, told["drop_cents"], told["drop_interval"]),
    ]
    return [
        {
            "what": what,
            "events": events,
            "cents an event": cents,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
        }
        for what, events, cents, interval in rows
    ]


def _retrained(plan: Plan) -> dg.AssetsDefinition:
    last = plan.phases[-1]
    steps = plan.retrain.timesteps if plan.retrain else 0

    @dg.asset(
        name=RETRAINED,
        key_prefix=[plan.name],
        deps=[*SESSION_ASSETS, _last(plan)],
        partitions_def=sessions,
        group_name=plan_group(plan),
        kinds={"pytorch"},
        owners=["team:learning"],
        code_version=plan_stages.TRAINING_VERSION,
        pool="training",
        tags={"stage": "training", "plan": plan.name},
        description=f"{last.name} of {plan.name} gone on for {steps:,} steps, as it was trained, "
        "on one new session alone; validated as it was. Each partition begins from the same "
        "checkpoint, so that none depends on the order in which sessions arrive.",
    )
    def retrained(
        context: dg.AssetExecutionContext,
        config: TrainingRun,
        engine: Engine,
        warehouse: WarehouseResource,
    ) -> dg.MaterializeResult[Any]:
        phase = plan.retraining(session_id(context.partition_key))
        generation = trained(context, engine, warehouse.open(), plan, phase, config)
        return published(generation, context, **course_shown(generation))

    return retrained


def _last(plan: Plan) -> dg.AssetDep:
    return dg.AssetDep(dg.AssetKey([plan.name, plan.phases[-1].name]))


def retraining_checks(plans: Iterable[Plan]) -> list[dg.AssetChecksDefinition]:
    """What must hold of a phase, of each retraining; and the rules of a forward validation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitioned, as those of the sessions
        return [
            _check(plan, output, rule, look, blocks=blocks)
            for plan in plans
            if plan.retrain
            for output, kind, look in (
                (RETRAINED, rules.OF_PHASES, _look_at_retrained),
                (FORWARD_VALIDATION, rules.OF_FORWARD, _look_at_forward),
            )
            for rule, blocks in kind.items()
        ]


def _look_at_retrained(rule: Rule, warehouse: Warehouse, plan: Plan, session: int) -> Finding:
    return rule(Trained(warehouse, plan, plan.retraining(session)))


def _look_at_forward(rule: Rule, warehouse: Warehouse, plan: Plan, session: int) -> Finding:
    name = plan_stages.phase_name(plan, FORWARD_VALIDATION)
    return rule(warehouse, warehouse.current(name, str(session)))


def _check(
    plan: Plan, output: str, rule: Rule, look: Look, *, blocks: bool
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey([plan.name, output]),
        name=rule.__name__,
        partitions_def=sessions,
        blocking=blocks,
        description=rule.__doc__,
    )
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> dg.AssetCheckResult:
        session = session_id(context.partition_key)
        found = looked(lambda store: look(rule, store, plan, session), warehouse.open())
        return finding_result(found, blocks=blocks)

    return check


def retraining_sensor(plans: Iterable[Plan], root: str) -> dg.SensorDefinition:
    """Asks for what new sessions wait for; off until a person turns it on, for it spends sessions.

    Args:
        plans: all there are.
        root: of the warehouse.
    """
    going_on = [plan for plan in plans if plan.retrain]
    outputs = [
        dg.AssetKey([plan.name, name])
        for plan in going_on
        for name in (FORWARD_VALIDATION, RETRAINED)
    ]

    @dg.sensor(
        name="retraining",
        target=dg.AssetSelection.assets(*outputs),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="New sessions that have passed their checks: forward validation by every plan "
        "that goes on and is trained; then retraining, where validation has decayed or the plan "
        "learns from every session. Never a session with a role in a plan, or a sealed one.",
    )
    def retraining(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        warehouse = open_warehouse(root)
        ready = sorted(map(int, _passed(context.instance, SESSION_CHECKS)))
        requests = [
            dg.RunRequest(
                run_key=f"{plan.name}/{due.output}/{session}/{due.key}",
                partition_key=str(session),
                asset_selection=[dg.AssetKey([plan.name, due.output])],
                tags={SESSION_TAG: str(session), "kalshi/because": due.because},
            )
            for plan in going_on
            for session, due in _wanted(context, warehouse, plan, ready)
        ]
        said = f"{len(ready)} sessions have passed their checks; none waits for anything"
        return dg.SensorResult(requests, skip_reason=None if requests else said)

    return retraining


def _wanted(
    context: dg.SensorEvaluationContext, warehouse: Warehouse, plan: Plan, ready: Iterable[int]
) -> Iterator[tuple[int, plan_retraining.Due]]:
    # a look that did not stand its checks shows no decay, and nothing is learned after it
    validation = dg.AssetKey([plan.name, FORWARD_VALIDATION])
    checks = [
        dg.AssetCheckKey(validation, rule.__name__)
        for rule, blocks in rules.OF_FORWARD.items()
        if blocks
    ]
    trusted = _passed(context.instance, checks)
    for session in ready:
        due = _due(context, warehouse, plan, session)
        if due and due.output == RETRAINED and str(session) not in trusted:
            context.log.info(
                f"session {session} waits: the blocking checks of {validation.to_user_string()} "
                "do not hold of what was materialized last"
            )
        elif due:
            yield session, due


def _due(
    context: dg.SensorEvaluationContext, warehouse: Warehouse, plan: Plan, session: int
) -> plan_retraining.Due | None:
    # what one plan and session lack is no other's business
    try:
        return plan_retraining.due(warehouse, plan, session)
    except CorruptFile as error:
        context.log.warning(f"session {session} and plan {plan.name} are left out: {error}")
        return None


def _passed(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> set[str]:
    """Sessions of which every one of these checks holds of what was materialized last."""
    known = instance.get_dynamic_partitions("session")
    if not known:
        return set()
    found = instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=known)
    good: dict[str, int] = {}
    for one in found:
        holds = one.latest_execution_status is AssetCheckExecutionRecordStatus.SUCCEEDED
        if one.partition_key and holds and one.is_current:
            good[one.partition_key] = good.get(one.partition_key, 0) + 1
    return {session for session, count in good.items() if count == len(keys)}
