"""Whether validation has decayed: found where it has, rarely said where it has not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.evaluation.decay import MOST_DECAYED, decay

QUICK = EvaluationConfig(resamples=400)
SPREAD = 40.0  # cents, of an event's total


def ledger(cents, session: int = 1, label: str = "clean_forward", markets: int = 2) -> pa.Table:
    """A row a market of an event; an event comes to what is given for it."""
    rows = [
        {
            "session": session,
            "event": f"E{event}",
            "market": f"E{event}-{market}",
            "segment": 0,
            "pnl_micro": round(total * 10_000 / markets),
            "label": label,
        }
        for event, total in enumerate(cents)
        for market in range(markets)
    ]
    return pa.Table.from_pylist(rows)


def drawn(rng: np.random.Generator, mean: float, events: int) -> np.ndarray:
    return rng.normal(mean, SPREAD, events)


def test_a_drop_that_is_no_chance_and_matters_is_decay() -> None:
    rng = np.random.default_rng(1)
    found = decay(ledger(drawn(rng, -30, 60)), ledger(drawn(rng, 20, 50), 2), QUICK)
    assert found.status == "decayed"
    assert (found.events, found.validation_events) == (60, 50)
    assert found.drop_cents == pytest.approx(found.validation_cents - found.pnl_cents)
    assert found.drop_interval is not None
    assert 0 < found.drop_interval[0] < found.drop_cents < found.drop_interval[1]
    assert "cents an event" in found.says


def test_a_drop_that_may_be_chance_is_none() -> None:
    rng = np.random.default_rng(2)
    found = decay(ledger(drawn(rng, 0, 40)), ledger(drawn(rng, 12, 40), 2), QUICK)
    assert found.drop_cents > MOST_DECAYED * 10
    assert found.drop_interval[0] < 0
    assert found.status == "no decay shown"


@pytest.mark.parametrize(
    ("reached", "drop", "outcome"),
    [
        (100.0, 29.0, "no decay shown"),  # certain, and less than 30 %
        (100.0, 31.0, "decayed"),
        (-100.0, 29.0, "no decay shown"),  # of its size, whatever its sign
        (-100.0, 31.0, "decayed"),
        (0.0, 2.9, "no decay shown"),  # of 10 cents at least
        (0.0, 3.1, "decayed"),
    ],
)
def test_a_drop_counts_beyond_the_plans_share_of_what_was_reached(reached, drop, outcome) -> None:
    alike = np.full(40, reached)
    found = decay(ledger(alike - drop), ledger(alike, 2), QUICK)
    assert found.drop_cents == pytest.approx(drop)
    assert found.status == outcome


def test_a_gain_is_no_decay() -> None:
    found = decay(ledger(np.full(40, 50.0)), ledger(np.full(40, 5.0), 2), QUICK)
    assert found.status == "no decay shown"
    assert found.drop_cents == pytest.approx(-45.0)


@pytest.mark.parametrize(("forward", "validation"), [(29, 60), (60, 29)])
def test_below_thirty_events_on_either_side_nothing_is_said(forward, validation) -> None:
    found = decay(ledger(np.full(forward, -99.0)), ledger(np.full(validation, 99.0), 2), QUICK)
    assert found.status == "not assessable"
    assert found.drop_interval is None
    assert "30 events" in found.says


def test_without_a_validation_session_nothing_is_said() -> None:
    found = decay(ledger(np.full(40, -99.0)), None, QUICK)
    assert (found.status, found.validation_cents, found.drop_cents) == (
        "not assessable", None, None,
    )  # fmt: skip
    assert found.pnl_interval is not None


def test_only_clean_forward_rows_decide_and_without_any_nothing_is_said() -> None:
    clean, seen = ledger(np.full(40, 5.0)), ledger(np.full(20, -500.0), 3, "seen_event")
    validation = ledger(np.full(40, 5.0), 2)
    both = decay(pa.concat_tables([clean, seen]), validation, QUICK)
    assert (both.clean, both.events, both.status) == (True, 40, "no decay shown")
    none = decay(ledger(np.full(40, -500.0), 3, "backward"), validation, QUICK)
    assert (none.clean, none.events, none.status) == (False, 40, "not assessable")
    assert none.pnl_cents == pytest.approx(-500.0)


def test_where_nothing_has_changed_decay_is_said_as_seldom_as_the_interval_says() -> None:
    rng = np.random.default_rng(3)
    said = [
        decay(ledger(drawn(rng, 5, 40)), ledger(drawn(rng, 5, 40), 2), QUICK).status
        for _ in range(300)
    ]
    # 2.5 % of one side; 300 draws put 95 % of all counts below 5 %
    assert said.count("decayed") <= 15
    assert "not assessable" not in said
