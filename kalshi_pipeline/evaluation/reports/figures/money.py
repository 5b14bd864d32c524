"""Where the money came from, and single trades with the book around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kalshi_pipeline.evaluation.charts.lines import Series, line_chart
from kalshi_pipeline.evaluation.charts.replay import Fill, Moment, place_of, replay_chart
from kalshi_pipeline.evaluation.charts.stacked import stacked_chart
from kalshi_pipeline.evaluation.reports.figures.shared import Figure, figure, script_json
from kalshi_pipeline.evaluation.reports.text import number, signed

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
    portfolio = trades["portfolio"]
    if portfolio and portfolio["points"]:
        shown.append(_portfolio(portfolio, judged))
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
            [hours for hours, _ in points],
            [Series(judged, [cents for _, cents in points], judged=True)],
            "hours since the first tick, sessions end to end",
            "profit so far, ¢",
        ),
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
    return [_replay(one) for one in (report["trades"] or {}).get("examples", ()) if one["book"]]


def _replay(example: Mapping[str, Any]) -> Replay:
    moments = [Moment(row["at_s"], row["bid_cents"], row["ask_cents"]) for row in example["book"]]
    fills = [
        Fill(fill["at_s"], fill["price_cents"], fill["side"] == "buy", _told(fill))
        for fill in example["fills"]
    ]
    title = f"{example['market']}, session {example['session']}"
    picture = figure(
        title,
        replay_chart(f"Best bid and ask around a trade in {title}", moments, fills),
        f"{example['why']}; {signed(example['pnl_cents'])} ¢",
    )
    steps = [
        {"x": round(place_of(row["at_s"], moments), 1), "says": _moment(row, example["fills"])}
        for row in example["book"]
    ]
    return Replay(picture, len(steps), script_json(steps))


def _moment(row: Mapping[str, Any], fills: Sequence[Mapping[str, Any]]) -> str:
    done = [fill for fill in fills if fill["at_s"] <= row["at_s"]]
    told = (
        f"{signed(row['at_s'], 2)} s: bid {_quote(row, 'bid')}, ask {_quote(row, 'ask')}; "
        f"position {signed(done[-1]['position_contracts'] if done else 0.0, 2)} contracts"
    )
    return f"{told}. Last fill: {_told(done[-1])}" if done else f"{told}."


def _quote(row: Mapping[str, Any], side: str) -> str:
    if row[f"{side}_cents"] is None:
        return "none"
    return f"{number(row[f'{side}_cents'], 1)} ¢ × {number(row[f'{side}_contracts'], 0)}"


def _told(fill: Mapping[str, Any]) -> str:
    return (
        f"{fill['side']} {number(fill['contracts'], 2)} at {number(fill['price_cents'], 1)} ¢ as "
        f"{'taker' if fill['taker'] else 'maker'}, fee {number(fill['fee_cents'], 2)} ¢"
    )
