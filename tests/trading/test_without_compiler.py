"""The kernels mean the same in plain Python as compiled."""

import os
import subprocess
import sys

import numpy as np

from kalshi_pipeline.config import TradingConfig
from tests.tapes import FEES_PER_FILL, random_universe
from tests.trading.play import simulator

PROGRAM = """
from tests.trading.test_without_compiler import final_accounts
print(final_accounts())
"""


def final_accounts():
    rng = np.random.default_rng(5)
    universe = random_universe(rng, episodes=2, steps=25, fee_schedule=FEES_PER_FILL)
    fast = simulator(universe, TradingConfig(cash_start_micro=3_000_000))
    for _ in range(24):
        fast.step(rng.integers(0, 7, size=2))
    return fast.state.account.tolist(), fast.observation.astype(float).round(5).sum().item()


def test_plain_python_gives_the_same_account():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == str(final_accounts())
