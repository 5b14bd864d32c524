"""Labels are computed from what was used; the first that applies wins."""

from __future__ import annotations

import pytest

from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.lineage import LONGEST_LOOKBACK_MS, Label, Lineage
from kalshi_pipeline.feature_table import FEATURES


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


def test_an_episode_right_after_what_was_used_is_under_embargo() -> None:
    apart = 3_600_000 + LONGEST_LOOKBACK_MS
    kept = Lineage.of([used(1, "A", "A-1", 1_000)], embargo_ms=3_600_000)
    assert kept.label(2, "B", "B-1", 999) is Label.BACKWARD
    assert kept.label(2, "B", "B-1", 1_000) is Label.EMBARGO
    assert kept.label(2, "B", "B-1", 999 + apart) is Label.EMBARGO
    assert kept.label(2, "B", "B-1", 1_000 + apart) is Label.CLEAN_FORWARD


def test_the_lookback_is_that_of_the_slowest_feature() -> None:
    slowest = max(feature.lookback_s or 0 for feature in FEATURES)
    assert slowest * 1_000 == LONGEST_LOOKBACK_MS == 600_000


def test_a_sealed_session_that_another_checkpoint_saw_first_is_not_clean() -> None:
    later = Lineage.of([used(1, "A", "A-1", 1_000)], looked_at=[71])
    assert later.label(71, "B", "B-1", 9_000) is Label.LOOKED_AT
    assert later.label(72, "B", "B-1", 9_000) is Label.CLEAN_FORWARD
    assert later.label(71, "A", "A-2", 9_000) is Label.SEEN_EVENT
