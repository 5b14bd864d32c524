"""`python -m benchmarks.curriculum RECORDINGS`: does the curriculum help?

Trains on one recorded session with the curriculum and without it, the same seeds each, and judges
the published checkpoint (best by validation) and the last one on a validation and a test session:
mean dollars an episode of the deterministic policy, every episode once. Pairs differ in the
curriculum alone. The interval is Student's, over the seeds' paired differences: it says whether
another seed would tell the same of these sessions, not whether other sessions would.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy import stats

from kalshi_pipeline import stages
from kalshi_pipeline.config import PPOConfig, TradingConfig, WatchConfig
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.training import lineage_of, train_phase
from kalshi_pipeline.learning.validation import Validator
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.session_data import load_session
from kalshi_pipeline.storage.checkpoints import Checkpoint
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.trading.tape import Universe
from kalshi_pipeline.trading.universe import build_universe

CONFIDENCE = 0.95
PLAN = load_plan("recorded")
ALL = sys.maxsize


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        curriculum: with it or without it.
        seed: of the training.
        seconds: that it took, validation included.
        markets: that were drawn.
        dollars: "validation, best" and the like -> mean dollars an episode.
    """

    curriculum: bool
    seed: int
    seconds: float
    markets: int
    dollars: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge, print the table, write the trials where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curriculum", description=__doc__)
    parser.add_argument("recordings", type=Path, help="folder with one folder a session")
    parser.add_argument("--timesteps", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--train", type=int, nargs="+", default=[102])
    # sessions that the plan trains on: what the experiment decides is decided on nothing it judges
    parser.add_argument("--validation", type=int, default=101)
    parser.add_argument("--test", type=int, default=103)
    parser.add_argument("--save-every", type=int, default=10_000)
    parser.add_argument("--warehouse", type=Path, help="keep what is built of the recordings here")
    parser.add_argument("--output", type=Path, help="JSON of every trial")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("an interval needs 2 seeds or more")
    with _warehouse(options.warehouse) as warehouse:
        sessions = [*options.train, options.validation, options.test]
        universes = {key: _universe(warehouse, options.recordings, [key]) for key in sessions}
        learned = _universe(warehouse, options.recordings, options.train)
    trials = []
    for seed in range(options.seeds):
        for curriculum in (True, False):
            trials.append(
                trial(
                    learned, universes[options.validation], universes[options.test],
                    curriculum=curriculum, seed=seed, timesteps=options.timesteps,
                    save_every=options.save_every,
                )
            )  # fmt: skip
            print(_line(trials[-1]), file=sys.stderr, flush=True)
    if options.output:
        options.output.write_text(json.dumps([asdict(t) for t in trials], indent=1) + "\n")
    steps = f"{options.timesteps:,} steps, {options.seeds} seeds"
    print(f"trained on {options.train}, validated on {options.validation}, tested on "
          f"{options.test}; {steps}; dollars an episode\n{table(trials)}")  # fmt: skip
    return 0


def trial(
    learned: Universe,
    validation: Universe,
    test: Universe,
    *,
    curriculum: bool,
    seed: int,
    timesteps: int,
    save_every: int,
    config: PPOConfig | None = None,
    trading: TradingConfig = PLAN.trading,
) -> Trial:
    """Train once, judge the best and the last checkpoint on both sessions."""
    watching = WatchConfig(alerts="record")  # alerts that act would differ between the two
    began = perf_counter()
    result = train_phase(
        learned, phase="phase_1", timesteps=timesteps, config=config or PPOConfig(),
        trading=trading, seed=seed,
        curriculum=curriculum, checkpoint_every=save_every, watching=watching,
        validate=Validator(validation, trading, watching.validation_steps),
        selected_on=lineage_of(validation),
    )  # fmt: skip
    seconds = perf_counter() - began
    judges = {
        "validation": Validator(validation, trading, ALL),
        "test": Validator(test, trading, ALL),
    }
    checkpoints: dict[str, Checkpoint] = {"best": result.best, "last": result.final}
    dollars = {
        f"{on}, {which}": judge(NetworkPolicy(checkpoint))
        for on, judge in judges.items()
        for which, checkpoint in checkpoints.items()
    }
    drawn = sum(count > 0 for count in result.market_draws.values())
    return Trial(curriculum, seed, seconds, drawn, dollars)


def table(trials: Sequence[Trial]) -> str:
    """Means with and without the curriculum, and the interval of the paired difference."""
    lines = [f"{'':<20}{'with':>10}{'without':>10}{'difference':>12}   {CONFIDENCE:.0%} interval"]
    for name in trials[0].dollars:
        with_, without = (
            np.array([t.dollars[name] for t in trials if t.curriculum is on])
            for on in (True, False)
        )
        mean, low, high = interval(with_ - without)
        verdict = "helps" if low > 0 else "hurts" if high < 0 else "no difference shown"
        lines.append(
            f"{name:<20}{with_.mean():>+10.4f}{without.mean():>+10.4f}{mean:>+12.4f}   "
            f"{low:+.4f} to {high:+.4f}  {verdict}"
        )
    return "\n".join(lines)


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean and Student's interval of a few numbers."""
    mean, count = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / count**0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return mean, mean - half, mean + half


def _line(done: Trial) -> str:
    name = "with" if done.curriculum else "without"
    figures = "  ".join(f"{which} {value:+.4f}" for which, value in done.dollars.items())
    return f"seed {done.seed} {name:<8}{done.seconds:>6.0f} s  {done.markets} markets  {figures}"


@contextmanager
def _warehouse(folder: Path | None) -> Iterator[Warehouse]:
    if folder:
        yield Warehouse(folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Warehouse(Path(scratch))


def _universe(warehouse: Warehouse, recordings: Path, sessions: Sequence[int]) -> Universe:
    for session in sessions:
        stages.ingest_session(warehouse, open_folder(recordings / str(session)))
        stages.build_session_books(warehouse, session)
        stages.build_session_tensors(warehouse, session)
        stages.choose_session_markets(warehouse, session)
    data = [load_session(warehouse, session) for session in sessions]
    return build_universe(data, PLAN.min_episode_steps)[0]


if __name__ == "__main__":
    sys.exit(main())
