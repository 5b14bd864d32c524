"""Every order, fill, fee and cancel of played episodes, as tables that a file can hold.

    ledger = record(universe, episodes, choose, config)
    ledger.write(folder)
    differences(ledger)          # `ledger_audit`: the accounts, computed again in SQL

Tables, one Parquet file each; money in 1/1,000,000 dollar, sizes in 1/100 contract, prices in
1/10,000 dollar on the YES scale, times in Unix milliseconds of the market. The order of the actions
is that of the steps, that of the fills the column `fill`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.trading.journal import EndReason, Entry, EntryKind
from kalshi_pipeline.trading.portfolio import Account
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe

Ints = NDArray[np.int64]
Choose = Callable[[NDArray[np.float32], NDArray[np.bool_]], Ints]


def first_room(steps: int) -> int:
    """Entries that nearly every journal of so many steps has room in."""
    return max(256, 4 * steps)


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


_TEXT, _INT, _FLAG = pa.string(), pa.int64(), pa.bool_()

# what was played, and the account the simulator kept: what the other tables must explain
EPISODES = _schema(
    episode=_INT, session=_INT, market=_TEXT, event=_TEXT, segment=_INT, settled=_FLAG,
    settlement_bp=_INT,  # -1: not settled, marked at the closing book
    cash_start_micro=_INT, cash_micro=_INT, position_centi=_INT, fees_micro=_INT,
    equity_micro=_INT, traded_centi=_INT, orders=_INT, cancels=_INT, taker_fills=_INT,
    maker_fills=_INT, flat_trips=_INT, flat_wins=_INT,
    taker_rate_bp=_INT, maker_rate_bp=_INT, multiplier_pct=_INT, fee_rule=_INT,
)  # fmt: skip
ACTIONS = _schema(episode=_INT, step=_INT, action=_INT)
ORDERS = _schema(
    episode=_INT, order=_INT,  # the step it was decided at, from 0
    is_buy=_FLAG, limit_bp=_INT, size_centi=_INT, post_only=_FLAG, sent_ms=_INT,
    rested_ms=_INT,  # -1: it never rested
    ended_ms=_INT, unfilled_centi=_INT, ended_by=_TEXT,  # EndReason, lower case
)  # fmt: skip
FILLS = _schema(
    episode=_INT, fill=_INT, order=_INT, time_ms=_INT, is_buy=_FLAG, price_bp=_INT,
    size_centi=_INT, fee_micro=_INT, is_taker=_FLAG,
)  # fmt: skip
# what the last book that was not empty still had for the position, best price first
CLOSING_BOOK = _schema(episode=_INT, level=_INT, side=_TEXT, price_bp=_INT, size_centi=_INT)


@dataclass(frozen=True)
class Ledger:
    """The tables; see the schemas of this module."""

    episodes: pa.Table
    actions: pa.Table
    orders: pa.Table
    fills: pa.Table
    closing_book: pa.Table

    def write(self, folder: Path) -> None:
        """Write one Parquet file a table."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables().items():
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")

    def tables(self) -> dict[str, pa.Table]:
        """The tables by their names."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def record(
    universe: Universe, episodes: Sequence[int], choose: Choose, config: TradingConfig
) -> Ledger:
    """Play episodes side by side and keep everything.

    Args:
        universe: where the episodes are.
        episodes: indices, each once.
        choose: observations `[N, 52]` and masks `[N, 7]` of all lanes, finished ones included, to
            actions `[N]`.
        config: rules of an episode.
    """
    steps = [universe.episodes[episode].steps for episode in episodes]
    actions: list[list[int]] = [[] for _ in episodes]
    simulator = Simulator(universe, len(episodes), config)
    simulator.reset(range(len(episodes)), episodes)
    for _ in range(max(steps, default=1) - 1):
        running = ~(simulator.terminated | simulator.truncated)
        chosen = np.asarray(choose(simulator.observation.copy(), simulator.mask.copy()))
        for lane in np.flatnonzero(running):
            actions[lane].append(int(chosen[lane]))
        simulator.step(chosen)
    return replay(universe, dict(zip(episodes, actions, strict=True)), config)


def replay(
    universe: Universe, actions: Mapping[int, Sequence[int]], config: TradingConfig
) -> Ledger:
    """The ledger of episodes played with given actions: the same actions, the same ledger.

    Args:
        universe: where the episodes are.
        actions: episode -> one action for each step but the last.
        config: rules of an episode.
    """
    parts: dict[str, list[dict[str, Any]]] = {part.name: [] for part in fields(Ledger)}
    for episode, chosen in sorted(actions.items()):
        simulator = _played(universe, episode, chosen, config)
        parts["episodes"].append(_episode_row(simulator, episode))
        parts["actions"] += [
            {"episode": episode, "step": step, "action": action}
            for step, action in enumerate(chosen)
        ]
        _read_journal(simulator, episode, parts)
        parts["closing_book"] += _closing_book(simulator, episode)
    schemas = (EPISODES, ACTIONS, ORDERS, FILLS, CLOSING_BOOK)
    return Ledger(
        *(
            pa.Table.from_pylist(rows, schema=schema)
            for rows, schema in zip(parts.values(), schemas, strict=True)
        )
    )


def actions_of(ledger: Ledger) -> dict[int, list[int]]:
    """What `replay` needs to play a ledger's episodes again."""
    found: dict[int, list[int]] = {
        episode: [] for episode in ledger.episodes["episode"].to_pylist()
    }
    for row in ledger.actions.sort_by(
        [("episode", "ascending"), ("step", "ascending")]
    ).to_pylist():
        found[row["episode"]].append(row["action"])
    return found


