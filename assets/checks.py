"""Expectations and rules as Dagster asset checks: what fails stops everything built on it."""

import warnings
from collections.abc import Callable, Iterable, Iterator

import dagster as dg

from kalshi_pipeline import plan_stages, rules, stages
from kalshi_pipeline.assets.partitions import sessions
from kalshi_pipeline.assets.published import page_link, table_metadata
from kalshi_pipeline.errors import KalshiPipelineError
from kalshi_pipeline.expectations.validated import Validated, validated
from kalshi_pipeline.expectations.validation import Outcome
from kalshi_pipeline.names import session_id
from kalshi_pipeline.plans import Phase, Plan
from kalshi_pipeline.resources.warehouse import WarehouseResource
from kalshi_pipeline.rules import Fact, Finding, Trained
from kalshi_pipeline.storage.publish import Generation, Warehouse

PhaseRule = Callable[[Trained], Finding]
EvaluationRule = Callable[[Generation], Finding]
Look = Callable[[Warehouse], Finding]

EXPECTATIONS, WARNINGS = "expectations", "warnings"


def finding_result(finding: Finding, *, blocks: bool) -> dg.AssetCheckResult:
    """A finding as Dagster shows it: the sentence, and where what does not hold is."""
    return dg.AssetCheckResult(
        passed=finding.holds,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=finding.says,
        metadata={"finding": finding.says, **_facts(finding.facts)},
    )


def _facts(facts: Iterable[Fact]) -> dict[str, dg.TableMetadataValue]:
    told = [
        {
            "session": fact.session,
            "market": fact.market,
            "row": None if fact.row is None else str(fact.row),
            "rule": fact.rule,
            "value": str(fact.value),
        }
        for fact in facts
    ]
    return {"facts": table_metadata(told)} if told else {}


def looked(look: Look, warehouse: Warehouse) -> Finding:
    """What a rule finds; that it cannot look is a finding as well."""
    try:
        return look(warehouse)
    except KalshiPipelineError as error:
        rule = error.rule or "what was published can be read"
        session = None if error.session is None else int(error.session)
        fact = Fact(str(error.value), rule, session, error.market, error.row)
        return Finding(False, str(error), (fact,))
    except (LookupError, TypeError, ValueError) as error:  # a report or lineage of another shape
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        says = f"what was published cannot be looked at: {missing}"
        return Finding(False, says, (Fact(missing, "what was published has its parts"),))


def _validation_result(
    validation: Validated, warehouse: Warehouse, session: int, *, warns: bool
) -> dg.AssetCheckResult:
    told = [outcome for outcome in validation.outcomes if outcome.warns is warns]
    failed = [outcome for outcome in told if not outcome.passed]
    says = "; ".join(f"{outcome.expectation}: {outcome.observed}" for outcome in failed)
    page = {} if validation.page is None else {"data docs": page_link(validation.page, warehouse)}
    outcomes = [
        {
            "holds": outcome.passed,
            "expectation": outcome.expectation,
            "column": outcome.column,
            "observed": outcome.observed,
        }
        for outcome in sorted(told, key=lambda outcome: outcome.passed)
    ]
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description=f"{len(failed)} of {len(told)} do not hold: {says}"
        if failed
        else f"all {len(told)} hold",
        metadata={
            **_facts(fact for outcome in failed for fact in _offences(outcome, session)),
            "outcomes": table_metadata(outcomes),
            **page,
        },
    )


def _offences(outcome: Outcome, session: int) -> Iterator[Fact]:
    for offence in outcome.offences:
        market = offence.about if outcome.profile == "market" else offence.market
        named = () if outcome.profile in ("market", "session") else (offence.about,)
        row = ", ".join([*named, *([] if offence.row is None else [str(offence.row)])])
        yield Fact(offence.value, outcome.expectation, session, market, row or None)


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
        store, session = warehouse.open(), session_id(context.partition_key)
        return _validation_result(validated(store, asset, session), store, session, warns=warns)

    return check


def _plan_check(
    plan: Plan, output: str, rule: Callable[..., Finding], look: Look, *, blocks: bool
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey([plan.name, output]),
        name=rule.__name__,
        blocking=blocks,
        description=rule.__doc__,
    )
    def check(warehouse: WarehouseResource) -> dg.AssetCheckResult:
        return finding_result(looked(look, warehouse.open()), blocks=blocks)

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
    return [check for plan in plans for check in (*_of_phases(plan), *_of_evaluation(plan))]


def _of_phases(plan: Plan) -> Iterator[dg.AssetChecksDefinition]:
    for phase in plan.phases:
        for rule, blocks in rules.OF_PHASES.items():

            def look(warehouse: Warehouse, rule: PhaseRule = rule, phase: Phase = phase) -> Finding:
                return rule(Trained(warehouse, plan, phase))

            yield _plan_check(plan, phase.name, rule, look, blocks=blocks)


def _of_evaluation(plan: Plan) -> Iterator[dg.AssetChecksDefinition]:
    name = plan_stages.phase_name(plan, plan_stages.EVALUATION)
    for rule, blocks in rules.OF_EVALUATIONS.items():

        def look(warehouse: Warehouse, rule: EvaluationRule = rule) -> Finding:
            return rule(warehouse.current(name))

        yield _plan_check(plan, plan_stages.EVALUATION, rule, look, blocks=blocks)
