"""Shares and the smallest effect, against published numbers."""

from __future__ import annotations

import pytest

from kalshi_pipeline.evaluation.inference import smallest_detectable_effect, wilson_interval


def test_wilson_of_three_in_three_is_44_to_100_percent() -> None:
    low, high = wilson_interval(3, 3, 0.95)
    assert (round(low, 2), round(high, 2)) == (0.44, 1.0)


@pytest.mark.parametrize(("effect", "units"), [(0.2, 197), (0.3, 88), (0.5, 32)])
def test_units_needed_to_see_an_effect(effect: float, units: int) -> None:
    assert smallest_detectable_effect(1.0, units, 0.95) <= effect
    assert smallest_detectable_effect(1.0, units - 1, 0.95) > effect
