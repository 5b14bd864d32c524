"""Words that claim something, and the check that nobody prints them unearned.

Source: `docs/EVALUATION.md`, "Wording".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kalshi_pipeline.errors import UnearnedClaim
from kalshi_pipeline.evaluation.verdict import (
    CLAIM_EVENTS,
    CLAIM_LATENCY_MS,
    CLAIM_P,
    CLAIM_SEEDS,
    MIN_DEFLATED_SHARPE,
    lax,
)

CLAIMS = re.compile(r"\b(profitab[a-z]*|production[- ]ready|edges?)\b", re.IGNORECASE)
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
# Keys whose values are names that others gave: of policies, markets, plans.
_NAMES = frozenset({"policy", "policies", "baseline", "baselines", "market", "event", "plan",
                    "title", "also_met_by"})  # fmt: skip
# ... and in one section only: what an event is about, as its ticker calls it.
_NAMES_OF = {"generalisation": {"name", "reference"}, "behaviour": {"kind"}}


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
    names = _known(report)
    for section in SECTIONS:
        skipped = _NAMES | _NAMES_OF.get(section, set())
        for sentence in _sentences(report.get(section), skipped):
            if found := CLAIMS.search(names.sub(" ", sentence)):
                raise UnearnedClaim(
                    "a report uses a word that its figures do not earn",
                    rule=section,
                    row=found.group(),
                    value=sentence,
                )


def _known(report: Mapping[str, Any]) -> re.Pattern[str]:
    # the names in a report, longest first; one that is nothing but such a word excuses no sentence
    names = {name for name in _named(report, under=False) if not CLAIMS.fullmatch(name.strip())}
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in ordered) or r"(?!)")


def _named(value: Any, *, under: bool) -> Iterator[str]:
    if isinstance(value, str):
        if under and value.strip():
            yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _named(entry, under=key in _NAMES)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _named(entry, under=under)


def _earned(report: Mapping[str, Any]) -> bool:
    # from the figures that are printed, not from what the verdict was made of
    headline, seeds = report.get("headline"), report.get("seeds")
    if not (report["cell"]["headline"] and headline and headline["clean"]):
        return False
    settings, provenance = report["settings"]["evaluation"], report["provenance"]
    if lax(settings) or provenance.get("absent_baselines"):
        return False
    level = min(CLAIM_P, round(1.0 - settings["confidence"], 9))
    honest = [each for each in report.get("paired", ()) if not each["cheating"]]
    return (
        bool(honest)
        and _above_zero(headline["policies"][0]["pnl_interval"])
        and all(_above_zero(each["interval_percentile"]) for each in honest)
        and all(each["p_holm"] < level for each in honest)
        and headline["events"] >= CLAIM_EVENTS
        and report["settings"]["trading"]["latency_ms"] >= CLAIM_LATENCY_MS
        # weights that were trained: the mean over their seeds; a script has none
        and (seeds is not None or not provenance.get("checkpoint"))
        and (seeds is None or len(seeds["seeds"]) >= CLAIM_SEEDS)
        and (seeds is None or _above_zero(seeds["mean_interval"]))
        and ((report.get("selection") or {}).get("deflated_sharpe") or 0.0) >= MIN_DEFLATED_SHARPE
    )


def _above_zero(interval: Sequence[float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _sentences(value: Any, skipped: Collection[str]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in skipped:
                yield from _sentences(entry, skipped)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _sentences(entry, skipped)
