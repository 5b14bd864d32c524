"""How ladders of the collector's rows are recovered, written from `domain.md` section 2.5.

Slow and plain: dictionaries, one row at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Market:
    """One market's book, as the collector held it and as it is recovered."""

    legacy: bool = False
    known: bool = False
    epoch: int = -1
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    hidden: dict[tuple[int, int], int] = field(default_factory=dict)
    touched: dict[tuple[int, int], int] = field(default_factory=dict)
    last: tuple[int, ...] | None = None
    rows: int = 0

    def size(self, level, policy):
        """The recovered size of a level."""
        shown = 0 if policy == "as_recorded" else self.hidden.get(level, 0)
        return self.seen.get(level, 0) + shown

    def best(self, side, policy):
        """Best level of a ladder; 0 = none."""
        levels = {cents for s, cents in {*self.seen, *self.hidden} if s == side}
        return max((c for c in levels if self.size((side, c), policy) > 0), default=0)


def recover(rows, policy, strict):
    """Recover rows.

    Args:
        rows: dictionaries: market, epoch, and either `levels` [(side, cents, contracts, mislaid)]
            with `legacy`, or seq, side, cents, old, new; in replay order.
        policy: name of a policy.
        strict: reject rows that do not follow on.

    Returns:
        For each row (change, rejected, [(side, cents, contracts) taken away]); None for snapshots.
    """
    markets: dict[int, Market] = {}
    return [_one(markets.setdefault(row["market"], Market()), row, policy, strict) for row in rows]


def _one(market, row, policy, strict):
    if "levels" in row:
        market.seen = {(s, c): n for s, c, n, mislaid in row["levels"] if not mislaid}
        market.hidden = {(s, c): n for s, c, n, mislaid in row["levels"] if mislaid}
        market.touched = {}
        market.legacy, market.epoch, market.last = row["legacy"], row["epoch"], None
        return None
    market.rows += 1
    old, new, level = row["old"], row["new"], (row["side"], row["cents"])
    if market.epoch != row["epoch"]:
        return new - old, False, []
    this = (row["seq"], *level, old, new)
    if market.last is not None and this == market.last[:5]:
        return market.last[5], False, []
    follows = old == market.seen.get(level, 0)
    was_mislaid = market.legacy and level[1] > 50
    nothing = old == 0 and new == 0
    if strict and (not follows or (nothing and not was_mislaid)):
        market.epoch = -1
        return 0, True, []
    before = market.size(level, policy)
    if follows and nothing and was_mislaid and policy in ("remove_stale", "remove_and_uncross"):
        market.hidden[level] = 0
    market.seen[level] = new
    market.touched[level] = market.rows
    change = market.size(level, policy) - before
    market.last = (*this, change)
    taken = _uncross(market) if "uncross" in policy and market.legacy else []
    return change, False, taken


def _uncross(market):
    taken = []
    while True:
        best = [(side, market.best(side, "uncross")) for side in (0, 1)]
        if 0 in (best[0][1], best[1][1]) or best[0][1] + best[1][1] < 100:
            return taken
        stale = [level for level in best if market.hidden.get(level, 0) > 0]
        if not stale:
            return taken
        level = min(stale, key=lambda one: (market.touched.get(one, -1), one[0]))
        taken.append((*level, market.hidden[level]))
        market.hidden[level] = 0
