"""A training process killed at any moment goes on as if it had never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kalshi_pipeline.storage.publish import Warehouse
from tests.faults.killed_training import (
    CREATE_CALLS,
    FIRST_SAVE_CALLS,
    PUBLISH_CALLS,
    ROLLOUTS,
    SAVE_CALLS,
    carry_out,
)

SECOND_SAVE = CREATE_CALLS + FIRST_SAVE_CALLS
# group -> what is trained and where it dies
DEATHS: dict[str, tuple[str, list[dict[str, int]]]] = {
    "boundary": ("run", [{"boundary": n} for n in range(1, ROLLOUTS + 1)]),
    "update": ("run", [{"update": n} for n in range(1, ROLLOUTS + 1)]),
    "save": ("run", [{"file_call": SECOND_SAVE + k} for k in range(1, SAVE_CALLS + 1)]),
    "last save": (
        "rising",
        [{"file_call": SECOND_SAVE + SAVE_CALLS + k} for k in range(1, SAVE_CALLS + 1)],
    ),
    "publish": ("plan", [{"file_call": k} for k in range(1, PUBLISH_CALLS + 1)]),
}


def deaths_of(group: str, every: int) -> list[dict[str, int]]:
    """Where a group's trainings die: at each update, and at every so manyth file call."""
    deaths = DEATHS[group][1]
    return deaths[:: every if "file_call" in deaths[0] else 1]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(5, id="every fifth call", marks=pytest.mark.drill),
        pytest.param(1, id="every call", marks=pytest.mark.slow),
    ],
)
def results(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """What an uninterrupted training of each kind gives, and those resumed after each death."""
    home = tmp_path_factory.mktemp("killed")
    jobs, expected = [], []
    for kind in ("run", "rising", "plan"):
        jobs.append({"kind": kind, "root": str(home / kind), "result": str(home / f"{kind}.json")})
        expected.append(0)
    for group, (kind, _) in DEATHS.items():
        for number, death in enumerate(deaths_of(group, request.param)):
            job = {"kind": kind, "root": str(home / group / str(number)), "result": os.devnull}
            jobs.append({**job, "die_at": death})
            jobs.append({**job, "result": str(home / f"{group}-{number}.json")})
            expected += [-signal.SIGKILL, 0]
    assert carry_out(jobs) == expected
    found: dict[str, Any] = {"home": home}
    for kind in ("run", "rising", "plan"):
        found[kind] = json.loads((home / f"{kind}.json").read_text())
    for group in DEATHS:
        died = deaths_of(group, request.param)
        paths = [home / f"{group}-{number}.json" for number in range(len(died))]
        found[group] = [json.loads(path.read_text()) for path in paths]
    return found


def without(result: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in names}


@pytest.mark.parametrize("group", ["boundary", "update", "save", "last save"])
def test_t6_killed_it_resumes_to_the_bit(results: dict[str, Any], group: str) -> None:
    # weights, curriculum, records, validations, the best and what points to it, diagnostics, what
    # is kept and the last checkpoint
    how = ("continued", "calls")
    whole = without(results[DEATHS[group][0]], *how)
    assert [without(result, *how) for result in results[group]] == [whole] * len(results[group])


def test_an_uninterrupted_training_is_what_it_should_be(results: dict[str, Any]) -> None:
    whole = results["run"]
    assert not whole["continued"]
    assert whole["calls"] == SECOND_SAVE + 2 * SAVE_CALLS
    assert len(whole["records"]) == ROLLOUTS
    assert len(whole["validations"]) == 3
    lines = {name: text.count("\n") for name, text in whole["lines"].items()}
    alerts = len(whole["firings"])
    assert alerts
    assert lines == {"rollouts.jsonl": ROLLOUTS, "validations.jsonl": 3, "alerts.jsonl": alerts}
    assert whole["best"] != whole["final"]  # so that the best had to be found again
    assert results["plan"]["calls"] == PUBLISH_CALLS
    rising = results["rising"]
    assert rising["calls"] == whole["calls"]
    assert f"checkpoint_{rising['kept'][-1]}" in rising["pointer"]


def test_only_what_was_not_saved_is_trained_again(results: dict[str, Any]) -> None:
    continued = [result["continued"] for result in results["boundary"]]
    assert continued == [False, False, True, True, True]
    assert all(result["continued"] for result in results["save"])


def test_x02_killed_at_any_file_call_a_phase_is_published_as_if_it_had_not_been(
    results: dict[str, Any],
) -> None:
    whole = without(results["plan"], "calls")
    assert [without(result, "calls") for result in results["publish"]] == [whole] * len(
        results["publish"]
    )
    for number in range(len(results["publish"])):
        warehouse = Warehouse(results["home"] / "publish" / str(number))
        assert warehouse.current("quick/phase_1").verified()


@pytest.mark.slow
def test_killed_again_and_again_at_moments_nobody_chose(tmp_path: Path) -> None:
    rng = random.Random(5)
    job = {"kind": "run", "root": str(tmp_path / "run"), "result": str(tmp_path / "run.json")}
    whole = {**job, "root": str(tmp_path / "whole"), "result": str(tmp_path / "whole.json")}
    assert carry_out([whole]) == [0]
    kills = 0
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.killed_training"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(json.dumps([job]))
        process.stdin.close()
        lock = next((tmp_path / "run").glob("trained_models/9*/.lock"), None)
        before = lock.stat().st_mtime_ns if lock else 0
        while process.poll() is None:  # until it has the run
            lock = next((tmp_path / "run").glob("trained_models/9*/.lock"), None)
            if lock and lock.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.3)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    assert carry_out([job]) == [0]
    found = [json.loads(Path(made["result"]).read_text()) for made in (job, whole)]
    assert without(found[0], "continued", "calls") == without(found[1], "continued", "calls")
