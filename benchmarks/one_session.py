"""The stages of one session in a process of their own.

`python -m benchmarks.one_session ROOT SESSION [RECORDING]` prints, as JSON, the seconds of each,
those of all processors together, and the peak of memory.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time


def main() -> None:
    """Take a session from its message table, or from its recording, through the stages."""
    begun = perf_counter()
    root, session, *recording = sys.argv[1:]
    from kalshi_pipeline import stages
    from kalshi_pipeline.recordings.folder import open_folder
    from kalshi_pipeline.storage.arrow import leave_pandas_out
    from kalshi_pipeline.storage.publish import Warehouse

    # as the command line does
    leave_pandas_out()
    atexit.register(gc.freeze)
    warehouse, number = Warehouse(Path(root)), int(session)
    took, processor = {"imports": perf_counter() - begun}, {}

    def timed(name: str, stage: Callable[[], object]) -> None:
        start, worked = perf_counter(), process_time()
        stage()
        took[name], processor[name] = perf_counter() - start, process_time() - worked

    if recording:
        source = open_folder(Path(recording[0]))
        timed("ingest", lambda: stages.ingest_session(warehouse, source))
    timed("books", lambda: stages.build_session_books(warehouse, number))
    timed("tensors", lambda: stages.build_session_tensors(warehouse, number))
    if recording:
        timed("suitable markets", lambda: stages.choose_session_markets(warehouse, number))
    print(
        json.dumps({"seconds": took, "processor_s": processor, "peak_gib": _peak_kib() / (1 << 20)})
    )


def _peak_kib() -> int:
    # not getrusage: its peak is kept over exec, so that a child starts from its parent's
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main()
