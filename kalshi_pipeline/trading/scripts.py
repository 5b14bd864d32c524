"""Fixed rules that choose actions, compiled: what baselines do at a step.

A rule sees what an agent sees, the observation and the mask, and remembers nothing. Two need more:
`SEQUENCE` does what was written down for the step, and `FORESEE` looks at the tape ahead. That one
cheats, and is there to show how much could be earned by somebody who knew.

An action that a rule chooses but the mask forbids becomes HOLD, those of a sequence excepted: they
are taken as they stand, and an invalid one is the no-op it was for whoever chose it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import part
from kalshi_pipeline.config import BP_PER_DOLLAR
from kalshi_pipeline.feature_table import COLUMN, MAX_TICKS, VOLATILITY_TAUS_S, YEAR_S
from kalshi_pipeline.market.fees import Fees, fee_product, fees_of, worst_fee_micro
from kalshi_pipeline.trading.actions import ACTIONS, Action
from kalshi_pipeline.trading.kernel import Lanes, Rules
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.tape import Reel

Floats = NDArray[np.float64]
Observation = NDArray[np.float32]  # [52]
Mask = NDArray[np.bool_]  # [7]

# as plain numbers, which a compiled function can return
HOLD, BUY_BEST, BUY_IMPROVE, BUY_PASSIVE, SELL_BEST, SELL_IMPROVE, SELL_PASSIVE = map(int, Action)

BEST_BID = COLUMN["best_bid"]
BEST_ASK = COLUMN["best_ask"]
MID = COLUMN["mid"]
SPREAD = COLUMN["spread"]
BOOK_STATE = COLUMN["book_state"]
VOLATILITY = COLUMN["volatility_600s"]
SECONDS_TO_CLOSE = COLUMN["seconds_to_close"]
INVENTORY = COLUMN["inventory"]
BUY_DISTANCE = COLUMN["buy_distance"]
SELL_DISTANCE = COLUMN["sell_distance"]

TWO_SIDED = 1.0  # BOOK_STATE
VOLATILITY_GAIN = 2.0  # of volatility_600s
VOLATILITY_TAU_S = VOLATILITY_TAUS_S[1]
LOG_TICKS = math.log1p(MAX_TICKS)
LOG_YEAR = math.log1p(YEAR_S)
# Distances are in units of 50 cents; the finest tick, 0.01 cent, is 2e-4 of them.
SAME_DISTANCE = 1e-4
SAME_PRICE = SAME_DISTANCE / 2.0  # dollars
NOTHING_HELD = 1e-6  # of the position limit; 0.01 contract of 10,000 is as much


class Rule(IntEnum):
    """How an action is chosen; its parameters in brackets."""

    ACTION = 0  # [action] this one
    ANY = 1  # each valid one as likely as the others
    SEQUENCE = 2  # what was written down for the step
    ENTER = 3  # [action] while nothing is held
    BOTH_WAYS = 4  # takes the ask, then the bid, then the ask
    FOLLOW = 5  # [column, sign, threshold] long where sign x column > threshold, short below its -
    QUOTE = 6  # [buys, sells, most] orders at the touch, inventory up to `most` of the limit
    RESERVE = 7  # [risk aversion, half spread without risk, horizon in seconds] see `reserve`
    FORESEE = 8  # cheats, see `foresee`


LOOKING = (Rule.ENTER, Rule.BOTH_WAYS, Rule.FOLLOW, Rule.QUOTE, Rule.RESERVE)


@dataclass(frozen=True)
class Script:
    """A rule and its parameters.

    Args:
        rule: how an action is chosen.
        parameters: as `Rule` names them.
    """

    rule: Rule
    parameters: tuple[float, ...] = ()

    @property
    def looks(self) -> bool:
        """Whether it reads observations, which then have to be written."""
        return self.rule in LOOKING


@part
def choose_by(
    rule: int, parameters: Floats, given: int, reel: Reel, lanes: Lanes, rules: Rules, lane: int
) -> int:
    """The action of a rule in a lane.

    Args:
        rule: of `Rule`.
        parameters: of the rule.
        given: this step's lot of 32 bits (ANY) or action (SEQUENCE).
        reel: the messages; read by FORESEE alone.
        lanes: the lane's observation is written where the rule looks at it.
        rules: of an episode.
        lane: which.
    """
    mask, observation = lanes.mask[lane], lanes.observation[lane]
    if rule == Rule.SEQUENCE:
        return int(given)
    chosen = 0
    if rule == Rule.ANY:
        chosen = pick_valid(mask, given)
    elif rule == Rule.ACTION:
        chosen = int(parameters[0])
    elif rule == Rule.ENTER:
        chosen = int(parameters[0]) if abs(observation[INVENTORY]) < NOTHING_HELD else 0
    elif rule == Rule.BOTH_WAYS:
        long = observation[INVENTORY] >= NOTHING_HELD
        chosen = SELL_BEST if long else BUY_BEST
    elif rule == Rule.FOLLOW:
        chosen = follow(parameters, observation)
    elif rule == Rule.QUOTE:
        chosen = quote(parameters, observation, mask)
    elif rule == Rule.RESERVE:
        chosen = reserve(parameters, observation, mask)
    elif rule == Rule.FORESEE:
        chosen = foresee(reel, lanes, rules, lane)
    return chosen if mask[chosen] else 0


@part
def pick_valid(mask: Mask, lot: int) -> int:
    """The valid action a lot of 32 bits falls on."""
    valid = 0
    for action in range(ACTIONS):
        valid += 1 if mask[action] else 0
    left = (np.int64(lot) * valid) >> 32
    for action in range(ACTIONS):
        if mask[action]:
            if left == 0:
                return action
            left -= 1
    return 0


@part
def follow(parameters: Floats, observation: Observation) -> int:
    """One order long, short or as it is, as a column says."""
    signal = parameters[1] * np.float64(observation[int(parameters[0])])
    held = np.float64(observation[INVENTORY])
    if signal > parameters[2] and held < NOTHING_HELD:
        return BUY_BEST
    if signal < -parameters[2] and held > -NOTHING_HELD:
        return SELL_BEST
    return HOLD


@part
def quote(parameters: Floats, observation: Observation, mask: Mask) -> int:
    """One order at the best bid, one at the best ask, without an opinion.

    The side that reduces inventory is quoted first; a quote that is no longer at the touch is
    moved there.
    """
    mid = np.float64(observation[MID])
    held = np.float64(observation[INVENTORY])
    most = parameters[2] - NOTHING_HELD
    buys = parameters[0] > 0.0 and held < most and mask[BUY_PASSIVE]
    sells = parameters[1] > 0.0 and -held < most and mask[SELL_PASSIVE]
    buys = buys and not rests_at(observation[BUY_DISTANCE], mid - observation[BEST_BID])
    sells = sells and not rests_at(observation[SELL_DISTANCE], observation[BEST_ASK] - mid)
    if sells and (held > 0.0 or not buys):
        return SELL_PASSIVE
    return BUY_PASSIVE if buys else HOLD


@part
def reserve(parameters: Floats, observation: Observation, mask: Mask) -> int:
    """Quotes around a reservation price, at the nearest prices the actions offer.

    With s the mid, q the inventory as a share of the position limit and V the variance of the mid
    up to the horizon, the reservation price is r = s - q gamma V and the quotes are
    r -+ (gamma V / 2 + ln(1 + gamma / k) / gamma). V is what the mid did lately: the decayed sum of
    its squared changes, which grows as time does. A bid is sent one tick below the ask or at the
    best bid, whichever is the highest that the rule allows, else not at all; asks mirrored. What
    rests too near stays, for no action cancels.

    Source: Avellaneda and Stoikov 2008, "High-frequency trading in a limit order book", section
    3.2, their T - t at most the horizon.
    """
    bid, ask = np.float64(observation[BEST_BID]), np.float64(observation[BEST_ASK])
    if observation[BOOK_STATE] != TWO_SIDED or ask <= bid:
        return HOLD
    mid, held = np.float64(observation[MID]), np.float64(observation[INVENTORY])
    tick = (ask - bid) / max(math.expm1(LOG_TICKS * np.float64(observation[SPREAD])), SAME_PRICE)
    left, seconds = np.float64(observation[SECONDS_TO_CLOSE]), parameters[2]
    if left >= 0.0:
        seconds = min(seconds, math.expm1(LOG_YEAR * left))
    moved = np.float64(observation[VOLATILITY]) / VOLATILITY_GAIN
    risk = parameters[0] * moved * moved * seconds / VOLATILITY_TAU_S
    centre, half = mid - held * risk, risk / 2.0 + parameters[1]
    buy = place(centre - half, bid, ask - tick)
    sell = place(-centre - half, -ask, -bid - tick)
    buys = buy >= 0 and not rests_at(
        observation[BUY_DISTANCE], abs(mid - (ask - tick if buy == 1 else bid))
    )
    sells = sell >= 0 and not rests_at(
        observation[SELL_DISTANCE], abs(mid - (bid + tick if sell == 1 else ask))
    )
    buying = BUY_IMPROVE if buy == 1 else BUY_PASSIVE
    selling = SELL_IMPROVE if sell == 1 else SELL_PASSIVE
    buys, sells = buys and mask[buying], sells and mask[selling]
    if sells and (held > 0.0 or not buys):
        return selling
    return buying if buys else HOLD


@part
def place(wanted: float, passive: float, improved: float) -> int:
    """1 where a quote may stand at the improved price, 0 at the passive one, -1 at neither."""
    if improved > passive + SAME_PRICE and wanted >= improved - SAME_PRICE:
        return 1
    return 0 if wanted >= passive - SAME_PRICE else -1


@part
def rests_at(distance: float, from_mid: float) -> bool:
    """Whether an order rests at this distance from the mid, in dollars.

    Same scaling as the feature: min(1, 2 |mid - price|), -1 where nothing rests.
    """
    wanted = min(1.0, 2.0 * np.float64(from_mid))
    return bool(abs(np.float64(distance) - wanted) < SAME_DISTANCE)


@part
def foresee(reel: Reel, lanes: Lanes, rules: Rules, lane: int) -> int:
    """Takes a quote where the next book pays more for the contract, all fees paid.

    The next book is that of the step after the one at which the order has arrived: what an order
    meets is no gain yet. Opening, it must be able to close there again with a profit; closing, it
    must do better now than there.
    """
    account = lanes.account[lane]
    episode, step = reel.episodes[account[Account.EPISODE]], account[Account.STEP]
    last = episode["end_step"] - 1
    now = reel.rows[reel.step_row[step]]
    due_ms = now["time_ms"] + rules.latency_ms
    met = step + 1
    while met < last and reel.rows[reel.step_row[met]]["time_ms"] < due_ms:
        met += 1
    later = reel.rows[reel.step_row[min(met + 1, last)]]
    bid, ask = int(later["bid_bp"]), int(later["ask_bp"])
    if bid <= 0 or ask >= BP_PER_DOLLAR:
        return HOLD
    held, size, mask = account[Account.POSITION], rules.size_centi, lanes.mask[lane]
    fees = fees_of(episode["fees"])
    bought, sold = bought_micro(ask, size, fees), sold_micro(bid, size, fees)
    if mask[BUY_BEST]:
        paid = bought_micro(int(now["ask_bp"]), size, fees)
        if paid < (bought if held < 0 else sold):
            return BUY_BEST
    if mask[SELL_BEST]:
        gained = sold_micro(int(now["bid_bp"]), size, fees)
        if gained > (sold if held > 0 else bought):
            return SELL_BEST
    return HOLD


@part
def bought_micro(price_bp: int, size_centi: int, fees: Fees) -> int:
    """What taking an ask costs at most."""
    product = fee_product(fees.taker_rate_bp, fees.multiplier_pct, size_centi, price_bp)
    return size_centi * price_bp + worst_fee_micro(fees.rule, product)


@part
def sold_micro(price_bp: int, size_centi: int, fees: Fees) -> int:
    """What taking a bid brings at least."""
    product = fee_product(fees.taker_rate_bp, fees.multiplier_pct, size_centi, price_bp)
    return size_centi * price_bp - worst_fee_micro(fees.rule, product)
