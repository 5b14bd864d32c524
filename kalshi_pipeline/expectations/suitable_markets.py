"""What is expected of a session's table of suitable markets."""

from __future__ import annotations

from typing import Any

from kalshi_pipeline.config import SuitabilityConfig
from kalshi_pipeline.expectations.suites import (
    Expectation,
    Profile,
    between,
    equal,
    none,
    one_of,
    one_row,
    unique,
)
from kalshi_pipeline.market.activity import QUARTERS
from kalshi_pipeline.storage.publish import Generation
from kalshi_pipeline.storage.tables import read_table
from kalshi_pipeline.suitability import SCHEMA, TIERS

_PATTERNS = ("front-loaded", "back-loaded", "mid-peak", "even", "none")

OF_A_MARKET = (
    unique("market", "a market is listed once"),
    between("steps", 0, None, "steps are counted"),
    between("traded_centi", 0, None, "traded size is counted"),
    none("quarters_missing", "the quarters of a market's life hold all its steps"),
    none("breaks_the_rule", "a suitable market has the steps and the quarters asked for"),
    none("unexplained", "a market is suitable or has the reason why not, never both"),
    none("tier_faults", "every suitable market has an activity tier, no other has"),
    one_of("pattern", _PATTERNS, "temporal patterns are those of the plan"),
)
OF_THE_SESSION = (
    equal("markets", "counted_markets", "the table has the markets its stage counted"),
    equal("suitable", "counted_suitable", "as many suitable markets as its stage counted"),
    Expectation(
        "the session has something to trade",
        "suitable",
        "ExpectColumnValuesToBeBetween",
        {"min_value": 1},
        warns=True,
    ),
)


def profile(generation: Generation) -> list[Profile]:
    """The figures of one session's markets: a row a market, and one row of them all."""
    table = read_table(generation.path("suitable_markets.parquet"), SCHEMA)
    rows = table.to_pylist()
    said = generation.summary
    session = one_row(
        markets=len(rows),
        counted_markets=said["markets"],
        suitable=sum(bool(row["suitable"]) for row in rows),
        counted_suitable=said["suitable_markets"],
    )
    return [
        Profile("session", session, OF_THE_SESSION),
        Profile("market", _of_markets(rows), OF_A_MARKET),
    ]


def _of_markets(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    quarters = [[row[f"q{quarter + 1}"] for quarter in range(QUARTERS)] for row in rows]
    least = SuitabilityConfig.min_steps, SuitabilityConfig.min_quartiles
    enough = [
        row["steps"] >= least[0] and sum(count > 0 for count in counts) >= least[1]
        for row, counts in zip(rows, quarters, strict=True)
    ]
    return {
        **{name: [row[name] for row in rows] for name in ("market", "steps", "traded_centi")},
        "quarters_missing": [
            row["steps"] - sum(counts) for row, counts in zip(rows, quarters, strict=True)
        ],
        "breaks_the_rule": [
            int(row["suitable"] and not holds) for row, holds in zip(rows, enough, strict=True)
        ],
        "unexplained": [int(row["suitable"] == (row["reason"] is not None)) for row in rows],
        "tier_faults": [
            int(row["tier"] not in (TIERS if row["suitable"] else (None,))) for row in rows
        ],
        "pattern": [row["pattern"] for row in rows],
    }
