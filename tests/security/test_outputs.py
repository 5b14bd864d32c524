"""Nothing a run leaves behind is run by whoever reads it."""

from __future__ import annotations

import dagster as dg
import pytest

from kalshi_pipeline.definitions import build_definitions
from kalshi_pipeline.resources.no_values import NoValues


def test_no_asset_goes_through_an_io_manager_that_pickles(tmp_path):
    jobs = list(build_definitions([], str(tmp_path)).resolve_all_job_defs())
    assert len(jobs) > 3
    for job in jobs:
        managers = {
            output.io_manager_key for node in job.nodes for output in node.definition.output_defs
        }
        assert managers == {"io_manager"}, job.name
        assert type(job.resource_defs["io_manager"].resource_fn(None)) is NoValues


def test_a_value_that_is_returned_is_refused_by_name():
    @dg.asset
    def table() -> list[int]:
        return [1]

    @dg.asset
    def reader(table: list[int]) -> None: ...

    resources = {"io_manager": NoValues()}
    with pytest.raises(dg.DagsterInvariantViolationError, match="table returned a list"):
        dg.materialize([table], resources=resources)
    with pytest.raises(dg.DagsterInvariantViolationError, match="name it in `deps`"):
        dg.materialize([table, reader], selection=[reader], resources=resources)
