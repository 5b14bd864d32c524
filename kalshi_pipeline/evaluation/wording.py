"""Words that claim something, and the check that nobody prints them unearned.

Source: `docs/EVALUATION.md`, "Wording".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kalshi_pipeline.errors import UnearnedClaim
from kalshi_pipeline.evaluation.verdict import MIN_DEFLATED_SHARPE

CLAIMS = re.compile(r"\b(profitable|production[- ]ready|edge)\b", re.IGNORECASE)
# Sections in which sentences are written; the others hold figures, and names others gave.
SECTIONS = (
    "verdict",
    "criteria",
    "decisions",
    "failure_modes",
    "recommendations",
    "selection",
    "behaviour",
    "generalisation",
    "walk_forward",
)
_TICKER = re.compile(r"\b[A-Z0-9.]+(?:-[A-Z0-9.]+)+\b")


def check_wording(report: Mapping[str, Any]) -> None:
    """Refuse a report that claims in words what its figures do not show.

    Raises:
        UnearnedClaim: its verdict claims what the other sections do not bear out; or a sentence
            holds such a word and the verdict does not claim.
    """
    if report["verdict"]["claim"]:
        if not _earned(report):
            raise UnearnedClaim(
                "a verdict claims what its report does not bear out",
                rule="verdict",
                value=report["verdict"]["sentence"],
            )
        return
    for section in SECTIONS:
        for sentence in _sentences(report.get(section)):
            if found := CLAIMS.search(_TICKER.sub("", sentence)):
                raise UnearnedClaim(
                    "a report uses a word that its figures do not earn",
                    rule=section,
                    row=found.group(),
                    value=sentence,
                )


def _earned(report: Mapping[str, Any]) -> bool:
    # from the figures that are printed, not from what the verdict was made of
    headline, seeds = report.get("headline"), report.get("seeds")
    if not (report["cell"]["headline"] and headline and headline["clean"]):
        return False
    level = round(1.0 - report["settings"]["evaluation"]["confidence"], 9)
    honest = [each for each in report.get("paired", ()) if not each["cheating"]]
    return (
        bool(honest)
        and _above_zero(headline["policies"][0]["pnl_interval"])
        and all(_above_zero(each["interval_percentile"]) for each in honest)
        and all(each["p_holm"] < level for each in honest)
        and (seeds is None or _above_zero(seeds["mean_interval"]))
        and ((report.get("selection") or {}).get("deflated_sharpe") or 0.0) >= MIN_DEFLATED_SHARPE
    )


def _above_zero(interval: Sequence[float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _sentences(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _sentences(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _sentences(entry)
