"""What is expected of a session's table of suitable markets."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

from kalshi_pipeline.config import SuitabilityConfig
from kalshi_pipeline.expectations.suites import (
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

# Worth a look below these: the predecessor judged itself on a session of three markets, and traded
# 95 % of the time in spreads above 20 cents. Markets of one event are near copies or exclusive.
ENOUGH_MARKETS, ENOUGH_EVENTS = 10, 5
WIDE_BP = 2_000

_PATTERNS = ("front-loaded", "back-loaded", "mid-peak", "even", "none")

OF_A_MARKET = (
    unique("market", "a market is listed once"),
    between("steps", 0, None, "steps are counted"),
    between("traded_centi", 0, None, "traded size is counted"),
    none("quarters_missing", "the quarters of a market's life hold all its steps"),
    none("breaks_the_rule", "a suitable market has the steps and the quarters asked for"),
    none("unexplained", "a market is suitable or has the reason why not, never both"),
    none("tier_faults", "tiers are thirds of the suitable markets, and no other has one"),
    none("out_of_rank", "markets are listed by what was traded, then by steps, the most first"),
    one_of("pattern", _PATTERNS, "temporal patterns are those of the plan"),
)
OF_THE_SESSION = (
    equal("markets", "counted_markets", "the table has the markets its stage counted"),
    equal("suitable", "counted_suitable", "as many suitable markets as its stage counted"),
    between("to_trade", ENOUGH_MARKETS, None, "enough suitable markets to learn from", warns=True),
    between("events", ENOUGH_EVENTS, None, "they are of several events", warns=True),
    between("usual_spread_bp", 0, WIDE_BP, "half of them show a spread that can pay", warns=True),
)


def profile(generation: Generation) -> list[Profile]:
    """The figures of one session's markets: a row a market, and one row of them all."""
    table = read_table(generation.path("suitable_markets.parquet"), SCHEMA)
    rows = table.to_pylist()
    said = generation.summary
    suitable = [row for row in rows if row["suitable"]]
    spreads_bp = [row["spread_bp"] for row in suitable if row["spread_bp"] is not None]
    session = one_row(
        markets=len(rows),
        counted_markets=said["markets"],
        suitable=len(suitable),
        counted_suitable=said["suitable_markets"],
        to_trade=len(suitable),
        events=len({row["event"] for row in suitable}),
        usual_spread_bp=median(spreads_bp) if spreads_bp else None,
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
    chosen = sum(bool(row["suitable"]) for row in rows)
    tiers = iter([TIERS[place * len(TIERS) // chosen] for place in range(chosen)])
    rank = [(-row["traded_centi"], -row["steps"], row["market"]) for row in rows]
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
            int(row["tier"] != (next(tiers) if row["suitable"] else None)) for row in rows
        ],
        "out_of_rank": [int(before > own) for before, own in pairwise([*rank[:1], *rank])],
        "pattern": [row["pattern"] for row in rows],
    }
