"""Labels are computed from what was used; the first that applies wins."""

from __future__ import annotations

import pytest

from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.lineage import Label, Lineage


def used(session: int, event: str, market: str, end_ms: int) -> dict[str, object]:
    return {
        "session": session, "event": event, "market": market, "start_ms": 0, "end_ms": end_ms,
    }  # fmt: skip


LINEAGE = Lineage.of([used(102, "A", "A-1", 1_000)], [used(105, "B", "B-1", 2_000)])


@pytest.mark.parametrize(
    ("session", "event", "market", "start_ms", "label"),
    [
        (102, "A", "A-1", 9_000, Label.IN_SAMPLE),
        (105, "B", "B-1", 9_000, Label.SELECTED_ON),
        (102, "A", "A-2", 9_000, Label.SEEN_EVENT),  # the other market of a trained event
        (106, "A", "A-1", 9_000, Label.SEEN_EVENT),  # the same market in a later session
        (106, "B", "B-2", 9_000, Label.SEEN_EVENT),
        (106, "C", "C-1", 1_999, Label.BACKWARD),  # before the end of what selection used
        (106, "C", "C-1", 2_000, Label.CLEAN_FORWARD),
        (102, "C", "C-1", 500, Label.BACKWARD),
        (102, "C", "C-1", 9_000, Label.BACKWARD),  # no part of a used session is out of sample
        (105, "C", "C-1", 9_000, Label.BACKWARD),
    ],
)
def test_label(session: int, event: str, market: str, start_ms: int, label: Label) -> None:
    assert LINEAGE.label(session, event, market, start_ms) is label


def test_training_outranks_selection() -> None:
    both = Lineage.of([used(1, "A", "A-1", 1)], [used(1, "A", "A-1", 1)])
    assert both.label(1, "A", "A-1", 5) is Label.IN_SAMPLE


def test_nothing_is_clean_of_weights_that_others_made_but_what_was_seen_is_said() -> None:
    foreign = Lineage.of([used(102, "A", "A-1", 1_000)], foreign=True)
    assert foreign.label(102, "A", "A-1", 9_000) is Label.IN_SAMPLE
    assert foreign.label(102, "A", "A-2", 9_000) is Label.SEEN_EVENT
    assert foreign.label(106, "C", "C-1", 9_000) is Label.UNKNOWN
    assert Lineage.of([], foreign=True).label(1, "A", "A-1", 0) is Label.UNKNOWN


def test_a_policy_that_used_nothing_is_clean_everywhere() -> None:
    assert Lineage.of([]).label(1, "A", "A-1", 0) is Label.CLEAN_FORWARD


@pytest.mark.parametrize("broken", [{"session": 1}, {**used(1, "A", "A-1", 1), "end_ms": None}])
def test_a_lineage_that_cannot_be_read_proves_nothing(broken: dict[str, object]) -> None:
    with pytest.raises(EvaluationError, match="lineage"):
        Lineage.of([broken])
