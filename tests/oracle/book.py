"""The order book written from the rule, slowly: two dictionaries, price to size.

Prices in 1/10,000 dollar, in each ladder's own scale where a ladder is meant and in the YES scale
where a bid or an ask is meant; sizes in 1/100 contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

YES, NO = 0, 1
DOLLAR_BP = 10_000

Levels = Iterable[tuple[int, int]]


class NegativeSize(ValueError):
    """A change takes more from a level than it holds."""


class DictBook:
    """Two bid ladders; the asks are the mirror of the NO bids."""

    def __init__(self) -> None:
        self.ladders: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def apply_snapshot(self, yes_levels: Levels, no_levels: Levels) -> None:
        """Replace the book; levels of size zero are no levels."""
        self.ladders = (
            {price: size for price, size in yes_levels if size},
            {price: size for price, size in no_levels if size},
        )

    def apply_delta(self, side: int, price_bp: int, change_centi: int) -> None:
        """Add to one level of one ladder; a level at zero disappears.

        Raises:
            NegativeSize: the book is left as it was.
        """
        ladder = self.ladders[side]
        size = ladder.get(price_bp, 0) + change_centi
        if size < 0:
            raise NegativeSize(f"level {price_bp} of ladder {side} would hold {size}")
        if size == 0:
            ladder.pop(price_bp, None)
        else:
            ladder[price_bp] = size

    @property
    def bids(self) -> list[tuple[int, int]]:
        """(price, size), best first."""
        return sorted(self.ladders[YES].items(), reverse=True)

    @property
    def asks(self) -> list[tuple[int, int]]:
        """(price, size) in the YES scale, best first."""
        return sorted((DOLLAR_BP - price, size) for price, size in self.ladders[NO].items())

    @property
    def best_bid_bp(self) -> int:
        """Highest bid; 0 if there is none."""
        return self.bids[0][0] if self.bids else 0

    @property
    def best_ask_bp(self) -> int:
        """Lowest ask; 1 dollar if there is none."""
        return self.asks[0][0] if self.asks else DOLLAR_BP

    @property
    def bid_size_centi(self) -> int:
        """Size at the best bid; 0 if there is none."""
        return self.bids[0][1] if self.bids else 0

    @property
    def ask_size_centi(self) -> int:
        """Size at the best ask; 0 if there is none."""
        return self.asks[0][1] if self.asks else 0

    @property
    def is_crossed(self) -> bool:
        """Crossed or locked: the exchange would have matched it."""
        return bool(self.bids) and bool(self.asks) and self.best_bid_bp >= self.best_ask_bp

    def depth_within_centi(self, side: int, near_bp: int) -> int:
        """Size of the levels at most `near_bp` away from the touch of their side."""
        levels = self._side(side)
        return sum(size for price, size in levels if abs(price - levels[0][0]) <= near_bp)

    def total_centi(self, side: int) -> int:
        """Size of a whole ladder."""
        return sum(self.ladders[side].values())

    def level_count(self, side: int) -> int:
        """Number of levels of a ladder."""
        return len(self.ladders[side])

    def second_level_bp(self, side: int) -> int | None:
        """YES price of the second best bid (YES) or ask (NO); None if there is none."""
        levels = self._side(side)
        return levels[1][0] if len(levels) > 1 else None

    def average_buy_bp(self, size_centi: int) -> Fraction:
        """Average price of buying a size; what finds no offer is priced at 1 dollar."""
        return self._average(self.asks, size_centi, DOLLAR_BP)

    def average_sell_bp(self, size_centi: int) -> Fraction:
        """Average price of selling a size; what finds no bid is priced at 0."""
        return self._average(self.bids, size_centi, 0)

    def _side(self, side: int) -> list[tuple[int, int]]:
        return self.bids if side == YES else self.asks

    @staticmethod
    def _average(levels: list[tuple[int, int]], size_centi: int, missing_bp: int) -> Fraction:
        left, paid = size_centi, 0
        for price, size in levels:
            taken = min(left, size)
            paid += taken * price
            left -= taken
        return Fraction(paid + left * missing_bp, size_centi)