def _played(
    universe: Universe, episode: int, chosen: Sequence[int], config: TradingConfig
) -> Simulator:
    """One lane at its episode's end, with a journal that held everything."""
    capacity = first_room(len(chosen))
    while True:
        simulator = Simulator(universe, 1, config, journal=capacity)
        simulator.reset([0], [episode])
        for action in chosen:
            simulator.step([action])
        written = int(simulator.state.account[0, Account.JOURNALLED])
        if written <= capacity:
            return simulator
        capacity = written


def _episode_row(simulator: Simulator, episode: int) -> dict[str, Any]:
    names, account = simulator.universe.episodes[episode], simulator.state.account[0]
    kept = {
        "cash_micro": Account.CASH,
        "position_centi": Account.POSITION,
        "fees_micro": Account.FEES,
        "equity_micro": Account.EQUITY,
        "traded_centi": Account.TRADED,
        "orders": Account.ORDERS,
        "cancels": Account.CANCELS,
        "taker_fills": Account.TAKER_FILLS,
        "maker_fills": Account.MAKER_FILLS,
        "flat_trips": Account.TRIPS,
        "flat_wins": Account.WINS,
    }
    schedule = ("taker_rate_bp", "maker_rate_bp", "multiplier_pct", "fee_rule")
    rates = simulator.tape.fee_schedule[episode].tolist()
    return {
        "episode": episode,
        "session": names.session,
        "market": names.market,
        "event": names.event,
        "segment": names.segment,
        "settled": bool(simulator.terminated[0]),
        "settlement_bp": int(simulator.tape.settlement_bp[episode]),
        "cash_start_micro": simulator.config.cash_start_micro,
        **{name: int(account[column]) for name, column in kept.items()},
        **dict(zip(schedule, rates, strict=True)),
    }


def _read_journal(
    simulator: Simulator, episode: int, parts: dict[str, list[dict[str, Any]]]
) -> None:
    """Orders and fills of the lane's journal, in the order they happened."""
    first_step = int(simulator.tape.first_step[episode])
    written = int(simulator.state.account[0, Account.JOURNALLED])
    orders: dict[int, dict[str, Any]] = {}
    fills: list[dict[str, Any]] = []
    for row in simulator.state.journal[0, :written].tolist():
        kind, number, time_ms = row[Entry.KIND], row[Entry.ORDER] - first_step, row[Entry.TIME_MS]
        if kind == EntryKind.SENT:
            orders[number] = {
                "episode": episode,
                "order": number,
                "is_buy": row[Entry.SIDE] == 0,
                "limit_bp": row[Entry.PRICE],
                "size_centi": row[Entry.SIZE],
                "post_only": row[Entry.DETAIL] == 1,
                "sent_ms": time_ms,
                "rested_ms": -1,
            }
        elif kind == EntryKind.RESTED:
            orders[number]["rested_ms"] = time_ms
        elif kind == EntryKind.ENDED:
            ended = EndReason(row[Entry.DETAIL]).name.lower()
            orders[number] |= {
                "ended_ms": time_ms, "unfilled_centi": row[Entry.SIZE], "ended_by": ended,
            }  # fmt: skip
        else:
            fills.append(
                {
                    "episode": episode,
                    "fill": len(fills),
                    "order": number,
                    "time_ms": time_ms,
                    "is_buy": row[Entry.SIDE] == 0,
                    "price_bp": row[Entry.PRICE],
                    "size_centi": row[Entry.SIZE],
                    "fee_micro": row[Entry.FEE],
                    "is_taker": row[Entry.DETAIL] == 1,
                }
            )
    parts["orders"] += orders.values()
    parts["fills"] += fills


def _closing_book(simulator: Simulator, episode: int) -> list[dict[str, Any]]:
    """What can be sold into at the end, in each ladder's own scale, own consumption left out."""
    step_bp = int(simulator.tape.grid_step_bp[simulator.tape.grid[episode]])
    left = simulator.state.ladder[0] - simulator.state.consumed[0]
    rows = []
    for side, name in enumerate(("yes", "no")):
        levels = np.flatnonzero(left[side] > 0)[::-1]
        rows += [
            {
                "episode": episode,
                "level": place,
                "side": name,
                "price_bp": level * step_bp,
                "size_centi": int(left[side, level]),
            }
            for place, level in enumerate(levels.tolist())
            if level > 0
        ]
    return rows
