"""What follows for deployment (plan, week 2 and section 8.2), written from the figures by rules.

Sober by construction: a sentence is chosen by a figure and prints it. None of them claims anything
that the verdict does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kalshi_pipeline.config import CENTI_PER_CONTRACT, MICRO_PER_CENT
from kalshi_pipeline.evaluation.evidence import Evidence


@dataclass(frozen=True)
class Recommendation:
    """One sentence of advice, and the figures it follows from."""

    topic: str
    advice: str
    because: str


def recommendations(evidence: Evidence, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The section of a case.

    Args:
        evidence: settings and past.
        report: so far, verdict, decisions and failure modes included.
    """
    found = (
        *_trading(report),
        *_data(evidence, report),
        *_training(evidence, report),
        *_dangers(report),
        *_safety(evidence, report),
    )
    return [asdict(one) for one in found]


def _trading(report: Mapping[str, Any]) -> Iterator[Recommendation]:
    sentence = report["verdict"]["sentence"]
    if not report["verdict"]["claim"]:
        yield Recommendation("deployment", "Do not trade with this checkpoint.", sentence)
        return
    yield Recommendation(
        "deployment",
        "Trade it on paper, beside Hold, for as many events as this evaluation had, before any "
        "capital is at risk.",
        sentence,
    )
    if report["generated"]:
        yield Recommendation(
            "deployment", "Repeat all of it on recorded sessions.", "these are generated"
        )


def _data(evidence: Evidence, report: Mapping[str, Any]) -> Iterator[Recommendation]:
    events = report["labels"].get("clean_forward", {}).get("events", 0)
    least = evidence.case.evaluation.min_units
    closed = [seal["session"] for seal in report["sealed"] if seal["first_look"] is None]
    for session in closed:
        yield Recommendation(
            "data",
            f"Open session {session} once, when nothing is left to choose: `kalshi sessions open "
            f"{session} --reason ...`.",
            "it is sealed and nobody has looked at it",
        )
    if events < least and not closed:
        yield Recommendation(
            "data",
            "Record later sessions, from an hour after the last data used, until there are "
            f"{least} events or more; seal one of them.",
            f"{events} clean-forward events",
        )
    headline = report["headline"]
    judged = headline["policies"][0] if headline else None
    if judged and judged["detectable_cents"] and abs(judged["pnl_cents"]) > 0:
        needed = math.ceil(
            headline["events"] * (judged["detectable_cents"] / judged["pnl_cents"]) ** 2
        )
        if needed > headline["events"]:
            yield Recommendation(
                "data",
                f"A mean as small as this one takes about {needed:,} events to tell from nothing.",
                f"{judged['pnl_cents']:+.1f} ¢ an event was measured; with {headline['events']} "
                f"events {judged['detectable_cents']:.1f} ¢ is the smallest that is found",
            )


def _training(evidence: Evidence, report: Mapping[str, Any]) -> Iterator[Recommendation]:
    for decision in report["decisions"]:
        if decision["outcome"] not in {"continue", "not assessable", "deploy-prepare"}:
            yield Recommendation(
                "training",
                f"{decision['question']}: {decision['outcome']}. {_sentence(decision['action'])}",
                f"decision point {decision['point']} ({decision['when']})",
            )
    seeds = max(1, len(evidence.case.seeds))
    least = evidence.case.evaluation.min_seeds
    if seeds < least:
        yield Recommendation(
            "training",
            f"Train {least} seeds or more (`seeds = {least}` in the plan).",
            f"{seeds} {'was' if seeds == 1 else 'were'} trained: how much of it is luck is unknown",
        )
    chosen = report.get("selection") or {}
    if (chosen.get("pbo") or 0.0) > 0.5:
        yield Recommendation(
            "training",
            "Do not pick the best checkpoint by these validation events: take the last one.",
            f"picking does harm: probability of backtest overfitting {chosen['pbo']:.0%}",
        )


def _dangers(report: Mapping[str, Any]) -> Iterator[Recommendation]:
    for mode in report["failure_modes"]:
        if mode["status"] == "seen":
            yield Recommendation(
                "failure mode", _sentence(mode["mitigation"]), f"{mode['mode']}: {mode['rule']}"
            )


def _safety(evidence: Evidence, report: Mapping[str, Any]) -> Iterator[Recommendation]:
    trading = evidence.case.trading
    limit = trading.position_limit_centi / CENTI_PER_CONTRACT
    yield Recommendation(
        "safety, position limits",
        f"Keep {limit:g} contracts a market, either side, as it was judged with.",
        "nothing is known of what it does with more",
    )
    policies = [table["policies"][0] for table in report["sessions"]]
    worst = max(each["max_drawdown_cents"] for each in policies)
    if trading.daily_loss_limit_micro:
        set_to = trading.daily_loss_limit_micro / MICRO_PER_CENT
        told = f"it was judged with {set_to:,.0f} ¢ a day"
    else:
        told = "it was judged without one"
    yield Recommendation(
        "safety, daily loss limit",
        f"Stop for the day after a loss of {math.ceil(worst):,} ¢ in a market "
        "(`daily_loss_limit_micro`): more than it ever lost within an episode is something new.",
        f"worst drawdown of an episode {worst:,.1f} ¢; {told}",
    )
    size = trading.order_size_centi / CENTI_PER_CONTRACT
    yield Recommendation(
        "safety, gradual capital",
        f"Begin with {size:g} contract an order; raise it only after a forward test at that size.",
        "a replay cannot know how the book answers larger orders",
    )
    yield Recommendation(
        "safety, manual override",
        "A person can stop it at once, and does when its actions or fills leave what this report "
        "shows.",
        "plan, section 8.2",
    )
    yield Recommendation(
        "infrastructure",
        f"Orders reach the exchange within {trading.latency_ms} ms, or it is judged again slower.",
        "the latency it was judged with",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
