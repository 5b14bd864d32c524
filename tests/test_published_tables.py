"""The words about published tables: of every column, and of none that does not exist."""

from __future__ import annotations

import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.books import schemas, traded, traded_size
from kalshi_pipeline.evaluation import grid, ledger
from kalshi_pipeline.evaluation.trades import tables as trades
from kalshi_pipeline.feature_table import TENSOR_WIDTH
from kalshi_pipeline.plan_retraining import FORWARD_VALIDATION
from kalshi_pipeline.plan_stages import EVALUATION
from kalshi_pipeline.published_tables import PUBLISHED_TABLES, TENSOR_COLUMNS
from kalshi_pipeline.recordings import ingest, messages
from kalshi_pipeline.storage import trials
from kalshi_pipeline.suitability import SCHEMA

SCHEMAS = {
    (stages.RAW, "messages.parquet"): messages.MESSAGE_SCHEMA,
    (stages.RAW, "quarantine.parquet"): ingest.QUARANTINE_SCHEMA,
    (stages.BOOKS, "books.parquet"): schemas.BOOK_SCHEMA,
    (stages.BOOKS, "segments.parquet"): schemas.SEGMENT_SCHEMA,
    (stages.BOOKS, "quarantine.parquet"): ingest.QUARANTINE_SCHEMA,
    (stages.BOOKS, "ladders.parquet"): schemas.LADDER_SCHEMA,
    (stages.BOOKS, "markets.parquet"): schemas.MARKET_SCHEMA,
    (stages.BOOKS, "traded.parquet"): traded_size.TRADED_SCHEMA,
    (stages.BOOKS, "depletion.parquet"): traded.DEPLETION_SCHEMA,
    (stages.TENSORS, "index.parquet"): schemas.INDEX_SCHEMA,
    (stages.SUITABLE, "suitable_markets.parquet"): SCHEMA,
    (EVALUATION, "ledger.parquet"): ledger.JUDGED_SCHEMA,
    (EVALUATION, "trades.parquet"): trades.TRADES,
    (EVALUATION, "trips.parquet"): trades.TRIPS,
    (EVALUATION, "trials.parquet"): trials.TRIAL_SCHEMA,
    (EVALUATION, "grid.parquet"): grid.GRID_SCHEMA,
    (FORWARD_VALIDATION, "ledger.parquet"): ledger.JUDGED_SCHEMA,
}


def test_the_tables_are_those_with_a_schema():
    assert {(table.asset, table.file) for table in PUBLISHED_TABLES} == SCHEMAS.keys()


@pytest.mark.parametrize("table", PUBLISHED_TABLES, ids=lambda table: f"{table.asset}-{table.file}")
def test_every_column_is_described_in_the_order_of_its_schema(table):
    described = sorted(table.columns, key=SCHEMAS[table.asset, table.file].names.index)
    assert set(table.columns) == set(SCHEMAS[table.asset, table.file].names)
    assert len(described) == len(table.columns)
    assert all(3 < len(says) < 160 for says in table.columns.values())
    # one line each, which goes into a cell
    assert not [says for says in table.columns.values() if "\n" in says or says != says.strip()]


def test_every_column_of_the_tensor_has_its_formula():
    assert len(TENSOR_COLUMNS) == TENSOR_WIDTH
    assert all(TENSOR_COLUMNS.values())
