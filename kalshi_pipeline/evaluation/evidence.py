"""What is judged, on what, and what came of it: all that a section of the report is made from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.backtest import backtests
from kalshi_pipeline.evaluation.ledger import LEDGER_SCHEMA
from kalshi_pipeline.evaluation.lineage import Label, Lineage
from kalshi_pipeline.evaluation.policies import Policy, cheats
from kalshi_pipeline.evaluation.trades.clock import Path, path_of
from kalshi_pipeline.evaluation.trades.dissect import Dissection
from kalshi_pipeline.trading.record import Played
from kalshi_pipeline.trading.tape import Universe

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Past:
    """What there was before the judgement.

    Args:
        trials: every candidate scored so far but those of this case, a row each, as
            `storage/trials.py` keeps them; None where nobody counted.
        candidates: name of a judged policy or variant -> the columns that say who it is.
        training: a course of training a phase and seed: validations, alerts, last figures.
        sealed: what became of each sealed session of the case.
        absent: baselines that belong beside the judged policy and cannot be made any more.
    """

    trials: pa.Table | None = None
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    sealed: Sequence[Mapping[str, Any]] = ()
    absent: Sequence[str] = ()


@dataclass(frozen=True)
class Case:
    """A policy to be judged beside others, and the sessions it is judged on.

    Args:
        universes: session id -> its episodes.
        roles: session id -> what the plan uses it for; "validation" in it feeds that criterion.
        judged: the policy the report is about.
        baselines: what stands beside it; names unique.
        used: what weights and selection have seen.
        provenance: what was evaluated, for the report: checkpoint hash, plan, data generations,
            code version, seeds, budgets. Read here: `generated` (bool), and `sessions` (id as text
            -> description).
        trading: rules of an episode; fill model and fees name the cell.
        evaluation: lanes, repeats, bootstrap, seed.
        variants: other forms of the judged policy: shown beside it, never a baseline of it.
        seeds: seed -> name of the policy it trained, among the judged one and the variants; empty
            or one where there is nothing to compare.
        exclusions: `{session, reason}` and optionally `count`, one for each thing left out.
        past: trials, courses of training, sealed sessions.
        later: session -> `CAUSAL` and `SAME_TIME` of `trading.universe`, made anew at each call;
            None: not known.

    Raises:
        EvaluationError: names not unique, a session without a role, or no episode at all.
    """

    universes: Mapping[int, Universe]
    roles: Mapping[int, str]
    judged: Policy
    baselines: Sequence[Policy]
    used: Lineage
    provenance: Mapping[str, Any]
    trading: TradingConfig = field(default_factory=TradingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    variants: Sequence[Policy] = ()
    seeds: Mapping[int, str] = field(default_factory=dict)
    exclusions: Sequence[Mapping[str, Any]] = ()
    past: Past = field(default_factory=Past)
    later: Callable[[int], Mapping[str, Universe]] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be judged."""
        names = [policy.name for policy in self.policies]
        if len(set(names)) < len(names):
            raise EvaluationError("policies need unique names", rule="policies", value=names)
        for session in self.universes:
            if session not in self.roles:
                raise EvaluationError("a session has no role", session=session, rule="roles")
        if not any(len(universe) for universe in self.universes.values()):
            raise EvaluationError(
                "there is no episode to evaluate on", rule="universes", value=list(self.universes)
            )

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Everything shown: the judged one, its variants, the baselines."""
        return (self.judged, *self.variants, *self.baselines)

    @property
    def names(self) -> tuple[str, ...]:
        """The judged policy and the baselines it is compared with."""
        return (self.judged.name, *(baseline.name for baseline in self.baselines))

    @property
    def cheating(self) -> tuple[str, ...]:
        """Baselines that see what nobody can: a ceiling, and nothing that has to be beaten."""
        return tuple(baseline.name for baseline in self.baselines if cheats(baseline))

    @property
    def honest(self) -> tuple[str, ...]:
        """`names` without those."""
        return tuple(name for name in self.names if name not in self.cheating)

    @property
    def shown(self) -> tuple[str, ...]:
        """Name of each of `policies`."""
        return tuple(policy.name for policy in self.policies)

    @property
    def generated(self) -> bool:
        """Whether the sessions are generated."""
        return bool(self.provenance.get("generated", False))

    def rng(self, session: int, policy: str) -> np.random.Generator:
        """Chance of a policy on a session: by name, so that adding one changes no other's draws."""
        return np.random.default_rng((self.evaluation.seed, session, zlib.crc32(policy.encode())))


@dataclass(frozen=True)
class Turn:
    """What one policy did in one session: the jobs behind some rows of the ledger.

    Args:
        policy: its name.
        session: of the universe.
        first: the ledger's row of job 0; the others follow.
        dissection: its fills.
        path: its equity on the clock.
        clean_path: of its clean-forward episodes alone.
    """

    policy: str
    session: int
    first: int
    dissection: Dissection
    path: Path
    clean_path: Path


