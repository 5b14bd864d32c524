"""Training processes that end by `kill -9` at a chosen place, and what they leave.

Run as a program it reads jobs from its standard input, carries each out in a process of its own,
and prints how each ended: the interpreter and its libraries are loaded once for all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from kalshi_pipeline import plan_stages
from kalshi_pipeline.config import PPOConfig, TradingConfig
from kalshi_pipeline.feature_table import OBSERVATION_WIDTH
from kalshi_pipeline.learning.fast.engine import Engine
from kalshi_pipeline.learning.fast.update import Hyper, Rollout
from kalshi_pipeline.learning.logs import DIAGNOSTICS, TrainingLogs, training_logs
from kalshi_pipeline.learning.records import RolloutRecord, TrainingProgress
from kalshi_pipeline.learning.run_checkpoints import BEST, checkpoint_timesteps
from kalshi_pipeline.learning.runs import RunKey, open_run
from kalshi_pipeline.learning.training import train_phase
from kalshi_pipeline.plans import Phase, Plan, load_plan
from kalshi_pipeline.storage.checkpoints import LineageEntry
from kalshi_pipeline.storage.publish import Generation, Warehouse
from tests.storage.test_publish import FailingFiles
from tests.tapes import random_universe

# every file call: a new run; weights, Adam, state, lanes, history, manifest and their renaming,
# the pointer to the best, three files of diagnostics (no alert by the first save); six files and
# three folders published; the run marked, a checkpoint cut
CREATE_CALLS, FIRST_SAVE_CALLS, SAVE_CALLS = 3, 9 + 3 + 2, 9 + 3 + 3
# ... 3 of them for the trial that the validation is
PUBLISH_CALLS = CREATE_CALLS + FIRST_SAVE_CALLS + 16 + 3 + 3 + 3
CONFIG = PPOConfig(n_envs=4, n_steps=16, batch_size=32, n_epochs=2, hidden=(16, 16, 8))
ROLLOUT, ROLLOUTS = 64, 5
SAVE_EVERY = 100  # after the rollouts 2, 4 and 5
KEY = RunKey("quick", "phase_1", 0, "ppo", (901,), "0" * 64)
UNIVERSE = random_universe(np.random.default_rng(7), episodes=6, steps=30)
ZEROS = np.zeros((1, OBSERVATION_WIDTH), np.float32)
VALIDATION = (LineageEntry(9, "V", "V-1", 1, 2),)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def carry_out(jobs: list[dict[str, Any]]) -> list[int]:
    """How each job ended: 0, or -9 where it was killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_training"],
        input=json.dumps(jobs), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    assert done.returncode == 0
    return json.loads(done.stdout)


def train_in_run(
    root: Path, *, file_call: int = 0, boundary: int = 0, update: int = 0, sign: int = -1
) -> dict[str, Any]:
    """A phase with validation and diagnostics in its run folder; dies at the n-th of one thing."""
    files = FailingFiles(file_call, die)
    with open_run(root, KEY, 0, files) as run:
        if update:
            _die_in_update(update)
        point = run.resume_point()
        at = point and point.checkpoint.state.timesteps
        with training_logs(run.folder, run.log_path, 500, resumed_at=at) as logs:
            result = train_phase(
                UNIVERSE,
                phase="phase_1",
                timesteps=ROLLOUTS * ROLLOUT,
                config=CONFIG,
                trading=TradingConfig(),
                seed=0,
                progress=lambda progress: _after_rollout(logs, progress, boundary),
                validate=lambda policy: sign * float(policy.probabilities(ZEROS)[0, 3]),
                selected_on=VALIDATION,
                keep=run.save,
                resume=point,
                checkpoint_every=SAVE_EVERY,
            )
        kept, pointer = checkpoint_timesteps(run.folder), (run.folder / BEST).read_text()
        calls, saved = files.calls, run.resume_point()
        assert saved is not None
        return {
            "continued": point is not None,
            "calls": calls,
            "kept": kept,
            "pointer": pointer,
            "final": result.final.content_hash,
            "curriculum": result.final.state.curriculum,
            "best": result.best.content_hash,
            "records": [_timeless(record) for record in result.records],
            "validations": result.validations,
            "draws": sorted(map(str, result.market_draws.items())),
            "resumable": saved.checkpoint.content_hash,
            "firings": [asdict(firing) for firing in result.firings],
            "lines": {path.name: path.read_text() for path in (run.folder / DIAGNOSTICS).iterdir()},
        }


