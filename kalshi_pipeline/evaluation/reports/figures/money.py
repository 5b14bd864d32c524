"""Where the money came from, and single trades with the book around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.config import BP_PER_DOLLAR, CENTI_PER_CONTRACT
from kalshi_pipeline.evaluation.charts.lines import Series, line_chart
from kalshi_pipeline.evaluation.charts.replay import Fill, Moment, place_of, replay_chart
from kalshi_pipeline.evaluation.charts.stacked import stacked_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure, script_json
from kalshi_pipeline.evaluation.reports.text import number, signed

_BP_PER_CENT = BP_PER_DOLLAR // 100
_PARTS = (
    ("spread", "spread"), ("fees", "fees"), ("drift of the mid", "drift"),
    ("end or settlement", "settlement"),
)  # fmt: skip


def money(report: Mapping[str, Any]) -> list[Figure]:
    """The split of the profit, mark-outs, and all episodes as one portfolio."""
    trades, judged = report["trades"], report["policy"]
    if not trades:
        return []
    shown = [_split(trades["split"], judged), _markouts(trades["markouts"], judged)]
    if trades["portfolio"]["points"]:
        shown.append(_portfolio(trades["portfolio"], judged))
    return shown


def _split(rows: Sequence[Mapping[str, Any]], judged: str) -> Figure:
    names = ("spread_cents", "fees_cents", "drift_cents", "settlement_cents")
    return figure(
        "Profit in parts",
        stacked_chart(
            "Spread, fees, drift and settlement by policy",
            {row["policy"]: [row[name] for name in names] for row in rows},
            _PARTS,
            "¢ per event",
            judged=judged,
            totals={row["policy"]: row["total_cents"] for row in rows},
        ),
        "The diamond is what they come to.",
    )


def _markouts(rows: Sequence[Mapping[str, Any]], judged: str) -> Figure:
    rows = [row for row in rows if row["side"] == "all"]
    horizons = sorted({row["horizon_s"] for row in rows})
    series = []
    for name in dict.fromkeys(row["policy"] for row in rows):
        found = {row["horizon_s"]: row for row in rows if row["policy"] == name}
        y = [found[horizon]["cents"] if horizon in found else None for horizon in horizons]
        ends = [found[horizon]["interval"] if horizon in found else None for horizon in horizons]
        if name != judged or not all(ends):
            series.append(Series(name, y, judged=name == judged))
        else:
            low, high = zip(*(one for one in ends if one), strict=True)
            series.append(Series(name, y, low, high, judged=True))
    return figure(
        "Mark-outs",
        line_chart(
            "What the mid did after fills",
            list(range(len(horizons))),
            series,
            "seconds after a fill",
            "¢ a contract, in the direction of the fill",
            marks=[(place, f"{horizon:g}") for place, horizon in enumerate(horizons)],
            points=True,
        ),
    )


def _portfolio(portfolio: Mapping[str, Any], judged: str) -> Figure:
    points = portfolio["points"]
    return figure(
        "All episodes as one portfolio",
        line_chart(
            "Profit of all episodes together on a clock",
            [place * portfolio["grid_s"] / 3_600.0 for place in range(len(points))],
            [Series(judged, [point["equity_cents"] for point in points], judged=True)],
            "hours on the clock, sessions end to end",
            "profit so far, ¢",
        ),
        "Gains of all episodes added up; a policy that repeats episodes counts their mean.",
    )


@dataclass(frozen=True)
class Replay:
    """A trade to step through.

    Args:
        figure: its picture.
        moments: how many there are.
        data: of each moment: where it lies in the picture, and what was there.
    """

    figure: Figure
    moments: int
    data: Any


def replays(report: Mapping[str, Any]) -> list[Replay]:
    """Single trades with the book around them."""
    return [_replay(one) for one in (report["trades"] or {}).get("examples", ()) if one["fills"]]


def _replay(example: Mapping[str, Any]) -> Replay:
    own = [fill for fill in example["fills"] if fill["of_trade"]] or example["fills"]
    start_ms = own[0]["time_ms"]
    at_s = [(time_ms - start_ms) / 1_000.0 for time_ms in example["times_ms"]]
    moments = [
        Moment(at, *(None if quote is None else quote / _BP_PER_CENT for quote in quotes))
        for at, *quotes in zip(at_s, example["bid_bp"], example["ask_bp"], strict=True)
    ]
    fills = [
        Fill(
            (fill["time_ms"] - start_ms) / 1_000.0, fill["price_bp"] / _BP_PER_CENT,
            fill["side"] == "buy", _told(fill), fill["of_trade"],
        )
        for fill in example["fills"]
    ]  # fmt: skip
    title = f"{example['title']}: {signed(example['gain_cents'])} ¢"
    picture = figure(
        title,
        replay_chart(f"Best bid and ask around a trade in {example['market']}", moments, fills),
        f"{example['market']}, session {example['session']}; ended by {example['ended_by']}",
    )
    data = [
        {
            "x": round(place_of(at, moments), 1),
            "says": _moment(at, example["fills"], time_ms),
            "asks": _levels(asks),
            "bids": _levels(bids),
        }
        for at, time_ms, bids, asks in zip(
            at_s, example["times_ms"], example["bids"], example["asks"], strict=True
        )
    ]
    return Replay(picture, len(data), script_json(data))


def _levels(levels: Sequence[Sequence[int]]) -> list[tuple[str, str, float]]:
    """Price and size as text, and the size for the length of a bar."""
    return [
        (
            f"{price / _BP_PER_CENT:g} ¢",
            number(size / CENTI_PER_CONTRACT, 0),
            size / CENTI_PER_CONTRACT,
        )
        for price, size in levels
    ]


def _moment(at_s: float, fills: Sequence[Mapping[str, Any]], time_ms: int) -> str:
    done = [fill for fill in fills if fill["time_ms"] <= time_ms]
    last = f"last fill: {_told(done[-1])}" if done else "no fill yet"
    return f"{signed(at_s, 2)} s, {last}"


def _told(fill: Mapping[str, Any]) -> str:
    return (
        f"{fill['side']} {number(fill['size_centi'] / CENTI_PER_CONTRACT, 2)} at "
        f"{fill['price_bp'] / _BP_PER_CENT:g} ¢ as {'taker' if fill['taker'] else 'maker'}, "
        f"fee {number(fill['fee_cents'], 2)} ¢"
    )
