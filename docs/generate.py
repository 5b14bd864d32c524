"""Writes the pages of the documentation that are made from code: `make docs`."""

from __future__ import annotations

from pathlib import Path

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


PAGES = {"FEATURES.md": features_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
