"""A sweep of very small trainings: `python -m tests.sweeps WAREHOUSE TRIALS [UPDATES]`.

It carries that out, and kills itself after so many updates.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from kalshi_pipeline.config import PPOConfig
from kalshi_pipeline.plan_sweep import Sweep, open_sweep, search
from kalshi_pipeline.plans import Plan, load_plan
from kalshi_pipeline.storage.publish import Warehouse

LEARNER = PPOConfig(n_envs=8, n_steps=16, batch_size=64, n_epochs=2, hidden=(8, 8))
TIMESTEPS = 512
SAVE_EVERY = 128


def tiny_plan() -> Plan:
    """The quick plan with a network that learns nothing, but fast."""
    quick = load_plan("quick")
    phases = tuple(replace(phase, learner=LEARNER) for phase in quick.phases)
    return replace(quick, phases=phases, watch=replace(quick.watch, validation_steps=2_000))


def tiny_sweep(root: Path) -> Sweep:
    """The sweep of its first phase."""
    return open_sweep(
        Warehouse(root), tiny_plan(), "phase_1", timesteps=TIMESTEPS, save_every=SAVE_EVERY
    )


if __name__ == "__main__":
    updates = itertools.count(1)
    last = int(sys.argv[3]) if len(sys.argv) > 3 else None

    def stop() -> bool:
        if next(updates) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    search(
        tiny_sweep(Path(sys.argv[1])),
        int(sys.argv[2]),
        now_ms=time.time_ns() // 1_000_000,
        stop=stop,
    )
