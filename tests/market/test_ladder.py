"""One side of a dense book against a dictionary, on ladders from seven places to ten thousand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalshi_pipeline.compiled import kernel, top_bit
from kalshi_pipeline.market.ladder import (
    BEST,
    COUNT,
    NEAR,
    SECOND,
    SIDE_WIDTH,
    TOTAL,
    begin_side,
    change_level,
    clear_side,
    proceeds_of,
)

# where a word of 64 places ends, where a word of 64 words ends, and the last place of all
EDGES = (1, 62, 63, 64, 65, 127, 128, 4_094, 4_095, 4_096, 4_097, 8_191, 8_192, 9_999, 10_000)


@kernel
def set_size(state, ladder, place, size, near, k):  # type: ignore[no-untyped-def]
    """Give a level a size."""
    before = ladder[place]
    ladder[place] = size
    change_level(state, 0, ladder, 0, place, before, size, near, k, True)


@kernel
def value_of(state, k):  # type: ignore[no-untyped-def]
    """Proceeds of selling k, in size times place."""
    return proceeds_of(state, 0, k)


@kernel
def highest_bit(word):  # type: ignore[no-untyped-def]
    """What a kernel takes for the highest bit."""
    return top_bit(word)


def value_in(levels: dict[int, int], k: int) -> int:
    value = 0
    for place in sorted(levels, reverse=True):
        taken = min(k, levels[place])
        value += taken * place
        k -= taken
    return value


@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(EDGES) | st.integers(1, 10_000),
            st.sampled_from((0, 0, 1, 30, 100, 5_000)),
        ),
        max_size=60,
    ),
    near=st.sampled_from((0, 1, 5, 70, 9_999)),
    k=st.sampled_from((1, 100, 6_000)),
)
def test_the_figures_of_a_side_are_those_of_its_levels(changes, near, k):
    state, ladder = np.zeros(SIDE_WIDTH, np.int64), np.zeros(10_001, np.int64)
    begin_side(state, 0)
    levels: dict[int, int] = {}
    for place, size in changes:
        set_size(state, ladder, place, size, near, k)
        levels.pop(place, None)
        if size:
            levels[place] = size
        best, second = [*sorted(levels, reverse=True), 0, 0][:2]
        assert (state[BEST], state[SECOND], state[COUNT]) == (best, second, len(levels))
        assert state[TOTAL] == sum(levels.values())
        assert state[NEAR] == sum(levels[p] for p in levels if p >= best - near)
        assert value_of(state, k) == value_in(levels, k)
    clear_side(state, 0, ladder, 0)
    assert not ladder.any()
    set_size(state, ladder, 64, 100, near, k)
    assert (state[BEST], state[SECOND], state[COUNT]) == (64, 0, 1)


@pytest.mark.parametrize(
    ("word", "bit"), [(0, -1), (1, 0), (2, 1), (2**62 + 5, 62), (-1, 63), (-(2**63), 63)]
)
def test_the_highest_bit_of_a_word_is_found(word, bit):
    assert highest_bit(np.int64(word)) == bit
