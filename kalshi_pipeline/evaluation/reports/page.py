"""Report -> report.json and report.html, equal bytes for equal input.

A page is made from the JSON alone, is one file, asks for nothing from anywhere, and escapes every
name it did not write itself. What may run in it is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.evaluation.reports import text, views
from kalshi_pipeline.evaluation.reports.comparison import Evaluated, compared
from kalshi_pipeline.evaluation.reports.figures import figures
from kalshi_pipeline.evaluation.reports.schema import Report
from kalshi_pipeline.evaluation.reports.sections import shown_sections
from kalshi_pipeline.evaluation.wording import check_wording

if TYPE_CHECKING:
    from jinja2 import Environment

_DECIMALS = 6  # of a cent; keeps the last bits of sums out of the bytes


def render_json(report: Mapping[str, Any]) -> bytes:
    """`report.json`, UTF-8.

    Raises:
        ValueError: a number that is not finite.
        UnearnedClaim: it claims in words what its figures do not show.
    """
    check_wording(report)
    written = json.dumps(_rounded(report), indent=1, ensure_ascii=False, allow_nan=False)
    return written.encode() + b"\n"


def render_html(report: Mapping[str, Any]) -> bytes:
    """`report.html`, UTF-8: one self-contained page.

    Raises:
        UnearnedClaim: it claims in words what its figures do not show.
    """
    check_wording(report)
    # what report.json says, to the last digit
    report = dict.fromkeys(Report.__struct_fields__) | _rounded(report)
    return _page(
        "report.html.jinja",
        title=f"Evaluation of {report['policy']}",
        report=report,
        sections=shown_sections(report),
        figures=figures(report),
        views=views,
    )


def render_comparison(evaluations: Sequence[Evaluated]) -> bytes:
    """Several evaluations side by side, UTF-8: one self-contained page.

    Raises:
        UnearnedClaim: one of them claims in words what its figures do not show.
    """
    for evaluation in evaluations:
        check_wording(evaluation.report)
    return _page(
        "comparison.html.jinja",
        title=f"{len(evaluations)} evaluations compared",
        **compared(evaluations),
    )


def _page(template: str, **values: Any) -> bytes:
    style, script = _resource("page.css"), _resource("page.js")
    page = (
        _environment()
        .get_template(template)
        .render(
            style=style, script=script, style_hash=_hash(style), script_hash=_hash(script), **values
        )
    )
    return page.strip().encode() + b"\n"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": text.signed,
        "number": text.number,
        "percent": text.percent,
        "interval": text.interval,
        "utc": text.utc,
        "words": text.words,
        "plain": text.plain,
    }
    environment.globals["column"] = text.Column
    return environment


@cache
def _resource(name: str) -> Any:
    from markupsafe import Markup

    source = files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(source)  # noqa: S704 our own style sheet and script


def _hash(source: str) -> str:
    """As a content security policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, Mapping):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
