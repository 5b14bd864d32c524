"""Sessions of any size: seconds and peak memory of whole processes, each started fresh.

From raw Parquet to published books and tensors for flows of 1, 10 and 50 million deltas over a
thousand markets; from the frames to the suitable markets for the plan's session 32. What a bare
interpreter takes to start is taken off; importing the project and loading its kernels is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.data import Material
from benchmarks.flow import write_messages
from benchmarks.timing import Effort, Row
from kalshi_pipeline.recordings.generator import PROFILES, SessionProfile, write_session
from kalshi_pipeline.storage.publish import Recipe, Warehouse

FLOW = 999_999_999  # the flow's number in the warehouse
SMALL = PROFILES[32]  # of the training plan, generated: 189,000 deltas
SIZES = {"1 million": 1_000_000, "10 million": 10_000_000, "50 million": 50_000_000}


def measure(
    _: Material,
    effort: Effort,
    sizes: dict[str, int] | None = None,
    small: SessionProfile = SMALL,
) -> list[Row]:
    """Rates and peaks; of one round only the smallest flow is taken."""
    sizes = sizes or (SIZES if effort.rounds > 1 else {"1 million": SIZES["1 million"]})
    rates, peaks = {}, {}
    for name, deltas in sizes.items():
        seconds, found = of_flow(deltas)
        rates[name], peaks[name] = deltas / seconds, found["peak_gib"]
    rows = []
    if "10 million" in rates:
        rows.append(Row("parquet_to_tensor_10m", rates["10 million"], "deltas/s"))
    *smaller, largest = sizes
    rows += [
        Row(f"scale_{sizes[largest] // 1_000_000}m{suffix}", values[largest], unit,
            {name: values[name] for name in smaller})
        for suffix, values, unit in (("", rates, "deltas/s"), (", peak memory", peaks, "GiB"))
    ]  # fmt: skip
    seconds, found = of_recording(small)
    return [
        *rows,
        Row("small_session", seconds, "s", found["seconds"]),
        Row("small_session, peak memory", found["peak_gib"], "GiB"),
    ]


def of_flow(deltas: int) -> tuple[float, dict[str, Any]]:
    """A flow's message table to tensors: seconds beyond an interpreter's start, and details."""
    with tempfile.TemporaryDirectory() as root:
        publish_flow(Path(root), deltas)
        return in_a_process(root, str(FLOW))


def publish_flow(root: Path, deltas: int) -> None:
    """A warehouse that holds the message table of a flow over a thousand markets."""
    with Warehouse(root).stage("raw_messages", str(FLOW), Recipe("flow")) as staging:
        write_messages(deltas, staging.folder)
        declared = {"sequence": "complete", "title": "flow"}
        (staging.folder / "session.json").write_text(json.dumps(declared))
        (staging.folder / "markets.json").write_text("[]")
        staging.summary.update(frames=deltas + 1_000, deltas=deltas, snapshots=1_000, rejected=0)


def of_recording(profile: SessionProfile) -> tuple[float, dict[str, Any]]:
    """All stages of a generated recording, the second time: kernels compiled, files cached."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_session(profile, Path(place) / "recordings")
        for attempt in ("first", "second"):
            found = in_a_process(str(Path(place) / attempt), folder.name, str(folder))
    return found


def in_a_process(*arguments: str) -> tuple[float, dict[str, Any]]:
    """What `one_session` says, and its seconds beyond those of an interpreter that does nothing."""
    bare = _seconds([sys.executable, "-c", "pass"])[0]
    seconds, told = _seconds([sys.executable, "-m", "benchmarks.one_session", *arguments])
    return seconds - bare, json.loads(told)


def _seconds(command: list[str]) -> tuple[float, str]:
    start = perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return perf_counter() - start, result.stdout
