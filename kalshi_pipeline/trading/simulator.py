"""The trading simulator: N episodes, one compiled call a step.

An episode is one market segment. The agent sees a step, acts, and the messages up to the next step
are replayed one by one:

1. a message changes the book, and with it the level's `consumed` size is forgotten;
2. resting orders that arrived on earlier messages may fill (`fills`);
3. the order in flight arrives, if the message's time is at least decision time + latency. It always
   is a later message than the one the agent saw. One order is in flight at a time; while it is,
   only HOLD is valid. An invalid action is a counted no-op.

After the last step the episode ends: `terminated` with each YES contract at 0 or 1 dollar where the
market's result is known, else `truncated` at the liquidation value of the last book that had a bid
or an ask. The result never is part of an observation, also not of the last one. Orders still alive
are cancelled. The reward is the change of liquidation equity in dollars (of equity at mid with
`mark = "mid"`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numba import typeof
from numpy.typing import NDArray

from kalshi_pipeline.config import BP_PER_DOLLAR, TradingConfig
from kalshi_pipeline.errors import InvalidAction
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.market.fees import NO_FEES, Fees, largest_size_centi
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.journal import Entry
from kalshi_pipeline.trading.kernel import Lanes, Rules, reset_lanes, step_lanes
from kalshi_pipeline.trading.portfolio import SLOTS, Account, FillModel, Order
from kalshi_pipeline.trading.summary import EpisodeSummary
from kalshi_pipeline.trading.tape import Reel, Tape, Universe

Ints = NDArray[np.int64]

# Larger sizes would let an exact fee or a basis overflow 64 bits.
MAX_POSITION_CENTI = 10**6


class Simulator:
    """N lanes over one universe.

    Args:
        universe: the episodes.
        lanes: how many episodes run side by side.
        config: rules of the account, the orders and the reward.
        journal: most entries kept of each episode, see `journal` and `ledger`.

    Attributes:
        observation: `[N, 52]` float32, of the current step of each lane.
        mask: `[N, 7]` True = valid action.
        reward: `[N]` dollars, of the last step.
        terminated, truncated: `[N]`; such a lane stays as it is until reset.
        time_ms: `[N]` market time of the current step.
        elapsed_ms: `[N]` market time the last step took; a reset leaves it. See `discount`.
        equity_micro: `[N]` liquidation equity.
        equity_mid_micro: `[N]` equity with the position at mid.

    All are updated in place: copy what must outlive the next call. Lanes are finished until their
    first reset.
    """

    def __init__(
        self, universe: Universe, lanes: int, config: TradingConfig, journal: int = 0
    ) -> None:
        _check(config)
        self.universe = universe
        self.config = config
        self.lanes = lanes
        self.tape, self.reel = _with_fees(universe, enabled=config.fees)
        _check_fees(self.tape, config)
        self.rules = Rules(
            config.cash_start_micro,
            config.order_size_centi,
            config.position_limit_centi,
            config.latency_ms,
            config.daily_loss_limit_micro,
            FillModel[config.fill_model.upper()],
            round(100 * config.queue_alpha),
            int(config.mark == "mid"),
        )
        self.state = _new_lanes(lanes, _longest_ladder(universe.tape), journal)
        self._all = np.arange(lanes)
        self.observation = self.state.observation
        self.mask = self.state.mask
        self.reward = self.state.reward
        self.terminated = self.state.terminated
        self.truncated = self.state.truncated
        self.time_ms = self.state.time_ms
        self.elapsed_ms = self.state.elapsed_ms
        self.equity_micro = self.state.equity_micro
        self.equity_mid_micro = self.state.equity_mid_micro

    # looked up when first asked for: who plays whole episodes never does
    @cached_property
    def _step(self) -> Any:
        return _compiled(step_lanes, (self.reel, self.state, self.rules, self._all, self._all))

    @cached_property
    def _reset(self) -> Any:
        return _compiled(reset_lanes, (self.reel, self.state, self.rules, self._all, self._all))

    def reset(self, lanes: Any, episodes: Any) -> None:
        """Start episodes in lanes.

        Args:
            lanes: `[K]` which lanes.
            episodes: `[K]` which episodes.

        Raises:
            IndexError: no such lane or episode.
        """
        which = indices_of("lane", lanes, self.lanes)
        started = indices_of("episode", episodes, len(self.universe))
        if len(which) != len(started):
            raise IndexError(f"each lane needs one episode, were {len(which)}, {len(started)}")
        self._reset(self.reel, self.state, self.rules, which, started)

    def step(self, actions: Any) -> int:
        """Advance every lane that is not finished by one step.

        Args:
            actions: `[N]` values of `Action`; those of finished lanes are ignored.

        Returns:
            How many episodes ended with it.

        Raises:
            InvalidAction: not `[N]` whole numbers, or one that is none of the seven; nothing moved.
        """
        chosen = self._whole(actions)
        ended: int = self._step(self.reel, self.state, self.rules, self._all, chosen)
        if ended < 0:
            raise InvalidAction(f"actions are 0 to {ACTIONS - 1}", value=np.unique(chosen))
        return ended

    def _whole(self, actions: Any) -> Ints:
        # the kernel reads one number a lane, wherever that leads
        try:
            given = np.asarray(actions)
        except ValueError as error:  # rows of different lengths
            raise InvalidAction("actions are one number a lane", value=actions) from error
        if given.dtype.kind not in "iu" or given.shape != self._all.shape:
            raise InvalidAction(
                f"actions are {self.lanes} whole numbers", value=(given.dtype, given.shape)
            )
        return np.ascontiguousarray(given, dtype=np.int64)

    def summary(self, lane: int) -> EpisodeSummary:
        """What happened in a lane's episode so far; final once it is finished."""
        return EpisodeSummary.of_lane(
            self.state.account[lane],
            self.state.action_counts[lane],
            self.tape,
            cash_start_micro=self.config.cash_start_micro,
            terminated=bool(self.terminated[lane]),
        )


