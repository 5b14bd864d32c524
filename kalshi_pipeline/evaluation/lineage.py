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


class Label(StrEnum):
    """What a policy's makers knew of a row before it was judged on it; the first that applies."""

    IN_SAMPLE = "in_sample"  # same session and market as something it was trained on
    SELECTED_ON = "selected_on"  # same session and market helped to choose checkpoint or settings
    SEEN_EVENT = "seen_event"  # another market or session of an event that was used
    UNKNOWN = "unknown"  # the weights were made by others, who did not say from what
    BACKWARD = "backward"  # of a session that was used, or recorded before the end of what was
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
    """

    trained: frozenset[tuple[int, str]]
    selected: frozenset[tuple[int, str]]
    events: frozenset[str]
    end_ms: int | None
    foreign: bool = False

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
    ) -> Lineage:
        """Read a checkpoint's lineage.

        Args:
            trained: ranges `{session, event, market, start_ms, end_ms}` used by the weights.
            selected_on: the same, used to choose.
            foreign: whether others made the weights.

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
        return Label.CLEAN_FORWARD
