"""`docs/CHECKPOINTS.md` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from kalshi_pipeline import errors
from kalshi_pipeline.learning import logs, memory, run_checkpoints, runs
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.storage import checkpoints, foreign, publish, torch_tensors
from kalshi_pipeline.storage.sb3 import export_sb3_zip
from tests.architecture.source import ROOT
from tests.checkpoints import small_checkpoint

PAGE = (ROOT / "docs" / "CHECKPOINTS.md").read_text()


def rows(header: str) -> list[list[str]]:
    table = PAGE.split(header)[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table if "|" in row]


def test_every_file_of_a_checkpoint_is_described_and_no_other():
    described = {row[0].strip("`") for row in rows("| file | holds | in the hash |")[1:]}
    files = {*checkpoints.REQUIRED, *checkpoints.OPTIONAL, runs.PROGRESS, publish.MANIFEST}
    assert described == files


def test_every_error_it_names_exists_and_the_flags_are_those_that_are_told():
    named = {name for row in rows("| what | error | what it says to do |") for name in row[1:2]}
    for name in re.findall(r"`(\w+)`", " ".join(named)):
        assert issubclass(getattr(errors, name), errors.TrainingError)
    for flag in re.findall(r"--\S+ \S+?(?=,|$)", memory.REMEDY):
        assert f"`{flag}`" in PAGE


def test_names_and_limits_are_those_of_the_code():
    for name in (
        runs.TRAINED_MODELS,
        run_checkpoints.RUN,
        run_checkpoints.BEST,
        logs.DIAGNOSTICS,
        logs.TENSORBOARD,
    ):
        assert name in PAGE
    assert f"{load_plan('training_plan').save_every:,}" in PAGE
    assert "best five" in PAGE
    assert runs.KEPT == 5
    assert f"{torch_tensors.MAX_TOTAL_BYTES >> 20} MiB in all" in PAGE
    assert f"{foreign.MAX_MEMORY_BYTES >> 30} GiB, {foreign.MAX_SECONDS} seconds" in PAGE


def test_the_example_runs(tmp_path: Path):
    export_sb3_zip(small_checkpoint(), tmp_path / "model.zip")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, {"path": tmp_path / "model.zip"})
