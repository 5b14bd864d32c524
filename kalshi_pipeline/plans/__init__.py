"""Training plans as data: sessions, budgets and roles, one TOML file a plan."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kalshi_pipeline.config import (
    CONFIGS,
    EvaluationConfig,
    LearnerConfig,
    PPOConfig,
    StepConfig,
    TradingConfig,
    WatchConfig,
)
from kalshi_pipeline.errors import InvalidName, PlanError
from kalshi_pipeline.names import session_id

T = TypeVar("T")

FOLDER = Path(__file__).parent
DEFAULT_PLAN = "training_plan"
RETRAINED = "retrained"  # in place of a phase's name

_PHASE = re.compile(r"phase_[1-9]", re.ASCII)
_REQUIRED = ("title", "phase", "evaluate")
_BELIEVED = ("session", "quality_score", "data_points", "suitable_markets", "priority")
_VALUES = {
    "seed": 0,
    "seeds": 1,
    "min_episode_steps": 50,
    "save_every": 10_000,  # training plan, section 4.5
    "curriculum": True,
    "mask_actions": False,
}
_SECTIONS = {
    "steps": StepConfig(),
    "trading": TradingConfig(),
    "watch": WatchConfig(),
    "evaluation": EvaluationConfig(),
}
# of an evaluation: below these nothing may be claimed in any case
_STRICT = {"min_units": 30, "confidence": 0.95, "min_seeds": 5, "embargo_ms": 3_600_000,
           "resamples": 1, "stochastic_repeats": 1, "n_envs": 1}  # fmt: skip
_OPTIONAL = ("believed", "retrain", *_VALUES, *_SECTIONS, *CONFIGS)


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Args:
        name: `phase_1`, `phase_2`, ...
        sessions: what it trains on.
        timesteps: further steps, on top of the parent's.
        parent: phase to continue from; None starts from fresh weights.
        learner: how it learns: the algorithm is that of the configuration.
    """

    name: str
    sessions: tuple[int, ...]
    timesteps: int
    parent: str | None = None
    learner: LearnerConfig = field(default_factory=PPOConfig)

    @property
    def algorithm(self) -> str:
        """Name of the algorithm, a key of `config.CONFIGS`."""
        return self.learner.algorithm

    @property
    def partition(self) -> str | None:
        """Session by which its output is cut: a retraining's; a phase's is not cut."""
        return str(self.sessions[0]) if self.name == RETRAINED else None


@dataclass(frozen=True)
class Retrain:
    """What becomes of a session that arrives after the plan was trained.

    Args:
        timesteps: that the last phase's checkpoint goes on for, on that session alone.
        every_session: train on each; otherwise only once validation has decayed.
    """

    timesteps: int
    every_session: bool


@dataclass(frozen=True)
class Plan:
    """Sessions, phases and tests that belong together.

    Args:
        roles: session -> what its evaluation is for, in the order of the report.
        seed: of the first training of each phase.
        seeds: trainings of each phase, each with the next seed.
        min_episode_steps: shortest segment that becomes an episode.
        save_every: timesteps between two checkpoints of a training run.
        curriculum: busy markets first; otherwise all markets alike.
        learners: algorithm -> its settings, where a phase says nothing else.
        believed: session -> what its author took for true of it, to be held against the measured.
        sealed: evaluated sessions that nobody looks at until they are opened, once.
        retrain: how it goes on with new sessions; None: it does not.
    """

    name: str
    title: str
    phases: tuple[Phase, ...]
    roles: Mapping[int, str]
    seed: int
    seeds: int
    min_episode_steps: int
    save_every: int
    curriculum: bool
    steps: StepConfig
    trading: TradingConfig
    watch: WatchConfig
    learners: Mapping[str, LearnerConfig]
    evaluation: EvaluationConfig
    believed: Mapping[int, Mapping[str, Any]]
    sealed: tuple[int, ...] = ()
    retrain: Retrain | None = None

    @property
    def sessions(self) -> tuple[int, ...]:
        """Every session the plan uses, trained on first."""
        trained = (session for phase in self.phases for session in phase.sessions)
        return tuple(dict.fromkeys((*trained, *self.roles)))

    @property
    def trained_seeds(self) -> tuple[int, ...]:
        """The seeds each phase is trained with."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def trained_outputs(self) -> tuple[str, ...]:
        """Names of what is trained: the phases, and the retraining where the plan goes on."""
        return (*(phase.name for phase in self.phases), *((RETRAINED,) if self.retrain else ()))

    def validation_sessions(self, phase: Phase) -> tuple[int, ...]:
        """What a phase chooses its checkpoint on: sessions for validation it has not learned from.

        Those whose role says "validation", less those that it or a phase before it trains on.
        """
        learned = set(phase.sessions)
        before = phase.parent
        while before is not None:
            parent = self.phase(before)
            learned |= set(parent.sessions)
            before = parent.parent
        return tuple(
            session
            for session, role in self.roles.items()
            if "validation" in role and session not in learned
        )

    def phase(self, name: str) -> Phase:
        """One of the phases.

        Raises:
            PlanError: the plan has none of this name.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise PlanError(f"plan {self.name} has no such phase", rule="phase", value=name)

    def retraining(self, session: int) -> Phase:
        """The last phase's recipe, going on from its checkpoint on a new session alone.

        Raises:
            PlanError: the plan has no `[retrain]`, or the session has a role in a plan.
        """
        if self.retrain is None:
            raise PlanError(f"plan {self.name} has no [retrain]", rule="retrain", session=session)
        users = plans_of(session) or (self.name,) * (session in self.sessions)
        if users:
            raise PlanError(
                f"it has a role in {', '.join(users)}: to retrain on it, or to look at it for "
                "that, would spend it; a new session has none",
                session=session,
                rule="new session",
            )
        last = self.phases[-1]
        return replace(
            last,
            name=RETRAINED,
            sessions=(session,),
            timesteps=self.retrain.timesteps,
            parent=last.name,
        )


