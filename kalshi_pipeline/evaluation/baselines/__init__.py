"""Policies without skill, simple rules, and one that cheats: what a judged policy stands beside.

Source: `docs/EVALUATION.md`, "Baselines".
"""

from kalshi_pipeline.evaluation.baselines.oracle import OneStepOracle
from kalshi_pipeline.evaluation.baselines.quoting import AvellanedaStoikov, PassiveTwoSided, Quoter
from kalshi_pipeline.evaluation.baselines.shuffled import Shuffled
from kalshi_pipeline.evaluation.baselines.signals import (
    BuyAndHold,
    Follow,
    TakerBothWays,
    imbalance,
    mean_reversion,
    momentum,
)
from kalshi_pipeline.evaluation.baselines.simple import Always, RandomUniform
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.trading.actions import Action

__all__ = [
    "Always",
    "AvellanedaStoikov",
    "BuyAndHold",
    "Follow",
    "OneStepOracle",
    "PassiveTwoSided",
    "Quoter",
    "RandomUniform",
    "Shuffled",
    "TakerBothWays",
    "baselines",
    "imbalance",
    "mean_reversion",
    "momentum",
]


def baselines(judged: Policy | None = None) -> tuple[Policy, ...]:
    """Every baseline that needs no training, in the order of the report's tables.

    Args:
        judged: whose own actions are shuffled in time; None: nobody's are.
    """
    moving = tuple(Always(action) for action in Action if action is not Action.HOLD)
    return (
        Always(Action.HOLD),
        RandomUniform(),
        *(() if judged is None else (Shuffled(judged),)),
        PassiveTwoSided(),
        Quoter(buys=True),
        Quoter(sells=True),
        *moving,
        BuyAndHold(Action.BUY_BEST),
        BuyAndHold(Action.SELL_BEST),
        TakerBothWays(),
        momentum(),
        mean_reversion(),
        imbalance(),
        AvellanedaStoikov(),
        OneStepOracle(),
    )
