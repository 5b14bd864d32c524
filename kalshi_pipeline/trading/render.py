"""A lane as a person sees it: `ansi`, its ladder as text; `rgb_array`, a chart of its last steps.

The text is made of the state alone. The chart needs the past: a `Film` keeps it, and exists only
where somebody asked for charts. Matplotlib is imported when the first chart is drawn.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import (
    BP_PER_DOLLAR,
    CENTI_PER_CONTRACT,
    MICRO_PER_DOLLAR,
    TradingConfig,
)
from kalshi_pipeline.errors import NotInPlay
from kalshi_pipeline.market.fees import fees_of
from kalshi_pipeline.trading.actions import BUY, SELL
from kalshi_pipeline.trading.journal import Entry, EntryKind
from kalshi_pipeline.trading.portfolio import FLIGHT, Account, Order, available_micro
from kalshi_pipeline.trading.simulator import Simulator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ints = NDArray[np.int64]
Image = NDArray[np.uint8]

RENDER_MODES = ("ansi", "rgb_array")
RENDER_FPS = 10
HEIGHT, WIDTH = 540, 900  # pixels of a chart
DEPTH = 8  # levels of each side the ladder shows
WINDOW = 200  # steps the chart shows
_DOTS_PER_INCH = 100
_LINE = 1.44  # points: two pixels, so that lines are crisp and of one colour
_ROOM = 4_096  # most journal entries of one step that a film reads

_INK, _MUTED, _GRID = "#1f2328", "#656d76", "#d8dee4"
_SIDE_COLOUR = ("#0969da", "#c2410c")  # BUY and the bid, SELL and the ask
_SIDE_NAME = ("buy", "sell")
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.size": 9, "text.color": _INK, "text.parse_math": False,
    "axes.labelcolor": _MUTED, "axes.edgecolor": _GRID, "axes.facecolor": "white",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": _GRID, "grid.linewidth": 0.6, "xtick.color": _MUTED,
    "ytick.color": _MUTED, "figure.facecolor": "white", "lines.antialiased": True,
}  # fmt: skip


class Moment(IntEnum):
    """Columns of a film, int64."""

    STEP = 0  # of the tape
    BID = 1  # of the book at the step, 0 = none
    ASK = 2  # 10,000 = none
    BUY = 3  # price of the own resting order, 0 = none
    SELL = 4
    EQUITY = 5  # liquidation, micro
    EQUITY_MID = 6


class Fill(NamedTuple):
    """An own fill, at the first step after it."""

    step: int
    side: int
    price_bp: int
    is_taker: bool


def check_render_mode(mode: str | None) -> None:
    """Refuse a mode that is none.

    Raises:
        ValueError: neither None nor one of `RENDER_MODES`.
    """
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {RENDER_MODES} or None, was {mode!r}")


def journal_room(mode: str | None, config: TradingConfig) -> int:
    """The journal a simulator needs for this mode: charts show fills, and nothing else does."""
    # a step fills at most what three orders hold, 0.01 contract at a time
    return min(3 * config.order_size_centi + 64, _ROOM) if mode == "rgb_array" else 0


class Film:
    """The last `WINDOW` steps of every lane. It empties the lanes' journals as it reads them.

    Args:
        simulator: with a journal of `journal_room`.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        lanes = simulator.lanes
        self._moments = np.zeros((lanes, WINDOW, len(Moment)), np.int64)
        self._length = np.zeros(lanes, np.int64)
        self._last = np.full(lanes, -1)
        self._fills: list[list[Fill]] = [[] for _ in range(lanes)]

    def record(self) -> None:
        """Keep the step every lane stands at; call it after each reset and each step.

        A lane that began another episode, or did not come from the step before, begins a new film.
        """
        simulator, account = self.simulator, self.simulator.state.account
        reel, orders = simulator.reel, simulator.state.orders
        step = account[:, Account.STEP]
        first = reel.episodes["first_step"][account[:, Account.EPISODE]]
        cut = (step == first) | (step != self._last + 1)
        for lane in np.flatnonzero(cut):
            self._fills[lane].clear()
            account[lane, Account.JOURNALLED] = 0
        self._length[cut] = 0
        rows = reel.rows[reel.step_row[step]]
        columns = (
            step, rows["bid_bp"], rows["ask_bp"], orders[:, BUY, Order.PRICE],
            orders[:, SELL, Order.PRICE], simulator.equity_micro, simulator.equity_mid_micro,
        )  # fmt: skip
        lanes = np.arange(simulator.lanes)
        self._moments[lanes, self._length % WINDOW] = np.stack(columns, axis=1)
        self._length += 1
        self._last = step.copy()
        for lane in np.flatnonzero(account[:, Account.JOURNALLED]):
            self._read_journal(int(lane))

    def _read_journal(self, lane: int) -> None:
        account = self.simulator.state.account[lane]
        entries = self.simulator.state.journal[lane, : account[Account.JOURNALLED]].tolist()
        account[Account.JOURNALLED] = 0
        step = int(account[Account.STEP])
        self._fills[lane] = [fill for fill in self._fills[lane] if fill.step > step - WINDOW] + [
            Fill(step, entry[Entry.SIDE], entry[Entry.PRICE], entry[Entry.DETAIL] == 1)
            for entry in entries
            if entry[Entry.KIND] == EntryKind.FILLED
        ]

    def moments(self, lane: int) -> Ints:
        """`[steps, len(Moment)]`, oldest first."""
        length = int(self._length[lane])
        if length <= WINDOW:
            return self._moments[lane, :length].copy()
        return np.roll(self._moments[lane], -(length % WINDOW), axis=0)

    def fills(self, lane: int) -> list[Fill]:
        """Own fills of these steps, oldest first."""
        oldest = int(self.moments(lane)[0, Moment.STEP])
        return [fill for fill in self._fills[lane] if fill.step >= oldest]


