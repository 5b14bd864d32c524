"""A matplotlib figure in the look of the page: its margins, axes, names and colours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.evaluation.charts.markup import page_svg

if TYPE_CHECKING:
    from matplotlib.artist import Artist

WIDTH = 400.0  # points of every chart: few enough that its text can be read on a phone
ROW = 17.0  # points of a row of names
RIGHT = 12.0  # points of the margin where nothing is named
_TEXT = 11.0  # pixels, as in page.css
_LONGEST = 80  # characters that could ever fit
_BESIDE = 13.0  # points between a name, its plot, and the edge
_MARKED = 28.0  # points of a legend's mark and the gaps around its name
_VARIABLES = (
    "ink", "muted", "grid", "judged", "other", "panel", "blue", "orange",
    "a0", "a1", "a2", "a3", "a4", "a5", "a6", "spread", "fees", "drift", "settlement",
)  # fmt: skip
# Placeholders, replaced by variables of the style sheet: one drawing for light and dark.
PAGE: Mapping[str, str] = {name: f"#0101{place:02x}" for place, name in enumerate(_VARIABLES)}
# A picture stands alone: the light colours of page.css, on the panel's.
PICTURE: Mapping[str, str] = {
    "ink": "#1a2230", "muted": "#566172", "grid": "#e1e6ec", "judged": "#1a5fc4",
    "other": "#808b9a", "panel": "#ffffff", "blue": "#1a5fc4", "orange": "#d2691e",
    "a0": "#c5ccd6", "a1": "#0f4c94", "a2": "#3f83d4", "a3": "#9cc3f0",
    "a4": "#9c4210", "a5": "#dd7a36", "a6": "#f4bd92", "spread": "#0072b2",
    "fees": "#d55e00", "drift": "#009e73", "settlement": "#b8679a",
}  # fmt: skip
_palette: ContextVar[Mapping[str, str]] = ContextVar("palette", default=PAGE)


class _Colours:
    """Colours of what is being drawn, by their names on the page."""

    def __getitem__(self, name: str) -> str:
        return _palette.get()[name]


COLOUR = _Colours()
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
    "svg.hashsalt": "",  # the same identifiers in every run; markup.py tells them apart
    "text.parse_math": False,  # names are foreign text, never markup
    "font.size": _TEXT,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.bottom": False,
    "axes.axisbelow": True,
    "xtick.bottom": False,
    "ytick.left": False,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "legend.borderpad": 0.0,
    "legend.borderaxespad": 0.0,
    "legend.columnspacing": 1.1,
    "legend.handletextpad": 0.45,
    "legend.labelspacing": 0.3,
}
_SHADES = {
    "text.color": "ink",
    "xtick.labelcolor": "muted",
    "ytick.labelcolor": "muted",
    "grid.color": "grid",
    "legend.labelcolor": "muted",
}
_DOTS_PER_INCH = 144  # two pixels a point: sharp on any screen
_SHADES_OF_A_PICTURE = 48  # lines and text need few, and the file shrinks to a third


@contextmanager
def styled(palette: Mapping[str, str] = PAGE) -> Iterator[None]:
    """Everything that is drawn inside has the page's look.

    Args:
        palette: `PAGE` for what ends as `svg`, `PICTURE` for what ends as `png`.
    """
    import matplotlib as mpl

    token = _palette.set(palette)
    settings: Any = {**_STYLE, **{name: COLOUR[shade] for name, shade in _SHADES.items()}}
    try:
        with mpl.rc_context(settings), warnings.catch_warnings():
            # the page's font is the reader's: what ours lacks is no fault of the drawing
            warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
            yield
    finally:
        _palette.reset(token)


class Drawing:
    """One plot with given margins, in points.

    Args:
        title: what a reader who cannot see it is told.
        height: of the whole.
        left, right, top, bottom: margins around the plot.
    """

    def __init__(
        self, title: str, height: float, *,
        left: float = 44.0, right: float = RIGHT, top: float = 8.0, bottom: float = 36.0,
    ) -> None:  # fmt: skip
        from matplotlib.figure import Figure

        self.title, self.height = title, height
        self.left, self.right, self.top, self.bottom = left, right, top, bottom
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        wide, high = WIDTH - left - right, height - top - bottom
        self.axes = self.figure.add_axes(
            (left / WIDTH, bottom / height, wide / WIDTH, high / height)
        )
        for ground in (self.figure.patch, self.axes.patch):
            ground.set_visible(False)
        self._notes: dict[str, tuple[str, str]] = {}

    def note(self, artist: Artist, hint: str, shade: str = "") -> None:
        """Give a mark a class, and what it tells when it is asked."""
        gid = f"note{len(self._notes)}"
        artist.set_gid(gid)
        self._notes[gid] = (shade, plain(hint))

    def x_axis(
        self, low: float, high: float, label: str, *, marks: Sequence[tuple[float, str]] = ()
    ) -> None:
        """Numbers, grid and name of the x axis; `marks` in place of round numbers."""
        self.axes.set_xlim(low, high if high > low else low + 1.0)
        self._numbers("x", 5)
        if marks:
            self.axes.set_xticks([at for at, _ in marks], [plain(name) for _, name in marks])
        elif low <= 0 <= high:
            self.axes.axvline(0, color=COLOUR["other"], lw=1, zorder=1, clip_on=False)
        self.label(WIDTH - self.right, 5, label, ha="right")

    def y_axis(self, low: float, high: float, label: str) -> None:
        """Numbers, grid and name of the y axis; the name stands above the plot."""
        self.axes.set_ylim(low, high)
        self._numbers("y", 4)
        if low <= 0 <= high:
            self.axes.axhline(0, color=COLOUR["other"], lw=1, zorder=1, clip_on=False)
        self.label(0, self.height - self.top + 10, label, ha="left")

    def rows(self, names: Sequence[str], judged: Container[str]) -> None:
        """One row a name, downwards; the judged ones in colour."""
        self.axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        room = self.left - _BESIDE + 1
        shown = [fitted(name, room, bold=name in judged) for name in names]
        self.axes.set_yticks(range(len(names)), shown)
        for text, name in zip(self.axes.get_yticklabels(), names, strict=True):
            if name in judged:
                text.set(color=COLOUR["judged"], fontweight="bold")
            if text.get_text() != plain(name):
                self.note(text, name)
        self.axes.tick_params(axis="y", pad=6)

    def bar(
        self, row: int, start: float, wide: float, share: float, hint: str, **look: Any
    ) -> None:
        """A piece of a row, which tells `hint`; `share` of the row's height."""
        from matplotlib.patches import Rectangle

        piece = Rectangle((start, row - share / 2), wide, share, lw=0, clip_on=False, **look)
        self.note(self.axes.add_artist(piece), hint)

    def legend(self, handles: Sequence[Artist], names: Sequence[str], **look: Any) -> None:
        """What the marks mean, above the plot, from left to right."""
        columns = legend_columns(names)
        order = [place for first in range(columns) for place in range(first, len(names), columns)]
        self.figure.legend(
            [handles[place] for place in order], [names[place] for place in order],
            loc="upper left", ncols=columns, **look,
        )  # fmt: skip

    def legend_of_colours(self, parts: Sequence[tuple[str, str]]) -> None:
        """Names and colours, above the plot."""
        from matplotlib.patches import Patch

        handles = [Patch(color=COLOUR[colour], lw=0) for _, colour in parts]
        self.legend(handles, [name for name, _ in parts], handlelength=0.85, handleheight=0.85)

    def cursor(self) -> None:
        """A line at the left edge of the drawing, which the page moves."""
        from matplotlib.lines import Line2D

        ends = [self.bottom / self.height, 1 - self.top / self.height]
        line = Line2D([0, 0], ends, color=COLOUR["ink"], lw=1, ls=(0, (2, 2)))
        self.figure.add_artist(line)
        self.note(line, "", "cursor")

    def name(self, x: float, y: float, name: str, room: float, judged: bool) -> None:
        """A name at a place in points from the lower left."""
        shown = self.figure.text(
            x / WIDTH, y / self.height, fitted(name, room, bold=judged), va="center",
            color=COLOUR["judged" if judged else "muted"],
            fontweight="bold" if judged else "normal",
        )  # fmt: skip
        if shown.get_text() != plain(name):
            self.note(shown, name)

    def svg(self) -> str:
        """The whole drawing, as an element of a page."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(buffer, format="svg", metadata=nothing)
        colours = {colour: f"var(--{name})" for name, colour in PAGE.items()}
        return page_svg(buffer.getvalue(), plain(self.title), colours, self._notes)

    def png(self) -> bytes:
        """The whole drawing as a small picture that stands alone."""
        from PIL import Image

        self.figure.patch.set(visible=True, facecolor=COLOUR["panel"])
        drawn, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(
            drawn, format="png", dpi=_DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.1
        )
        with Image.open(drawn) as image:
            few = image.convert("RGB").quantize(_SHADES_OF_A_PICTURE, dither=Image.Dither.NONE)
            few.save(small, format="PNG", optimize=True)
        return small.getvalue()

    def label(self, x: float, y: float, text: str, **look: Any) -> None:
        """The name of an axis, at a place in points from the lower left."""
        self.figure.text(
            x / WIDTH, y / self.height, plain(text), color=COLOUR["muted"], style="italic", **look
        )

    def _numbers(self, axis: Any, most: int) -> None:
        self.axes.locator_params(axis=axis, nbins=most, steps=[1, 2, 2.5, 5, 10])
        shown = self.axes.xaxis if axis == "x" else self.axes.yaxis
        shown.set_major_formatter("{x:,.10g}")
        self.axes.grid(axis=axis, clip_on=False)
        self.axes.tick_params(axis=axis, pad=4)


def plain(text: str) -> str:
    """Text on one line, without what no document may hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def minus(text: str) -> str:
    """A number's text with a minus sign in place of the hyphen."""
    return text.replace("-", "\N{MINUS SIGN}")


