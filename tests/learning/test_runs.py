"""The folder of a training run: found again, held by one writer, never half a checkpoint."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import CorruptCheckpoint, CorruptFile, RunInUse
from kalshi_pipeline.learning.logs import DIAGNOSTICS
from kalshi_pipeline.learning.records import History, Snapshot
from kalshi_pipeline.learning.run_checkpoints import (
    BEST,
    PROGRESS,
    RUN,
    checkpoint_timesteps,
    load_best,
    load_checkpoint,
    load_snapshot,
)
from kalshi_pipeline.learning.runs import (
    KEPT,
    TRAINED_MODELS,
    UNUSABLE,
    RunKey,
    TrainingRun,
    open_run,
)
from kalshi_pipeline.storage import whole_folder
from kalshi_pipeline.storage.checkpoints import ENVIRONMENT, POLICY, Checkpoint
from kalshi_pipeline.storage.publish import MANIFEST, STAGING, Warehouse
from kalshi_pipeline.storage.whole_folder import read_folder, write_folder
from tests.checkpoints import small_checkpoint
from tests.storage.test_publish import Crash, FailingFiles, Unflushed

KEY = RunKey("quick", "phase_1", 7, "ppo", (32, 25), "d" * 64)
AT_MS = 1_766_000_000_000
NAME = "32-25_ppo_20251217T193320"


def checkpoint_at(timesteps: int) -> Checkpoint:
    made = small_checkpoint(timesteps)
    return replace(
        made,
        state=replace(made.state, timesteps=timesteps),
        environment={"lanes": np.full((2, 3), timesteps, np.float64)},
    )


def snapshot_at(timesteps: int, scores: dict[int, float] | None = None) -> Snapshot:
    told = {at: score for at, score in (scores or {}).items() if at <= timesteps}
    best = max(told, key=lambda at: (told[at], -at)) if told else None
    return Snapshot(
        checkpoint_at(timesteps),
        History(validations=tuple(sorted(told.items()))),
        None if best is None else replace(checkpoint_at(best), environment={}),
    )


def save_all(run: TrainingRun, count: int, scores: dict[int, float] | None = None) -> None:
    for timesteps in range(10, 10 * count + 1, 10):
        run.save(snapshot_at(timesteps, scores))


def same(one: Snapshot, other: Snapshot) -> bool:
    hashes = [
        (s.checkpoint.content_hash, s.history, s.best and s.best.content_hash) for s in (one, other)
    ]
    return hashes[0] == hashes[1]


# --- found again, or begun


def test_a_run_is_called_after_its_sessions_algorithm_and_time(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        assert run.folder == tmp_path / TRAINED_MODELS / NAME
        assert run.log_path.name == "training_20251217T193320.log"
        assert json.loads((run.folder / RUN).read_text())["key"]["digest"] == KEY.digest
        assert run.resume_point() is None


def test_a_run_is_found_again_by_what_it_trains_not_by_its_time(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        run.save(snapshot_at(10))
    with open_run(tmp_path, KEY, AT_MS + 5_000) as again:
        assert again.folder == run.folder
        point = again.resume_point()
        assert point is not None
        assert same(point, snapshot_at(10))


@pytest.mark.parametrize(
    "change",
    [{"digest": "e" * 64}, {"seed": 8}, {"phase": "phase_2"}, {"plan": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_another_training_is_another_run_even_in_the_same_second(
    tmp_path: Path, change: dict[str, object]
) -> None:
    with open_run(tmp_path, KEY, AT_MS), open_run(tmp_path, replace(KEY, **change), AT_MS) as other:
        assert other.folder.name == f"{NAME}-2"
        assert other.log_path.name == "training_20251217T193320-2.log"


def test_a_finished_run_is_history_and_equal_work_begins_a_new_one(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        run.save(snapshot_at(10))
        run.finish("a" * 16)
    with open_run(tmp_path, KEY, AT_MS + 5_000) as new:
        assert new.folder != run.folder
        assert new.resume_point() is None


def test_an_unreadable_run_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        (run.folder / RUN).write_bytes(b"[]")
        with pytest.raises(CorruptFile, match="no object"):
            _ = run.timestamp
    with open_run(tmp_path, KEY, AT_MS) as other:
        assert other.folder.name == f"{NAME}-2"
    assert NAME in caplog.text


# --- one writer


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, KEY, AT_MS),
        pytest.raises(RunInUse, match=f"process {os.getpid()} writes"),
        open_run(tmp_path, KEY, AT_MS),
    ):
        pass
    with open_run(tmp_path, KEY, AT_MS) as run:  # and afterwards it is free
        assert run.folder.name == NAME


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.learning.test_runs import *\n"
        "with open_run(Path(sys.argv[1]), KEY, AT_MS): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60)
    assert killed.returncode == -9
    with open_run(tmp_path, KEY, AT_MS + 1_000) as run:
        assert run.folder.name == NAME


# --- what is kept


def test_without_scores_the_newest_are_kept(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        save_all(run, 8)
        assert checkpoint_timesteps(run.folder) == [40, 50, 60, 70, 80]
        assert not (run.folder / BEST).exists()


def test_the_best_five_are_kept_and_the_newest(tmp_path: Path) -> None:
    scores = {10: 5.0, 20: 9.0, 30: 1.0, 40: 8.0, 50: 7.0, 60: 6.0, 70: 2.0, 80: 3.0, 90: 0.0}
    with open_run(tmp_path, KEY, AT_MS) as run:
        save_all(run, 9, scores)
        assert checkpoint_timesteps(run.folder) == [10, 20, 40, 50, 60, 90]
        best = json.loads((run.folder / BEST).read_text())
        assert best == {"checkpoint": "checkpoint_20", "score": 9.0}
        point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(90, scores))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=9))
def test_the_best_is_always_kept_and_is_the_earliest_of_equals(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    scores = {10 * (n + 1): value for n, value in enumerate(values)}
    with open_run(tmp_path_factory.mktemp("run"), KEY, AT_MS, Unflushed()) as run:
        save_all(run, len(values), scores)
        kept = checkpoint_timesteps(run.folder)
        ranked = sorted(scores, key=lambda at: (-scores[at], at))
        assert set(kept) == {*ranked[:KEPT], 10 * len(values)}
        named = json.loads((run.folder / BEST).read_text())["checkpoint"]
        assert named == f"checkpoint_{ranked[0]}"


def test_a_best_that_another_run_made_is_kept_with_what_was_resumed_from_there(
    tmp_path: Path,
) -> None:
    scores = {10: 5.0, 20: 4.0, 30: 3.0, 40: 2.0}
    with open_run(tmp_path, KEY, AT_MS) as run:
        run.save(snapshot_at(40, scores))  # this run's first: all before it lies in another
    with open_run(tmp_path, KEY, AT_MS) as run:
        point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(40, scores))
        assert checkpoint_timesteps(run.folder) == [10, 40]
        expected = snapshot_at(40, scores).best
        assert expected is not None
        assert load_best(run.folder).content_hash == expected.content_hash


def test_a_published_run_keeps_its_best_and_logs_without_what_resuming_needs(
    tmp_path: Path,
) -> None:
    scores = {10: 5.0, 20: 9.0, 30: 1.0, 40: 8.0, 50: 7.0, 60: 6.0, 70: 0.0}
    with open_run(tmp_path, KEY, AT_MS) as run:
        (run.folder / DIAGNOSTICS).mkdir()
        (run.folder / DIAGNOSTICS / "rollouts.jsonl").write_text("{}\n")
        save_all(run, 7, scores)
        run.finish("a" * 16)
        assert checkpoint_timesteps(run.folder) == [10, 20, 40, 50, 60]
        for timesteps in checkpoint_timesteps(run.folder):
            folder = run.folder / f"checkpoint_{timesteps}"
            assert not {ENVIRONMENT, PROGRESS} & {path.name for path in folder.iterdir()}
            expected = replace(checkpoint_at(timesteps), environment={})
            assert load_checkpoint(folder).content_hash == expected.content_hash
        assert (run.folder / DIAGNOSTICS / "rollouts.jsonl").read_text() == "{}\n"
        assert json.loads((run.folder / RUN).read_text())["published"] == "a" * 16


def test_diagnostics_are_cut_to_the_checkpoint_a_run_continues_from(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        folder = run.folder / DIAGNOSTICS
        folder.mkdir()
        (folder / "rollouts.jsonl").write_text("1\n2\n")
        run.save(snapshot_at(10))
        (folder / "rollouts.jsonl").write_text("1\n2\n3\n4")
        (folder / "alerts.jsonl").write_text("after the save\n")
        run.log_path.write_text("for people\n")
    with open_run(tmp_path, KEY, AT_MS) as run:
        run.resume_point()
    assert (folder / "rollouts.jsonl").read_text() == "1\n2\n"
    assert (folder / "alerts.jsonl").read_text() == ""
    assert run.log_path.read_text() == "for people\n"


def test_lost_diagnostics_are_said_and_hinder_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        (run.folder / DIAGNOSTICS).mkdir()
        path = run.folder / DIAGNOSTICS / "rollouts.jsonl"
        path.write_text("1\n2\n")
        run.save(snapshot_at(10))
        path.write_text("1\n")
        assert run.resume_point() is not None
    assert path.read_text() == "1\n"
    assert "has lost lines" in caplog.text


# --- damage


def damage(folder: Path, name: str = POLICY) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        save_all(run, 3)
        damage(run.folder / "checkpoint_30")
        with caplog.at_level(logging.INFO):
            point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(20))
        assert "checkpoint_30 is passed over" in caplog.text
        assert "continuing from checkpoint_20" in caplog.text
        run.save(snapshot_at(30))  # trained again, it takes the damaged one's place
        point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(30))


def test_a_run_whose_best_is_damaged_goes_back_to_before_it(tmp_path: Path) -> None:
    scores = {10: 1.0, 20: 9.0, 30: 2.0}
    with open_run(tmp_path, KEY, AT_MS) as run:
        save_all(run, 3, scores)
        damage(run.folder / "checkpoint_20")
        point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(10, scores))


def test_a_run_whose_best_was_its_first_and_is_damaged_begins_anew_and_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = {10: 9.0, 20: 1.0, 30: 2.0}
    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        (run.folder / DIAGNOSTICS).mkdir()
        (run.folder / DIAGNOSTICS / "rollouts.jsonl").write_text("1\n")
        for nth in (1, 2):  # it may happen again
            save_all(run, 3, scores)
            damage(run.folder / "checkpoint_10")
            assert run.resume_point() is None
            assert checkpoint_timesteps(run.folder) == []
            assert checkpoint_timesteps(run.folder / f"{UNUSABLE}_{nth}") == [10, 20, 30]
            assert not (run.folder / BEST).exists()
            assert (run.folder / DIAGNOSTICS / "rollouts.jsonl").read_text() == ""
            assert f"set aside in {run.folder / UNUSABLE}_{nth}" in caplog.text
        save_all(run, 3, scores)
        point = run.resume_point()
        assert point is not None
        assert same(point, snapshot_at(30, scores))


def test_a_run_without_a_whole_checkpoint_begins_anew_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        save_all(run, 2)
        damage(run.folder / "checkpoint_10")
        (run.folder / "checkpoint_20" / PROGRESS).unlink()
        assert run.resume_point() is None
        assert f"{PROGRESS} cannot be read" in caplog.text
        assert "the run begins anew" in caplog.text
        assert (run.folder / f"{UNUSABLE}_1" / "checkpoint_10" / POLICY).is_file()


def test_a_damaged_checkpoint_names_the_whole_one_before_it(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS) as run:
        save_all(run, 4)
        damage(run.folder / "checkpoint_40")
        damage(run.folder / "checkpoint_30", MANIFEST)
        with pytest.raises(CorruptCheckpoint, match="use checkpoint_20"):
            load_checkpoint(run.folder / "checkpoint_40")
        damage(run.folder / "checkpoint_10")
        with pytest.raises(CorruptCheckpoint, match="no earlier one is whole"):
            load_checkpoint(run.folder / "checkpoint_10")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"files": {"../../run.json": {"sha256": "", "bytes": 1}}}',
        b'{"files": {"policy.safetensors": {"sha256": 1, "bytes": 1}}}',
        b'{"files": {"policy.safetensors": 1}}',
        b"[" * 100_000,
        b" " * (1 << 20) + b"{}",
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: bytes) -> None:
    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        run.save(snapshot_at(10))
        (run.folder / "checkpoint_10" / MANIFEST).write_bytes(manifest)
        with pytest.raises(CorruptFile):
            read_folder(run.folder / "checkpoint_10")


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"history": 1, "best": null, "logs": {}}'])
def test_a_whole_folder_without_a_history_cannot_be_resumed_from(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kalshi_pipeline.learning import runs

    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        monkeypatch.setattr(runs, "canonical_json", lambda _: content.decode())
        run.save(snapshot_at(10))
        with pytest.raises(CorruptCheckpoint, match="cannot be resumed"):
            load_snapshot(run.folder / "checkpoint_10")


def test_a_published_checkpoint_is_no_point_to_resume_from(tmp_path: Path) -> None:
    with open_run(tmp_path, KEY, AT_MS, Unflushed()) as run:
        run.save(snapshot_at(10))
        run.finish("a" * 16)
        with pytest.raises(CorruptCheckpoint, match="cannot be resumed"):
            load_snapshot(run.folder / "checkpoint_10")


def test_a_folder_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_folder, "MAX_FILE_BYTES", 10)
    write_folder(tmp_path / "fits", {"file": b"0123456789"}, Unflushed())
    assert read_folder(tmp_path / "fits") == {"file": b"0123456789"}
    for contents in ({"file": b"0123456789X"}, {"../file": b""}):
        with pytest.raises(CorruptFile, match="could be written and not be read"):
            write_folder(tmp_path / "fits", contents, Unflushed())
    assert read_folder(tmp_path / "fits") == {"file": b"0123456789"}


# --- crashes at the k-th file call


def calls_of(root: Path, saves: int) -> int:
    files = FailingFiles(0, lambda: None)
    with open_run(root, KEY, AT_MS, files) as run:
        save_all(run, saves)
    return files.calls


def test_a_crash_at_any_call_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    scores = {10: 1.0, 20: 2.0, 30: 0.0}
    total = calls_of(tmp_path / "count", 3)
    assert total >= 30
    seen = set()
    for k in range(1, total + 20):
        root = tmp_path / str(k)

        def crash() -> None:
            raise Crash

        files = FailingFiles(k, crash)
        try:
            with open_run(root, KEY, AT_MS, files) as run:
                save_all(run, 3, scores)
        except Crash:
            pass
        with open_run(root, KEY, AT_MS + 1_000) as run:
            assert not (run.folder / STAGING).exists()
            there = checkpoint_timesteps(run.folder)
            for timesteps in there:
                load_checkpoint(run.folder / f"checkpoint_{timesteps}")
            point = run.resume_point()
            assert (point is None) == (not there)
            if point is not None:
                assert same(point, snapshot_at(there[-1], scores))
                named = json.loads((run.folder / BEST).read_text())["checkpoint"]
                assert point.best is not None
                assert named == f"checkpoint_{point.best.state.timesteps}"
            seen.add(tuple(there))
            save_all(run, 3, scores)
            assert checkpoint_timesteps(run.folder) == [10, 20, 30]
            named = json.loads((run.folder / BEST).read_text())["checkpoint"]
            assert named == "checkpoint_20"
        if files.calls < k:
            break
    assert seen == {(), (10,), (10, 20), (10, 20, 30)}


def test_a_crash_in_the_first_save_of_what_another_run_began_leaves_all_or_nothing(
    tmp_path: Path,
) -> None:
    first = snapshot_at(40, {10: 5.0, 20: 4.0, 30: 3.0, 40: 2.0})

    def crash() -> None:
        raise Crash

    seen = set()
    for k in range(1, 60):
        files = FailingFiles(k, crash)
        try:
            with open_run(tmp_path / str(k), KEY, AT_MS, files) as run:
                run.save(first)
        except Crash:
            pass
        with open_run(tmp_path / str(k), KEY, AT_MS, Unflushed()) as run:
            point = run.resume_point()
            seen.add(point is None)
            if point is None:  # it begins once more where it was resumed
                assert checkpoint_timesteps(run.folder) == []
                run.save(first)
                point = run.resume_point()
            assert point is not None
            assert same(point, first)
            assert load_best(run.folder).state.timesteps == 10
        if files.calls < k:
            break
    assert seen == {True, False}
    assert k < 60


def test_a_crash_after_the_last_checkpoint_is_shown_leaves_nothing_to_be_done_by_hand(
    tmp_path: Path,
) -> None:
    scores = {10 * n: float(n) for n in range(1, 8)}  # the last is the best, the first two go

    def crash() -> None:
        raise Crash

    seen = 0
    for k in range(1, 60):
        with open_run(tmp_path / str(k), KEY, AT_MS, Unflushed()) as run:
            save_all(run, 6, scores)
        files = FailingFiles(k, crash)
        try:
            with open_run(tmp_path / str(k), KEY, AT_MS, files) as run:
                run.save(snapshot_at(70, scores))
        except Crash:
            pass
        with open_run(tmp_path / str(k), KEY, AT_MS, Unflushed()) as run:
            point = run.resume_point()
            assert point is not None
            if point.checkpoint.state.timesteps == 70:
                seen += 1
                assert checkpoint_timesteps(run.folder) == [30, 40, 50, 60, 70]
                assert load_best(run.folder).state.timesteps == 70
        if files.calls < k:
            break
    assert 5 < seen < k < 60


def test_what_a_crash_leaves_in_the_staging_area_is_swept(tmp_path: Path) -> None:
    def crash() -> None:
        raise Crash

    with pytest.raises(Crash), open_run(tmp_path, KEY, AT_MS, FailingFiles(2, crash)):
        pass
    assert Warehouse(tmp_path).sweep(now_ms=2**53, older_than_ms=0) == 1


def test_a_crash_while_finishing_leaves_whole_checkpoints(tmp_path: Path) -> None:
    for k in range(1, 60):

        def crash() -> None:
            raise Crash

        with open_run(tmp_path / str(k), KEY, AT_MS, Unflushed()) as run:
            save_all(run, 6)
        files = FailingFiles(k, crash)
        try:
            with open_run(tmp_path / str(k), KEY, AT_MS, files) as run:
                run.finish("a" * 16)
        except Crash:
            pass
        for timesteps in checkpoint_timesteps(run.folder):
            load_checkpoint(run.folder / f"checkpoint_{timesteps}")
        if files.calls < k:
            break
    assert 10 < k < 60
