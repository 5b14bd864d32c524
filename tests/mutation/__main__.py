"""`make mutation`: every mutant of five modules, at least nine in ten of them killed.

    python -m tests.mutation [module ...] [--every N]

`survivors.toml` lists mutants no test can kill, each with its reason; the rest of those that live
are printed. It ends with 1 where a module's share is below the bound.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from tests.mutation.mutants import mutants
from tests.mutation.runner import outcome, prepare

ROOT = Path(__file__).parents[2]
LEAST_KILLED = 0.9
FAST = ["-m", "not slow and not drill and not scale"]
# module -> tests of it, those that kill most of it first
MODULES = {
    "market.prices": ["tests/market/test_prices.py"],
    "market.fees": ["tests/market/test_fees.py"],
    "trading.portfolio": ["tests/trading/test_portfolio.py"],
    "evaluation.metrics": ["tests/evaluation/test_metrics.py"],
    # those that start processes see no mutant there
    "storage.publish": [
        "tests/storage/test_publish.py",
        "tests/storage/test_staged_file.py",
        "-k",
        "not killed_process and not several_processes and not writers_at_once",
    ],
}


def main() -> int:
    """Run what the command line asks for; 1 where too many mutants live."""
    arguments = argparse.ArgumentParser(prog="python -m tests.mutation")
    arguments.add_argument("modules", nargs="*", default=list(MODULES))
    arguments.add_argument("--every", type=int, default=1, help="try one mutant in so many")
    arguments.add_argument("--first", type=int, default=0, help="the first of them")
    asked = arguments.parse_args()
    prepare()
    shares = [_try_module(name, asked.first, asked.every) for name in asked.modules]
    return 0 if all(share >= LEAST_KILLED for share in shares) else 1


def _try_module(name: str, first: int, every: int) -> float:
    module, path = (
        f"kalshi_pipeline.{name}",
        ROOT / "kalshi_pipeline" / f"{name.replace('.', '/')}.py",
    )
    tests = [*MODULES[name], *FAST]
    result, seconds = outcome(module, path, path.read_text(), tests, 600)
    assert result == "survived", f"the tests of {name} fail without a change"
    known = {(entry["before"], entry["after"]) for entry in _survivors().get(name, ())}
    limit_s = 20 + 5 * seconds
    tried = killed = excused = 0
    for mutant in list(mutants(path))[first::every]:
        tried += 1
        result, _ = outcome(module, path, mutant.code, tests, limit_s)
        if result == "killed":
            killed += 1
        elif (mutant.before, mutant.after) in known:
            excused += 1
        else:
            print(f"{name}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}", flush=True)
    share = killed / tried
    print(
        f"{name}: {killed} of {tried} mutants killed ({share:.1%}), "
        f"{excused} more change nothing; the tests take {seconds:.0f} s",
        flush=True,
    )
    return share


def _survivors() -> dict[str, list[dict[str, str]]]:
    path = Path(__file__).with_name("survivors.toml")
    return tomllib.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
