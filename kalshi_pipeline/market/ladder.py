"""One side of a dense order book, compiled: a ladder of bids and what is known about it.

`ladder[place]` is the size at price `place * step`; place 0 is always empty. Every figure of a side
moves with the levels that change: a change away from the touch costs two additions, one at the
touch looks only at the places its figures pass over.
"""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part

u = np.uint64  # an index that is known not to be negative costs the compiler no test

# a side's figures, from its own offset on
BEST, SECOND, COUNT, TOTAL = 0, 1, 2, 3  # places of the two best levels; levels; their whole size
NEAR = 4  # size of the levels at most `near` places from the best
# selling k into the ladder takes every level above MARK whole, and the rest of k from MARK
# (0 = there is no more): ABOVE is their size, PROCEEDS their size times place
MARK, ABOVE, PROCEEDS = 5, 6, 7
SIDE_WIDTH = 8


@part
def change_level(state, s, ladder, start, place, before, after, near, k, depth):  # type: ignore[no-untyped-def]
    """Account for one level of a side that went from `before` to `after`; it lies in the ladder.

    Args:
        state: `[...]` figures; those of the side begin at `s`.
        s: where they begin.
        ladder: `[...]` sizes; those of the side begin at `start`.
        start: where they begin.
        place: of the level.
        before: its size until now, at least 0.
        after: its size, at least 0.
        near: how many places are near the best.
        k: size of which the proceeds are known.
        depth: whether more is wanted than the two best levels and their number.
    """
    change = after - before
    if depth:
        state[u(s + TOTAL)] += change
    if (before > 0) & (after > 0):
        if depth:
            # no branch: whether a change lies near the touch cannot be predicted
            state[u(s + NEAR)] += change * (place >= state[u(s + BEST)] - near)
    elif before != after:
        _change_levels(state, s, ladder, start, place, before, change, near)
    if not depth:
        return
    mark = state[u(s + MARK)]
    if (place > mark) | ((place == mark) & (state[u(s + ABOVE)] + after < k)):
        _move_mark(state, s, ladder, start, place, change, k)


@kernel
def _change_levels(state, s, ladder, start, place, before, change, near):  # type: ignore[no-untyped-def]
    # a level has come or gone
    best, second = state[u(s + BEST)], state[u(s + SECOND)]
    if before == 0:
        state[u(s + COUNT)] += 1
        if place > best:
            _gain_best(state, s, ladder, start, place, change, near)
            return
        if place > second:
            state[u(s + SECOND)] = place
    else:
        state[u(s + COUNT)] -= 1
        if place == best:
            _lose_best(state, s, ladder, start, change, near)
            return
        if place == second:
            state[u(s + SECOND)] = _below(ladder, start, place, state[u(s + COUNT)] - 1)
    if place >= best - near:
        state[u(s + NEAR)] += change


@part
def _below(ladder, start, place, levels):  # type: ignore[no-untyped-def]
    # the next level below a place, of so many that are left there
    if levels <= 0:
        return 0
    place -= 1
    while ladder[u(start + place)] == 0:
        place -= 1
    return place


@part
def _lose_best(state, s, ladder, start, change, near):  # type: ignore[no-untyped-def]
    old, best = state[u(s + BEST)], state[u(s + SECOND)]
    state[u(s + BEST)] = best
    state[u(s + SECOND)] = _below(ladder, start, best, state[u(s + COUNT)] - 1)
    size = state[u(s + NEAR)] + change
    for place in range(max(best - near, 0), min(old - near, best + 1)):
        size += ladder[u(start + place)]
    state[u(s + NEAR)] = size


@part
def _gain_best(state, s, ladder, start, best, change, near):  # type: ignore[no-untyped-def]
    old = state[u(s + BEST)]
    state[u(s + SECOND)] = old
    state[u(s + BEST)] = best
    if best - near > old:
        state[u(s + NEAR)] = change
        return
    size = state[u(s + NEAR)] + change
    for place in range(max(old - near, 0), best - near):
        size -= ladder[u(start + place)]
    state[u(s + NEAR)] = size


@part
def _move_mark(state, s, ladder, start, place, change, k):  # type: ignore[no-untyped-def]
    mark, above, proceeds = state[u(s + MARK)], state[u(s + ABOVE)], state[u(s + PROCEEDS)]
    if place > mark:
        above += change
        proceeds += change * place
    while above >= k:
        mark += 1
        size = ladder[u(start + mark)]
        above -= size
        proceeds -= size * mark
    while mark > 0 and above + ladder[u(start + mark)] < k:
        size = ladder[u(start + mark)]
        above += size
        proceeds += size * mark
        mark = mark - 1 if above < state[u(s + TOTAL)] else 0
    state[u(s + MARK)] = mark
    state[u(s + ABOVE)] = above
    state[u(s + PROCEEDS)] = proceeds


@part
def proceeds_of(state, s, k):  # type: ignore[no-untyped-def]
    """Size times place of selling k into the side; what finds no bid is worth nothing."""
    return state[u(s + PROCEEDS)] + (k - state[u(s + ABOVE)]) * state[u(s + MARK)]


@kernel
def clear_side(state, s, ladder, start):  # type: ignore[no-untyped-def]
    """Empty a side."""
    for place in range(state[u(s + BEST)] + 1):
        ladder[u(start + place)] = 0
    for figure in range(SIDE_WIDTH):
        state[u(s + figure)] = 0
