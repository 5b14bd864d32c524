"""`kalshi train` and `kalshi evaluate`: the training plan's commands, outside any plan's phases."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kalshi_pipeline.cli.shared import command, positive, session_argument, stop_on_interrupt
from kalshi_pipeline.config import (
    CONFIGS,
    MICRO_PER_CENT,
    LearnerConfig,
    TradingConfig,
    WatchConfig,
)
from kalshi_pipeline.errors import PlanError
from kalshi_pipeline.resources.environment import (
    open_sources,
    open_warehouse,
    recording_roots,
    warehouse_root,
)

if TYPE_CHECKING:
    from kalshi_pipeline.by_hand import Wanted
    from kalshi_pipeline.learning.records import TrainingProgress

TIMESTEPS = 500_000  # training plan, section 3.4
PHASE = "by_hand"


def add_commands(commands: Any) -> None:
    """Add `kalshi train` and `kalshi evaluate`."""
    _add_train(commands)
    _add_evaluate(commands)


def _add_train(commands: Any) -> None:
    train = command(
        commands, "train", _train, "train on sessions, outside any plan",
        "Train a policy on sessions; what is not there yet of them is made first. The run's folder "
        "lies in trained_models/ of the warehouse. Asked for again, a run that was cut off goes "
        "on where it last saved. docs/TRAINING.md sets the training plan's commands beside these.",
    )  # fmt: skip
    train.add_argument(
        "--session", type=session_argument, nargs="+", required=True, help="what to learn from"
    )
    train.add_argument("--algorithm", choices=sorted(CONFIGS), default="ppo")
    train.add_argument(
        "--curriculum", action="store_true", help="busy markets first; else all markets alike"
    )
    train.add_argument(
        "--total-timesteps", type=positive, default=TIMESTEPS, metavar="N",
        help=f"environment steps, rounded up to whole rollouts; with --resume-from further ones; "
        f"default {TIMESTEPS:,}",
    )  # fmt: skip
    train.add_argument(
        "--from-model-checkpoint", type=Path, metavar="PATH",
        help="begin with these weights: a run, one of its checkpoints, a published phase's "
        "seed, or a model.zip of Stable-Baselines3",
    )  # fmt: skip
    train.add_argument(
        "--resume-from", type=Path, metavar="PATH",
        help="go on exactly where this checkpoint of a run was saved, with the flags of that run",
    )  # fmt: skip
    train.add_argument(
        "--validate-on",
        type=session_argument,
        nargs="+",
        default=(),
        metavar="S",
        help="choose the best checkpoint by these sessions; stop when it falls",
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--alerts", choices=("act", "record", "off"), default="act",
        help="whether they move settings, only say so, or are not looked for; docs/TRAINING.md",
    )  # fmt: skip
    train.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    train.add_argument("--cash-start", type=positive, default=10_000, metavar="CENTS")
    train.add_argument("--min-episode-length", type=positive, default=50, metavar="STEPS")
    train.add_argument("--save-freq", type=positive, default=10_000, metavar="STEPS")
    train.add_argument(
        "--portfolio-log-freq", type=positive, default=100, metavar="STEPS",
        help="a line of progress every so many steps, once a rollout at most",
    )  # fmt: skip
    train.add_argument(
        "--m10-console-freq", type=positive, default=500, metavar="STEPS",
        help="the diagnostics every so many steps, once a rollout at most",
    )  # fmt: skip
    tuning = train.add_argument_group("hyper-parameters (default: the algorithm's in config.py)")
    for name, kind in _hyper_parameters().items():
        tuning.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, metavar="X")


def _add_evaluate(commands: Any) -> None:
    judging = command(
        commands, "evaluate", _evaluate, "judge a trained model on sessions, outside any plan",
        "Judge a model beside the baselines on sessions, as a plan's evaluation does; what is not "
        "there yet of the sessions is made first.",
    )  # fmt: skip
    judging.add_argument(
        "--model-path", type=Path, required=True, metavar="PATH",
        help="a run, one of its checkpoints, a published phase's seed, or a model.zip",
    )  # fmt: skip
    judging.add_argument("--session", type=session_argument, nargs="+", required=True)
    judging.add_argument(
        "--num-episodes", type=positive, default=100, metavar="N",
        help="play every episode of the sessions, again and again until there are so many; one "
        "that is played twice counts once",
    )  # fmt: skip
    judging.add_argument("--min-episode-length", type=positive, default=50, metavar="STEPS")


def _hyper_parameters() -> dict[str, Any]:
    """Every setting of every algorithm -> how its text is read."""
    kinds: dict[str, Any] = {}
    for config in CONFIGS.values():
        for field in fields(config):
            value = getattr(config(), field.name)
            if isinstance(value, bool):
                kinds[field.name] = _truth
            elif isinstance(value, tuple):
                kinds[field.name] = partial(_several, type(value[0]))
            else:
                kinds[field.name] = type(value)
    return kinds


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false, was {text}")
    return text == "true"


def _several(kind: type, text: str) -> tuple[Any, ...]:
    return tuple(kind(part) for part in text.split(","))


def _train(options: argparse.Namespace) -> None:
    from kalshi_pipeline import by_hand

    say = Console(stderr=True).print
    warehouse = open_warehouse(warehouse_root())
    wanted = _wanted(options)
    sources = open_sources(recording_roots(), warehouse_root())
    by_hand.prepare(sources, warehouse, (*wanted.sessions, *wanted.validate_on), say)
    done = by_hand.train(
        warehouse,
        wanted,
        start=options.from_model_checkpoint,
        resume=options.resume_from,
        watching=by_hand.Watching(
            _portfolio_lines(say, options.portfolio_log_freq),
            lambda text: say(text, markup=False, highlight=False, soft_wrap=True),
            stop_on_interrupt(say),
        ),
        now_ms=time.time_ns() // 1_000_000,
    )
    best = done.result.best.state.timesteps
    print(f"run: {done.folder}\nmodel: {done.model} (after {best:,} steps)")


def _wanted(options: argparse.Namespace) -> Wanted:
    from kalshi_pipeline.by_hand import Wanted
    from kalshi_pipeline.learning.phase_run import RunSettings

    return Wanted(
        sessions=tuple(options.session),
        validate_on=tuple(options.validate_on),
        min_episode_steps=options.min_episode_length,
        settings=RunSettings(
            phase=PHASE,
            timesteps=options.total_timesteps,
            learner=_learner(options),
            trading=TradingConfig(cash_start_micro=options.cash_start * MICRO_PER_CENT),
            seed=options.seed,
            curriculum=options.curriculum,
            save_every=options.save_freq,
            watch=WatchConfig(alerts=options.alerts, console_steps=options.m10_console_freq),
            device=options.device,
        ),
    )


def _learner(options: argparse.Namespace) -> LearnerConfig:
    config = CONFIGS[options.algorithm]()
    given = {
        name: value for name in _hyper_parameters() if (value := getattr(options, name)) is not None
    }
    if foreign := sorted(set(given) - {field.name for field in fields(config)}):
        flag = "--" + foreign[0].replace("_", "-")
        raise PlanError(f"{options.algorithm} has no {flag}", rule="algorithm", value=flag)
    return replace(config, **given)


def _portfolio_lines(say: Callable[..., None], every: int) -> Callable[[TrainingProgress], None]:
    """A line on how the portfolio fares, at the first rollout after every so many steps."""
    told = 0

    def tell(progress: TrainingProgress) -> None:
        nonlocal told
        ended = progress.record.diagnostics.ended
        if progress.timesteps - told < every or ended is None:
            return
        told = progress.timesteps
        text = (
            f"portfolio step {progress.timesteps:,}: {ended.episodes} episodes ended, mean P&L "
            f"${ended.pnl_mean:+.4f}, fees ${ended.fees_mean:.4f}, wins {ended.win_share:.0%}"
        )
        say(text, highlight=False, soft_wrap=True)

    return tell


def _evaluate(options: argparse.Namespace) -> None:
    from kalshi_pipeline import by_hand

    say = Console(stderr=True).print
    warehouse = open_warehouse(warehouse_root())
    sources = open_sources(recording_roots(), warehouse_root())
    by_hand.prepare(sources, warehouse, options.session, say)
    done = by_hand.evaluate(
        warehouse,
        options.model_path,
        tuple(options.session),
        options.num_episodes,
        options.min_episode_length,
        say,
    )
    print("\n".join(("", done.verdict, "", *done.decisions, "", f"report: {done.report}")))
