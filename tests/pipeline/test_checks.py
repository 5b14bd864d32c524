"""What is wrong with a published table stops everything built on it, in Dagster itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import rules, stages
from kalshi_pipeline.assets.checks import EXPECTATIONS, WARNINGS
from kalshi_pipeline.assets.partitions import register
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.expectations.validated import validated
from kalshi_pipeline.plans import load_plan
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.storage.publish import Warehouse
from tests.checkpoints import small_checkpoint
from tests.expectations.published import change_rows, publish_session, republish
from tests.rules.published import publish_phase, published

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@pytest.fixture(scope="module")
def honest(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A session published and validated."""
    root = tmp_path_factory.mktemp("checks")
    warehouse = publish_session(root, open_folder(generated / "901"))
    for stage in stages.SESSION_STAGES:
        validated(warehouse, stage, 901)
    return warehouse


@pytest.fixture
def materialized(generated, honest, tmp_path):
    """Spoils a stage of a published session and materializes the session again."""

    def run(stage: str | None = None, spoil: Callable[[Path], object] | None = None, **figures):
        shutil.copytree(honest.root, tmp_path, dirs_exist_ok=True)
        warehouse = Warehouse(tmp_path)
        if stage:
            found = honest.current(stage, "901")
            republish(found, warehouse, stage, spoil or (lambda _: None), 901, **figures)
        definitions = build_definitions([str(generated)], str(tmp_path))
        with dg.DagsterInstance.ephemeral() as instance:
            register(instance, ["901"])
            return definitions.resolve_job_def("session_data").execute_in_process(
                run_config=QUIET, instance=instance, partition_key="901", raise_on_error=False
            )

    return run


def assets_of(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.step_materialization_data.materialization.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
    }


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check
        for check in result.get_asset_check_evaluations()
    }


def test_an_honest_session_passes_shows_what_was_expected_and_what_only_warns(materialized):
    result = materialized(stages.BOOKS, lost_messages=1)
    assert result.success
    assert assets_of(result) == set(stages.SESSION_STAGES)
    checks = checks_of(result)
    assert set(checks) == {
        (stage, name) for stage in stages.SESSION_STAGES for name in (EXPECTATIONS, WARNINGS)
    }
    for (stage, name), check in checks.items():
        assert check.blocking is (name == EXPECTATIONS)
        if name == EXPECTATIONS:
            assert check.passed, check.description
        table = check.metadata["outcomes"]
        assert isinstance(table, dg.TableMetadataValue)
        assert {"holds", "expectation", "column", "observed"} == set(table.records[0].data)
        page = unquote(check.metadata["data docs"].value)
        assert page.startswith("http://127.0.0.1:")
        assert f"/data_docs/{stage}/session=901/" in page
    warning = checks[stages.BOOKS, WARNINGS]
    assert not warning.passed
    assert warning.severity is dg.AssetCheckSeverity.WARN
    assert "no sequence number is missing (D1): lost_messages 1" in warning.description


def spoil_book(folder: Path) -> None:
    def change(columns):
        row = int(np.flatnonzero((columns["kind"] == 1) & (columns["bid_bp"] > 0))[50])
        columns["bid_size_centi"][row] = -1

    change_rows(folder / "books.parquet", change)


def spoil_messages(folder: Path) -> None:
    def change(columns):
        columns["price_bp"][np.flatnonzero(columns["kind"] == 2)[50]] = 10_100

    change_rows(folder / "messages.parquet", change)


def spoil_tensor(folder: Path) -> None:
    features = np.load(folder / "features.npy")
    features[3, 3] = np.nan
    np.save(folder / "features.npy", features)


# stage -> what is done to it, the rule it breaks, and the first row at fault
SPOILT = {
    stages.RAW: (
        spoil_messages,
        "prices of levels, deltas and trades lie inside the dollar",
        lambda kind, _: np.flatnonzero(kind == 2)[50],
    ),
    stages.BOOKS: (
        spoil_book,
        "no size, depth or number of levels is negative",
        lambda kind, bid: np.flatnonzero((kind == 1) & (bid > 0))[50],
    ),
    stages.TENSORS: (spoil_tensor, "every value is finite", None),
}


@pytest.mark.parametrize("stage", SPOILT)
def test_a_spoilt_table_stops_what_is_built_on_it_and_the_check_says_where(
    materialized, honest, stage
):
    spoil, rule, row_of = SPOILT[stage]
    result = materialized(stage, spoil)
    assert not result.success
    reached = stages.SESSION_STAGES[: stages.SESSION_STAGES.index(stage) + 1]
    assert assets_of(result) == set(reached)
    check = checks_of(result)[stage, EXPECTATIONS]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert rule in check.description
    facts = [record.data for record in check.metadata["facts"].records]
    (fact,) = (fact for fact in facts if rule in fact["rule"])
    assert fact["session"] == 901
    if row_of is None:
        assert (fact["market"], fact["row"]) == ("", "microprice_offset, 3")
        return
    name = "messages" if stage == stages.RAW else "books"
    table = pq.read_table(honest.current(stage, "901").folder / f"{name}.parquet")
    bid = table["bid_bp"].to_numpy() if stage == stages.BOOKS else None
    row = int(row_of(table["kind"].to_numpy(), bid))
    assert (fact["market"], fact["row"]) == (table["market"][row].as_py(), str(row))
    assert fact["value"]


def checked(root: Path, output: str) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks of an output of the quick plan, run alone as the UI's button does it."""
    key = dg.AssetKey(["quick", output])
    job = dg.define_asset_job("looking", selection=dg.AssetSelection.checks_for_assets(key))
    definitions = dg.Definitions.merge(build_definitions([], str(root)), dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("looking").execute_in_process(
            run_config=QUIET, instance=instance, raise_on_error=False
        )
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_a_checkpoint_of_other_sessions_is_refused_and_the_check_says_which(tmp_path):
    publish_phase(tmp_path, {7: small_checkpoint()}, plan=load_plan("quick"))
    found = checked(tmp_path, "phase_1")
    assert set(found) == {rule.__name__ for rule in rules.OF_PHASES}
    for rule, blocks in rules.OF_PHASES.items():
        assert found[rule.__name__].blocking is blocks
    assert found["weights_are_sound"].passed
    lineage = found["lineage_is_clean"]
    assert not lineage.passed
    assert lineage.severity is dg.AssetCheckSeverity.ERROR
    facts = [record.data for record in lineage.metadata["facts"].records]
    assert [(fact["session"], fact["value"]) for fact in facts] == [
        (102, "trained on"), (901, "not trained on"),
    ]  # fmt: skip
    assert {fact["row"] for fact in facts} == {"seed 7"}
    # that a rule cannot look, for the session is not there, is a finding and no crash
    unseen = found["learned_something"]
    assert not unseen.passed
    assert unseen.severity is dg.AssetCheckSeverity.WARN
    assert "books of session 901 has not been materialized" in unseen.description


def test_a_verdict_without_its_parts_fails_every_check_and_each_says_so(tmp_path):
    published(
        tmp_path, lambda folder: (folder / "report.json").write_text("{}"), "quick/evaluation"
    )
    found = checked(tmp_path, "evaluation")
    assert set(found) == {rule.__name__ for rule in rules.OF_EVALUATIONS}
    assert not any(check.passed for check in found.values())
    assert "ledger.parquet" in found["hold_earns_nothing"].description
    assert "no 'cell'" in found["judged_by_the_strict_rules"].description
