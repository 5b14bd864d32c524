"""`python -m benchmarks.scale_out [SESSIONS]`: the same sessions on one Ray worker, then on two.

Both times a deployment of its own, a backfill of everything that is made of a session, and a
cluster on loopback whose workers have one processor each. Wall time is from the launch of the
backfill to its end, per session what the runs themselves took. Needs two quiet processors or more
and `pip install .[ray]`; about five seconds a session on one worker. It prints a table and writes
`benchmarks/scale_out.json`. Content hashes must be those of this process, or it stops.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from kalshi_pipeline import stages
from kalshi_pipeline.recordings.generator import QUICK_PROFILES, write_session
from kalshi_pipeline.storage.publish import Warehouse
from tests.deployment import deployed
from tests.drills.copies import copied, made_at_once, numbers, published
from tests.scale.clusters import ray_cluster

RESULTS = Path(__file__).with_name("scale_out.json")
GOAL = 1.7
SESSION = 902
DELTAS = 500_000  # some seconds of work beside those that a run takes to start


def measure(workers: int, recordings: Path, names: list[str], place: Path) -> dict[str, object]:
    """Wall time of a backfill, what its runs took, and the hashes of what they made."""
    with (
        ray_cluster(workers) as cluster,
        deployed(place, "code", "web", **cluster.variables) as deployment,
    ):
        settings = deployment.home / "dagster.yaml"
        before = settings.read_text()
        # as many again wait on the cluster, so that no worker waits for the daemon
        runs = before.replace("max_concurrent_runs: 2", f"max_concurrent_runs: {2 * workers}")
        assert runs != before or workers == 1
        settings.write_text(runs)
        shutil.copytree(recordings, deployment.recordings, dirs_exist_ok=True)
        deployment.register(*names)
        deployment.stop_sensors()
        deployment.start("daemon")
        began = time.monotonic()
        backfill = deployment.backfill(*stages.SESSION_STAGES, partitions=names)
        status = deployment.backfilled(backfill, within_s=120.0 * len(names))
        wall = time.monotonic() - began
        assert status == "COMPLETED_SUCCESS", status
        with deployment.instance() as instance:
            records = instance.get_run_records()
        took = [record.end_time - record.start_time for record in records]
        moments = [record.start_time for record in records], [r.end_time for r in records]
        warehouse = Warehouse(deployment.warehouse)
        return {
            "workers": workers,
            "sessions": len(names),
            "wall_s": wall,
            "first start to last end, s": max(moments[1]) - min(moments[0]),
            "run_s": statistics.median(took),
            "hashes": {name: published(warehouse, name) for name in names},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sessions", type=int, nargs="?", default=40)
    parser.add_argument(
        "--deltas", type=int, default=DELTAS, help=f"of each session; default {DELTAS:,}"
    )
    options = parser.parse_args()
    sessions = options.sessions
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        recording = write_session(
            replace(QUICK_PROFILES[SESSION], deltas=options.deltas), place / "one"
        )
        names = numbers(1001, sessions)
        copied(recording, place / "recordings", *names)
        at_once = Warehouse(place / "at_once")
        expected = {}
        for name in names:
            made_at_once(place / "recordings" / name, at_once)
            expected[name] = published(at_once, name)
        found = []
        for workers in (1, 2):
            row = measure(workers, place / "recordings", names, place / f"on_{workers}")
            assert row.pop("hashes") == expected, "another result on the cluster"
            found.append(row)
            print(row, flush=True)
    faster = {
        key: found[0][key] / found[1][key]  # type: ignore[operator]
        for key in ("wall_s", "first start to last end, s")
    }
    told = {"rows": found, "one worker / two": faster, "goal": GOAL}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print(f"two workers are {faster['wall_s']:.2f} times as fast as one; goal {GOAL}")


if __name__ == "__main__":
    main()
