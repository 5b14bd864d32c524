"""Policies that quote and never take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.evaluation.baselines.scripted import Flags, Floats, Scripted, rests_at
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.scripts import (
    LOG_TICKS,
    LOG_YEAR,
    NOTHING_HELD,
    SAME_PRICE,
    TWO_SIDED,
    VOLATILITY_GAIN,
    VOLATILITY_TAU_S,
    Rule,
    Script,
)


@dataclass(frozen=True)
class Quoter(Scripted):
    """Keeps an order at the best bid, at the best ask or at both, and knows nothing.

    The side that reduces inventory is quoted first; a quote that is no longer at the touch is
    moved there. On both sides it shows the free money of the fill model, on one that of the mark.

    Args:
        buys: whether it bids.
        sells: whether it offers.
        most: share of the position limit up to which a side is quoted.
    """

    buys: bool = False
    sells: bool = False
    most: float = 1.0

    @property
    def name(self) -> str:
        """With the sides it quotes."""
        sides = (
            "two-sided" if self.buys and self.sells else "buy-only" if self.buys else "sell-only"
        )
        return f"Passive {sides}"

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.QUOTE, (self.buys, self.sells, self.most))

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` BUY_PASSIVE, SELL_PASSIVE or HOLD; see `Policy.act`."""
        column = _columns(observation)
        held, most = column("inventory"), self.most - NOTHING_HELD
        below = rests_at(column("buy_distance"), column("mid") - column("best_bid"))
        above = rests_at(column("sell_distance"), column("best_ask") - column("mid"))
        buys = mask[:, Action.BUY_PASSIVE] & (held < most) & ~below & self.buys
        sells = mask[:, Action.SELL_PASSIVE] & (-held < most) & ~above & self.sells
        return _one_side(
            held, buys, sells, np.full(len(held), Action.BUY_PASSIVE),
            np.full(len(held), Action.SELL_PASSIVE),
        )  # fmt: skip


class PassiveTwoSided(Quoter):
    """Quotes both sides up to the position limit."""

    def __init__(self) -> None:
        super().__init__(buys=True, sells=True)


@dataclass(frozen=True)
class AvellanedaStoikov(Scripted):
    """Quotes around a reservation price that inventory and volatility move.

    The variance of the mid is that of the segment's own past; what it is multiplied with was not
    fitted to anything: the arrival of fills falls by e with each cent, and a full inventory with a
    standard deviation of 5 cents moves the centre by 2.5 cents. Formulas: `scripts.reserve`.

    Args:
        risk_aversion: gamma, a dollar and position limit.
        decay: k of the arrival intensity exp(-k distance), a dollar.
        horizon_s: most of T - t that counts.
    """

    name: ClassVar[str] = "Avellaneda-Stoikov"
    risk_aversion: float = 10.0
    decay: float = 100.0
    horizon_s: float = 600.0

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.RESERVE, (self.risk_aversion, self._riskless, self.horizon_s))

    @property
    def _riskless(self) -> float:
        return math.log1p(self.risk_aversion / self.decay) / self.risk_aversion

    def act(
        self,
        observation: NDArray[np.float32],
        mask: NDArray[np.bool_],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        """`[n]` a passive or improving quote, or HOLD; see `Policy.act`."""
        column = _columns(observation)
        bid, ask, mid, held = map(column, ("best_bid", "best_ask", "mid", "inventory"))
        quotes = (column("book_state") == TWO_SIDED) & (ask > bid)
        tick = (ask - bid) / np.maximum(np.expm1(LOG_TICKS * column("spread")), SAME_PRICE)
        risk = self.risk_aversion * self._variance(observation)
        centre, half = mid - held * risk, risk / 2.0 + self._riskless
        improves = (ask - tick > bid + SAME_PRICE) & (centre - half >= ask - tick - SAME_PRICE)
        buy_at = np.where(improves, ask - tick, bid)
        undercuts = (bid + tick < ask - SAME_PRICE) & (centre + half <= bid + tick + SAME_PRICE)
        sell_at = np.where(undercuts, bid + tick, ask)
        buying = np.where(improves, Action.BUY_IMPROVE, Action.BUY_PASSIVE)
        selling = np.where(undercuts, Action.SELL_IMPROVE, Action.SELL_PASSIVE)
        buys = quotes & (improves | (centre - half >= bid - SAME_PRICE)) & _valid(mask, buying)
        sells = quotes & (undercuts | (centre + half <= ask + SAME_PRICE)) & _valid(mask, selling)
        buys &= ~rests_at(column("buy_distance"), np.abs(mid - buy_at))
        sells &= ~rests_at(column("sell_distance"), np.abs(mid - sell_at))
        return _one_side(held, buys, sells, buying, selling)

    def _variance(self, observation: NDArray[np.float32]) -> Floats:
        # of the mid up to the horizon or the close, dollars squared
        column = _columns(observation)
        left = column("seconds_to_close")
        seconds = np.where(
            left < 0, self.horizon_s, np.minimum(self.horizon_s, np.expm1(LOG_YEAR * left))
        )
        moved = column("volatility_600s") / VOLATILITY_GAIN
        variance: Floats = moved * moved * seconds / VOLATILITY_TAU_S
        return variance


def _columns(observation: NDArray[np.float32]) -> Any:
    return lambda name: observation[:, COLUMN[name]].astype(np.float64)


def _valid(mask: Flags, chosen: NDArray[np.int64]) -> Flags:
    valid: Flags = np.take_along_axis(mask, chosen[:, None], axis=1)[:, 0]
    return valid


def _one_side(
    held: Floats, buys: Flags, sells: Flags, buying: NDArray[np.int64], selling: NDArray[np.int64]
) -> NDArray[np.int64]:
    # one order a step: that which reduces inventory, if one of two
    sells_first = sells & ((held > 0) | ~buys)
    chosen = np.where(sells_first, selling, np.where(buys, buying, Action.HOLD))
    return chosen.astype(np.int64)