def frame(simulator: Simulator, film: Film | None, lane: int) -> str | Image:
    """The chart of a lane where there is a film, else its ladder.

    Raises:
        NotInPlay: the lane was never reset.
    """
    if simulator.state.account[lane, Account.PEAK] == 0:  # never below the starting cash
        raise NotInPlay("reset the environment before it is rendered")
    return ladder_text(simulator, lane) if film is None else chart(film, lane)


def ladder_text(simulator: Simulator, lane: int) -> str:
    """The best levels of both sides from dear to cheap, own orders, account, place and time.

    Prices are of YES; sizes leave out what own fills took since the level last changed.
    """
    state = simulator.state
    account, orders = state.account[lane], state.orders[lane]
    own: dict[int, list[str]] = {}
    for side in (BUY, SELL):
        if orders[side, Order.PRICE] > 0:
            own.setdefault(int(orders[side, Order.PRICE]), []).append(_resting(orders, side))
    grid_step_bp = int(simulator.reel.episodes[account[Account.EPISODE]]["grid_step_bp"])
    shown = state.ladder[lane] - state.consumed[lane]
    bids, asks = (_best(shown[side], side, grid_step_bp) for side in (BUY, SELL))
    lines = [_place(simulator, lane), _standing(simulator, lane), ""]
    if account[Account.BOOK_EMPTY]:
        lines.append("the book is empty; this is the last one that was not")
    lines.append(f"{'bids':>12}  {'YES':^8}  {'asks':>12}")
    for price in sorted({*bids, *asks, *own}, reverse=True):
        bid, ask = (_size(side[price]) if price in side else "" for side in (bids, asks))
        marks = "".join(f"  <- {mark}" for mark in own.get(price, ()))
        lines.append(f"{bid:>12}  {_price(price):^8}  {ask:>12}{marks}".rstrip())
    flight = orders[FLIGHT]
    if flight[Order.PRICE] > 0:
        what = f"{_SIDE_NAME[flight[Order.SIDE]]} {_size(flight[Order.SIZE])}"
        rule = "post-only" if flight[Order.POST_ONLY] else "immediate or cancel"
        arrival = f"arrives after {_utc(flight[Order.SINCE_MS])}"
        lines += ["", f"in flight: {what} at {_price(flight[Order.PRICE])}, {rule}, {arrival}"]
    return "\n".join(lines) + "\n"


