"""One bar a row, made of parts: shares that fill it, or amounts to both sides of 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kalshi_pipeline.evaluation.charts.svg import ROW, Canvas, minus, spanning, width_of

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
    lines = _legend_lines(parts)
    names = min(_MOST_NAME, max((width_of(name) for name in rows), default=0.0) + 16)
    head = 6 + _LEGEND * len(lines)
    canvas = Canvas(title, ROW * len(rows) + 44 + head, left=names, top=head + 2)
    ends = [
        end
        for amounts in rows.values()
        for end in (sum(a for a in amounts if a < 0), sum(a for a in amounts if a > 0))
    ]
    scale = canvas.horizontal(*(reach or spanning([0.0, *ends])))
    canvas.x_axis(scale, label)
    for row, line in enumerate(lines):
        x = 0.0
        for name, shade in line:
            canvas.bar(x, x + 9, _LEGEND * row + 2, 9, shade)
            canvas.text(x + 13, _LEGEND * row + 10, name, shade="tick")
            x += width_of(name) + 26
    for place, (name, amounts) in enumerate(rows.items()):
        y = canvas.top + ROW * place + 2
        shade = "judged" if name == judged else "other"
        canvas.text(names - 6, y + 10, name, anchor="end", shade=f"name {shade}", room=names - 8)
        left = right = 0.0
        for amount, (part, colour) in zip(amounts, parts, strict=True):
            start = right if amount >= 0 else left
            hint = f"{name}, {part}: " + minus(f"{amount:,.2f}")
            if amount:
                canvas.bar(scale(start), scale(start + amount), y, ROW - 5, colour, hint)
            if amount >= 0:
                right += amount
            else:
                left += amount
        if totals:
            x = scale(totals[name])
            mark = [(x, y - 1), (x + 4.5, y + 6), (x, y + 13), (x - 4.5, y + 6)]
            canvas.polygon(mark, "total", f"{name}, in all: " + minus(f"{totals[name]:+,.2f}"))
    return canvas.svg()


def _legend_lines(parts: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for part in parts:
        wide = width_of(part[0]) + 26
        if used + wide > Canvas("", 0).width and lines[-1]:
            lines.append([])
            used = 0.0
        lines[-1].append(part)
        used += wide
    return lines
