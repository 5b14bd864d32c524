"""Charts: text as text, coloured by the page, cut to the frame, safe for any name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from kalshi_pipeline.evaluation.charts.dots import Dot, dot_chart
from kalshi_pipeline.evaluation.charts.drawing import COLOUR, WIDTH, fitted, width_of
from kalshi_pipeline.evaluation.charts.heat import heat_chart, shade_of
from kalshi_pipeline.evaluation.charts.lines import Series, drawdowns, line_chart
from kalshi_pipeline.evaluation.charts.replay import Fill, Moment, place_of, replay_chart
from kalshi_pipeline.evaluation.charts.stacked import stacked_chart

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</title><script>alert('$x^2$ & \"y\"')</script> #010101 --> ]]> \x00\x1b\n\ud800 漢字"
PARTS = (("hold", "a0"), ("buy", "a1"))
BOOK = [Moment(0.0, 40.0, 44.0), Moment(1.0, None, 45.0), Moment(4.0, 41.0, 46.0)]

CHARTS: dict[str, Callable[[str], str]] = {
    "dots": lambda name: dot_chart(
        name, [Dot(name, 3.0, (1.0, 5.0), judged=True), Dot("none", None, None)], name
    ),
    "lines": lambda name: line_chart(
        name, [0, 1], [Series(name, [1.0, 2.0], [0.0, 1.0], [2.0, 3.0], judged=True)], name, name,
        marks=[(0, name), (1, "b")],
    ),
    "points": lambda name: line_chart(
        name, [0, 1], [Series(name, [1.0, None], [0.0, 1.0], [2.0, 3.0])], name, name, points=True
    ),
    "stacked": lambda name: stacked_chart(
        name, {name: [2.0, -1.0]}, PARTS, name, judged=name, totals={name: 1.0}
    ),
    "heat": lambda name: heat_chart(name, [name], [name, "b"], {(name, "b"): -1.0}),
    "replay": lambda name: replay_chart(name, BOOK, [Fill(1.0, 44.0, True, name)]),
}  # fmt: skip


@pytest.fixture(params=CHARTS)
def chart(request: pytest.FixtureRequest) -> Callable[[str], str]:
    return CHARTS[request.param]


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in read(svg).iter(f"{SVG}text")]


def told(svg: str) -> list[str]:
    return [one.text or "" for one in read(svg).iter(f"{SVG}title")]


def places(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        (float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d", ""))
    ]


def lines(svg: str) -> dict[str, ElementTree.Element]:
    """Lines by the name that they tell."""
    found = [one for one in read(svg).iter() if "line" in one.get("class", "").split()]
    return {one.findtext(f"{SVG}title", ""): one for one in found}


def test_hostile_names_stay_text(chart: Callable[[str], str]) -> None:
    tags = [[one.tag for one in read(chart(name)).iter()] for name in (EVIL, "x")]
    cut = [[tag for tag in found if tag not in {f"{SVG}title", f"{SVG}g"}] for found in tags]
    assert cut[0] == cut[1], "a name makes no element, whatever it is"
    svg = chart(EVIL)
    assert "<script" not in svg
    shown = EVIL[: EVIL.index("\x00")]
    assert (read(svg).get("aria-label") or "").startswith(shown)
    svg.encode()  # nothing in it that no document may hold


def test_foreign_text_is_neither_formula_nor_colour() -> None:
    svg = dot_chart("t", [Dot(f"$x^2$ {COLOUR['ink']}", 1.0, (0.0, 2.0))], "a_1 in $")
    assert f"$x^2$ {COLOUR['ink']}" in texts(svg)
    assert "a_1 in $" in texts(svg)


def test_equal_input_makes_equal_bytes_and_foreign_addresses_none(
    chart: Callable[[str], str],
) -> None:
    svg = chart("x")
    assert svg == chart("x")
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert svg.count("http") == 1, "only the name of the language"
    assert not re.search(r"DOCTYPE|<metadata|<style|(?<!-)\bstyle=|<!--|font-family|xlink", svg)


def test_colours_are_variables_of_the_page(chart: Callable[[str], str]) -> None:
    painted = {
        one.get(name, "none") for one in read(chart("x")).iter() for name in ("fill", "stroke")
    }
    assert painted - {"none"}
    assert all(re.fullmatch(r"none|var\(--\w+\)", colour) for colour in painted)
    for text in read(chart("x")).iter(f"{SVG}text"):
        assert text.get("fill"), "text without a colour would be black in the dark"


def test_identifiers_of_different_charts_differ_and_lead_somewhere() -> None:
    seen: set[str] = set()
    for draw in CHARTS.values():
        for name in ("x", "y"):
            svg = draw(name)
            own = re.findall(r'\bid="([^"]+)"', svg)
            assert len(own) == len(set(own))
            assert not seen & set(own), "of no other chart"
            assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg)) <= set(own)
            seen |= set(own)
    assert seen


def test_the_judged_is_in_colour_and_named_first_and_the_others_are_grey() -> None:
    rivals = [Series(f"rival {k}", [0.0, 5.0 + 0.1 * k]) for k in range(5)]
    svg = line_chart("t", [0, 1], [*rivals, Series("mine", [0.0, 5.3], judged=True)], "x", "y")
    drawn = lines(svg)
    assert drawn["mine"].get("stroke") == "var(--judged)"
    assert {drawn[one.name].get("stroke") for one in rivals} == {"var(--other)"}
    named = [text for text in texts(svg) if text == "mine" or text.startswith("rival")]
    assert named == ["mine"], "where names would lie on one another, the judged one stays"


def test_every_name_that_is_written_has_room() -> None:
    series = [Series(f"s{k}", [0.0, float(k)]) for k in range(40)]
    svg = line_chart("t", [0, 1], [*series, Series("mine", [0.0, 20.0], judged=True)], "x", "y")
    ends = sorted(
        float(text.get("y", "0"))
        for text in read(svg).iter(f"{SVG}text")
        if text.text and (text.text == "mine" or re.fullmatch(r"s\d+", text.text))
    )
    assert len(ends) > 5
    assert all(below - above >= 11.9 for above, below in pairwise(ends))


def test_a_line_that_loses_far_more_runs_out_of_the_frame() -> None:
    series = [
        Series("ruin", [0.0, -1e6]),
        Series("mine", [0.0, 10.0], [-2.0, 5.0], [2.0, 15.0], judged=True),
    ]
    clipped = line_chart("t", [0, 1], series, "x", "y")
    whole = line_chart("t", [0, 1], series, "x", "y", whole=True)
    assert "ruin" not in texts(clipped)
    assert "ruin" in texts(whole)
    assert lines(clipped)["ruin"].get("clip-path"), "what leaves the frame is cut"
    band = [one for one in read(clipped).iter(f"{SVG}path") if one.get("opacity") == "0.16"]
    assert [one.get("fill") for one in band] == ["var(--judged)"]


def test_values_lie_where_the_axis_says() -> None:
    svg = line_chart("t", [0.0, 10.0], [Series("a", [0.0, 4.0], judged=True)], "x", "y")
    at = {text.text: text for text in read(svg).iter(f"{SVG}text")}
    (x0, y0), (x1, y1) = places(lines(svg)["a"])
    assert float(at["10"].get("x", "0")) == pytest.approx(x1, abs=0.2)
    ticks = {value: float(at[str(value)].get("y", "0")) for value in (2, 4)}
    assert (y0 - y1) == pytest.approx(2 * (ticks[2] - ticks[4]), abs=0.4)
    assert x0 < x1


def test_a_figure_without_an_interval_is_hollow() -> None:
    def inside(interval: tuple[float, float] | None) -> set[str | None]:
        svg = dot_chart("t", [Dot("a", 1.0, interval, judged=True)], "x")
        return {one.get("fill") for one in read(svg).iter(f"{SVG}use")}

    assert inside(None) == {"var(--panel)"}
    assert inside((0.0, 2.0)) == {"var(--judged)"}


def test_a_figure_far_outside_is_written_at_the_edge() -> None:
    rows = [Dot(f"r{k}", float(k), (k - 1.0, k + 1.0)) for k in range(5)]
    svg = dot_chart("t", [*rows, Dot("ruin", -9e6, (-1e7, -8e6)), Dot("gain", 4e6, None)], "x")
    assert "\N{LEFTWARDS ARROW} \N{MINUS SIGN}9,000,000" in texts(svg)
    assert "+4,000,000 \N{RIGHTWARDS ARROW}" in texts(svg)
    assert {"r0", "ruin", "gain"} <= set(texts(svg))


def test_marks_tell_their_figures() -> None:
    assert "a-b: \N{MINUS SIGN}1.50 [\N{MINUS SIGN}2.00, \N{MINUS SIGN}1.00]" in told(
        dot_chart("t", [Dot("a-b", -1.5, (-2.0, -1.0))], "x")
    )
    stacked = told(CHARTS["stacked"]("a"))
    assert stacked[:2] == ["a, hold: 2.00", "a, buy: \N{MINUS SIGN}1.00"]
    assert told(heat_chart("t", ["r"], ["c"], {("r", "c"): -0.5})) == ["c, r: \N{MINUS SIGN}0.5"]
    assert "sold 3" in told(replay_chart("t", BOOK, [Fill(1.0, 44.0, False, "sold 3")]))


def test_parts_lie_side_by_side_on_their_side_of_zero() -> None:
    svg = stacked_chart(
        "t", {"a": [2.0, -1.0, 3.0]}, [("p", "spread"), ("q", "fees"), ("r", "drift")], "x"
    )
    bars = {
        one.findtext(f"{SVG}title", ""): [x for x, _ in places(one)]
        for one in read(svg).iter(f"{SVG}path")
    }
    p, q, r = bars["a, p: 2.00"], bars["a, q: \N{MINUS SIGN}1.00"], bars["a, r: 3.00"]
    assert max(q) == pytest.approx(min(p), abs=0.2)
    assert max(p) == pytest.approx(min(r), abs=0.2)
    assert max(r) - min(r) == pytest.approx(3 * (max(q) - min(q)), abs=0.6)


def test_a_quote_that_goes_breaks_its_line() -> None:
    svg = replay_chart("t", BOOK, [])
    bid, ask = (
        [one for one in read(svg).iter(f"{SVG}path") if one.get("stroke") == f"var(--{colour})"]
        for colour in ("blue", "orange")
    )
    moves = [max(one.get("d", "").count("M") for one in drawn) for drawn in (bid, ask)]
    assert moves == [2, 1]


def test_fills_of_another_trade_are_hollow() -> None:
    fills = [Fill(1.0, 44.0, True, "ours"), Fill(2.0, 44.0, True, "theirs", own=False)]
    marks = {
        one.findtext(f"{SVG}title"): one.get("fill")
        for one in read(replay_chart("t", BOOK, fills)).iter(f"{SVG}use")
    }
    assert marks["ours"] == "var(--blue)"
    assert marks["theirs"] == "var(--panel)"


def test_the_cursor_lies_at_the_left_edge_and_is_moved_to_a_time() -> None:
    svg = replay_chart("t", BOOK, [Fill(1.0, 44.0, True, "bought")])
    (cursor,) = [one for one in read(svg).iter() if one.get("class") == "cursor"]
    assert {x for x, _ in places(cursor)} == {0.0}
    (mark,) = [one for one in read(svg).iter() if one.findtext(f"{SVG}title") == "bought"]
    used = mark if mark.tag == f"{SVG}use" else mark.find(f".//{SVG}use")
    assert used is not None
    assert float(used.get("x", "0")) == pytest.approx(place_of(1.0, BOOK), abs=0.1)


def test_names_are_cut_to_their_room_and_told_whole() -> None:
    name = "a name that is far too long for the margin of any chart, by a wide margin"
    svg = dot_chart("t", [Dot(name, 1.0, (0.0, 2.0))], "x")
    assert name in told(svg)
    (shown,) = [text for text in texts(svg) if text.endswith("…")]
    assert name.startswith(shown[:-1])
    assert width_of(shown) < WIDTH / 2
    assert fitted("short", 100.0) == "short"


def test_a_name_in_bold_has_the_room_that_it_needs() -> None:
    name = "A policy with a long name"
    assert width_of(name, bold=True) > width_of(name)
    svg = dot_chart("t", [Dot(name, 1.0, None, judged=True), Dot("b", 1.0, None)], "x")
    (shown,) = [text for text in read(svg).iter(f"{SVG}text") if text.text == name]
    assert shown.get("text-anchor") == "end"
    assert float(shown.get("x", "0")) > width_of(name, bold=True)
    cut = fitted(name, 100.0, bold=True)
    assert cut != name
    assert width_of(cut, bold=True) <= 100.0


def test_charts_of_one_value_or_none_are_drawn() -> None:
    assert "x" in texts(dot_chart("t", [], "x"))
    assert "a" in texts(line_chart("t", [1.0], [Series("a", [2.0], judged=True)], "x", "y"))
    assert "a" in texts(line_chart("t", [0, 1], [Series("a", [0.0, 0.0])], "x", "y"))
    assert "a" not in texts(line_chart("t", [0], [Series("a", [None])], "x", "y", points=True))
    assert "x" in texts(stacked_chart("t", {"a": [0.0, 0.0]}, PARTS, "x"))
    assert replay_chart("t", [Moment(0.0, None, 3.0)], [])


@pytest.mark.parametrize(
    ("value", "reach", "shade"),
    [(None, 1.0, ""), (0.0, 1.0, "heat-0"), (1.0, 1.0, "heat-p5"), (-9.0, 1.0, "heat-n5"),
     (0.4, 1.0, "heat-p2"), (1.0, 0.0, "heat-0")],
)  # fmt: skip
def test_shades_grow_with_amounts(value: float | None, reach: float, shade: str) -> None:
    assert shade_of(value, reach) == shade


def test_drawdowns_start_at_the_first_peak() -> None:
    assert drawdowns({"a": [-1.0, 2.0, 1.0, 5.0]}) == {"a": [-1.0, 0.0, -1.0, 0.0]}


def test_matplotlib_is_loaded_by_the_first_chart() -> None:
    subprocess.run(
        [sys.executable, "-c",
         "import sys, kalshi_pipeline.evaluation.reports; "
         "sys.exit(any(name.split('.')[0] == 'matplotlib' for name in sys.modules))"],
        check=True,
    )  # fmt: skip
