"""Alerts that act: the rules of `alert_rules.py`, watched over one phase.

A rule fires when its cause appears, and again while the cause lasts only where its action still has
something left to move; never twice within `REST_STEPS`. All of it is a function of the rollouts and
scores seen, so that a resumed phase reacts as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

from kalshi_pipeline.errors import IncompatibleCheckpoint
from kalshi_pipeline.learning.alert_rules import BY_NAME, Firing, Rule
from kalshi_pipeline.learning.diagnostics import RolloutDiagnostics
from kalshi_pipeline.trading.actions import Action

REST_STEPS = 10_000  # from one firing of a rule to its next: an action needs time to show
BLOCK_STEPS = 4_096  # rewards and episodes are compared over blocks of whole rollouts of this size
SIGNIFICANT = 3.0  # standard errors between two blocks that make a swing

Mode = Literal["act", "record", "off"]


@dataclass(frozen=True)
class Block:
    """Sums over whole rollouts of `BLOCK_STEPS` transitions or more; dollars."""

    steps: int = 0
    reward: float = 0.0
    reward_squared: float = 0.0
    episodes: int = 0
    pnl: float = 0.0
    pnl_squared: float = 0.0
    trips: int = 0
    trips_won: int = 0

    @classmethod
    def of(cls, shown: RolloutDiagnostics) -> Block:
        """One rollout."""
        squared = shown.reward_sd**2 + shown.reward_mean**2
        block = cls(shown.steps, shown.steps * shown.reward_mean, shown.steps * squared)
        if (ended := shown.ended) is None:
            return block
        return block + cls(
            episodes=ended.episodes,
            pnl=ended.episodes * ended.pnl_mean,
            pnl_squared=ended.episodes * (ended.pnl_sd**2 + ended.pnl_mean**2),
            trips=ended.trips,
            trips_won=round(ended.trips * (ended.trip_win_share or 0.0)),
        )

    def __add__(self, other: Block) -> Block:
        names = [field.name for field in fields(Block)]
        return Block(*(getattr(self, name) + getattr(other, name) for name in names))


class Alerts:
    """Watches one phase.

    Args:
        mode: "act" = as the table says; "record" = nothing is done, all is recorded; "off".

    Attributes:
        stop: a rule has ended the phase.
    """

    def __init__(self, mode: Mode = "act") -> None:
        self.mode = mode
        self.stop = False
        self._actions: list[list[int]] = []  # per rollout, the newest last
        self._episodes: list[tuple[int, float]] = []  # per rollout: how many, dollars in sum
        self._blocks: list[Block] = []
        self._open = Block()
        self._fired: dict[str, int] = {}  # rule -> timesteps of its last firing
        self._raised: set[str] = set()  # rules whose cause was there when last looked
        self._half_done = False

    def after_rollout(
        self,
        shown: RolloutDiagnostics,
        timesteps: int,
        progress: float,
        knobs: Mapping[str, float],
    ) -> list[Firing]:
        """Look at a rollout.

        Args:
            shown: of the rollout.
            timesteps: of the phase so far.
            progress: share of the phase that is done.
            knobs: of the learner, as they stand.

        Returns:
            What fired; `changed` is for the caller to apply.
        """
        if self.mode == "off":
            return []
        self._take(shown)
        found = {
            "hold_dominates": self._hold(),  # first: it goes further
            "action_dominates": self._domination(),
            "low_reward": self._low_reward(),
            "slow_learning": self._slow(),
            "low_win_rate": self._wins(progress),
            **self._unstable(knobs),
        }
        return self._fire(found, timesteps, dict(knobs))

    def after_validation(
        self,
        scores: Sequence[float],
        dropped: float | None,
        timesteps: int,
        knobs: Mapping[str, float],
    ) -> list[Firing]:
        """Look at the validation scores.

        Args:
            scores: all of the phase, dollars an episode.
            dropped: by which share of the best the score has fallen where that is reason to stop.
            timesteps: of the phase so far.
            knobs: of the learner, as they stand.
        """
        if self.mode == "off":
            return []
        drop = None
        if dropped is not None:
            drop = (dropped, f"validation is {dropped:.0%} below its best, {scores[-1]:+.3f} $")
        found = {
            "consistent_losses": self._losses(scores),
            "overfitting": self._overfits(scores),
            "validation_drop": drop,
        }
        return self._fire(found, timesteps, dict(knobs))

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues exactly."""
        return {
            "mode": self.mode,
            "stop": self.stop,
            "actions": [list(counts) for counts in self._actions],
            "episodes": [list(entry) for entry in self._episodes],
            "blocks": [asdict(block) for block in self._blocks],
            "open": asdict(self._open),
            "fired": dict(self._fired),
            "raised": sorted(self._raised),
            "half_done": self._half_done,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where a watch of the same phase stopped.

        Raises:
            IncompatibleCheckpoint: it reacted in another mode.
        """
        if state["mode"] != self.mode:
            raise IncompatibleCheckpoint(
                f"the phase to resume ran with alerts = {state['mode']!r}, not {self.mode!r}",
                rule="alerts",
                value=state["mode"],
            )
        self.stop, self._half_done = state["stop"], state["half_done"]
        self._actions = [list(counts) for counts in state["actions"]]
        self._episodes = [(int(n), float(pnl)) for n, pnl in state["episodes"]]
        self._blocks = [Block(**block) for block in state["blocks"]]
        self._open = Block(**state["open"])
        self._fired, self._raised = dict(state["fired"]), set(state["raised"])

    def _take(self, shown: RolloutDiagnostics) -> None:
        self._actions.append([round(share * shown.steps) for share in shown.action_shares])
        # the shortest tail of whole rollouts that fills the window, here and below
        while sum(map(sum, self._actions[1:])) >= BY_NAME["action_dominates"].window:
            del self._actions[0]
        if shown.ended:
            ended = shown.ended
            self._episodes.append((ended.episodes, ended.episodes * ended.pnl_mean))
            while sum(n for n, _ in self._episodes[1:]) >= BY_NAME["low_reward"].window:
                del self._episodes[0]
        self._open += Block.of(shown)
        if self._open.steps >= BLOCK_STEPS:
            self._blocks = [*self._blocks, self._open][-int(BY_NAME["slow_learning"].window) :]
            self._open = Block()

    def _domination(self) -> tuple[float, str] | None:
        counts = [sum(column) for column in zip(*self._actions, strict=True)]
        steps, rule = sum(counts), BY_NAME["action_dominates"]
        share = max(counts) / steps
        if steps < rule.window or share <= rule.threshold:
            return None
        name = Action(counts.index(max(counts))).name
        return share, f"{name} in {share:.1%} of {steps:,} steps"

    def _hold(self) -> tuple[float, str] | None:
        steps, rule = sum(map(sum, self._actions)), BY_NAME["hold_dominates"]
        share = sum(counts[Action.HOLD] for counts in self._actions) / steps
        if steps < rule.window or share <= rule.threshold:
            return None
        return share, f"HOLD in {share:.1%} of {steps:,} steps"

    def _low_reward(self) -> tuple[float, str] | None:
        episodes, rule = sum(n for n, _ in self._episodes), BY_NAME["low_reward"]
        if episodes < rule.window:
            return None
        mean = sum(pnl for _, pnl in self._episodes) / episodes
        return (
            (mean, f"{mean:+.2f} $ an episode over {episodes}") if mean < rule.threshold else None
        )

    def _unstable(self, knobs: Mapping[str, float]) -> dict[str, tuple[float, str] | None]:
        rule = BY_NAME["unstable"]
        blocks = self._blocks[-int(rule.window) :]
        swings = [_swing(one, other) for one, other in pairwise(blocks)]
        signs = [swing > 0 for swing in swings if abs(swing) > SIGNIFICANT]
        turns = sum(one != other for one, other in pairwise(signs))
        found = None
        if turns >= rule.threshold:
            found = float(turns), f"rewards turned {turns} times within {len(blocks)} blocks"
        spent = found is not None and not _moved(rule, knobs)
        return {"unstable": None if spent else found, "still_unstable": found if spent else None}

    def _halves(self) -> tuple[float, float, float] | None:
        # dollars an episode in the older and the newer half, standard error of their difference
        blocks = self._blocks
        if len(blocks) < BY_NAME["slow_learning"].window:
            return None
        middle = len(blocks) // 2
        older, newer = (sum(half, Block()) for half in (blocks[:middle], blocks[middle:]))
        if min(older.episodes, newer.episodes) < 2:
            return None
        means = [half.pnl / half.episodes for half in (older, newer)]
        error = sqrt(
            sum(
                max(0.0, half.pnl_squared / half.episodes - mean**2) / (half.episodes - 1)
                for half, mean in zip((older, newer), means, strict=True)
            )
        )
        return means[0], means[1], error

    def _slow(self) -> tuple[float, str] | None:
        if (halves := self._halves()) is None:
            return None
        older, newer, error = halves
        if newer > 0 or newer - older > BY_NAME["slow_learning"].threshold * error:
            return None
        return newer - older, f"{newer:+.2f} $ an episode after {older:+.2f} $"

    def _wins(self, progress: float) -> tuple[float, str] | None:
        rule = BY_NAME["low_win_rate"]
        if self._half_done or progress < rule.window:
            return None
        self._half_done = True
        seen = sum(self._blocks, self._open)
        if not seen.trips or seen.trips_won >= rule.threshold * seen.trips:
            return None
        share = seen.trips_won / seen.trips
        return share, f"{share:.0%} of {seen.trips:,} round trips won"

    def _losses(self, scores: Sequence[float]) -> tuple[float, str] | None:
        rule = BY_NAME["consistent_losses"]
        recent = scores[-int(rule.window) :]
        if len(recent) < rule.window or max(recent) >= rule.threshold:
            return None
        return max(recent), f"the best of {len(recent)} validations is {max(recent):+.3f} $"

    def _overfits(self, scores: Sequence[float]) -> tuple[float, str] | None:
        rule = BY_NAME["overfitting"]
        recent, halves = scores[-int(rule.window) :], self._halves()
        falls = [one - other for one, other in pairwise(recent)]
        if halves is None or len(falls) < rule.threshold or min(falls) <= 0:
            return None
        older, newer, error = halves
        if newer - older <= error:
            return None
        return float(len(falls)), (
            f"validation fell {len(falls)} times to {recent[-1]:+.3f} $ while training rose from "
            f"{older:+.2f} $ to {newer:+.2f} $ an episode"
        )

    def _fire(
        self,
        found: Mapping[str, tuple[float, str] | None],
        timesteps: int,
        knobs: dict[str, float],
    ) -> list[Firing]:
        fired = []
        for name, what in found.items():
            if what is None:
                self._raised.discard(name)
                continue
            rule = BY_NAME[name]
            moved = _moved(rule, knobs) if self.mode == "act" and rule.acts else {}
            rested = timesteps - self._fired.get(name, -REST_STEPS) >= REST_STEPS
            if not rested or (name in self._raised and not moved):
                continue
            acted = bool(moved) or (self.mode == "act" and rule.stops)
            self.stop = self.stop or (acted and rule.stops)
            self._raised.add(name)
            self._fired[name] = timesteps
            knobs |= {knob: to for knob, (_, to) in moved.items()}
            value, cause = what
            fired.append(Firing(timesteps, name, cause, value, acted, rule.action, moved))
        return fired


def _moved(rule: Rule, knobs: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    moved = {}
    for move in rule.moves:
        present = knobs.get(move.knob)
        if present is not None and (to := move.next(present)) is not None:
            moved[move.knob] = (present, to)
    return moved


def _swing(one: Block, other: Block) -> float:
    # change of the mean reward a step, in standard errors; steps are taken for independent
    means = [block.reward / block.steps for block in (one, other)]
    error = sqrt(
        sum(
            max(0.0, block.reward_squared / block.steps - mean**2) / block.steps
            for block, mean in zip((one, other), means, strict=True)
        )
    )
    return (means[1] - means[0]) / error if error > 0 else 0.0
