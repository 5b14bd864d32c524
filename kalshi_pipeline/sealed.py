"""Sessions kept for one look: what training, validation and evaluation ask before they load one.

A session is sealed by any plan that ships (`sealed = true` where it evaluates it) or by `kalshi
sessions seal`, for every plan and every training by hand alike. It is opened once, for one
checkpoint, with the date. Source: training plan, section 8.3; `docs/EVALUATION.md`, "Sealed
sessions".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.errors import CorruptFile, SessionSealed
from kalshi_pipeline.plans import load_plan, plan_names
from kalshi_pipeline.storage.checkpoints import TRAINER
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.seals import (
    Opening,
    is_sealed_by_hand,
    looked_at_when_sealed,
    open_session,
    opening_of,
    seal,
)
from kalshi_pipeline.storage.trials import read_trials

_RUN = "run.json"  # of a training run: `learning/runs.py`
_OF_AN_OPENING = ("checkpoint", "plan", "reason", "opened_ms")


@dataclass(frozen=True)
class Seal:
    """A sealed session as an evaluation finds it.

    Args:
        session: its id.
        opening: the one look at it; None where nobody has opened it.
        checkpoint: content hash of what is judged now.
    """

    session: int
    opening: Opening | None
    checkpoint: str

    @property
    def first_look(self) -> bool:
        """Whether it was opened for what is judged now, and nothing had looked at it before."""
        return (
            self.opening is not None
            and self.opening.checkpoint == self.checkpoint
            and not self.opening.before
        )

    def told(self) -> dict[str, Any]:
        """As the report shows it."""
        before = self.opening.before if self.opening else ()
        status = "opened for this checkpoint" if self.first_look else "opened before"
        if before:
            status = f"looked at before it was sealed: {', '.join(before)}"
        return {
            "session": self.session,
            "status": status if self.opening else "sealed, not opened",
            "first_look": self.first_look if self.opening else None,
            **{name: getattr(self.opening, name, None) for name in _OF_AN_OPENING},
        }


def seal_session(warehouse: Warehouse, session: int, now_ms: int) -> tuple[bool, tuple[str, ...]]:
    """Seal a session by hand; one that was looked at before is sealed, and never a first look.

    Returns:
        Whether it was not sealed by hand before; what has looked at it.

    Raises:
        CorruptFile: the trials ledger or a checkpoint is damaged: who looked cannot be told.
    """
    before = looks_at(warehouse, session)
    return seal(warehouse, session, now_ms, before), before


def looks_at(warehouse: Warehouse, session: int) -> tuple[str, ...]:
    """Who has judged, chosen or learned by a session in this warehouse, in a few words each.

    The trials ledger says what was scored on it; the lineage of every checkpoint that lies in the
    warehouse, of a published phase or of a run, what was trained on it or chosen by it.

    Raises:
        CorruptFile: the ledger or a checkpoint is damaged: who looked cannot be told.
    """
    found = {
        f"{'judged' if row['kind'] == 'evaluation' else 'validated'} by {row['plan']}"
        for row in read_trials(warehouse).select(["kind", "plan", "sessions"]).to_pylist()
        if session in row["sessions"]
    }
    told_by = (f"**/{TRAINER}", f"**/trained_models/*/{_RUN}")
    for path in (path for pattern in told_by for path in warehouse.notes(pattern)):
        if path.parent.name.startswith("unusable"):
            continue  # damaged, and set aside: its run says what it learned from
        try:
            told = json.loads(path.read_bytes())
            used = told["key"]["sessions"] if path.name == _RUN else _sessions(told["lineage"])
            if session in used:
                found.add("trained on")
            if session in _sessions(told.get("selected_on", ())):
                found.add("chosen by")
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptFile(
                "a checkpoint's lineage cannot be read: who looked at a session is not known",
                value=str(path),
            ) from error
    return tuple(sorted(found))


def _sessions(ranges: Iterable[Mapping[str, Any]]) -> set[Any]:
    return {entry["session"] for entry in ranges}


def is_sealed(warehouse: Warehouse, session: int) -> bool:
    """Whether it was sealed, by a plan or by hand; opened or not."""
    return is_sealed_by_hand(warehouse, session) or any(
        session in load_plan(name).sealed for name in plan_names()
    )


def seals_of(
    warehouse: Warehouse, sessions: Iterable[int], checkpoint: str, also: Iterable[int] = ()
) -> dict[int, Seal]:
    """Session -> its seal, of those that are sealed.

    Args:
        warehouse: where openings are noted.
        sessions: to be judged on.
        checkpoint: content hash of what is judged.
        also: further sessions that count as sealed.
    """
    sealed = set(also)
    return {
        session: Seal(session, opening_of(warehouse, session), checkpoint)
        for session in sessions
        if session in sealed or is_sealed(warehouse, session)
    }


def refuse_sealed(warehouse: Warehouse, sessions: Iterable[int], wish: str) -> None:
    """Nothing learns from a sealed session or chooses by it before it has been opened.

    Args:
        warehouse: where openings are noted.
        sessions: that are wanted.
        wish: what for, as the message says it.

    Raises:
        SessionSealed: one is sealed; names it.
    """
    for session in sessions:
        if is_sealed(warehouse, session) and opening_of(warehouse, session) is None:
            raise SessionSealed(
                f"session {session} is sealed: it is kept for one look at the end, and "
                f"{wish} would spend it; `kalshi sessions open {session} --reason ...` opens it "
                "for the checkpoint that is to be judged",
                session=session,
                rule="sealed",
            )


def open_for(
    warehouse: Warehouse, session: int, checkpoint: str, plan: str, reason: str, now_ms: int
) -> Opening:
    """Open a sealed session for one checkpoint, once.

    Args:
        warehouse: where it is noted.
        session: its id.
        checkpoint: content hash of what is to be judged.
        plan: whose checkpoint that is, or `by_hand`.
        reason: why now.
        now_ms: the date; Unix milliseconds.

    Returns:
        The opening that holds: an earlier one for the same checkpoint, where there is one.

    Raises:
        SessionSealed: no reason is given, or the session is not sealed: there is nothing to open.
        AlreadyOpened: it was opened for another checkpoint.
        CorruptFile: who looked at it before cannot be told.
    """
    if not is_sealed(warehouse, session):
        raise SessionSealed("it is not sealed: there is nothing to open", session=session)
    if not reason.strip():
        raise SessionSealed("it is opened on purpose: say why", session=session, rule="reason")
    seen = {*looks_at(warehouse, session), *looked_at_when_sealed(warehouse, session)}
    before = tuple(sorted(seen))  # nothing looks at it while it is sealed
    return open_session(
        warehouse, Opening(session, checkpoint, plan, reason.strip(), now_ms, before)
    )
