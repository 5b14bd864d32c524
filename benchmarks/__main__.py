"""`python -m benchmarks [--quick]`: every stage beside its peers and its floor."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.data import Material
    from benchmarks.timing import Row

RESULTS = Path(__file__).with_name("results.json")
STAGES = (
    "definitions",
    "books",
    "ingest",
    "features",
    "scale",
    "environment",
    "learning",
    "plan",
    "evaluation",
)
SESSION, QUICK_SESSION = 32, 25  # of the training plan, generated


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write `results.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher")
    parser.add_argument("--only", nargs="+", choices=STAGES, help="these stages alone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    rows = _measured(quick=options.quick, only=options.only)
    _print_table(rows)
    write_results(rows, options.output)
    return 0


def write_results(rows: Sequence[Row], path: Path) -> None:
    """Write rows as a JSON list of `{name, value, unit, peers, floor}`."""
    path.write_text(json.dumps([asdict(entry) for entry in rows], indent=1) + "\n")


def _measured(*, quick: bool, only: Sequence[str] | None) -> list[Row]:
    import torch
    from threadpoolctl import threadpool_limits

    from benchmarks.data import material
    from kalshi_pipeline.recordings.generator import PROFILES

    torch.set_num_threads(1)
    rows: list[Row] = []
    stages = stages_of(quick=quick)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1, "blas"):
        _say("generating a session and taking it through the stages")
        session = material(PROFILES[QUICK_SESSION if quick else SESSION], Path(folder))
        for name in only or stages:
            start = perf_counter()
            rows += stages[name](session)
            _say(f"{name}: {perf_counter() - start:.0f} s")
    return rows


def stages_of(*, quick: bool) -> dict[str, Callable[[Material], list[Row]]]:
    """Name -> measurement; slow stages get fewer rounds, a quick rollout a quarter of the steps."""
    from benchmarks import (
        books,
        definitions,
        environment,
        evaluation,
        features,
        ingest,
        learning,
        plan_training,
        scale,
    )
    from benchmarks.data import CONFIG
    from benchmarks.timing import Effort

    often = Effort(3, 0.05) if quick else Effort(9, 0.1)
    seldom = Effort(1, 0.05) if quick else Effort(3, 0.1)
    ppo = replace(CONFIG.ppo, n_steps=16) if quick else CONFIG.ppo
    return {
        "definitions": partial(definitions.measure, effort=seldom),
        "books": partial(books.measure, effort=often),
        "ingest": partial(ingest.measure, effort=seldom),
        "features": partial(features.measure, effort=often),
        "scale": partial(scale.measure, effort=seldom),
        "environment": partial(environment.measure, effort=often),
        "learning": partial(learning.measure, effort=seldom, config=ppo),
        "plan": partial(
            plan_training.measure, effort=seldom, config=CONFIG.ppo, share=0.02 if quick else 1.0
        ),
        "evaluation": partial(evaluation.measure, effort=seldom, config=ppo),
    }


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.timing import table_lines

    table = Table(title="Rates, medians of interleaved rounds")
    table.add_column("what")
    for heading in ("rate", "unit", "project is faster by"):
        table.add_column(heading, justify="right" if heading != "unit" else "left")
    for entry in rows:
        table.add_row(f"[bold]{entry.name}[/]", _shown(entry.value), entry.unit, "")
        for name, rate, ratio in table_lines(entry):
            table.add_row(f"  {name}", _shown(rate), entry.unit, _times(ratio))
    Console(width=110).print(table)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} x" if ratio >= 100 else f"{ratio:.3g} x"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
