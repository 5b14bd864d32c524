"""What is left of an episode once it is over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.tape import Tape


@dataclass(frozen=True)
class EpisodeSummary:
    """One policy on one market segment.

    Args:
        episode: index into the universe.
        steps: actions taken.
        pnl_micro: change of equity, at settlement or liquidation, after fees.
        pnl_mid_micro: the same, what is left at the end of a truncated episode marked at mid.
        fees_micro: all fees, that of the closing mark not included.
        taker_fills: fills by taking.
        maker_fills: fills of resting orders.
        contracts_centi: traded size.
        orders: orders sent, a repeated quote counted once; fully filled + `cancels` at the end.
        cancels: orders that ended with something unfilled, for whatever reason.
        invalid_actions: actions that were no-ops because the mask forbade them.
        action_counts: how often each of the seven was chosen.
        final_position_centi: signed position at the end.
        max_drawdown_micro: largest fall of liquidation equity from its peak, over steps.
        max_capital_micro: largest cost of position plus reservations, over steps.
        flat_trips: flat to flat; an open position at the end closes one.
        flat_wins: those that gained after fees.
        terminated: settled by the market's result; otherwise truncated.
        start_ms: market time of the first step.
        end_ms: market time of the last step.
    """

    episode: int
    steps: int
    pnl_micro: int
    pnl_mid_micro: int
    fees_micro: int
    taker_fills: int
    maker_fills: int
    contracts_centi: int
    orders: int
    cancels: int
    invalid_actions: int
    action_counts: tuple[int, int, int, int, int, int, int]
    final_position_centi: int
    max_drawdown_micro: int
    max_capital_micro: int
    flat_trips: int
    flat_wins: int
    terminated: bool
    start_ms: int
    end_ms: int

    @classmethod
    def of_played(
        cls,
        accounts: NDArray[np.int64],
        counts: NDArray[np.int64],
        settled: NDArray[np.bool_],
        tape: Tape,
        config: TradingConfig,
    ) -> list[EpisodeSummary]:
        """Read what was kept of episodes that were played whole.

        Args:
            accounts: `[K, len(Account)]` in the end.
            counts: `[K, 7]` how often each action was taken.
            settled: `[K]` whether the market's result ended it.
            tape: of the universe.
            config: rules of an episode.
        """
        return [
            cls.of_lane(
                account, count, tape,
                cash_start_micro=config.cash_start_micro, terminated=bool(terminated),
            )
            for account, count, terminated in zip(accounts, counts, settled, strict=True)
        ]  # fmt: skip

    @classmethod
    def of_lane(
        cls,
        account: NDArray[np.int64],
        action_counts: NDArray[np.int64],
        tape: Tape,
        *,
        cash_start_micro: int,
        terminated: bool,
    ) -> EpisodeSummary:
        """Read a lane's account.

        Args:
            account: `[len(Account)]`.
            action_counts: `[7]`.
            tape: the universe's tape.
            cash_start_micro: what the episode started with.
            terminated: whether it settled.
        """
        row = account.tolist()
        first_step = int(tape.first_step[row[Account.EPISODE]])
        return cls(
            episode=row[Account.EPISODE],
            steps=row[Account.STEP] - first_step,
            pnl_micro=row[Account.EQUITY] - cash_start_micro,
            pnl_mid_micro=row[Account.EQUITY_MID] - cash_start_micro,
            fees_micro=row[Account.FEES],
            taker_fills=row[Account.TAKER_FILLS],
            maker_fills=row[Account.MAKER_FILLS],
            contracts_centi=row[Account.TRADED],
            orders=row[Account.ORDERS],
            cancels=row[Account.CANCELS],
            invalid_actions=row[Account.INVALID],
            action_counts=tuple(action_counts.tolist()),
            final_position_centi=row[Account.POSITION],
            max_drawdown_micro=row[Account.DRAWDOWN],
            max_capital_micro=row[Account.CAPITAL],
            flat_trips=row[Account.TRIPS],
            flat_wins=row[Account.WINS],
            terminated=terminated,
            start_ms=int(tape.time_ms[tape.step_row[first_step]]),
            end_ms=int(tape.time_ms[tape.step_row[row[Account.STEP]]]),
        )
