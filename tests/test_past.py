"""What came before a judgement."""

from __future__ import annotations

from kalshi_pipeline.past import trials_on
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.trials import TRIAL_SCHEMA


def test_where_nobody_scored_anything_there_are_no_trials(tmp_path):
    found = trials_on(Warehouse(tmp_path), [1], without="")
    assert found.num_rows == 0
    assert found.schema.names == TRIAL_SCHEMA.names
