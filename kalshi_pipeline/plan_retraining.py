"""A plan and the sessions that arrive after it was trained: looked at forward, then learned from.

`validate_forward` plays the plan's newest checkpoint on a session it has not seen, as it is
validated: the likeliest action, costs on. A retraining needs no stage of its own: it is a phase
(`Plan.retraining`), which `plan_stages.train_phase` trains. `due` says which of the two a session
waits for. Source: `docs/EVALUATION.md`, "Decay"; `docs/OPERATIONS.md`, "Retraining".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from kalshi_pipeline.errors import NotPublished, PlanError
from kalshi_pipeline.evaluation.lineage import LONGEST_LOOKBACK_MS
from kalshi_pipeline.past import candidates_of, rules_of
from kalshi_pipeline.plan_evaluation import LEARNED, chosen_seed
from kalshi_pipeline.plan_stages import TRAINING_VERSION, phase_name
from kalshi_pipeline.plans import RETRAINED, Plan
from kalshi_pipeline.sealed import is_sealed, refuse_sealed
from kalshi_pipeline.session_data import session_inputs, universes_of
from kalshi_pipeline.stages import BOOKS, Progress
from kalshi_pipeline.storage.publish import CURRENT, Generation, Recipe, Warehouse, read_manifest
from kalshi_pipeline.storage.seals import opening_of
from kalshi_pipeline.storage.trials import FORWARD, TRIAL_SCHEMA, digest_of, record_rows

if TYPE_CHECKING:
    from kalshi_pipeline.evaluation.evidence import Case

FORWARD_VALIDATION = "forward_validation"
FORWARD_VERSION = "1"  # raise when equal inputs give other figures
LEDGER = "ledger.parquet"


@dataclass(frozen=True)
class Newest:
    """The checkpoint that a plan would trade a session with.

    Args:
        name: of the phase, or "retrained on 904".
        generation: where it lies.
        inputs: what it is known by in a recipe.
    """

    name: str
    generation: Generation
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Due:
    """What a new session waits for.

    Args:
        output: `FORWARD_VALIDATION` or `RETRAINED`.
        because: why, for whoever reads the run.
        key: the same for the same checkpoint and data, so that nothing is asked for twice.
    """

    output: str
    because: str
    key: str


def validate_forward(
    warehouse: Warehouse, plan: Plan, session: int, progress: Progress
) -> Generation:
    """The newest checkpoint on a session it has not seen -> P&L an event, beside validation's.

    The look is in the trials ledger before its outcome is used: no evaluation calls the session
    clean forward after that.

    Args:
        warehouse: where everything is read and published.
        plan: whose checkpoint.
        session: new to every plan.
        progress: told one line before each backtest.

    Raises:
        PlanError: the plan does not go on, or the session has a role in a plan.
        SessionSealed: the session is kept for one look at the end.
        NotPublished: a session or the last phase has not been materialized; names it.
        EvaluationError: the session has no episode.
    """
    phase = plan.retraining(session)
    refuse_sealed(warehouse, (session,), f"forward validation of {plan.name}")
    validation = plan.validation_sessions(phase)
    newest = newest_before(warehouse, plan, session)
    config = {
        "validation": validation,
        "min_episode_steps": plan.min_episode_steps,
        "trading": asdict(plan.trading),
        "evaluation": asdict(plan.evaluation),
    }
    inputs = session_inputs(warehouse, (session, *validation)) | dict(newest.inputs)
    recipe = Recipe(FORWARD_VERSION, config, inputs)
    name = phase_name(plan, FORWARD_VALIDATION)
    if found := warehouse.made_from(name, str(session), recipe):
        return found

    from kalshi_pipeline.evaluation.decay import DECAYED, decay
    from kalshi_pipeline.evaluation.evidence import gather, played
    from kalshi_pipeline.evaluation.trials import trials

    looked = gather(_case(warehouse, plan, (session,), newest, recipe.digest), progress)
    rows = [dict(row) for row in trials(looked).rows]
    record_rows(warehouse, pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA))
    tables, reference = [looked.ledger], None
    if validation:
        case = _case(warehouse, plan, validation, newest, recipe.digest)
        reference = played(case, case.universes, case.policies, plan.trading, progress)
        tables.append(reference)
    came_to = decay(looked.ledger, reference, plan.evaluation)
    with warehouse.stage(name, str(session), recipe) as staging:
        pq.write_table(pa.concat_tables(tables), staging.folder / LEDGER, compression="zstd")
        staging.summary.update(
            asdict(came_to),
            decayed=came_to.status == DECAYED,
            checkpoint=newest.generation.content_hash,
            trained=newest.name,
            labels=_labels(looked.ledger),
            validation=validation,
            trial=recipe.digest,  # as the ledger knows the look
        )
    return staging.generation


def newest_before(warehouse: Warehouse, plan: Plan, session: int) -> Newest:
    """The last phase's checkpoint, or the retraining of it whose session is the latest.

    A retraining counts if it continues the present last phase and its session had ended, embargo
    and longest lookback of a feature included, before this one began: what it learned is no news.

    Args:
        warehouse: where they lie.
        plan: whose.
        session: to be traded; prepared.

    Raises:
        NotPublished: the session or the last phase has not been materialized.
    """
    last = plan.phases[-1].name
    base = warehouse.current(phase_name(plan, last))
    inputs = {last: base.content_hash}
    apart_ms = plan.evaluation.embargo_ms + LONGEST_LOOKBACK_MS
    begins_ms = _times(warehouse, session)[0]
    found = Newest(last, base, inputs)
    latest_ms = -1
    for other, retrained in _retrained(warehouse, plan):
        ended_ms = _times(warehouse, other)[1]
        continues = inputs.items() <= _inputs(retrained).items()
        if continues and latest_ms < ended_ms and ended_ms + apart_ms <= begins_ms:
            latest_ms = ended_ms
            known = {f"{RETRAINED}/{other}": retrained.content_hash}
            found = Newest(f"{RETRAINED} on {other}", retrained, inputs | known)
    return found


def due(warehouse: Warehouse, plan: Plan, session: int) -> Due | None:
    """What a session that has passed its checks waits for in a plan; None: nothing.

    Never a session with a role in any plan, a sealed one, one that began before the last that the
    plan has used had ended, or a generated one where the plan learned from recordings.

    Raises:
        CorruptFile: a published pointer or manifest is damaged.
    """
    last = plan.phases[-1].name
    try:
        phase = plan.retraining(session)
        base = warehouse.current(phase_name(plan, last)).content_hash
        if not _follows(warehouse, plan, session):
            return None
        own = session_inputs(warehouse, (session,)) | {last: base}
    except (PlanError, NotPublished):
        return None
    if is_sealed(warehouse, session) and opening_of(warehouse, session) is None:
        return None
    key = digest_of([FORWARD_VERSION, TRAINING_VERSION, asdict(phase), own])
    looked = _made_from(warehouse, plan, FORWARD_VALIDATION, session, own)
    if looked is None:
        return Due(FORWARD_VALIDATION, "it has passed its checks and is new", key)
    if _made_from(warehouse, plan, RETRAINED, session, own):
        return None
    if looked.summary["decayed"]:
        return Due(RETRAINED, f"validation has decayed: {looked.summary['says']}", key)
    if plan.retrain and plan.retrain.every_session:
        return Due(RETRAINED, "the plan learns from every session", key)
    return None


def _follows(warehouse: Warehouse, plan: Plan, session: int) -> bool:
    # after all that weights and choice have used, and of the same kind
    used = {session for phase in plan.phases for session in phase.sessions}
    used.update(plan.validation_sessions(plan.phases[-1]))
    generated = warehouse.current(BOOKS, str(session)).summary["generated"]
    begins_ms = _times(warehouse, session)[0]
    return all(
        _times(warehouse, one)[1] < begins_ms
        and warehouse.current(BOOKS, str(one)).summary["generated"] == generated
        for one in used
    )


def _case(
    warehouse: Warehouse, plan: Plan, sessions: tuple[int, ...], newest: Newest, own: str
) -> Case:
    # the seed an evaluation judges, as it is validated; what any seed has used counts as used
    from kalshi_pipeline.evaluation.evidence import Case, Past
    from kalshi_pipeline.evaluation.lineage import Lineage
    from kalshi_pipeline.learning.policy import NetworkPolicy
    from kalshi_pipeline.storage import checkpoints

    networks = checkpoints.load_seeds(newest.generation.verified())
    policy = NetworkPolicy(networks[chosen_seed(newest.generation)], name=LEARNED)
    states = [network.state for network in networks.values()]
    universes, exclusions = universes_of(warehouse, sessions, plan.min_episode_steps)
    rules = rules_of(plan.trading, plan.evaluation, plan.min_episode_steps)
    return Case(
        universes,
        {session: plan.roles.get(session, "new") for session in sessions},
        judged=policy,
        baselines=(),
        used=Lineage.of(
            [asdict(entry) for state in states for entry in state.lineage],
            [asdict(entry) for state in states for entry in state.selected_on],
            foreign=any(state.foreign for state in states),
            embargo_ms=plan.evaluation.embargo_ms,
        ),
        provenance={},
        trading=plan.trading,
        evaluation=plan.evaluation,
        exclusions=exclusions,
        past=Past(candidates=candidates_of([policy], plan.name, own, rules, FORWARD)),
    )


def _labels(ledger: pa.Table) -> dict[str, int]:
    # label -> events
    rows = {(row["label"], row["event"]) for row in ledger.select(["label", "event"]).to_pylist()}
    return dict(sorted(Counter(label for label, _ in rows).items()))


def _times(warehouse: Warehouse, session: int) -> tuple[int, int]:
    figures = warehouse.current(BOOKS, str(session)).summary
    return figures["started_ms"] or 0, figures["ended_ms"] or 0  # None of an empty session


def _retrained(warehouse: Warehouse, plan: Plan) -> Iterator[tuple[int, Generation]]:
    for pointer in warehouse.names(f"{phase_name(plan, RETRAINED)}/session=*/{CURRENT}"):
        session = pointer.parent.name.partition("=")[2]
        yield int(session), warehouse.current(phase_name(plan, RETRAINED), session)


def _inputs(generation: Generation) -> dict[str, str]:
    inputs: dict[str, str] = read_manifest(generation.folder)["recipe"]["inputs"]
    return inputs


def _made_from(
    warehouse: Warehouse, plan: Plan, output: str, session: int, inputs: Mapping[str, str]
) -> Generation | None:
    try:
        found = warehouse.current(phase_name(plan, output), str(session))
    except NotPublished:
        return None
    return found if inputs.items() <= _inputs(found).items() else None