def _compiled(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    # what the dispatcher calls once it has looked at the type of every array, which costs more
    # than a step of one lane; Python's own function where the compiler is switched off
    compile_for = getattr(kernel, "compile", None)
    return compile_for(tuple(map(typeof, arguments))) if compile_for else kernel


def _check(config: TradingConfig) -> None:
    largest = max(config.position_limit_centi, config.order_size_centi)
    if not 0 < largest <= MAX_POSITION_CENTI or config.order_size_centi <= 0:
        raise ValueError(f"sizes are 1 to {MAX_POSITION_CENTI} centi, was {largest}")
    if config.cash_start_micro <= 0 or min(config.latency_ms, config.daily_loss_limit_micro) < 0:
        raise ValueError("starting cash must be positive, latency and loss limit not negative")
    if config.fill_model.upper() not in FillModel.__members__:
        raise ValueError(f"the fill model must be cross, queue or touch, was {config.fill_model!r}")
    percents = 100 * config.queue_alpha
    if not 0 <= percents <= 100 or abs(percents - round(percents)) > 1e-9:
        raise ValueError(f"queue_alpha must be a whole percentage, was {config.queue_alpha}")


def indices_of(name: str, indices: Any, length: int) -> Ints:
    """`[K]` lanes or episodes somebody asked for.

    Raises:
        IndexError: not a list of whole numbers from 0 to `length - 1`.
    """
    found = np.asarray(indices)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise IndexError(f"{name} must be a list of whole numbers, was {indices!r}")
    if any(not 0 <= index < length for index in found.tolist()):  # few: the quickest way
        raise IndexError(f"{name} must be 0 to {length - 1}, was {indices}")
    return found.astype(np.int64)


def _check_fees(tape: Tape, config: TradingConfig) -> None:
    largest = max(config.position_limit_centi, config.order_size_centi)
    for row in np.unique(tape.fee_schedule, axis=0):
        fees = Fees(*(int(value) for value in row))
        if largest > largest_size_centi(fees):
            raise ValueError(f"fees of {largest} centi at {fees} do not fit 64 bits")


def _with_fees(universe: Universe, *, enabled: bool) -> tuple[Tape, Reel]:
    tape, reel = universe.tape, universe.reel
    if enabled:
        return tape, reel
    free = np.tile(np.array(NO_FEES, np.int64), (len(tape.grid), 1))
    episodes = reel.episodes.copy()
    episodes["fees"] = NO_FEES
    return tape._replace(fee_schedule=free), reel._replace(episodes=episodes)


def _longest_ladder(tape: Tape) -> int:
    return BP_PER_DOLLAR // int(tape.grid_step_bp.min(initial=BP_PER_DOLLAR)) + 1


def _new_lanes(lanes: int, levels: int, journal: int) -> Lanes:
    return Lanes(
        account=np.zeros((lanes, len(Account)), np.int64),
        orders=np.zeros((lanes, SLOTS, len(Order)), np.int64),
        ladder=np.zeros((lanes, 2, levels), np.int64),
        consumed=np.zeros((lanes, 2, levels), np.int64),
        action_counts=np.zeros((lanes, ACTIONS), np.int64),
        observation=np.zeros((lanes, OBSERVATION_WIDTH), np.float32),
        mask=np.zeros((lanes, ACTIONS), np.bool_),
        reward=np.zeros(lanes),
        terminated=np.zeros(lanes, np.bool_),
        truncated=np.ones(lanes, np.bool_),
        time_ms=np.zeros(lanes, np.int64),
        elapsed_ms=np.zeros(lanes, np.int64),
        equity_micro=np.zeros(lanes, np.int64),
        equity_mid_micro=np.zeros(lanes, np.int64),
        journal=np.zeros((lanes, journal, len(Entry)), np.int64),
    )
