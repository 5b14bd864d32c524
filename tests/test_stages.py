"""The stages of a session: made once, made again only when they must be, always the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import plan_evaluation, plan_stages, session_data, stages
from kalshi_pipeline.config import BookConfig, PipelineConfig, StepConfig, SuitabilityConfig
from kalshi_pipeline.errors import CorruptFile, MissingParent, NotPublished
from kalshi_pipeline.features.build import read_tensors
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.stages import BOOKS, CODE_VERSIONS, RAW, SESSION_STAGES, SUITABLE, TENSORS
from kalshi_pipeline.storage.publish import Generation, Warehouse
from kalshi_pipeline.trading.universe import Exclusion

# What the stages make of the generated session 901. A hash may only change together with its
# version; Parquet files carry the name of the library that wrote them.
PYARROW = "26.0.1"
GOLDEN = {
    RAW: ("3.2", "80f552c939aac990"),
    BOOKS: ("6.3.2.1", "113af137a13958f7"),
    TENSORS: ("4.2", "731f3e167ad73544"),
    SUITABLE: ("3", "21699144a0a2f0cf"),
}


def materialize(warehouse: Warehouse, folder: Path) -> dict[str, Generation]:
    """The four stages of one session."""
    session = int(folder.name)
    return {
        RAW: stages.ingest_session(warehouse, open_folder(folder)),
        BOOKS: stages.build_session_books(warehouse, session),
        TENSORS: stages.build_session_tensors(warehouse, session),
        SUITABLE: stages.choose_session_markets(warehouse, session),
    }


def hashes(generations: dict[str, Generation]) -> dict[str, str]:
    return {stage: generation.content_hash for stage, generation in generations.items()}


def computed(generations: dict[str, Generation]) -> list[str]:
    return [stage for stage, generation in generations.items() if not generation.reused]


@pytest.fixture(scope="module")
def folder(generated: Path) -> Path:
    return generated / "901"


@pytest.fixture(scope="module")
def published(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generation]:
    return materialize(Warehouse(tmp_path_factory.mktemp("published")), folder)


@pytest.fixture
def warehouse(published: dict[str, Generation], tmp_path: Path) -> Warehouse:
    """A copy of the published warehouse, to do with as one likes."""
    root = published[RAW].folder.parents[2]
    shutil.copytree(root, tmp_path / "warehouse")
    return Warehouse(tmp_path / "warehouse")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the recording, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "recordings" / "901"))


def nothing_may_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed_again(*_: object) -> None:
        raise AssertionError("computed again")

    for name in (
        "write_messages",
        "write_session_books",
        "write_session_tensors",
        "suitable_markets",
    ):
        monkeypatch.setattr(stages, name, computed_again)


# --- the same in, the same out


def test_outputs_do_not_change_without_their_version(published):
    if pa.__version__ != PYARROW:
        pytest.skip(f"the golden hashes are those of pyarrow {PYARROW}")
    found = {stage: (CODE_VERSIONS[stage], published[stage].content_hash) for stage in GOLDEN}
    changed = [
        stage
        for stage in GOLDEN
        if found[stage] != GOLDEN[stage] and found[stage][0] == GOLDEN[stage][0]
    ]
    assert not changed, (
        f"{changed[0]} makes something else of the same session: raise its version in the module "
        f"that computes it (or GENERATOR_VERSION, if it is the session that changed), then GOLDEN "
        f"= {found}"
    )
    assert found == GOLDEN, f"versions were raised: now update GOLDEN = {found}"


def test_two_fresh_warehouses_agree(folder, published, tmp_path):
    assert hashes(materialize(Warehouse(tmp_path), folder)) == hashes(published)


IN_A_PROCESS = """
import json, sys
from pathlib import Path
from kalshi_pipeline.storage.publish import Warehouse
from tests.test_stages import hashes, materialize
print(json.dumps(hashes(materialize(Warehouse(Path(sys.argv[1])), Path(sys.argv[2])))))
"""


def test_another_process_agrees(folder, published, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(tmp_path), str(folder)],
        env={**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(result.stdout) == hashes(published)


def test_a_session_of_another_place_agrees(published, copy, tmp_path):
    assert hashes(materialize(Warehouse(tmp_path / "other"), copy)) == hashes(published)


# --- nothing is made twice


def test_what_is_there_is_not_computed_again(warehouse, folder, published, monkeypatch):
    nothing_may_be_computed(monkeypatch)
    again = materialize(warehouse, folder)
    assert computed(again) == []
    assert hashes(again) == hashes(published)
    assert all(again[stage].summary == published[stage].summary for stage in SESSION_STAGES)


def test_a_changed_recording_recomputes_its_session_and_no_other(
    warehouse, copy, generated, published
):
    materialize(warehouse, generated / "902")
    session = json.loads((copy / "session.json").read_text())
    (copy / "session.json").write_text(json.dumps({**session, "title": "another title"}))
    again = materialize(warehouse, copy)
    assert computed(again) == list(SESSION_STAGES)
    assert again[BOOKS].summary["title"] == "another title"
    assert again[TENSORS].content_hash == published[TENSORS].content_hash
    assert computed(materialize(warehouse, generated / "902")) == []


def test_a_recording_that_changed_in_form_only_stops_at_the_raw_stage(warehouse, copy, published):
    session = json.loads((copy / "session.json").read_text())
    (copy / "session.json").write_text(json.dumps(session, indent=7))
    again = materialize(warehouse, copy)
    assert computed(again) == [RAW]
    assert hashes(again) == hashes(published)


def test_a_setting_recomputes_what_reads_it_and_what_is_built_on_that(warehouse, folder, published):
    slower = stages.build_session_tensors(warehouse, 901, StepConfig(min_step_ms=60_000))
    assert slower.summary["steps"] < published[TENSORS].summary["steps"]
    assert stages.build_session_books(warehouse, 901).reused
    chosen = stages.choose_session_markets(warehouse, 901)
    assert not chosen.reused
    assert chosen.content_hash != published[SUITABLE].content_hash

    strict = PipelineConfig(suitability=SuitabilityConfig(min_steps=500))
    assert not stages.choose_session_markets(warehouse, 901, strict).reused
    assert not stages.build_session_books(warehouse, 901, BookConfig(near_bp=300)).reused
    back = materialize(warehouse, folder)
    assert hashes(back) == hashes(published)


@pytest.mark.parametrize("stage", SESSION_STAGES)
def test_a_new_version_of_a_stage_computes_it_and_stops_where_nothing_changed(
    warehouse, folder, monkeypatch, stage
):
    monkeypatch.setitem(CODE_VERSIONS, stage, "another")
    assert computed(materialize(warehouse, folder)) == [stage]


# --- what is missing, what is damaged


def test_a_stage_says_which_one_to_materialize_first(folder, tmp_path):
    warehouse = Warehouse(tmp_path)
    with pytest.raises(NotPublished, match="raw_messages of session 901") as caught:
        stages.build_session_books(warehouse, 901)
    assert (caught.value.session, caught.value.rule) == ("901", RAW)
    stages.ingest_session(warehouse, open_folder(folder))
    with pytest.raises(NotPublished, match="books of session 901"):
        stages.build_session_tensors(warehouse, 901)
    with pytest.raises(NotPublished, match="books of session 901"):
        stages.choose_session_markets(warehouse, 901)
    stages.build_session_books(warehouse, 901)
    with pytest.raises(NotPublished, match="feature_tensors of session 901"):
        stages.choose_session_markets(warehouse, 901)


def test_a_damaged_upstream_is_refused_and_mended_by_running_it_again(warehouse, folder, published):
    messages = warehouse.current(RAW, "901").path("messages.parquet")
    content = bytearray(messages.read_bytes())
    content[len(content) // 2] ^= 1
    messages.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"messages\.parquet"):
        stages.build_session_books(warehouse, 901, BookConfig(near_bp=300))
    again = materialize(warehouse, folder)
    assert computed(again) == [RAW]
    assert hashes(again) == hashes(published)


# --- what the stages say


def test_summaries_agree_with_the_files(published):
    frames = published[RAW].summary["frames"]
    assert frames == published[BOOKS].summary["frames"]
    messages = pq.read_table(published[RAW].path("messages.parquet"))
    assert published[RAW].summary["rows"] == messages.num_rows
    tensors = read_tensors(published[TENSORS].verified())
    assert published[TENSORS].summary["steps"] == len(tensors.features) == len(tensors.step_row)
    assert published[TENSORS].summary["finite"]
    chosen = pq.read_table(published[SUITABLE].path("suitable_markets.parquet")).to_pylist()
    suitable = [entry for entry in chosen if entry["suitable"]]
    assert published[SUITABLE].summary["suitable_markets"] == len(suitable)
    assert published[SUITABLE].summary["events"] == len({entry["event"] for entry in suitable})
    quality = json.loads(published[BOOKS].path("session_quality.json").read_text())
    assert quality == published[BOOKS].summary


def test_an_empty_recording_goes_through_every_stage_and_says_so(copy, tmp_path):
    for path in copy.glob("messages*"):
        path.unlink()
    (copy / "messages.ndjson").write_text("")
    published = materialize(Warehouse(tmp_path / "empty"), copy)
    assert published[RAW].summary["frames"] == 0
    assert published[BOOKS].summary["rows_in"] == 0
    assert published[TENSORS].summary["steps"] == 0
    assert published[SUITABLE].summary["suitable_markets"] == 0


# --- the stages of a plan, up to where they compute


def test_a_session_is_loaded_whole_or_says_what_is_missing(warehouse, tmp_path):
    data = session_data.load_session(warehouse, 901)
    assert data.session == 901
    assert data.rows.num_rows > len(data.tensors.step_row) > 0
    assert {market.ticker for market in data.markets} == set(data.suitable["market"].to_pylist())
    with pytest.raises(NotPublished, match="books of session 902"):
        session_data.load_session(warehouse, 902)


def test_a_phase_says_which_session_or_parent_is_missing(warehouse, tmp_path):
    plan = load_plan("quick")
    with pytest.raises(NotPublished, match="books of session 901"):
        plan_stages.train_phase(
            Warehouse(tmp_path / "empty"), plan, plan.phase("phase_1"), now_ms=0
        )
    with pytest.raises(NotPublished, match="books of session 902"):
        plan_stages.train_phase(warehouse, plan, plan.phase("phase_2"), now_ms=0)


def test_a_phase_without_its_parent_refuses_to_start_afresh(warehouse, generated):
    plan = load_plan("quick")
    materialize(warehouse, generated / "902")
    with pytest.raises(MissingParent, match="materialize quick/phase_1 first") as caught:
        plan_stages.train_phase(warehouse, plan, plan.phase("phase_2"), now_ms=0)
    assert caught.value.value == "phase_1"


def test_an_evaluation_says_which_phase_is_missing(warehouse):
    with pytest.raises(NotPublished, match="quick/phase_3 has not been materialized"):
        plan_evaluation.evaluate_plan(warehouse, load_plan("quick"), lambda _: None)


def test_exclusions_are_counted_by_reason_whatever_their_figures():
    reasons = ["under 50 steps (3)", "under 50 steps (49)", "no trusted book"]
    excluded = [Exclusion(9, f"A-{i}", reason) for i, reason in enumerate(reasons)]
    assert session_data._counted([*excluded, Exclusion(8, "A-0", reasons[0])]) == [
        {"session": 8, "reason": "under 50 steps", "count": 1},
        {"session": 9, "reason": "no trusted book", "count": 1},
        {"session": 9, "reason": "under 50 steps", "count": 2},
    ]
