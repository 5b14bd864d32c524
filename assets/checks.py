"""The rules as Dagster asset checks: what fails stops everything built on it."""

import warnings
from collections.abc import Callable, Iterable

import dagster as dg

from kalshi_pipeline import plan_stages, rules, stages
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.rules import Finding
from kalshi_pipeline.storage.publish import Generation

Rule = Callable[[Generation], Finding]

SESSION_RULES: tuple[tuple[str, Rule, bool], ...] = (
    (stages.RAW, rules.capture_is_readable, True),
    (stages.BOOKS, rules.rows_are_conserved, True),
    (stages.BOOKS, rules.losses_are_bounded, True),
    (stages.BOOKS, rules.sizes_are_never_negative, False),
    (stages.BOOKS, rules.crossed_books_are_brief, False),
    (stages.TENSORS, rules.features_lie_in_their_ranges, True),
    (stages.SUITABLE, rules.there_is_something_to_trade, False),
)


def _result(finding: Finding) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN if finding.warns else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=finding.holds,
        severity=severity,
        description=finding.says,
        metadata={"finding": finding.says, **finding.figures},
    )


def _session_check(asset: str, rule: Rule, blocking: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=rule.__name__,
        partitions_def=sessions,
        blocking=blocking,
        description=rule.__doc__,
    )
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> dg.AssetCheckResult:
        return _result(rule(warehouse.open().current(asset, context.partition_key)))

    return check


def _plan_check(plan: Plan, output: str, rule: Rule) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey([plan.name, output]),
        name=rule.__name__,
        blocking=True,
        description=rule.__doc__,
    )
    def check(warehouse: WarehouseResource) -> dg.AssetCheckResult:
        return _result(rule(warehouse.open().current(plan_stages.phase_name(plan, output))))

    return check


with warnings.catch_warnings():
    # partitioned checks are a preview of Dagster's; they are tested here, the notice helps nobody
    warnings.simplefilter("ignore", dg.PreviewWarning)
    session_checks = [_session_check(*entry) for entry in SESSION_RULES]


def plan_checks(plans: Iterable[Plan]) -> list[dg.AssetChecksDefinition]:
    """Checks of every phase and evaluation."""
    found = []
    for plan in plans:
        found += [_plan_check(plan, phase.name, rules.weights_are_sound) for phase in plan.phases]
        for rule in (rules.hold_earns_nothing, rules.report_is_complete):
            found.append(_plan_check(plan, plan_stages.EVALUATION, rule))
    return found
