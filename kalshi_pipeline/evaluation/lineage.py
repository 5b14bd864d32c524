"""Who saw what: the label of every evaluated row, set by machine and typed by nobody.

Source: `docs/EVALUATION.md`, "Lineage".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.feature_table import LONGEST_LOOKBACK_S

LONGEST_LOOKBACK_MS = round(LONGEST_LOOKBACK_S * 1_000)


class Label(StrEnum):
    """What a policy's makers knew of a row before it was judged on it; the first that applies."""

    IN_SAMPLE = "in_sample"  # same session and market as something it was trained on
    SELECTED_ON = "selected_on"  # same session and market helped to choose checkpoint or settings
    SEEN_EVENT = "seen_event"  # another market or session of an event that was used
    UNKNOWN = "unknown"  # the weights were made by others, who did not say from what
    BACKWARD = "backward"  # of a session that was used, or recorded before the end of what was
    EMBARGO = "embargo"  # begins too soon after the end of what was used
    LOOKED_AT = "looked_at"  # of a session that was judged on before, sealed or for retraining
    CLEAN_FORWARD = "clean_forward"  # none of these


@dataclass(frozen=True)
class Lineage:
    """Everything weights and selection ever used, parents' included.

    Args:
        trained: (session, market) pairs that reached the weights.
        selected: (session, market) pairs that chose checkpoint or settings.
        events: every Kalshi event among both.
        end_ms: end of the last time range used; None where nothing was.
        foreign: others made the weights, or some they continued from: more may have been used.
        apart_ms: how long after `end_ms` an episode must begin to be clean: the embargo, and what
            the features of its first step remember.
        looked_at: sealed sessions that another checkpoint was judged on first, and sessions of a
            forward validation.
    """

    trained: frozenset[tuple[int, str]]
    selected: frozenset[tuple[int, str]]
    events: frozenset[str]
    end_ms: int | None
    foreign: bool = False
    apart_ms: int = 0
    looked_at: frozenset[int] = frozenset()

    @cached_property
    def sessions(self) -> frozenset[int]:
        """Every session of which anything was used: no part of one is out of sample."""
        return frozenset(session for session, _ in self.trained | self.selected)

    @classmethod
    def of(
        cls,
        trained: Iterable[Mapping[str, Any]],
        selected_on: Iterable[Mapping[str, Any]] = (),
        *,
        foreign: bool = False,
        embargo_ms: int | None = None,
        looked_at: Iterable[int] = (),
    ) -> Lineage:
        """Read a checkpoint's lineage.

        Args:
            trained: ranges `{session, event, market, start_ms, end_ms}` used by the weights.
            selected_on: the same, used to choose.
            foreign: whether others made the weights.
            embargo_ms: kept apart from the end of what was used, beside the longest lookback of a
                feature; None: neither.
            looked_at: as of the class.

        Raises:
            EvaluationError: a range lacks a field; an unreadable lineage proves nothing clean.
        """
        train, select = list(trained), list(selected_on)
        try:
            return cls(
                trained=frozenset((int(used["session"]), str(used["market"])) for used in train),
                selected=frozenset((int(used["session"]), str(used["market"])) for used in select),
                events=frozenset(str(used["event"]) for used in train + select),
                end_ms=max((int(used["end_ms"]) for used in train + select), default=None),
                foreign=foreign,
                apart_ms=0 if embargo_ms is None else embargo_ms + LONGEST_LOOKBACK_MS,
                looked_at=frozenset(looked_at),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError(
                "a checkpoint's lineage cannot be read", rule="lineage", value=str(error)
            ) from error

    def label(self, session: int, event: str, market: str, start_ms: int) -> Label:
        """The label of one evaluated episode that starts at `start_ms`."""
        if (session, market) in self.trained:
            return Label.IN_SAMPLE
        if (session, market) in self.selected:
            return Label.SELECTED_ON
        if event in self.events:
            return Label.SEEN_EVENT
        if self.foreign:
            return Label.UNKNOWN
        if session in self.sessions or (self.end_ms is not None and start_ms < self.end_ms):
            return Label.BACKWARD
        if self.end_ms is not None and start_ms < self.end_ms + self.apart_ms:
            return Label.EMBARGO
        if session in self.looked_at:
            return Label.LOOKED_AT
        return Label.CLEAN_FORWARD
