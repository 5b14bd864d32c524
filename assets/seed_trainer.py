"""One seed of a phase, where several are trained side by side on a cluster; `trainer.py` publishes.

`python -m kalshi_pipeline.assets.seed_trainer PLAN PHASE SESSION WAREHOUSE SEED`, with an empty
SESSION for a phase, and that of a retraining.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

from kalshi_pipeline import plan_stages
from kalshi_pipeline.assets.trainer import STOPPED, stop_on_signals
from kalshi_pipeline.errors import KalshiPipelineError, TrainingStopped
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.resources.environment import open_warehouse

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Train it; other than 0 is returned where it should go on."""
    name, of, session, address, seed = arguments
    stop = stop_on_signals()
    plan = load_plan(name)
    phase = plan.retraining(int(session)) if session else plan.phase(of)
    now_ms = time.time_ns() // 1_000_000
    try:
        plan_stages.train_seed(
            open_warehouse(address), plan, phase, int(seed), now_ms=now_ms, stop=stop
        )
    except TrainingStopped as stopped:
        _log.warning("%s", stopped)
        return STOPPED
    except KalshiPipelineError as error:  # the trainer comes to the same, and tells it
        _log.warning("%s: %s", type(error).__name__, error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
