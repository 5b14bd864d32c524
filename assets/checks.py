"""Expectations and rules as Dagster asset checks: what fails stops everything built on it."""

import warnings
from collections.abc import Callable, Iterable

import dagster as dg

from kalshi_pipeline import plan_stages, rules, stages
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import table_metadata
from kalshi_pipeline.expectations.validated import Validated, validated
from kalshi_pipeline.names import session_id
from kalshi_pipeline.plans import Plan
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.rules import Finding
from kalshi_pipeline.storage.publish import Generation

Rule = Callable[[Generation], Finding]

EXPECTATIONS, WARNINGS = "expectations", "warnings"


def _result(finding: Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=finding.holds,
        description=finding.says,
        metadata={"finding": finding.says},
    )


def _validation_result(validation: Validated, *, warns: bool) -> dg.AssetCheckResult:
    told = [outcome for outcome in validation.outcomes if outcome.warns is warns]
    failed = [outcome for outcome in told if not outcome.passed]
    says = "; ".join(f"{outcome.expectation}: {outcome.observed}" for outcome in failed)
    page = (
        {}
        if validation.page is None
        else {"data docs": dg.MetadataValue.url(validation.page.as_uri())}
    )
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=f"{len(failed)} of {len(told)} do not hold: {says}"
        if failed
        else f"all {len(told)} hold",
        metadata={
            "outcomes": table_metadata(
                [
                    {
                        "holds": outcome.passed,
                        "expectation": outcome.expectation,
                        "column": outcome.column,
                        "observed": outcome.observed,
                    }
                    for outcome in sorted(told, key=lambda outcome: outcome.passed)
                ]
            ),
            **page,
        },
    )


def _session_check(asset: str, *, warns: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=WARNINGS if warns else EXPECTATIONS,
        partitions_def=sessions,
        blocking=not warns,
        description="What is worth a look and stops nothing."
        if warns
        else "Great Expectations of what was published; what fails one stops all built on it.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> dg.AssetCheckResult:
        found = validated(warehouse.open(), asset, session_id(context.partition_key))
        return _validation_result(found, warns=warns)

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
    session_checks = [
        _session_check(asset, warns=warns)
        for asset in stages.SESSION_STAGES
        for warns in (False, True)
    ]


def plan_checks(plans: Iterable[Plan]) -> list[dg.AssetChecksDefinition]:
    """Checks of every phase and evaluation."""
    found = []
    for plan in plans:
        found += [_plan_check(plan, phase.name, rules.weights_are_sound) for phase in plan.phases]
        for rule in (
            rules.hold_earns_nothing,
            rules.no_used_session_is_clean,
            rules.report_is_complete,
        ):
            found.append(_plan_check(plan, plan_stages.EVALUATION, rule))
    return found