@dataclass(frozen=True)
class Evidence:
    """A case that was played.

    Args:
        case: what was judged.
        ledger: `JUDGED_SCHEMA`, one row an episode and policy, in the case's own cell.
        progress: told one line before anything that takes long.
        turns: what is behind the rows of the ledger, in their order.
    """

    case: Case
    ledger: pa.Table
    progress: Callable[[str], None]
    turns: Sequence[Turn] = ()

    @cached_property
    def clean(self) -> pa.Table:
        """The clean-forward rows."""
        return self.ledger.filter(pc.equal(self.ledger["label"], Label.CLEAN_FORWARD.value))

    @property
    def is_clean(self) -> bool:
        """Whether there is anything clean-forward."""
        return bool(self.clean.num_rows)

    @property
    def scope(self) -> pa.Table:
        """The rows a report is about: the clean-forward ones, all where none is."""
        return self.clean if self.is_clean else self.ledger

    def under(
        self,
        config: TradingConfig,
        policies: Sequence[Policy],
        name: str,
        universes: Mapping[int, Universe] | None = None,
    ) -> pa.Table:
        """Rows of `scope` under other rules, with the draws a policy had here.

        Args:
            config: rules of an episode.
            policies: who plays.
            name: of the rules, for the progress line.
            universes: session id -> its episodes, the same as the case's but for what the rules
                change on the tape; None: the case's.

        Returns:
            `JUDGED_SCHEMA`.
        """
        wanted = pc.unique(self.scope["session"]).to_pylist()
        found = {s: u for s, u in (universes or self.case.universes).items() if s in wanted}
        ledger = played(
            self.case, found, policies, config, lambda line: self.progress(f"{name}, {line}")
        )
        if not self.is_clean:
            return ledger
        return ledger.filter(pc.equal(ledger["label"], Label.CLEAN_FORWARD.value))

    @cached_property
    def _kept(self) -> dict[Callable[[Evidence], Any], Any]:
        return {}

    def once(self, make: Callable[[Evidence], _Made]) -> _Made:
        """What `make` makes of this evidence, made once however many sections ask."""
        if make not in self._kept:
            self._kept[make] = make(self)
        made: _Made = self._kept[make]
        return made


def gather(case: Case, progress: Callable[[str], None]) -> Evidence:
    """Play every policy on every session."""
    turns: list[Turn] = []
    ledger = played(case, case.universes, case.policies, case.trading, progress, turns)
    return Evidence(case, ledger, progress, turns)


def played(
    case: Case,
    universes: Mapping[int, Universe],
    policies: Sequence[Policy],
    config: TradingConfig,
    progress: Callable[[str], None],
    turns: list[Turn] | None = None,
) -> pa.Table:
    """The labelled ledger of some policies on some sessions, under any rules.

    Args:
        case: whose roles, lineage and chance it is: a policy has the same draws in every cell.
        universes: session id -> its episodes.
        policies: who plays.
        config: rules of an episode.
        progress: told one line before each policy plays.
        turns: gets what is behind the rows, where that is wanted.

    Returns:
        `JUDGED_SCHEMA`.
    """
    tables = [LEDGER_SCHEMA.empty_table()]
    for session, universe in sorted(universes.items()):
        tables.append(
            backtests(
                universe, policies, config, case.evaluation, partial(case.rng, session),
                partial(_tell, progress, session, len(universe)),
                None if turns is None else partial(_keep, turns, case, session, config),
            )
        )  # fmt: skip
    return _labelled(pa.concat_tables(tables), case)


def _tell(progress: Callable[[str], None], session: int, episodes: int, policy: str) -> None:
    progress(f"session {session}: {policy} on {episodes} episodes")


def _keep(
    turns: list[Turn],
    case: Case,
    session: int,
    config: TradingConfig,
    policy: Policy,
    found: Played,
    dissection: Dissection,
) -> None:
    universe, last = case.universes[session], turns[-1] if turns else None
    first = 0 if last is None else last.first + len(last.dissection.episode)
    repeats = len(found.summaries) // max(len(universe), 1)
    names = [universe.episodes[summary.episode] for summary in found.summaries]
    clean = np.array(
        [
            case.used.label(name.session, name.event, name.market, summary.start_ms)
            is Label.CLEAN_FORWARD
            for name, summary in zip(names, found.summaries, strict=True)
        ],
        np.bool_,
    )
    whole, only = (
        path_of(universe.tape, found, config.cash_start_micro, weight / max(repeats, 1))
        for weight in (np.ones(len(clean)), clean.astype(np.float64))
    )
    turns.append(Turn(policy.name, session, first, dissection, whole, only))


def _labelled(ledger: pa.Table, case: Case) -> pa.Table:
    keys = ("session", "event", "market", "start_ms")
    columns = [ledger[key].to_pylist() for key in keys]
    labels = [case.used.label(*key).value for key in zip(*columns, strict=True)]
    roles = [case.roles[session] for session in columns[0]]
    ledger = ledger.append_column("role", pa.array(roles, pa.string()))
    return ledger.append_column("label", pa.array(labels, pa.string()))
