"""Generated markets are like recorded ones, figure by figure, within stated factors."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.calibration import (
    BITCOIN,
    CROSS,
    CROSS_SECTION,
    CROSS_SECTION_WITHIN,
    GOLD,
    INTRADAY,
    INTRADAY_WITHIN,
    Figures,
    Session,
    Within,
    cross_section,
    generated,
    intraday,
)


def assert_close(recorded: Figures, made: Figures, within: dict[str, Within]) -> None:
    compared = {name for name in within if recorded[name] == recorded[name]}  # not NaN
    far = {
        name: (recorded[name], made[name])
        for name in compared
        if not within[name].holds(recorded[name], made[name])
    }
    assert not far
    assert len(compared) >= len(within) - 2


@pytest.mark.parametrize(("recorded", "ours"), [(101, BITCOIN), (112, GOLD)])
def test_quarter_hour_markets_are_like_the_recorded_ones(recordings, tmp_path, recorded, ours):
    there = intraday([Session.of(recordings / str(recorded))])
    here = intraday([generated(ours, tmp_path)])
    assert set(there) == set(here) == set(INTRADAY)
    assert_close(there, here, INTRADAY_WITHIN)


@pytest.mark.slow
def test_the_plans_markets_are_like_a_cross_section_of_ordinary_ones(recordings, tmp_path):
    polls = cross_section(Session.of(recordings / "141"), first_only=False)
    here = cross_section(generated(CROSS, tmp_path), first_only=True)
    assert set(polls) == set(here) == set(CROSS_SECTION)
    assert_close(polls, here, CROSS_SECTION_WITHIN)


def test_within_says_what_it_means():
    assert Within(2).holds(3, 6)
    assert not Within(2).holds(3, 7)
    assert Within(plus=0.1).holds(0.0, 0.1)
    assert not Within(plus=0.1).holds(0.5, 0.7)
    assert Within(2, 1).holds(0, 1)
    assert not Within(2).holds(0, 1)
    assert str(Within(2, 1)) == "x 2 or ± 1"


def test_the_page_shows_every_figure():
    page = (Path(__file__).parents[2] / "docs" / "GENERATOR.md").read_text()
    for name in (*INTRADAY, *CROSS_SECTION):
        assert f"| {name} |" in page
