"""Sessions of any size: raw Parquet to published books and tensors, seconds and peak memory.

Each measurement is a process of its own, started fresh: `python -m benchmarks.scale ROOT SESSION`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.data import Material
from benchmarks.flow import write_messages
from benchmarks.timing import Effort, Row

SIZES = (1_000_000, 10_000_000, 50_000_000)
FLOW = 999_999_999  # the session's number in the warehouse


def measure(_: Material, effort: Effort, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Whole processes from the message table on, warm cache; the small session from its frames."""
    rows = [_scaled(deltas) for deltas in sizes[: None if effort.rounds > 1 else 1]]
    return [*rows, _small_session()]


def _scaled(deltas: int) -> Row:
    with tempfile.TemporaryDirectory() as root:
        publish_flow(Path(root), deltas)
        found = _in_a_process(root, FLOW)
    name = {10_000_000: "parquet_to_tensor_10m", 50_000_000: "scale_50m"}.get(deltas, "scale_1m")
    return Row(name, deltas / found["seconds"], "deltas/s", details=found)


def publish_flow(root: Path, deltas: int) -> None:
    """A warehouse that holds the message table of a flow over a thousand markets."""
    from kalshi_pipeline.storage.publish import Recipe, Warehouse, canonical_json

    with Warehouse(root).stage("raw_messages", str(FLOW), Recipe("flow")) as staging:
        write_messages(deltas, staging.folder)
        declared = {"sequence": "complete", "title": "flow"}
        (staging.folder / "session.json").write_text(canonical_json(declared))
        (staging.folder / "markets.json").write_text("[]")
        staging.summary.update(frames=deltas + 1_000, deltas=deltas, snapshots=1_000, rejected=0)


def _small_session() -> Row:
    from kalshi_pipeline.recordings.generator import PROFILES, write_session

    with tempfile.TemporaryDirectory() as place:
        folder = write_session(PROFILES[32], Path(place) / "recordings")
        found = {}
        for attempt in ("first", "second"):  # the second finds compiled kernels and a warm cache
            found = _in_a_process(str(Path(place) / attempt), 32, folder)
    return Row("small_session", 1 / found["seconds"], "sessions/s", details=found)


def _in_a_process(root: str, session: int, recording: Path | None = None) -> dict[str, float]:
    arguments = [root, str(session), *([str(recording)] if recording else [])]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(result.stdout)
    return found


def main() -> None:
    """Run the stages of one session and print what they took."""
    begun = perf_counter()
    root, session, *recording = sys.argv[1:]
    from kalshi_pipeline import stages
    from kalshi_pipeline.recordings.folder import open_folder
    from kalshi_pipeline.storage.publish import Warehouse

    warehouse, number = Warehouse(Path(root)), int(session)
    marks = {"imports": perf_counter() - begun}

    def timed(name: str, run: object) -> None:
        start = perf_counter()
        run()  # type: ignore[operator]
        marks[name] = perf_counter() - start

    if recording:
        source = open_folder(Path(recording[0]))
        timed("ingest", lambda: stages.ingest_session(warehouse, source))
    timed("books", lambda: stages.build_session_books(warehouse, number))
    timed("tensors", lambda: stages.build_session_tensors(warehouse, number))
    if recording:
        timed("suitable", lambda: stages.choose_session_markets(warehouse, number))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps({"seconds": perf_counter() - begun, "peak_gib": peak, **marks}))


if __name__ == "__main__":
    main()