def train_to_the_best(root: Path, *, file_call: int = 0) -> dict[str, Any]:
    """The same where the last checkpoint is the best."""
    return train_in_run(root, file_call=file_call, sign=1)


def train_in_plan(root: Path, *, file_call: int = 0) -> dict[str, Any]:
    """A phase of a plan, published; dies at the n-th file call of saving and publishing."""
    files = FailingFiles(file_call, die)
    use_random_markets(setattr)
    generation = publish_phase(Warehouse(root, files))
    records = json.loads(generation.path("exports/seed_7/training.json").read_bytes())
    return {
        "hash": generation.content_hash,
        "summary": dict(generation.summary),
        "records": [{**record, "steps_per_second": 0.0} for record in records],
        "calls": files.calls,
    }


def small_plan(**changes: Any) -> Plan:
    learner = replace(CONFIG, **changes)
    phases = (
        Phase("phase_1", (901,), ROLLOUT, learner=learner),
        Phase("phase_2", (901,), ROLLOUT, parent="phase_1", learner=learner),
    )
    return replace(load_plan("quick"), phases=phases, seeds=1, save_every=SAVE_EVERY)


def publish_phase(
    warehouse: Warehouse, phase: str = "phase_1", plan: Plan | None = None
) -> Generation:
    """A phase of the plan, on random markets where `use_random_markets` was called."""
    plan = plan or small_plan()
    return plan_stages.train_phase(warehouse, plan, plan.phase(phase), now_ms=0)


def use_random_markets(replace: Callable[[object, str, Any], None]) -> None:
    """Let every session of a plan be the same random markets.

    Args:
        replace: `setattr`, or one that puts things back.
    """
    replace(plan_stages, "session_inputs", lambda *_: {"books/901": "0" * 16})
    replace(plan_stages, "universe_of", lambda *_: UNIVERSE)


def _after_rollout(logs: TrainingLogs, progress: TrainingProgress, boundary: int) -> None:
    logs(progress)
    if progress.timesteps == boundary * ROLLOUT:
        die()


def _timeless(record: RolloutRecord) -> dict[str, Any]:
    return asdict(replace(record, steps_per_second=0.0))


def _die_in_update(n: int) -> None:
    seen, learn = 0, Engine.learn

    def dying(
        engine: Engine, rollout: Rollout, orders: np.ndarray, batch: int, hyper: Hyper, threads: int
    ) -> Any:
        nonlocal seen
        seen += 1
        if seen == n:
            weights = engine.weights.trained.parameters
            before = weights.copy()

            def die_once_they_move() -> None:
                while np.array_equal(weights, before):
                    pass
                die()

            threading.Thread(target=die_once_they_move, daemon=True).start()
            orders = np.tile(orders, (10_000, 1))  # the update lasts until then
        return learn(engine, rollout, orders, batch, hyper, threads)

    Engine.learn = dying


def _warm_up() -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert SummaryWriter
    # compiled code and modules that are loaded where they are first used
    train_phase(
        UNIVERSE, phase="phase_1", timesteps=1, config=CONFIG, trading=TradingConfig(), seed=0
    )


def _in_a_process(job: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train = {"run": train_in_run, "rising": train_to_the_best, "plan": train_in_plan}[
                job["kind"]
            ]
            result = train(Path(job["root"]), **job.get("die_at", {}))
            Path(job["result"]).write_text(json.dumps(result))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _warm_up()
    print(json.dumps([_in_a_process(job) for job in json.load(sys.stdin)]))
