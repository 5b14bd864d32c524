"""The simulator under the contract of Stable-Baselines3's vector environments."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from kalshi_pipeline.config import MICRO_PER_DOLLAR, TradingConfig
from kalshi_pipeline.errors import NotInPlay
from kalshi_pipeline.trading.environment import action_space, observation_space
from kalshi_pipeline.trading.render import (
    RENDER_FPS,
    Film,
    Image,
    check_render_mode,
    frame,
    journal_room,
)
from kalshi_pipeline.trading.sampler import Sampler, UniformSampler
from kalshi_pipeline.trading.simulator import Simulator
from kalshi_pipeline.trading.tape import Universe

Indices = None | int | Iterable[int]


class KalshiVecEnv(VecEnv):
    """N episodes side by side; a finished lane starts its next episode at once.

    The terminal `info` holds `terminal_observation`, `TimeLimit.truncated`, `episode` (`r` dollars,
    `l` steps, as Stable-Baselines3's Monitor) and `summary` (`EpisodeSummary`); other infos are
    empty. `env_method("action_masks")` gives the masks that MaskablePPO asks for.

    Args:
        universe: the episodes.
        n_envs: lanes.
        config: rules of trading.
        sampler: chooses episodes; uniform if None.
        seed: of the uniform sampler.
        render_mode: as of `MarketAgnosticKalshiEnv`; `env_method("render")` gives the lanes' texts
            or charts, `render` all charts as one.

    Raises:
        ValueError: there is no such `render_mode`.
    """

    def __init__(
        self,
        universe: Universe,
        n_envs: int,
        config: TradingConfig,
        sampler: Sampler | None = None,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._marks: list[dict[str, Any]] = [{} for _ in range(n_envs)]  # see `set_attr`
        super().__init__(n_envs, observation_space(), action_space())
        self.metadata: dict[str, Any] = {**self.metadata, "render_fps": RENDER_FPS}
        room = journal_room(render_mode, config)
        self.simulator = Simulator(universe, n_envs, config, room)
        self._film = Film(self.simulator) if render_mode == "rgb_array" else None
        self._uniform = sampler is None
        self.sampler = sampler or UniformSampler(len(universe), np.random.default_rng(seed))
        # one dictionary a lane, given again and again: new ones would cost a fifth of a step
        self._blank: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self._actions = np.zeros(n_envs, dtype=np.int64)
        self._in_play = False

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the uniform sampler at the next reset; a sampler of one's own keeps its own.

        Lanes share one sampler: the seed of the first is used. None changes nothing.
        """
        if seed is None:
            self._reset_seeds()
        else:
            self._seeds = [seed + lane for lane in range(self.num_envs)]
        return self._seeds

    def reset(self) -> NDArray[np.float32]:
        """Start an episode in every lane: `[N, 52]`.

        What `seed` and `set_options` were given counts now, once; the option `episode` chooses the
        episode of its lane.

        Raises:
            IndexError: not one dictionary of options a lane, or an episode that does not exist.
        """
        if len(self._options) != self.num_envs:
            raise IndexError(f"{self.num_envs} lanes need as many options")
        if self._seeds[0] is not None and self._uniform:
            rng = np.random.default_rng(self._seeds[0])
            self.sampler = UniformSampler(len(self.simulator.universe), rng)
        drawn = self.sampler.draw(self.num_envs).tolist()
        episodes = [
            options.get("episode", episode)
            for options, episode in zip(self._options, drawn, strict=True)
        ]
        self.simulator.reset(range(self.num_envs), episodes)
        if self._film is not None:
            self._film.record()
        self._reset_seeds()
        self._reset_options()
        self._in_play = True
        return self.simulator.observation.copy()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take `[N]` actions."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all lanes; copies, because the caller keeps them beyond the next step.

        Returns:
            Observations `[N, 52]`, rewards `[N]` in dollars, dones `[N]`, infos.

        Raises:
            InvalidAction: not `[N]` of the seven; nothing moved.
            NotInPlay: not reset yet.
        """
        simulator = self.simulator
        if not self._in_play:  # the lanes may have been restored instead of reset
            if (simulator.terminated | simulator.truncated).any():
                raise NotInPlay("reset the environment before it is stepped")
            self._in_play = True
        ended = simulator.step(self._actions)
        rewards = simulator.reward.astype(np.float32)
        dones = simulator.terminated | simulator.truncated
        infos = self._blank.copy()
        if ended:
            finished = np.flatnonzero(dones)
            for lane in finished:
                infos[lane] = self._terminal_info(int(lane))
            self._in_play = False  # should the sampler fail
            simulator.reset(finished, self.sampler.draw(len(finished)))
            self._in_play = True
        if self._film is not None:
            self._film.record()
        return simulator.observation.copy(), rewards, dones, infos

    def _terminal_info(self, lane: int) -> dict[str, Any]:
        summary = self.simulator.summary(lane)
        at_mid = self.simulator.config.mark == "mid"
        gain = summary.pnl_mid_micro if at_mid else summary.pnl_micro
        return {
            "terminal_observation": self.simulator.observation[lane].copy(),
            "TimeLimit.truncated": not summary.terminated,
            "episode": {"r": gain / MICRO_PER_DOLLAR, "l": summary.steps},
            "summary": summary,
        }

    @property
    def elapsed_ms(self) -> NDArray[np.int64]:
        """`[N]` market time of the last step; of a finished lane that to its terminal observation.

        A view that the next step changes; `discount.discounts` makes a learner's discounts of it.
        """
        elapsed: NDArray[np.int64] = self.simulator.elapsed_ms
        return elapsed

    def action_masks(self) -> NDArray[np.bool_]:
        """`[N, 7]` valid actions."""
        mask: NDArray[np.bool_] = self.simulator.mask.copy()
        return mask

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """`action_masks`, and `render` where there is a `render_mode`, exist per lane.

        Raises:
            AttributeError: any other method.
        """
        if method_name == "render" and self.render_mode is not None:
            lanes = self._lanes(indices)
            return [frame(self.simulator, self._film, lane) for lane in lanes]
        if method_name != "action_masks" or method_args or method_kwargs:
            raise AttributeError(f"lanes have no method {method_name!r}")
        return [self.simulator.mask[lane].copy() for lane in self._lanes(indices)]

    def get_images(self) -> Sequence[Image | None]:
        """The chart of each lane; None each unless `render_mode` is "rgb_array"."""
        if self._film is None:
            warnings.warn(f"render_mode {self.render_mode!r} has no images", stacklevel=2)
            return [None] * self.num_envs
        return self.env_method("render")

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of each lane asked for: its own mark, or what all lanes share."""
        return [
            marks[attr_name] if attr_name in marks else getattr(self, attr_name)
            for marks in (self._marks[lane] for lane in self._lanes(indices))
        ]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Put a mark of the caller's own on lanes, to be read by `get_attr`.

        Raises:
            AttributeError: an attribute that all lanes share; no lane can have another.
        """
        if hasattr(self, attr_name) or hasattr(self.simulator, attr_name):
            raise AttributeError(f"lanes have no attribute {attr_name!r} of their own")
        for lane in self._lanes(indices):
            self._marks[lane][attr_name] = value

    def _lanes(self, indices: Indices) -> list[int]:
        every = range(self.num_envs)
        return [every[lane] for lane in self._get_indices(indices)]  # IndexError, TypeError

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """True for Monitor, whose statistics the terminal infos carry."""
        return [wrapper_class is Monitor for _ in self._lanes(indices)]

    def close(self) -> None:
        """Nothing to release."""
