"""Writes the pages of the documentation that are made from code: `make docs`.

`python -m docs.generate RECORDINGS` also writes those made from real recordings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from docs import checks, feature_report
from kalshi_pipeline import feature_table

FOLDER = Path(__file__).parent


def features_page() -> str:
    """`FEATURES.md`: the 52 features of an observation and the notation of their formulas."""
    introduction, _, notation = str(feature_table.__doc__).partition("Notation: ")
    if not notation:
        raise ValueError("the module's docstring has lost its notation")
    purpose = introduction.partition("`docs/FEATURES.md`")[0].strip()
    return "\n".join(
        [
            "# Features",
            "",
            "<!-- made from kalshi_pipeline/feature_table.py by `make docs`; do not edit -->",
            "",
            purpose,
            "",
            f"**Notation.** {notation.strip()}",
            "",
            feature_table.markdown_table(),
        ]
    )


def feature_report_page(recordings: Path) -> str:
    """`FEATURE_REPORT.md`: variance and redundancy of the features on recorded sessions."""
    return feature_report.page(feature_report.recorded_steps(recordings))


PAGES = {"FEATURES.md": features_page, "CHECKS.md": checks.page}
RECORDED_PAGES = {"FEATURE_REPORT.md": feature_report_page}


def main(arguments: Sequence[str]) -> None:
    """Write the pages; those made from recordings if their folder is given."""
    made = {name: page() for name, page in PAGES.items()}
    for folder in arguments:
        made |= {name: page(Path(folder)) for name, page in RECORDED_PAGES.items()}
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
