"""Sessions kept for one look: what training, validation and evaluation ask before they load one.

A session is sealed by any plan that ships (`sealed = true` where it evaluates it) or by `kalshi
sessions seal`, for every plan and every training by hand alike. It is opened once, for one
checkpoint, with the date. Source: training plan, section 8.3; `docs/EVALUATION.md`, "Sealed
sessions".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.errors import SessionSealed
from kalshi_pipeline.plans import load_plan, plan_names
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.seals import (
    Opening,
    is_sealed_by_hand,
    open_session,
    opening_of,
)

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
        """Whether it was opened for what is judged now."""
        return self.opening is not None and self.opening.checkpoint == self.checkpoint

    def told(self) -> dict[str, Any]:
        """As the report shows it."""
        status = "opened for this checkpoint" if self.first_look else "opened before"
        return {
            "session": self.session,
            "status": status if self.opening else "sealed, not opened",
            "first_look": self.first_look if self.opening else None,
            **{name: getattr(self.opening, name, None) for name in _OF_AN_OPENING},
        }


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
    """
    if not is_sealed(warehouse, session):
        raise SessionSealed("it is not sealed: there is nothing to open", session=session)
    if not reason.strip():
        raise SessionSealed("it is opened on purpose: say why", session=session, rule="reason")
    return open_session(warehouse, Opening(session, checkpoint, plan, reason.strip(), now_ms))
