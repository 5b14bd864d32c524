"""The parts of a report's page, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        key: its anchor, and the name of its template in `templates/sections/`.
        title: in the list of contents.
        needs: keys of the report without which it is left out, and named as missing; none where
            it is always there.
    """

    key: str
    title: str
    needs: tuple[str, ...] = ()


SECTIONS = (
    Section("verdict", "Verdict"),
    Section("headline", "Headline"),
    Section("curves", "Cumulative P&L"),
    Section("paired", "Paired tests", ("paired",)),
    Section("criteria", "Criteria"),
    Section("decisions", "Decision points", ("decisions",)),
    Section("evaluated", "What was evaluated"),
    Section("lineage", "Who saw what"),
    Section("seeds", "Training seeds", ("seeds",)),
    Section("money", "Where the money came from", ("trades",)),
    Section("behaviour", "Behaviour"),
    Section("buckets", "When it earns", ("behaviour",)),
    Section("features", "What it looks at", ("features",)),
    Section("robustness", "Robustness", ("robustness",)),
    Section("generalisation", "Generalisation", ("generalisation",)),
    Section("selection", "Selection", ("selection",)),
    Section("failure_modes", "Failure modes", ("failure_modes",)),
    Section("recommendations", "Recommendations", ("recommendations",)),
    Section("replay", "Single trades", ("trades",)),
    Section("sessions", "Sessions"),
    Section("limits", "How to read it"),
    Section("grid", "Appendix: the grid", ("grid",)),
    Section("settings", "Appendix: settings"),
)


OPTIONAL = tuple(dict.fromkeys(key for section in SECTIONS for key in section.needs))


@dataclass(frozen=True)
class Shown:
    """What of a report has a part on the page, and what has none."""

    present: tuple[Section, ...]
    missing: tuple[Section, ...]


def shown_sections(report: Mapping[str, Any]) -> Shown:
    """Split the sections by whether the report holds what they need."""
    missing = tuple(
        section for section in SECTIONS if any(not report.get(key) for key in section.needs)
    )
    return Shown(tuple(section for section in SECTIONS if section not in missing), missing)