def chart(film: Film, lane: int) -> Image:
    """`[HEIGHT, WIDTH, 3]`: quotes, own orders and fills of the last steps, equity below."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = _STYLE  # the stub lists every key there is
    with mpl.rc_context(style):
        size = (WIDTH / _DOTS_PER_INCH, HEIGHT / _DOTS_PER_INCH)
        figure = Figure(figsize=size, dpi=_DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        _draw(figure, film, lane)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _draw(figure: Figure, film: Film, lane: int) -> None:
    moments, simulator = film.moments(lane), film.simulator
    account = simulator.state.account[lane]
    first = int(simulator.reel.episodes[account[Account.EPISODE]]["first_step"])
    steps = moments[:, Moment.STEP] - first
    figure.text(0.07, 0.955, _place(simulator, lane), fontsize=10, weight="bold")
    figure.text(0.07, 0.915, _standing(simulator, lane), color=_MUTED)
    above = figure.add_axes((0.07, 0.34, 0.75, 0.5))
    below = figure.add_axes((0.07, 0.09, 0.75, 0.18), sharex=above)
    _draw_quotes(above, steps, moments)
    for side in (BUY, SELL):
        fills = [fill for fill in film.fills(lane) if fill.side == side]
        _draw_fills(above, side, first, fills)
        _draw_resting(above, side, steps, moments, simulator.state.orders[lane])
    above.set_ylabel("YES, dollars")
    above.tick_params(labelbottom=False)
    low, high = above.get_ylim()
    room = max(0.01 - (high - low) / 2, 0)  # a quiet market is not blown up to a wild one
    above.set_ylim(low - room, high + room)
    above.set_xlim(steps[0] - 0.5, max(steps[-1] + 1, steps[0] + 10))
    above.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=9, frameon=False, fontsize=8,
        borderaxespad=0.2, handlelength=1.2, columnspacing=1.0, handletextpad=0.5,
    )  # fmt: skip
    for column, colour, name in (
        (Moment.EQUITY_MID, _MUTED, "at mid"),
        (Moment.EQUITY, _INK, "liquidated"),
    ):
        dollars = moments[:, column] / MICRO_PER_DOLLAR
        below.plot(steps, dollars, color=colour, lw=_LINE, marker=".", ms=2, label=name)
    below.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, handlelength=1.4
    )
    below.ticklabel_format(axis="y", useOffset=False)
    below.set_ylabel("equity, dollars")
    below.set_xlabel("step of the episode")


def _draw_quotes(axes: Axes, steps: Ints, moments: Ints) -> None:
    bid = np.where(moments[:, Moment.BID] > 0, moments[:, Moment.BID], np.nan)
    ask = np.where(moments[:, Moment.ASK] < BP_PER_DOLLAR, moments[:, Moment.ASK], np.nan)
    bid, ask = _held(bid) / BP_PER_DOLLAR, _held(ask) / BP_PER_DOLLAR
    steps = _until_next(steps)
    axes.fill_between(steps, bid, ask, step="post", color=_GRID, alpha=0.5, lw=0)
    for quote, colour, name in (
        (ask, _SIDE_COLOUR[SELL], "ask"),
        ((bid + ask) / 2, _MUTED, "mid"),
        (bid, _SIDE_COLOUR[BUY], "bid"),
    ):
        style: dict[str, Any] = {"lw": 0.8, "ls": ":"} if name == "mid" else {"lw": _LINE}
        axes.plot(steps, quote, color=colour, drawstyle="steps-post", label=name, **style)


def _draw_fills(axes: Axes, side: int, first: int, fills: list[Fill]) -> None:
    for is_taker, name in ((True, "taken"), (False, "made")):
        points = [(f.step - first, f.price_bp) for f in fills if f.is_taker == is_taker]
        if points:
            steps, prices = zip(*points, strict=True)
            axes.plot(
                steps, np.array(prices) / BP_PER_DOLLAR, "^v"[side], ms=8, ls="", zorder=4,
                mfc=_SIDE_COLOUR[side] if is_taker else "white", mec=_SIDE_COLOUR[side], mew=1.5,
                label=f"{_SIDE_NAME[side]} {name}",
            )  # fmt: skip


def _draw_resting(axes: Axes, side: int, steps: Ints, moments: Ints, orders: Ints) -> None:
    column = moments[:, Moment.BUY if side == BUY else Moment.SELL]
    prices = np.where(column > 0, column, np.nan) / BP_PER_DOLLAR
    if np.isnan(prices).all():
        return
    colour, name = _SIDE_COLOUR[side], _SIDE_NAME[side]
    axes.plot(
        _until_next(steps), _held(prices), color=colour, lw=5, alpha=0.3, solid_capstyle="butt",
        drawstyle="steps-post", label=f"{name} order",
    )  # fmt: skip
    if orders[side, Order.PRICE] > 0:
        axes.annotate(
            _resting(orders, side).replace(", ", "\n"), (1.0, prices[-1]),
            xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
            color=colour, va="bottom" if side == SELL else "top", fontsize=8.5,
        )  # fmt: skip


def _until_next(steps: Ints) -> Ints:
    # what holds at the last step holds until there is another
    return np.append(steps, steps[-1] + 1)


def _held(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(values, values[-1])


def _best(shown: Ints, side: int, grid_step_bp: int) -> dict[int, int]:
    # YES price -> size of the best levels of a ladder that show anything
    levels = np.flatnonzero(shown > 0)[::-1][:DEPTH].tolist()
    prices = [level * grid_step_bp for level in levels]
    return {
        price if side == BUY else BP_PER_DOLLAR - price: int(shown[level])
        for price, level in zip(prices, levels, strict=True)
    }


def _place(simulator: Simulator, lane: int) -> str:
    account = simulator.state.account[lane]
    number = int(account[Account.EPISODE])
    names = simulator.universe.episodes[number]
    step = account[Account.STEP] - simulator.reel.episodes[number]["first_step"]
    return (
        f"{names.market}  session {names.session}, segment {names.segment}  "
        f"step {step} of {names.steps - 1}  {_utc(simulator.time_ms[lane])}"
    )


def _standing(simulator: Simulator, lane: int) -> str:
    account, orders = simulator.state.account[lane], simulator.state.orders[lane]
    fees = fees_of(simulator.tape.fee_schedule[account[Account.EPISODE]])
    position = int(account[Account.POSITION])
    cash = int(account[Account.CASH]) - BP_PER_DOLLAR * max(-position, 0)
    reserved = cash - int(available_micro(account, orders, fees))
    parts = [
        f"position {position / CENTI_PER_CONTRACT:+.2f}",
        f"cash {_dollars(cash)}" + (f" ({_dollars(reserved)} reserved)" if reserved else ""),
        f"equity {_dollars(simulator.equity_micro[lane])}",
        f"at mid {_dollars(simulator.equity_mid_micro[lane])}",
    ]
    if simulator.terminated[lane] or simulator.truncated[lane]:
        parts.append("settled" if simulator.terminated[lane] else "truncated")
    return "  ".join(parts)


def _resting(orders: Ints, side: int) -> str:
    order = orders[side]
    return f"{_SIDE_NAME[side]} {_size(order[Order.REMAINING])}, {_size(order[Order.AHEAD])} ahead"


def _size(centi: int) -> str:
    return f"{centi / CENTI_PER_CONTRACT:.2f}"


def _price(price_bp: int) -> str:
    return f"{price_bp / BP_PER_DOLLAR:.4f}"


def _dollars(micro: int) -> str:
    return f"${micro / MICRO_PER_DOLLAR:.4f}"


def _utc(time_ms: int) -> str:
    return str(np.datetime64(int(time_ms), "ms")).replace("T", " ") + " UTC"
