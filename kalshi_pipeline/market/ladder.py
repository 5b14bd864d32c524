"""One side of a dense order book, compiled: a ladder of bids and what is known about it.

`ladder[place]` is the size at price `place * step`; place 0 is always empty. Every figure of a side
moves with the levels that change. Which places hold a size is kept as a tree of bits, 64 to a word:
the best level is found in three steps however far the next one lies, and without a branch, which at
the touch nobody could predict.
"""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part, top_bit

u = np.uint64  # an index that is known not to be negative costs the compiler no test

# a side's figures, from its own offset on
BEST, SECOND, COUNT, TOTAL = 0, 1, 2, 3  # places of the two best levels; levels; their whole size
NEAR = 4  # size of the levels at most `near` places from the best
# selling k into the ladder takes every level above MARK whole, and the rest of k from MARK
# (0 = there is no more): ABOVE is their size, PROCEEDS their size times place
MARK, ABOVE, PROCEEDS = 5, 6, 7
# bit p of the words from LEAVES on: place p holds a size; bit w of those from GROUPS on: leaf w is
# not zero; bit g of ROOT: group g is not zero. Place 0 counts as held: an empty side's best is 0.
ROOT, GROUPS, LEAVES = 8, 9, 12
SIDE_WIDTH = LEAVES + 157  # 10,001 places, the finest grid there is
_ONE, _ALL = np.int64(1), np.int64(-1)


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
        depth: whether more is wanted than the best level and how many there are.
    """
    change, best = after - before, state[u(s + BEST)]
    if depth:
        state[u(s + TOTAL)] += change
        # no branch: whether a change lies near the touch cannot be predicted
        state[u(s + NEAR)] += change * (place >= best - near)
    if (before > 0) != (after > 0):
        _hold(state, s, place, after > 0, depth)
        if depth and state[u(s + BEST)] != best:
            _move_near(state, s, ladder, start, best, near)
    if not depth:
        return
    mark = state[u(s + MARK)]
    if (place > mark) | ((place == mark) & (state[u(s + ABOVE)] + after < k)):
        _move_mark(state, s, ladder, start, place, change, k)


@part
def _hold(state, s, place, held, depth):  # type: ignore[no-untyped-def]
    # a level has come or gone
    leaf, group = place >> 6, place >> 12
    bits = _with_bit(state[u(s + LEAVES + leaf)], place & 63, held)
    leaves = _with_bit(state[u(s + GROUPS + group)], leaf & 63, bits != 0)
    state[u(s + LEAVES + leaf)] = bits
    state[u(s + GROUPS + group)] = leaves
    state[u(s + ROOT)] = _with_bit(state[u(s + ROOT)], group, leaves != 0)
    state[u(s + COUNT)] += 1 if held else -1
    group = top_bit(state[u(s + ROOT)])
    leaf = (group << 6) + top_bit(state[u(s + GROUPS + group)])
    best = (leaf << 6) + top_bit(state[u(s + LEAVES + leaf)])
    state[u(s + BEST)] = best
    if depth:
        state[u(s + SECOND)] = _below(state, s, best)


@part
def _with_bit(word, bit, held):  # type: ignore[no-untyped-def]
    return word | _ONE << bit if held else word & ~(_ONE << bit)


@part
def _below(state, s, place):  # type: ignore[no-untyped-def]
    # the next place below one that holds a size, 0 if there is none
    leaf = place >> 6
    bits = state[u(s + LEAVES + leaf)] & ~(_ALL << (place & 63))
    if bits == 0 and leaf > 0:
        group = leaf >> 6
        leaves = state[u(s + GROUPS + group)] & ~(_ALL << (leaf & 63))
        if leaves == 0:
            group = top_bit(state[u(s + ROOT)] & ~(_ALL << group))
            leaves = state[u(s + GROUPS + group)]
        leaf = (group << 6) + top_bit(leaves)
        bits = state[u(s + LEAVES + leaf)]
    return (leaf << 6) + max(top_bit(bits), 0)


@part
def _move_near(state, s, ladder, start, old, near):  # type: ignore[no-untyped-def]
    # the best has moved: levels come near, or are near no longer
    best, size = state[u(s + BEST)], state[u(s + NEAR)]
    for place in range(max(old - near, 0), min(best - near, old + 1)):
        size -= ladder[u(start + place)]
    for place in range(max(best - near, 0), min(old - near, best + 1)):
        size += ladder[u(start + place)]
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
    begin_side(state, s)


@kernel
def begin_side(state, s):  # type: ignore[no-untyped-def]
    """Forget a side's figures; its ladder must be empty."""
    for figure in range(SIDE_WIDTH):
        state[u(s + figure)] = 0
    state[u(s + ROOT)] = state[u(s + GROUPS)] = state[u(s + LEAVES)] = 1
