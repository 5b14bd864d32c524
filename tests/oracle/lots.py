"""Round trips with a list of lots, in exact fractions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass
class Lot:
    """What one fill opened."""

    is_buy: bool
    price_bp: int
    size_centi: int
    left_centi: int
    gain_micro: Fraction
    by_end: bool = False


def round_trips(fills: Iterable[tuple[bool, int, int, int]], worth_micro: int) -> list[Lot]:
    """FIFO lots of one episode.

    Args:
        fills: is_buy, price_bp, size_centi, fee_micro.
        worth_micro: what the position left brought, negative where short.
    """
    lots: list[Lot] = []
    for is_buy, price, size, fee in fills:
        left = size
        for lot in lots:
            if lot.is_buy != is_buy and lot.left_centi and left:
                part = min(left, lot.left_centi)
                gain = part * (price - lot.price_bp) * (1 if lot.is_buy else -1)
                lot.gain_micro += gain - Fraction(fee * part, size)
                lot.left_centi -= part
                left -= part
        if left:
            lots.append(Lot(is_buy, price, left, left, -Fraction(fee * left, size)))
    total = sum(lot.left_centi for lot in lots)
    for lot in lots:
        if lot.left_centi:
            cost = lot.left_centi * lot.price_bp * (1 if lot.is_buy else -1)
            lot.gain_micro += Fraction(worth_micro * lot.left_centi, total) - cost
            lot.by_end = True
    return lots
