"""Tables and small plots: what a terminal shows."""

from __future__ import annotations

import pytest
from rich.console import Console

from kalshi_pipeline.sessions.terminal import bars, beside, columns_plot, figures, sparkline, table


def shown(part, width: int = 100) -> list[str]:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([5.0], "▁"), ([0, 7], "▁█"), ([3, 3, 3], "▁▁▁"), (range(8), "▁▂▃▄▅▆▇█")],
)
def test_a_sparkline_spans_its_own_range(values, line):
    assert sparkline(list(values)) == line


def test_columns_are_as_high_as_their_values():
    lines = shown(columns_plot("Title", [0, 4, 8, 16], "from", "to", height=2))
    assert lines[0] == "Title"
    assert lines[1] == "16    █"
    assert lines[2] == " 0  ▄██"
    assert lines[3].split() == ["from", "to"]


def test_columns_may_begin_above_nothing():
    lines = shown(columns_plot("Title", [50.0, 52.0], "a", "b", height=1, low=50.0))
    assert lines[1].endswith(" █")


@pytest.mark.parametrize("values", [[], [0], [0, 0]])
def test_nothing_is_plotted_as_nothing(values):
    assert "█" not in "".join(shown(columns_plot("Title", values, "a", "b")))
    assert "█" not in "".join(shown(bars("Title", dict.fromkeys("xy", 0))))


def test_the_longest_bar_is_that_of_the_largest_count():
    lines = shown(bars("Counts", {"a": 1_000, "b": 500, "c": 0}, width=8))
    assert lines == ["Counts", "a 1,000 ████████", "b   500 ████", "c     0"]


def test_what_does_not_fit_beside_goes_below():
    parts = [figures(name, {"name": "value" * 3}) for name in ("One", "Two")]
    assert shown(beside(*parts))[0].split() == ["One", "Two"]
    assert "Two" not in shown(beside(*parts), width=30)[0]
    assert any("Two" in line for line in shown(beside(*parts), width=30))


def test_a_name_is_never_cut():
    made = table("market", "why", right=("why",))
    made.add_row("KXVERYLONGTICKER-26AUG071300-00", "because of this and of that and of more")
    lines = shown(made, width=50)
    assert any("KXVERYLONGTICKER-26AUG071300-00" in line for line in lines)
