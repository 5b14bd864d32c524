"""One bar a row, made of parts: shares that fill it, or amounts to both sides of 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kalshi_pipeline.evaluation.charts.drawing import (
    COLOUR,
    ROW,
    Drawing,
    legend_columns,
    minus,
    spanning,
    styled,
    widest,
)

_MOST_NAME = 150.0
_LEGEND = 15.0


def stacked_chart(
    title: str,
    rows: Mapping[str, Sequence[float]],
    parts: Sequence[tuple[str, str]],
    label: str,
    *,
    judged: str | None = None,
    totals: Mapping[str, float] | None = None,
    reach: tuple[float, float] | None = None,
) -> str:
    """Bars of parts, positive ones to the right of 0 and negative ones to the left.

    Args:
        title: for readers who cannot see it.
        rows: name -> one amount a part.
        parts: name and colour of each part.
        label: name and unit of the axis.
        judged: the row in colour.
        totals: what each row comes to, marked on its bar.
        reach: ends of the axis; the data's where it is not given.
    """
    with styled():
        meanings = [name for name, _ in parts]
        head = 8 + _LEGEND * -(-len(parts) // legend_columns(meanings))
        drawing = Drawing(
            title,
            ROW * max(len(rows), 1) + 36 + head,
            left=widest(rows, _MOST_NAME, {judged or ""}),
            top=head,
        )
        ends = [
            end
            for amounts in rows.values()
            for end in (sum(a for a in amounts if a < 0), sum(a for a in amounts if a > 0))
        ]
        drawing.x_axis(*(reach or spanning([0.0, *ends])), label)
        drawing.rows(list(rows), {judged or ""})
        drawing.legend_of_colours(parts)
        for place, (name, amounts) in enumerate(rows.items()):
            _bar(drawing, place, name, dict(zip(parts, amounts, strict=True)))
            if totals:
                (mark,) = drawing.axes.plot(
                    totals[name], place, "D", ms=6.4, mfc=COLOUR["ink"], mec=COLOUR["panel"],
                    clip_on=False,
                )  # fmt: skip
                drawing.note(mark, f"{name}, in all: " + minus(f"{totals[name]:+,.2f}"))
        return drawing.svg()


def _bar(drawing: Drawing, place: int, name: str, amounts: Mapping[tuple[str, str], float]) -> None:
    ends = {True: 0.0, False: 0.0}
    for (part, colour), amount in amounts.items():
        if not amount:
            continue
        hint = f"{name}, {part}: " + minus(f"{amount:,.2f}")
        drawing.bar(place, ends[amount > 0], amount, 0.7, hint, color=COLOUR[colour])
        ends[amount > 0] += amount
