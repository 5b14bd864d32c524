"""Prices in 1/10,000 dollar, the YES/NO mirror, and the tick grids of Kalshi's markets.

A market publishes two bid ladders, YES and NO, each in its own scale. The YES ask is the mirror of
the best NO bid. Source: Kalshi API documentation, "orderbook responses" and "subpenny pricing".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.errors import RecordingError

YES, NO = 0, 1
_WHOLE_CENT_BP = 100  # whole cents are valid in every market
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)

# Price structures known by name, as (start_bp, end_bp, step_bp); used only where a market's
# metadata do not carry its `price_ranges`.
STRUCTURES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "linear_cent": ((0, 10_000, 100),),
    "deci_cent": ((0, 10_000, 10),),
    "tapered_deci_cent": ((0, 1_000, 10), (1_000, 9_000, 100), (9_000, 10_000, 10)),
}


def mirror_bp(price_bp: int) -> int:
    """The same price seen from the other outcome: 10,000 - p."""
    return BP_PER_DOLLAR - price_bp


@dataclass(frozen=True)
class TickGrid:
    """Where prices may lie.

    Args:
        ranges: (start_bp, end_bp, step_bp), ascending and adjoining, in the YES scale.
        finest_bp: prices on multiples of it have been seen resting, wherever orders may: of a
            market that declares no grid nothing but whole cents is known to be valid.
    """

    ranges: tuple[tuple[int, int, int], ...]
    finest_bp: int = _WHOLE_CENT_BP

    @cached_property
    def step_bp(self) -> int:
        """Spacing of the dense ladder: the finest grid that holds every price."""
        numbers = [number for start, _, step in self.ranges for number in (start, step)]
        return math.gcd(_WHOLE_CENT_BP, self.finest_bp, *numbers)

    @property
    def levels(self) -> int:
        """Length of the dense ladder, prices 0 and 1 dollar included."""
        return BP_PER_DOLLAR // self.step_bp + 1

    @cached_property
    def tick_up_bp(self) -> NDArray[np.int32]:
        """`[10001]` distance from a price to the next valid one above it; 0 where there is none."""
        return self._distance(up=True)

    @cached_property
    def tick_down_bp(self) -> NDArray[np.int32]:
        """`[10001]` distance from a price to the next valid one below it; 0 where there is none."""
        return self._distance(up=False)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """`[10001]` whether an order may rest at this YES price (0 and 1 dollar excluded)."""
        allowed = np.zeros(BP_PER_DOLLAR + 1, dtype=np.bool_)
        for start, end, step in self.ranges:
            allowed[start : end + 1 : step] = True
        allowed[0::_WHOLE_CENT_BP] = True
        allowed[0] = allowed[BP_PER_DOLLAR] = False
        return allowed

    @cached_property
    def resting(self) -> NDArray[np.bool_]:
        """`[10001]` whether a feed may show an order at this YES price."""
        shown = self.valid.copy()
        shown[self.finest_bp : BP_PER_DOLLAR : self.finest_bp] = True
        return shown

    def _distance(self, *, up: bool) -> NDArray[np.int32]:
        stops = np.flatnonzero(self.valid)
        prices = np.arange(BP_PER_DOLLAR + 1)
        if up:
            index = np.searchsorted(stops, prices, side="right")
            inside = index < len(stops)
        else:
            index = np.searchsorted(stops, prices, side="left") - 1
            inside = index >= 0
        nearest = stops[np.clip(index, 0, len(stops) - 1)]
        return np.where(inside, np.abs(nearest - prices), 0).astype(np.int32)


@lru_cache(maxsize=64)
def grid_of_ranges(
    ranges: tuple[tuple[int, int, int], ...], finest_bp: int = _WHOLE_CENT_BP
) -> TickGrid:
    """One shared grid for equal ranges (its tables are 10,001 long)."""
    return TickGrid(ranges, finest_bp)


def declared_grid(market: Mapping[str, Any], session: int | None = None) -> TickGrid | None:
    """The grid a market's metadata declares, or None where it declares nothing.

    Args:
        market: one object of `markets.json`: `price_ranges` wins over `price_level_structure`.
        session: named in the error.

    Raises:
        RecordingError: a `price_ranges` that is not a list of ascending ranges within 0 and 1
            dollar with positive steps.
    """
    declared = market.get("price_ranges")
    if declared:
        try:
            ranges = tuple(
                sorted(
                    (to_bp(entry["start"]), to_bp(entry["end"]), to_bp(entry["step"]))
                    for entry in declared
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _bad_ranges(market, session, declared) from error
        if any(step <= 0 or not 0 <= start < end <= BP_PER_DOLLAR for start, end, step in ranges):
            raise _bad_ranges(market, session, declared)
        return grid_of_ranges(ranges)
    named = STRUCTURES.get(str(market.get("price_level_structure")))
    return grid_of_ranges(named) if named else None


def uniform_grid(step_bp: int) -> TickGrid:
    """One step from 0 to 1 dollar."""
    return grid_of_ranges(((0, BP_PER_DOLLAR, step_bp),))


def undeclared_grid(finest_bp: int) -> TickGrid:
    """The grid of a market whose metadata are missing: orders at whole cents, valid in any market.

    Its ladder holds whatever prices the feed showed; the ticks do not depend on them, so that no
    price of the future is in a spread counted in ticks.

    Args:
        finest_bp: the coarsest uniform tick that holds every price shown.
    """
    return grid_of_ranges(((0, BP_PER_DOLLAR, _WHOLE_CENT_BP),), finest_bp)


def to_bp(text: str | float) -> int:
    """A dollar price as exact 1/10,000 dollar.

    Raises:
        ValueError: the text is no number, or does not convert exactly.
    """
    return to_scaled(text, BP_PER_DOLLAR)


def to_scaled(text: str | float, scale: int) -> int:
    """A decimal number times a power of ten, exactly.

    Raises:
        ValueError: not a decimal number of at most 18 digits each side of the point (an exponent
            is none), or more decimals than the scale can hold.
    """
    return _exactly(str(text), scale)


@lru_cache(maxsize=4096)  # a thousand markets declare the same few numbers
def _exactly(decimal: str, scale: int) -> int:
    if not _DECIMAL.fullmatch(decimal):
        raise ValueError(f"not a decimal number: {decimal[:50]!r}")
    scaled = Fraction(decimal) * scale
    if scaled.denominator != 1:
        raise ValueError(f"does not convert exactly: {decimal!r}")
    return int(scaled)


def _bad_ranges(market: Mapping[str, Any], session: int | None, declared: object) -> RecordingError:
    return RecordingError(
        "a market declares price ranges that are not ascending steps between 0 and 1 dollar",
        session=session,
        market=str(market.get("ticker")),
        rule="price_ranges",
        value=declared,
    )
