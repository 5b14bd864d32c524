"""The kernels mean the same in plain Python as compiled, and never leave their arrays."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kalshi_pipeline.config import TradingConfig
from tests.tapes import FEES_PER_FILL, random_universe
from tests.trading.play import simulator

PROGRAM = """
from tests.trading.test_without_compiler import final_accounts
print(final_accounts({episodes}))
"""


def final_accounts(episodes):
    rng = np.random.default_rng(5)
    universe = random_universe(rng, episodes=episodes, steps=25, fee_schedule=FEES_PER_FILL)
    finals = []
    for model in ("cross", "queue", "touch"):
        config = TradingConfig(
            cash_start_micro=3_000_000, fill_model=model, daily_loss_limit_micro=400_000
        )
        fast = simulator(universe, config)
        for _ in range(24):
            fast.step(rng.integers(0, 7, size=episodes))
        observed = fast.observation.astype(float).round(5).sum().item()
        finals.append((fast.state.account.tolist(), observed))
    return finals


def printed(episodes, timeout_s, **settings):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(episodes=episodes)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.compiled
def test_plain_python_gives_the_same_account():
    assert printed(2, 120, NUMBA_DISABLE_JIT="1") == str(final_accounts(2))


@pytest.mark.slow  # it compiles all of it anew
def test_with_every_index_checked_it_gives_the_same_account(tmp_path):
    checked = printed(200, 600, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert checked == str(final_accounts(200))
