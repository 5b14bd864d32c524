"""The example queries of `docs/QUERIES.md`, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

PAGE = Path(__file__).parents[1] / "docs" / "QUERIES.md"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
MAY_BE_EMPTY = "-- empty where"


def answers(database: Path, queries: list[str]) -> dict[str, list[tuple]]:
    """Rows of each query by its text."""
    with duckdb.connect(database, read_only=True) as connection:
        return {query: connection.execute(query).fetchall() for query in queries}


def of_plans(query: str) -> bool:
    """Whether it asks what only a trained plan can answer."""
    of_them = r"\b(reports|report_policies|episodes|trades|trips|lineage|checkpoints|trials)\b"
    return re.search(of_them, query) is not None
