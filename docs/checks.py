"""`CHECKS.md`: every check, what it asks, whether it blocks, and what it is there to catch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kalshi_pipeline import rules
from kalshi_pipeline.expectations import books, feature_tensors, raw_messages, suitable_markets
from kalshi_pipeline.expectations.suites import Expectation
from kalshi_pipeline.rules import behaviour, checkpoints, evaluations

SUITES: Mapping[str, Mapping[str, tuple[Expectation, ...]]] = {
    "raw_messages": {
        "session": raw_messages.EXPECTATIONS, "counter": raw_messages.OF_A_COUNTER,
    },
    "books": {"session": books.OF_THE_SESSION, "market": books.OF_A_MARKET},
    "feature_tensors": {
        "session": feature_tensors.OF_THE_SESSION, "feature": feature_tensors.OF_A_FEATURE,
    },
    "suitable_markets": {
        "session": suitable_markets.OF_THE_SESSION, "market": suitable_markets.OF_A_MARKET,
    },
}  # fmt: skip

# what went wrong in the system this one follows -> the checks that would have said so
WENT_WRONG = (
    ("98 cents for every sale from nothing; a model that earned 641 cents an action",
     "`earns_what_is_possible` and `money_adds_up` stop; `chance_earns_nothing` warns"),
    ("95.87 % of all actions SELL_NO; HOLD in nearly every step", "`not_collapsed` warns"),
    ("positions that vanished at the end of an episode: selling was always right",
     "`money_adds_up` stops: profit is its parts"),
    ("profit at the mid, without fees, filled at the best price whatever the size",
     "`judged_by_the_strict_rules` warns; nothing is claimed outside the headline cell"),
    ("\"production ready\" and \"broken\" of one model", "`claims_only_what_it_shows` stops"),
    ("no evaluation at all; final portfolios read after the reset: always 10,000 cents",
     "`report_follows_its_schema`, `baselines_are_there` and `hold_earns_nothing` stop"),
    ("a missing checkpoint: trained from scratch, silently", "`lineage_is_clean` stops"),
    ("55 observed numbers in training, 54 and 52 elsewhere",
     "`weights_are_sound` stops: made for another feature table"),
    ("trained again on a mixture of old and corrected data", "`data_is_of_one_kind` warns"),
    ("judged on a session of three markets", "`suitable_markets` and `validated_on_enough` warn"),
    ("95 % of the trades in spreads over 20 cents that were not there",
     "`suitable_markets` warns; `books` stops on prices that are off their tick or cross"),
    ("two collectors in one session; days without data; gaps nobody counted",
     "`books` warns, and stops above 1 % lost"),
    ("integer fields gone overnight: a parser that read nothing",
     "`raw_messages` stops above 1 % unreadable"),
    ("21 features of which 4 never moved; a quality score that was always 1.0",
     "`feature_tensors` warns of what stands still; counters of two stages must agree"),
)  # fmt: skip

_HEAD = """# Checks

<!-- made from kalshi_pipeline/expectations and .../rules by `make docs`; do not edit -->

Every asset is checked in the run that makes it. A check that **blocks** keeps everything that
follows from being built, in that run and, by the automation's condition, in every later one; one
that **warns** marks the asset and stops nothing: where losing may be unavoidable and doing
nothing may be right, stopping would be wrong. Tables of sessions have two checks each,
`expectations` (blocks) and `warnings`, by session; phases and evaluations one a rule. What does
not hold is told in the check's table `facts`: session, market, row, rule, value. The row of a
table is that of the published Parquet file, from 0.

Checks run again from the UI (asset, *Checks*, *Execute*), and compute nothing twice: a session's
outcomes are published under `data_docs/`, with a page; how a checkpoint behaves under
`checkpoint_behaviour/`.
"""
_NUMBERS = f"""## Where the limits of the rules come from

* **Moved**: the actor lies {checkpoints.MOVED:g} of its own length or more from its parent, or
  from the nearest of all fresh networks (orthogonal weights, biases of 0): Adam moves a weight by
  about the learning rate a step, so the smallest phase of any plan comes to a hundred times that,
  rounding to a thousandth.
* **Learned something**: where it learned (the last session of its phase that has episodes, at most
  {behaviour.PLAYED_STEPS:,} steps), sampled as it was trained, it earns more per Kalshi event
  than its own untrained network on the same episodes: a one-sided sign-flip test at
  {checkpoints.LEARNED_P:.0%}, and {checkpoints.LEAST_EVENTS} events or more, since fewer cannot
  show it. In sample on purpose: it is the least that can be asked. Not shown is not refuted.
* **Not collapsed**: no action above 90 % of the steps, HOLD above 95 % (training plan, 6.2 and
  7), on the same episodes.
* **Chance**: a policy without skill that gains at p {evaluations.CHANCE_P:g} on 30 events or
  more; there are seven of them, looked at every night.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, "## What went wrong before, and what would have said so\n"]
    parts.append(_table(("what", "check"), WENT_WRONG))
    parts.append("## Sessions\n")
    parts.append(
        _table(
            ("asset", "of a", "must hold", "if not"),
            (
                (f"`{asset}`", title, expectation.says, _effect(not expectation.warns))
                for asset, suites in SUITES.items()
                for title, suite in suites.items()
                for expectation in suite
            ),
        )
    )
    parts += ["## Phases, and retrainings of a session\n", _rules(rules.OF_PHASES)]
    parts += ["## Forward validations\n", _rules(rules.OF_FORWARD)]
    parts += ["## Evaluations\n", _rules(rules.OF_EVALUATIONS), _NUMBERS]
    return "\n".join(parts)


def _rules(table: Mapping[Callable[[Any], Any], bool]) -> str:
    rows = (
        (f"`{rule.__name__}`", " ".join(str(rule.__doc__).split()), _effect(blocks))
        for rule, blocks in table.items()
    )
    return _table(("check", "must hold", "if not"), rows)


def _effect(blocks: bool) -> str:
    return "blocks" if blocks else "warns"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
