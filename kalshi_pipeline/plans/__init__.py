"""Training plans as data: sessions, budgets and roles, one TOML file a plan."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kalshi_pipeline.config import EvaluationConfig, PPOConfig, StepConfig, TradingConfig
from kalshi_pipeline.errors import InvalidName, PlanError
from kalshi_pipeline.names import session_id

T = TypeVar("T")

FOLDER = Path(__file__).parent
DEFAULT_PLAN = "training_plan"

_PHASE = re.compile(r"phase_[1-9]", re.ASCII)
_REQUIRED = ("title", "phase", "evaluate")
_BELIEVED = ("session", "quality_score", "data_points", "suitable_markets", "priority")
_OPTIONAL = ("believed", "seed", "min_episode_steps", "steps", "trading", "ppo", "evaluation")


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Args:
        name: `phase_1`, `phase_2`, ...
        sessions: what it trains on.
        timesteps: further steps, on top of the parent's.
        parent: phase to continue from; None starts from fresh weights.
    """

    name: str
    sessions: tuple[int, ...]
    timesteps: int
    parent: str | None = None


@dataclass(frozen=True)
class Plan:
    """Sessions, phases and tests that belong together.

    Args:
        roles: session -> what its evaluation is for, in the order of the report.
        min_episode_steps: shortest segment that becomes an episode.
        believed: session -> what its author took for true of it, to be held against the measured.
    """

    name: str
    title: str
    phases: tuple[Phase, ...]
    roles: Mapping[int, str]
    seed: int
    min_episode_steps: int
    steps: StepConfig
    trading: TradingConfig
    ppo: PPOConfig
    evaluation: EvaluationConfig
    believed: Mapping[int, Mapping[str, Any]]

    @property
    def sessions(self) -> tuple[int, ...]:
        """Every session the plan uses, trained on first."""
        trained = (session for phase in self.phases for session in phase.sessions)
        return tuple(dict.fromkeys((*trained, *self.roles)))

    def phase(self, name: str) -> Phase:
        """One of the phases.

        Raises:
            PlanError: the plan has none of this name.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise PlanError(f"plan {self.name} has no such phase", rule="phase", value=name)


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


def steps_of(session: int) -> StepConfig:
    """The step clock of a session: that of the plans that use it.

    Raises:
        PlanError: two plans want different clocks for one session.
    """
    wanted = {
        plan.steps: plan.name for plan in map(load_plan, plan_names()) if session in plan.sessions
    }
    if len(wanted) > 1:
        raise PlanError(
            f"plans {', '.join(wanted.values())} want different step clocks", session=session
        )
    return next(iter(wanted), StepConfig())


def _parse(name: str, content: Mapping[str, Any]) -> Plan:
    _check_keys(content, _REQUIRED, _OPTIONAL, "the plan")
    for entry in content["phase"]:
        _check_keys(entry, ("name", "sessions", "timesteps"), ("parent",), "a phase")
    for entry in content["evaluate"]:
        _check_keys(entry, ("session", "role"), (), "an evaluation")
    for entry in content.get("believed", ()):
        _check_keys(entry, _BELIEVED, (), "a belief")
    phases = tuple(
        Phase(
            str(entry["name"]),
            tuple(map(session_id, entry["sessions"])),
            int(entry["timesteps"]),
            entry.get("parent"),
        )
        for entry in content["phase"]
    )
    _check_phases(phases)
    roles = {session_id(entry["session"]): str(entry["role"]) for entry in content["evaluate"]}
    if not 0 < len(roles) == len(content["evaluate"]):
        raise ValueError("a plan evaluates one session or more, each once")
    return Plan(
        name=name,
        title=content["title"],
        phases=phases,
        roles=roles,
        seed=int(content.get("seed", 0)),
        min_episode_steps=int(content.get("min_episode_steps", 50)),
        steps=_settings(StepConfig(), content.get("steps", {})),
        trading=_settings(TradingConfig(), content.get("trading", {})),
        ppo=_settings(PPOConfig(), content.get("ppo", {})),
        evaluation=_settings(EvaluationConfig(), content.get("evaluation", {})),
        believed={session_id(entry["session"]): entry for entry in content.get("believed", ())},
    )


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
    seen: set[str] = set()
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
        seen.add(phase.name)


def _settings(default: T, overrides: Mapping[str, Any]) -> T:
    known = {field.name: getattr(default, field.name) for field in fields(default)}  # type: ignore[arg-type]
    _check_keys(overrides, (), tuple(known), type(default).__name__)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items()}
    for key, value in values.items():
        kind = type(known[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"{key} is a value like {known[key]!r}, was {value!r}")
    return replace(default, **values)  # type: ignore[type-var]