def width_of(text: str, *, bold: bool = False) -> float:
    """Of a line of text, in points; the page's font is seldom wider."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=_TEXT, weight="bold" if bold else "normal")
    shown = plain(text)[:_LONGEST]
    return float(text_to_path.get_text_width_height_descent(shown, font, False)[0])


def widest(names: Iterable[str], most: float, bold: Container[str] = ()) -> float:
    """Room for names beside a plot, the ones in `bold` in bold."""
    widths = (width_of(name, bold=name in bold) for name in names)
    return min(most, max(widths, default=0.0) + _BESIDE)


def fitted(text: str, room: float, *, bold: bool = False) -> str:
    """The text, cut where it is wider than its room."""
    text = plain(text)
    if len(text) <= _LONGEST and width_of(text, bold=bold) <= room:
        return text
    text = text[:_LONGEST]
    while text and width_of(text + "…", bold=bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def legend_columns(names: Sequence[str]) -> int:
    """How many names of a legend stand side by side."""
    widths = [width_of(name) + _MARKED for name in names]
    for columns in range(len(names), 1, -1):
        if sum(max(widths[first::columns]) for first in range(columns)) <= WIDTH:
            return columns
    return 1


def spanning(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Lowest and highest with some air around them; never an empty stretch."""
    listed = list(values) or [0.0]
    low, high = min(listed), max(listed)
    air = margin * ((high - low) or abs(high) or 1.0)
    return low - air, high + air
