"""Advice that follows from figures, and never claims what the verdict does not."""

from __future__ import annotations

from typing import Any

import pytest

from kalshi_pipeline.evaluation.recommendations import recommendations
from kalshi_pipeline.evaluation.wording import CLAIMS
from tests.evaluation.past import past
from tests.evaluation.test_selection import GOOD, evidence

POLICY = {"pnl_cents": 2.0, "detectable_cents": 8.0, "max_drawdown_cents": 41.2}
REPORT = {
    "verdict": {"claim": False, "sentence": "No evidence of profit: ..."},
    "generated": True,
    "labels": {"clean_forward": {"events": 40}},
    "sealed": [],
    "headline": {"events": 40, "policies": [POLICY]},
    "sessions": [{"policies": [POLICY]}, {"policies": [POLICY | {"max_drawdown_cents": 7.0}]}],
    "decisions": [],
    "failure_modes": [],
    "selection": None,
}


def advice(**changes: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in recommendations(evidence(GOOD, past()), REPORT | changes):
        assert one["because"]
        found.setdefault(one["topic"], []).append(one["advice"])
    return found


def test_without_a_claim_nothing_is_deployed() -> None:
    assert advice()["deployment"] == ["Do not trade with this checkpoint."]


def test_a_claim_leads_to_paper_and_from_generated_sessions_to_recorded_ones() -> None:
    first, second = advice(verdict={"claim": True, "sentence": "..."})["deployment"]
    assert "paper" in first
    assert "recorded" in second


def test_no_advice_uses_a_word_that_claims() -> None:
    seen = [{"mode": "Reward hacking", "status": "seen", "rule": "r", "mitigation": "m"}]
    decided = [{"question": "q", "outcome": "refine", "action": "a", "point": 2, "when": "w"}]
    for claim in (False, True):
        told = advice(
            verdict={"claim": claim, "sentence": "..."}, failure_modes=seen, decisions=decided
        )
        assert not [text for texts in told.values() for text in texts if CLAIMS.search(text)]


def test_the_events_that_a_mean_as_small_as_this_one_takes_are_said() -> None:
    (needed,) = advice()["data"]
    assert "640 events" in needed  # 40 (8 / 2)^2


def test_a_sealed_session_is_offered_and_none_left_asks_for_recordings() -> None:
    closed = [{"session": 71, "first_look": None}]
    none = {"labels": {}, "headline": None}
    assert "Open session 71 once" in advice(sealed=closed, **none)["data"][0]
    assert "Record later sessions" in advice(**none)["data"][0]


@pytest.mark.parametrize(("outcome", "told"), [("continue", 0), ("switch", 1), ("iterate", 1)])
def test_what_a_decision_point_asks_for_is_advised(outcome, told) -> None:
    point = {"question": "Go?", "outcome": outcome, "action": "to A2C", "point": 1, "when": "Day 4"}
    found = [text for text in advice(decisions=[point])["training"] if "Go?" in text]
    assert len(found) == told


def test_picking_that_does_harm_is_said() -> None:
    assert any("take the last one" in t for t in advice(selection={"pbo": 0.6})["training"])
    assert not any("take the last one" in t for t in advice(selection={"pbo": 0.4})["training"])


def test_a_failure_mode_that_was_seen_is_answered_and_another_is_not() -> None:
    entry = {"mode": "Overfitting", "rule": "r", "mitigation": "early stopping"}
    assert advice(failure_modes=[entry | {"status": "seen"}])["failure mode"] == ["Early stopping."]
    assert "failure mode" not in advice(failure_modes=[entry | {"status": "not seen"}])


def test_every_safety_measure_of_the_plan_has_a_figure() -> None:
    found = advice()
    assert "10 contracts a market" in found["safety, position limits"][0]
    assert "42 ¢" in found["safety, daily loss limit"][0]  # the worst drawdown, rounded up
    assert "1 contract an order" in found["safety, gradual capital"][0]
    assert found["safety, manual override"]
    assert "250 ms" in found["infrastructure"][0]
