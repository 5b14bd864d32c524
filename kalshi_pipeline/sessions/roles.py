"""What each session is good for in training: the plan's appendix A, with computed figures.

The roles are suggestions by rule, over all the sessions looked at together. *Usable steps* are
those of suitable markets. In this order, the first that applies:

1. UNUSABLE: no suitable market, or a quality score under 0.5.
2. PRIMARY: of the sessions that another usable one follows (or of all, where none does) the one
   with the most usable steps.
3. STRESS TEST: under 5 % of the primary session's usable steps.
4. After the primary session's end: VALIDATION where half or more of its suitable events also occur
   in sessions to train on, otherwise FORWARD TEST.
5. GENERALIZATION: at most 60 % or at least 1/0.6 of the primary session's markets.
6. HIGH: 15 % or more of the primary session's usable steps; otherwise MEDIUM. Like PRIMARY, these
   are to train on.

Source: training plan, sections 1.1, 1.2 and appendix A, whose own roles they are held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEAST_QUALITY = 0.5
THIN_SHARE = 0.05
HIGH_SHARE = 0.15
OTHER_SIZE = 0.6
SEEN_SHARE = 0.5
LEAST_EVENTS = 30  # as many as an evaluation needs before it claims an interval


class Role(StrEnum):
    """What a session is suggested for."""

    PRIMARY = "PRIMARY"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    VALIDATION = "VALIDATION"
    FORWARD_TEST = "FORWARD TEST"
    GENERALIZATION = "GENERALIZATION"
    STRESS_TEST = "STRESS TEST"
    UNUSABLE = "UNUSABLE"


TRAINING = (Role.PRIMARY, Role.HIGH, Role.MEDIUM)


@dataclass(frozen=True)
class Standing:
    """The figures of a session that its role depends on.

    Args:
        steps: of all its markets.
        usable_steps: of its suitable markets.
        markets: subscribed to, or seen where that is not said.
        events: Kalshi events of its suitable markets.
        start_ms: first frame.
        end_ms: last frame.
    """

    session: int
    quality: float
    steps: int
    usable_steps: int
    suitable_markets: int
    markets: int
    events: frozenset[str]
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Suggestion:
    """A role, and why.

    Args:
        events_trained_on: share of the session's suitable events that also occur in other sessions
            to train on.
    """

    role: Role
    why: str
    events_trained_on: float


def suggest_roles(sessions: Sequence[Standing]) -> dict[int, Suggestion]:
    """A role for each session, by the rules above."""
    usable = [s for s in sessions if s.suitable_markets and s.quality >= LEAST_QUALITY]
    followed = [s for s in usable if any(other.start_ms >= s.end_ms for other in usable)]
    primary = max(followed or usable, key=lambda s: (s.usable_steps, -s.session), default=None)
    # who trains does not depend on what has been trained on: a first pass tells
    first = {s.session: _role(s, primary, frozenset())[0] for s in sessions}
    roles = {}
    for session in sessions:
        trained = frozenset[str]().union(
            *(s.events for s in sessions if s is not session and first[s.session] in TRAINING)
        )
        role, why = _role(session, primary, trained)
        roles[session.session] = Suggestion(role, why, _share_seen(session, trained))
    return roles


def _role(session: Standing, primary: Standing | None, trained: frozenset[str]) -> tuple[Role, str]:
    if not session.suitable_markets:
        return Role.UNUSABLE, "no suitable market"
    if primary is None or session.quality < LEAST_QUALITY:
        return Role.UNUSABLE, f"quality under {LEAST_QUALITY:g}"
    if session is primary:
        return Role.PRIMARY, "the most usable steps"
    share = session.usable_steps / primary.usable_steps
    size = session.markets / max(primary.markets, 1)
    seen = _share_seen(session, trained)
    of_primary = f"{share:.0%} of the primary's usable steps"
    if share < THIN_SHARE:
        return Role.STRESS_TEST, of_primary
    if session.start_ms >= primary.end_ms:
        few = f", only {len(session.events)} events" if len(session.events) < LEAST_EVENTS else ""
        role = Role.VALIDATION if seen >= SEEN_SHARE else Role.FORWARD_TEST
        return role, f"later; {seen:.0%} of its events trained on{few}"
    if not OTHER_SIZE < size < 1 / OTHER_SIZE:
        return Role.GENERALIZATION, f"{session.markets:,} markets, the primary {primary.markets:,}"
    return (Role.HIGH if share >= HIGH_SHARE else Role.MEDIUM), of_primary


def _share_seen(session: Standing, trained: frozenset[str]) -> float:
    return len(session.events & trained) / len(session.events) if session.events else 0.0
