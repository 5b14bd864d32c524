"""Report -> report.json and report.html, equal bytes for equal input.

The page is made from the JSON alone, is one file, asks for nothing from anywhere and escapes every
name it did not write itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from kalshi_pipeline.evaluation import plots

_TEMPLATE = "report.html.jinja"
_DECIMALS = 6  # of a cent; keeps the last bits of sums out of the bytes
_DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def render_json(report: Mapping[str, Any]) -> bytes:
    """`report.json`, UTF-8.

    Raises:
        ValueError: a number that is not finite.
    """
    text = json.dumps(_rounded(report), indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def render_html(report: Mapping[str, Any]) -> bytes:
    """`report.html`, UTF-8: one self-contained page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "signed": _signed,
        "number": _number,
        "percent": _percent,
        "interval": _interval,
        "utc": _utc,
        "words": lambda key: str(key).replace("_", " "),
    }
    report = _rounded(report)  # what report.json says, to the last digit
    source = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        report=report,
        plots={name: Markup(svg) for name, svg in _plots(report).items()},  # noqa: S704 our SVG
    )
    return page.strip().encode() + b"\n"


def _plots(report: Mapping[str, Any]) -> dict[str, str]:
    headline = [report["headline"]] if report["headline"] else []
    table = (headline or report["sessions"])[0]
    return {
        "intervals": plots.interval_plot([*headline, *report["sessions"]]),
        "paths": plots.path_plot(report["shape"], report["policy"]),
        "distribution": plots.distribution_plot(report["shape"], report["policy"]),
        "actions": plots.action_plot(table["policies"]),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, Mapping):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value


def _number(value: float | None, decimals: int = 1) -> str:
    if value is None:
        return _DASH
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", _MINUS)


def _signed(value: float | None, decimals: int = 1) -> str:
    if value is None:
        return _DASH
    return f"{round(value, decimals) + 0.0:+,.{decimals}f}".replace("-", _MINUS)


def _percent(value: float | None, decimals: int = 0) -> str:
    return _DASH if value is None else f"{_number(100.0 * value, decimals)} %"


def _interval(
    interval: Sequence[float] | None, decimals: int = 1, scale: float = 1.0, sign: bool = True
) -> str:
    if interval is None:
        return ""
    show = _signed if sign else _number
    low, high = (show(scale * end, decimals) for end in interval)
    return f"[{low}, {high}]"


def _utc(time_ms: int | None) -> str:
    if time_ms is None:
        return _DASH
    return f"{datetime.fromtimestamp(time_ms / 1000.0, UTC):%Y-%m-%d %H:%M} UTC"
