"""Sealed sessions: which are, and who opened them, for which checkpoint and when.

    <root>/seals/session={id}/sealed/    seal.json: sealed by hand; a plan may seal one as well
    <root>/seals/session={id}/opened/    opening.json: the one look there is

Each is written once and never changed: whoever comes second finds the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kalshi_pipeline.errors import AlreadyOpened, CorruptFile
from kalshi_pipeline.names import session_id
from kalshi_pipeline.storage.publish import Warehouse, canonical_json
from kalshi_pipeline.storage.whole_folder import read_folder

SEALS = "seals"
_SEALED, _OPENED = "sealed", "opened"
_SEAL, _OPENING = "seal.json", "opening.json"


@dataclass(frozen=True)
class Opening:
    """The look at a sealed session.

    Args:
        session: its id.
        checkpoint: content hash of what is to be judged: for this one it is the first look.
        plan: whose checkpoint that is, or `by_hand`.
        reason: why now, in its opener's words.
        opened_ms: when; Unix milliseconds.
        before: what had looked at the session before it was sealed: then no look is the first.
    """

    session: int
    checkpoint: str
    plan: str
    reason: str
    opened_ms: int
    before: tuple[str, ...] = ()


def seal(warehouse: Warehouse, session: int, sealed_ms: int, before: Sequence[str] = ()) -> bool:
    """Seal a session; whether it was not sealed by hand before.

    Args:
        warehouse: where it is noted.
        session: its id; it need not be recorded yet.
        sealed_ms: now; Unix milliseconds.
        before: what has looked at it already.
    """
    note = {"session": session, "sealed_ms": sealed_ms, "before": list(before)}
    folder = _home(warehouse, session) / _SEALED
    return warehouse.claim(folder, {_SEAL: canonical_json(note).encode()})


def looked_at_when_sealed(warehouse: Warehouse, session: int) -> tuple[str, ...]:
    """What had looked at a session when it was sealed by hand; empty of one that was not.

    Raises:
        CorruptFile: what was written of it is damaged.
    """
    folder = warehouse.claimed(_home(warehouse, session) / _SEALED)
    if not folder.exists():
        return ()
    try:
        return tuple(map(str, json.loads(read_folder(folder)[_SEAL]).get("before", ())))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFile("the seal of a session cannot be read", value=str(folder)) from error


def is_sealed_by_hand(warehouse: Warehouse, session: int) -> bool:
    """Whether `seal` was called for it in this warehouse."""
    return warehouse.claimed(_home(warehouse, session) / _SEALED).is_dir()


def opening_of(warehouse: Warehouse, session: int) -> Opening | None:
    """The opening of a session; None of one that nobody has opened.

    Raises:
        CorruptFile: what was written of it is damaged.
    """
    folder = warehouse.claimed(_home(warehouse, session) / _OPENED)
    if not folder.exists():
        return None
    try:
        told: dict[str, Any] = json.loads(read_folder(folder)[_OPENING])
        return Opening(**told | {"before": tuple(told.get("before", ()))})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFile("the opening of a session cannot be read", value=str(folder)) from error


def openings(warehouse: Warehouse) -> tuple[Opening, ...]:
    """Every look at a sealed session, by session."""
    found = warehouse.names(f"{SEALS}/session=*/{_OPENED}")
    sessions = sorted(session_id(path.parent.name.partition("=")[2]) for path in found)
    looks = (opening_of(warehouse, session) for session in sessions)
    return tuple(look for look in looks if look is not None)


def open_session(warehouse: Warehouse, opening: Opening) -> Opening:
    """Open a sealed session for one checkpoint; asked again for the same, the first stands.

    Returns:
        The opening that holds.

    Raises:
        AlreadyOpened: it was opened for another checkpoint.
    """
    content = {_OPENING: canonical_json(asdict(opening)).encode()}
    if warehouse.claim(_home(warehouse, opening.session) / _OPENED, content):
        return opening
    first = opening_of(warehouse, opening.session)
    if first is None or first.checkpoint != opening.checkpoint:
        raise AlreadyOpened(
            f"it was opened for checkpoint {first.checkpoint[:16] if first else 'unknown'}, and "
            "there is one first look; what is judged on it now is labelled so, without opening",
            session=opening.session,
            rule="opened once",
        )
    return first


def _home(warehouse: Warehouse, session: int) -> Path:
    return warehouse.root / SEALS / f"session={session_id(session)}"
