"""`python -m benchmarks.cost`: what a billion deltas cost, from flows of 10, 50 and 200 million.

For each size, in a process of its own: processor seconds of books and tensors (all threads), wall
seconds, the peak of memory, bytes that each stage publishes. Ingest reads text and is taken on a
generated recording, whose size is told too. Bytes moved are counted as an object store would: what
a stage publishes is put once, and fetched once by a machine that made none of it. Needs about 30
GiB of disk and 16 GiB of memory; it prints a table and writes `benchmarks/cost.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scale import FLOW, in_a_process, publish_flow
from kalshi_pipeline.recordings.generator import PROFILES, write_session
from kalshi_pipeline.storage.generation import read_manifest
from kalshi_pipeline.storage.publish import Warehouse

RESULTS = Path(__file__).with_name("cost.json")
SIZES = (10_000_000, 50_000_000, 200_000_000)
TEXT = 2_000_000  # deltas of the recording whose ingest is timed
BILLION = 1_000_000_000
PROCESSOR_S, SECONDS = "processor, s", "wall, s"


def of_flow(deltas: int) -> dict[str, Any]:
    """A flow's books and tensors."""
    with tempfile.TemporaryDirectory() as place:
        publish_flow(Path(place), deltas)
        _, told = in_a_process(place, str(FLOW))
        warehouse = Warehouse(Path(place))
        row: dict[str, Any] = {"deltas": deltas, "peak, GiB": told["peak_gib"]}
        for stage, asset in (("books", "books"), ("tensors", "feature_tensors")):
            row[f"{stage}, {PROCESSOR_S}"] = told["processor_s"][stage]
            row[f"{stage}, {SECONDS}"] = told["seconds"][stage]
            row[f"{asset}, bytes"] = published_bytes(warehouse, asset, FLOW)
        row["raw_messages, bytes"] = published_bytes(warehouse, "raw_messages", FLOW)
    return row


def of_text(deltas: int) -> dict[str, Any]:
    """A recording's ingest."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_session(replace(PROFILES[32], deltas=deltas), Path(place) / "recordings")
        text = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        _, told = in_a_process(f"{place}/warehouse", folder.name, str(folder))
        warehouse = Warehouse(Path(place) / "warehouse")
        return {
            "deltas": deltas,
            f"ingest, {PROCESSOR_S}": told["processor_s"]["ingest"],
            f"ingest, {SECONDS}": told["seconds"]["ingest"],
            "recording, bytes": text,
            "raw_messages, bytes": published_bytes(warehouse, "raw_messages", int(folder.name)),
            "peak, GiB": told["peak_gib"],
        }


def published_bytes(warehouse: Warehouse, asset: str, session: int) -> int:
    """Bytes of all files of what is published."""
    generation = warehouse.current(asset, str(session))
    return sum(entry["bytes"] for entry in read_manifest(generation.folder)["files"].values())


def a_billion(row: dict[str, Any]) -> dict[str, float]:
    """A row's seconds and gigabytes for a billion deltas, were all deltas alike."""
    times = BILLION / row["deltas"]
    told = {name: value * times for name, value in row.items() if name.endswith(", s")}
    for name, value in row.items():
        if name.endswith(", bytes"):
            told[name.replace("bytes", "GB")] = value * times / 1e9
    return told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--deltas", type=int, nargs="+", default=SIZES)
    parser.add_argument("--text", type=int, default=TEXT, help=f"default {TEXT:,}")
    options = parser.parse_args()
    found = []
    for measured, sizes in ((of_text, [options.text]), (of_flow, options.deltas)):
        for deltas in sizes:
            row = measured(deltas)
            found.append({"measured": row, "a billion": a_billion(row)})
            print(f"{deltas:,} deltas, peak {row['peak, GiB']:.2f} GiB; a billion of them:")
            for name, value in a_billion(row).items():
                print(f"    {name:<28}{value:>12,.1f}", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
