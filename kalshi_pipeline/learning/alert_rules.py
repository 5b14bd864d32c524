"""The rule table: what is watched for while a policy learns, and what is done about it.

Cause, threshold, window, action; `docs/TRAINING.md` shows it. A rule that acts moves a knob of the
learner within fixed bounds, or stops the phase; one that advises is only recorded, because what it
calls for is a decision (another algorithm, another budget). Holding may be right, and so may losing
be unavoidable: no rule ever forces an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kalshi_pipeline.config import ACTION_DOMINATES_SHARE, HOLD_DOMINATES_SHARE


@dataclass(frozen=True)
class Move:
    """How far a rule may move a knob.

    Args:
        knob: of `Learner.knobs`.
        ladder: values to move to, one a firing, away from the configured one; the last is the
            bound, and a knob already beyond it stays where it is.
    """

    knob: str
    ladder: tuple[float, ...]
    upwards: bool = False

    def next(self, present: float) -> float | None:
        """Where to move from here; None at the bound or beyond."""
        beyond = [to for to in self.ladder if (to > present if self.upwards else to < present)]
        return beyond[0] if beyond else None


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Args:
        name: how records call it.
        cause: what is looked for.
        threshold: where it begins, in the unit its cause names.
        window: what is looked at, in `unit`.
        unit: steps, episodes, blocks or validations; "phase" = once, at that share of the phase.
        action: what is done, or advised.
        acts: whether anything is done without a person.
        source: where the rule comes from.
        moves: the knobs it moves.
        stops: whether it ends the phase.
    """

    name: str
    cause: str
    threshold: float
    window: float
    unit: Literal["steps", "episodes", "blocks", "validations", "phase"]
    action: str
    acts: bool
    source: str
    moves: tuple[Move, ...] = ()
    stops: bool = False


RULES = (
    Rule(
        "action_dominates", "any one action above this share of the steps",
        ACTION_DOMINATES_SHARE, 1_000, "steps",
        "raise the entropy coefficient to 0.1, then 0.15 (SAC: its entropy share to 0.45, then "
        "0.6); should that not do: learning rate 5e-5, `mask_actions`", True,
        "plan 6.2, appendix B",
        (Move("ent_coef", (0.1, 0.15), upwards=True),
         Move("entropy_share", (0.45, 0.6), upwards=True)),
    ),
    Rule(
        "hold_dominates", "HOLD above this share of the steps", HOLD_DOMINATES_SHARE, 1_000,
        "steps",
        "raise the entropy coefficient to 0.15 (SAC: its entropy share to 0.6) at once", True,
        "plan 7, decision point 1",
        (Move("ent_coef", (0.15,), upwards=True), Move("entropy_share", (0.6,), upwards=True)),
    ),
    Rule(
        "low_reward", "mean dollars an episode below this", -0.5, 5, "episodes",
        "review the hyper-parameters", False, "plan 6.2",
    ),
    Rule(
        "unstable", "rewards swing up and down by more than 3 standard errors this many times",
        4, 10, "blocks", "lower the learning rate to 5e-5 and the clip range to 0.1; should that "
        "not do: batch size 512", True, "plan, appendix B",
        (Move("learning_rate", (5e-5,)), Move("clip_range", (0.1,))),
    ),
    Rule(
        "still_unstable", "the same, with nothing left for `unstable` to move", 4, 10, "blocks",
        "switch to A2C (`algorithm = \"a2c\"`)", False, "plan 6.3, 7, decision point 1",
    ),
    Rule(
        "slow_learning", "losing, and the newer half of the window gains less on the older than "
        "this many standard errors", 1, 24, "blocks",
        "raise the learning rate to 3e-4, halve `n_steps`, 15 epochs", False, "plan, appendix B",
    ),
    Rule(
        "low_win_rate", "share of round trips won below this", 0.4, 0.5, "phase",
        "adjust the hyper-parameters before going on", False, "plan 7, decision point 1",
    ),
    Rule(
        "consistent_losses", "every validation below this", 0, 10, "validations",
        "return to tuning the hyper-parameters", False, "plan 7, decision point 2",
    ),
    Rule(
        "overfitting", "validation falls this many times in a row while training gains", 3, 4,
        "validations", "5 epochs an update; should that not do: dropout, more diverse markets",
        True, "plan, appendix B", (Move("n_epochs", (5.0,)),),
    ),
    Rule(
        "validation_drop", "validation below its best by more than this share, as `validation.py` "
        "defines it", 0.3, 5, "validations", "stop the phase; its best checkpoint counts",
        True, "plan 6.2", stops=True,
    ),
)  # fmt: skip
BY_NAME = {rule.name: rule for rule in RULES}


@dataclass(frozen=True)
class Firing:
    """A rule that fired.

    Args:
        timesteps: environment steps of the phase so far.
        rule: its name.
        cause: what was seen, in words.
        value: the figure that broke the threshold.
        acted: whether anything was done; otherwise the action is advice.
        action: as in the table.
        changed: knob -> from, to.
    """

    timesteps: int
    rule: str
    cause: str
    value: float
    acted: bool
    action: str
    changed: dict[str, tuple[float, float]]


def markdown_table() -> str:
    """The table as a page shows it; see `docs/TRAINING.md`."""
    lines = [
        "| rule | cause | threshold | window | action | acts | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule in RULES:
        window = f"{rule.window:,g} {rule.unit}"
        if rule.unit == "phase":
            window = f"once, at {rule.window:.0%} of the phase"
        acts = "stops" if rule.stops else "acts" if rule.acts else "advises"
        lines.append(
            f"| `{rule.name}` | {rule.cause} | {rule.threshold:g} | {window} | {rule.action} "
            f"| {acts} | {rule.source} |"
        )
    return "\n".join(lines)
