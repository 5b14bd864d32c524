"""What every command of Dagster waits for: the pipeline's definitions, beside Dagster alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.timing import Contestant, Effort, Row, row

if TYPE_CHECKING:
    from benchmarks.data import Material

PROGRAMS = {
    "definitions, whole process": "from kalshi_pipeline.definitions import defs",
    "dagster alone": "import dagster",
}


def measure(session: Material, *, effort: Effort) -> list[Row]:
    """Processes a second that load the definitions."""
    del session  # there need be none
    contestants = {name: _process(program) for name, program in PROGRAMS.items()}
    return [row("definitions_load", "1/s", contestants, effort, floor="dagster alone")]


def _process(program: str) -> Contestant:
    def run(_: object) -> int:
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        return 1

    return Contestant(run)
