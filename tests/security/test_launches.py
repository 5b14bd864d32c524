"""Whoever reaches the web server may launch runs: what a launch can name, and what it cannot."""

from __future__ import annotations

import re

import dagster as dg
import pytest

from kalshi_pipeline import cli
from kalshi_pipeline.assets.partitions import register
from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.errors import InvalidName
from kalshi_pipeline.names import session_id
from kalshi_pipeline.storage.publish import Warehouse

HOSTILE = [
    "../../escape", "..", "/etc/passwd", "%2e%2e%2fescape", "9\x001", "9" * 300, "٣٢", "1_0", " 7",
    "7\n", "-7", "0", "07", "1;DROP TABLE runs", "7' OR '1'='1", "7/../8", "", "7.0", "1e3",
]  # fmt: skip
PLACE = re.compile(
    r"(^|_)(path|dir|folder|file|root|ur[il]|host|port|command|module|class|env|bucket)s?(_|$)"
)


@pytest.fixture
def definitions(tmp_path):
    (tmp_path / "recordings").mkdir()
    return build_definitions([str(tmp_path / "recordings")], str(tmp_path / "warehouse"))


@pytest.mark.parametrize("key", HOSTILE)
def test_a_session_is_a_number_wherever_it_enters(key, tmp_path, capsys):
    with pytest.raises(InvalidName):
        session_id(key)
    with pytest.raises(InvalidName):
        Warehouse(tmp_path).home("books", key)
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(InvalidName):
            register(instance, [key])
        assert instance.get_dynamic_partitions("session") == []
    with pytest.raises(SystemExit):
        cli.main(["sessions", "analyze", key])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../../escape", "1_0", "٣٢", "/tmp/escape"])
@pytest.mark.parametrize("asset", ["raw_messages", "books", "feature_tensors", "suitable_markets"])
def test_a_partition_somebody_added_by_hand_is_refused_by_the_asset(
    key, asset, definitions, tmp_path
):
    """The UI adds any text as a partition: Dagster bans hardly any."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("session", [key])
        done = definitions.resolve_job_def("session_data").execute_in_process(
            instance=instance, partition_key=key, asset_selection=[dg.AssetKey(asset)],
            raise_on_error=False,
        )  # fmt: skip
        (failure,) = (event for event in done.all_events if event.is_step_failure)
    cause = failure.step_failure_data.error.cause
    assert cause.cls_name == "InvalidName"
    assert "a positive integer" in cause.message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("resource", "config"),
    [
        ("warehouse", {"root": "/tmp/elsewhere"}),
        ("recordings", {"roots": ["/etc"]}),
        ("recordings", {"warehouse": "/tmp/elsewhere"}),
    ],
)
def test_a_launch_cannot_name_another_folder(resource, config, definitions):
    for job in ("session_data", "quick"):
        with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entry"):
            dg.validate_run_config(
                definitions.resolve_job_def(job), {"resources": {resource: {"config": config}}}
            )


def test_nothing_a_run_may_be_configured_with_is_a_path_or_a_url(definitions):
    named = {name for name in free_fields(definitions) if PLACE.search(name)}
    assert named == set()


def free_fields(definitions: dg.Definitions) -> set[str]:
    """Names in the run configuration, but those of steps, resources and loggers."""
    names: set[str] = set()
    for job in definitions.resolve_all_job_defs():
        known = {node.name for node in job.nodes} | set(job.resource_defs) | set(job.loggers)
        waiting = [job.run_config_schema.config_type]
        while waiting:
            for name, field in (getattr(waiting.pop(), "fields", None) or {}).items():
                if name not in known:
                    names.add(name)
                waiting.append(field.config_type)
    return names