def plan_names() -> tuple[str, ...]:
    """Names of the plans that ship with the project."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def load_plan(name: str) -> Plan:
    """One plan by name.

    Raises:
        PlanError: no such plan, or its file contradicts itself; says where.
    """
    path = FOLDER / f"{name}.toml"
    if name not in plan_names():
        raise PlanError(f"no such plan; there are {', '.join(plan_names())}", value=name)
    try:
        return _parse(name, tomllib.loads(path.read_text()))
    except (TypeError, ValueError, InvalidName) as error:
        raise PlanError(f"plans/{name}.toml: {error}", value=name) from error


def plans_of(session: int) -> tuple[str, ...]:
    """Names of the plans in which a session has a role."""
    return tuple(name for name in plan_names() if session in load_plan(name).sessions)


def steps_of(session: int) -> StepConfig:
    """The step clock of a session: that of the plans that use it.

    Raises:
        PlanError: two plans want different clocks for one session.
    """
    wanted = {load_plan(name).steps: name for name in plans_of(session)}
    if len(wanted) > 1:
        raise PlanError(
            f"plans {', '.join(wanted.values())} want different step clocks", session=session
        )
    return next(iter(wanted), StepConfig())


def _parse(name: str, content: Mapping[str, Any]) -> Plan:
    _check_keys(content, _REQUIRED, _OPTIONAL, "the plan")
    for entry in content["evaluate"]:
        _check_keys(entry, ("session", "role"), ("sealed",), "an evaluation")
        if not isinstance(entry.get("sealed", False), bool):
            raise TypeError(f"sealed is true or false, was {entry['sealed']!r}")
    for entry in content.get("believed", ()):
        _check_keys(entry, _BELIEVED, (), "a belief")
    values = _overridden(_VALUES, {k: v for k, v in content.items() if k in _VALUES}, "the plan")
    for key, least in (("seed", 0), ("seeds", 1), ("min_episode_steps", 1), ("save_every", 1)):
        if values[key] < least:
            raise ValueError(f"{key} is {least} or more, was {values[key]}")
    masked = values.pop("mask_actions")
    learners = {
        algorithm: _settings(
            kind(mask_actions=masked), content.get(algorithm, {}), f"[{algorithm}]"
        )
        for algorithm, kind in CONFIGS.items()
    }
    phases = tuple(_phase(entry, learners) for entry in content["phase"])
    _check_phases(phases)
    roles = {session_id(entry["session"]): str(entry["role"]) for entry in content["evaluate"]}
    if not 0 < len(roles) == len(content["evaluate"]):
        raise ValueError("a plan evaluates one session or more, each once")
    sealed = tuple(session_id(e["session"]) for e in content["evaluate"] if e.get("sealed"))
    _check_sealed(sealed, roles, phases)
    sections: dict[str, Any] = {
        key: _settings(default, content.get(key, {}), f"[{key}]")
        for key, default in _SECTIONS.items()
    }
    _check_judging(sections["evaluation"])
    if sections["steps"] != StepConfig() and "retrain" in content:
        raise ValueError("[retrain] needs the default [steps]: new sessions are cut by that clock")
    return Plan(
        name=name,
        title=content["title"],
        phases=phases,
        roles=roles,
        sealed=sealed,
        retrain=_retrain(content["retrain"], phases[-1]) if "retrain" in content else None,
        learners=learners,
        believed={session_id(entry["session"]): entry for entry in content.get("believed", ())},
        **values,
        **sections,
    )


def _phase(entry: Any, learners: Mapping[str, LearnerConfig]) -> Phase:
    optional = ("parent", "algorithm", *learners)
    _check_keys(entry, ("name", "sessions", "timesteps"), optional, "a phase")
    name, algorithm = str(entry["name"]), entry.get("algorithm", PPOConfig.algorithm)
    if algorithm not in learners:
        raise ValueError(f"{name} learns by {', '.join(learners)}, not by {algorithm!r}")
    if unused := [other for other in learners if other in entry and other != algorithm]:
        raise ValueError(f"{name} learns by {algorithm}: its [phase.{unused[0]}] means nothing")
    timesteps = _overridden({"timesteps": 1}, {"timesteps": entry["timesteps"]}, name)["timesteps"]
    return Phase(
        name=name,
        sessions=tuple(map(session_id, entry["sessions"])),
        timesteps=timesteps,
        parent=entry.get("parent"),
        learner=_settings(
            learners[algorithm], entry.get(algorithm, {}), f"[phase.{algorithm}] of {name}"
        ),
    )


def _retrain(entry: Any, last: Phase) -> Retrain:
    settings = _overridden(
        {"timesteps": last.timesteps, "every_session": False}, entry, "[retrain]"
    )
    if settings["timesteps"] <= 0:
        raise ValueError(f"timesteps of [retrain] is 1 or more, was {settings['timesteps']}")
    return Retrain(**settings)


def _check_keys(
    entry: Any, required: tuple[str, ...], optional: tuple[str, ...], what: str
) -> None:
    # a misspelt key must not mean a default: without its parent a phase would start afresh
    if not isinstance(entry, Mapping):
        raise TypeError(f"{what} is a table, was {entry!r}")
    missing, unknown = set(required) - set(entry), set(entry) - {*required, *optional}
    if missing:
        raise ValueError(f"{what} lacks {', '.join(sorted(missing))}")
    if unknown:
        raise ValueError(f"{what} has unknown keys: {', '.join(sorted(unknown))}")


def _check_phases(phases: tuple[Phase, ...]) -> None:
    seen: dict[str, Phase] = {}
    if not phases:
        raise ValueError("a plan has one phase or more")
    for phase in phases:
        if not _PHASE.fullmatch(phase.name):
            raise ValueError(f"phases are called phase_1, phase_2, ..., was {phase.name!r}")
        if phase.parent is not None and phase.parent not in seen:
            raise ValueError(
                f"{phase.name} continues from {phase.parent}, which does not precede it"
            )
        if not phase.sessions or phase.timesteps <= 0:
            raise ValueError(f"{phase.name} needs sessions and a positive number of timesteps")
        if phase.name in seen:
            raise ValueError(f"{phase.name} stands there twice")
        parent = seen.get(phase.parent or "", phase)
        if parent.learner.hidden != phase.learner.hidden:
            raise ValueError(
                f"{phase.name} has hidden layers {phase.learner.hidden}, {parent.name}, from which "
                f"it continues, {parent.learner.hidden}"
            )
        seen[phase.name] = phase


def _check_judging(evaluation: EvaluationConfig) -> None:
    # a plan may be stricter than the rules of docs/EVALUATION.md, not laxer
    for key, least in _STRICT.items():
        if not getattr(evaluation, key) >= least:  # NaN is refused
            raise ValueError(
                f"{key} of [evaluation] is {least} or more, was {getattr(evaluation, key)}"
            )
    if evaluation.confidence >= 1.0:
        raise ValueError(f"confidence of [evaluation] is below 1, was {evaluation.confidence}")


def _check_sealed(
    sealed: tuple[int, ...], roles: Mapping[int, str], phases: tuple[Phase, ...]
) -> None:
    for session in sealed:
        if "validation" in roles[session]:
            raise ValueError(f"session {session} is sealed: it cannot validate")
        for phase in phases:
            if session in phase.sessions:
                raise ValueError(f"session {session} is sealed: {phase.name} cannot train on it")


def _settings(default: T, overrides: Any, where: str) -> T:
    known = {field.name: getattr(default, field.name) for field in fields(default)}  # type: ignore[arg-type]
    return replace(default, **_overridden(known, overrides, where))  # type: ignore[type-var]


def _overridden(known: Mapping[str, Any], overrides: Any, where: str) -> dict[str, Any]:
    _check_keys(overrides, (), tuple(known), where)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items()}
    for key, value in values.items():
        kind = type(known[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"{key} of {where} is a value like {known[key]!r}, was {value!r}")
    return {**known, **values}
