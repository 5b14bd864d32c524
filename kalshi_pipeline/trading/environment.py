"""One lane of the simulator as a Gymnasium environment, `kalshi/MarketAgnostic-v0`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.errors import NotInPlay
from kalshi_pipeline.feature_table import FEATURES
from kalshi_pipeline.trading.actions import ACTIONS
from kalshi_pipeline.trading.render import (
    RENDER_FPS,
    RENDER_MODES,
    Film,
    Image,
    check_render_mode,
    frame,
    journal_room,
)
from kalshi_pipeline.trading.sampler import Sampler, UniformSampler
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe

ENVIRONMENT_ID = "kalshi/MarketAgnostic-v0"


def observation_space() -> gymnasium.spaces.Box:
    """`[52]` with the bounds of the feature table."""
    low = np.array([feature.low for feature in FEATURES], dtype=np.float32)
    high = np.array([feature.high for feature in FEATURES], dtype=np.float32)
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


def action_space() -> gymnasium.spaces.Discrete:
    """The seven actions."""
    return gymnasium.spaces.Discrete(ACTIONS)


class MarketAgnosticKalshiEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A policy on one market segment at a time, without knowing which market it is.

    `reset(options={"episode": i})` plays segment i; otherwise the sampler chooses. The `info` of
    reset and of each step holds `action_mask` `[7]`; that of the last step `summary`.

    Args:
        universe: the episodes.
        config: rules of trading; the defaults if None.
        sampler: chooses episodes; uniform, seeded by `reset(seed=...)`, if None.
        render_mode: what `render` gives, see `render`; nothing is kept for it if None.

    Raises:
        ValueError: there is no such `render_mode`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
    }

    def __init__(
        self,
        universe: Universe,
        config: TradingConfig | None = None,
        sampler: Sampler | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        rules = config or TradingConfig()
        self.simulator = Simulator(universe, 1, rules, journal_room(render_mode, rules))
        self._film = Film(self.simulator) if render_mode == "rgb_array" else None
        self.observation_space = observation_space()  # type: ignore[assignment]
        self.action_space = action_space()
        self._sampler = sampler

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode: observation `[52]` and info.

        Raises:
            IndexError: `options["episode"]` is none of the universe's.
        """
        super().reset(seed=seed)
        episodes: Any
        if options and "episode" in options:
            episodes = [options["episode"]]
        else:
            sampler = self._sampler or UniformSampler(len(self.simulator.universe), self.np_random)
            episodes = sampler.draw(1)
        self.simulator.reset([0], episodes)
        if self._film is not None:
            self._film.record()
        return self.simulator.observation[0].copy(), self._info()

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one action.

        Returns:
            Observation `[52]`, reward in dollars, terminated, truncated, info.

        Raises:
            InvalidAction: none of the seven; nothing moved.
            NotInPlay: not reset yet, or the episode is over.
        """
        simulator = self.simulator
        if simulator.terminated[0] or simulator.truncated[0]:
            raise NotInPlay("reset the environment before it is stepped")
        simulator.step([action])
        if self._film is not None:
            self._film.record()
        terminated, truncated = bool(simulator.terminated[0]), bool(simulator.truncated[0])
        info = self._info()
        if terminated or truncated:
            info["summary"] = simulator.summary(0)
        return (
            simulator.observation[0].copy(),
            float(simulator.reward[0]),
            terminated,
            truncated,
            info,
        )

    def render(self) -> str | Image | None:
        """The ladder as text, or the chart `[H, W, 3]`, by `render_mode`; None without one.

        Raises:
            NotInPlay: not reset yet.
        """
        if self.render_mode is None:
            gymnasium.logger.warn("render() shows nothing: the environment has no render_mode")
            return None
        return frame(self.simulator, self._film, 0)

    def action_masks(self) -> NDArray[np.bool_]:
        """`[7]` valid actions."""
        mask: NDArray[np.bool_] = self.simulator.mask[0].copy()
        return mask

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks()}


gymnasium.register(ENVIRONMENT_ID, entry_point=f"{__name__}:MarketAgnosticKalshiEnv")
