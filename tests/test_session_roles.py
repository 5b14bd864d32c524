"""What each session is suggested for, and that the suggestion follows from its figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.sessions.roles import TRAINING, Role, Standing, suggest_roles

HOUR = 3_600_000
EVENTS = frozenset(f"E{n}" for n in range(40))


def standing(session: int, hours: tuple[int, int], usable_steps: int, **other) -> Standing:
    figures = {
        "quality": 1.0, "steps": usable_steps, "suitable_markets": 50, "markets": 1_000,
        "events": EVENTS,
    } | other  # fmt: skip
    return Standing(
        session, usable_steps=usable_steps, start_ms=hours[0] * HOUR, end_ms=hours[1] * HOUR,
        **figures,
    )  # fmt: skip


# the training plan's sessions: hours since 10 December, usable steps, markets
PLAN = [
    standing(32, (86, 104), 156_370),
    standing(25, (77, 82), 45_000),
    standing(10, (39, 44), 41_000),
    standing(70, (112, 113), 1_600, suitable_markets=3),
    standing(41, (105, 108), 21_000),
    standing(9, (10, 25), 47_851, markets=500),
    standing(6, (9, 10), 500, markets=300),
    standing(71, (114, 162), 120_000, events=frozenset({"E0", "N1", "N2", "N3"})),
]


def roles(sessions: list[Standing]) -> dict[int, Role]:
    return {session: suggestion.role for session, suggestion in suggest_roles(sessions).items()}


def test_the_plans_sessions_are_told_apart_as_the_plan_does_except_where_they_hold_nothing():
    assert roles(PLAN) == {
        32: Role.PRIMARY, 25: Role.HIGH, 10: Role.HIGH, 41: Role.VALIDATION,
        9: Role.GENERALIZATION, 6: Role.STRESS_TEST, 71: Role.FORWARD_TEST,
        70: Role.STRESS_TEST,  # the plan validates on it: three markets
    }  # fmt: skip


def test_a_later_session_of_other_events_is_a_forward_test_and_says_how_few_they_are():
    found = suggest_roles(PLAN)[71]
    assert (found.role, found.events_trained_on) == (Role.FORWARD_TEST, 0.25)
    assert found.why == "later; 25% of its events trained on, only 4 events"


def test_the_primary_session_is_one_that_another_follows():
    first, last = standing(1, (0, 5), 1_000), standing(2, (5, 9), 9_000)
    assert roles([first, last]) == {1: Role.PRIMARY, 2: Role.VALIDATION}
    assert roles([last]) == {2: Role.PRIMARY}
    beside = replace(last, start_ms=4 * HOUR)
    assert roles([first, beside])[2] is Role.PRIMARY


@pytest.mark.parametrize("broken", [{"suitable_markets": 0}, {"quality": 0.49}])
def test_what_cannot_be_used_is_said_to_be_unusable(broken):
    assert roles([standing(1, (0, 5), 9_000, **broken)]) == {1: Role.UNUSABLE}
    assert roles([standing(1, (0, 5), 9_000, **broken), standing(2, (6, 7), 1)])[2] is Role.PRIMARY


def test_no_session_has_no_role():
    assert suggest_roles([]) == {}


SESSIONS = st.lists(
    st.builds(
        standing,
        session=st.integers(1, 99),
        hours=st.tuples(st.integers(0, 9), st.integers(10, 19)),
        usable_steps=st.integers(1, 1_000),
        suitable_markets=st.integers(0, 2),
        quality=st.sampled_from((0.1, 0.9)),
        markets=st.sampled_from((300, 1_000)),
        events=st.frozensets(st.sampled_from(sorted(EVENTS)), min_size=1),
    ),
    max_size=7,
    unique_by=lambda s: s.session,
)


@given(SESSIONS)
def test_one_session_is_primary_and_nobody_is_trained_on_after_it(sessions):
    found = suggest_roles(sessions)
    assert set(found) == {s.session for s in sessions}
    (primary,) = [s for s in sessions if found[s.session].role is Role.PRIMARY] or [None]
    if primary is None:
        assert {s.role for s in found.values()} <= {Role.UNUSABLE}
        return
    for session in sessions:
        if found[session.session].role in TRAINING:
            assert session.start_ms < primary.end_ms
            assert session.suitable_markets
