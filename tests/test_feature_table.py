"""The table of features: what it promises, its page, and that real data fill every column."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from docs import feature_report
from docs.generate import PAGES, RECORDED_PAGES
from kalshi_pipeline.feature_table import (
    COLUMN,
    FEATURES,
    MARKET_FEATURES,
    OBSERVATION_WIDTH,
    TENSOR_FEATURES,
    TENSOR_WIDTH,
    markdown_table,
)
from tests.sessions import replayed

HEADS = ("102", "112", "131")  # whose first lines have one-sided books among them
DOCS = Path(__file__).parents[1] / "docs"


def test_there_are_21_market_14_temporal_12_portfolio_and_5_order_features_in_this_order():
    groups = [feature.group for feature in FEATURES]
    assert Counter(groups) == {"market": 21, "temporal": 14, "portfolio": 12, "orders": 5}
    assert groups == sorted(groups, key=["market", "temporal", "portfolio", "orders"].index)
    assert (len(MARKET_FEATURES), TENSOR_WIDTH, OBSERVATION_WIDTH) == (21, 35, 52)


def test_names_are_unique_and_find_their_column():
    assert len(COLUMN) == len(FEATURES)
    assert all(FEATURES[column].name == name for name, column in COLUMN.items())
    assert all(name.isidentifier() and name == name.lower() for name in COLUMN)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_has_a_range_near_one_a_unit_and_a_formula(feature):
    assert -1 <= feature.low < feature.high <= 2
    assert feature.unit
    assert feature.formula
    assert feature.lookback_s is None or feature.lookback_s >= 0


def test_market_features_remember_nothing_and_none_knows_the_end_of_the_session():
    assert all(feature.lookback_s == 0 for feature in MARKET_FEATURES)
    assert not any("session" in feature.formula for feature in FEATURES)


def test_the_table_has_a_row_for_each_feature():
    head, rule, *rows = markdown_table().splitlines()
    cells = head.count("|")
    assert rule.count("|") == cells
    assert len(rows) == len(FEATURES)
    for feature, row in zip(FEATURES, rows, strict=True):
        assert f"`{feature.name}`" in row
        assert row.replace("\\|", "").count("|") == cells


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_made_from_code_are_up_to_date(page):
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == PAGES[page](), "run `make docs` and commit what it writes"


# --- on real data


def test_the_report_has_a_row_for_each_feature_of_the_tensor():
    written = (DOCS / "FEATURE_REPORT.md").read_text(encoding="utf-8")
    rows = [line for line in written.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [feature.name for feature in TENSOR_FEATURES]
    correlations = [float(row.split("|")[-3]) for row in rows]
    assert max(map(abs, correlations)) <= feature_report.SAME


@pytest.mark.slow
@pytest.mark.parametrize("page", RECORDED_PAGES)
def test_the_pages_made_from_recordings_are_up_to_date(page, recordings):
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == RECORDED_PAGES[page](recordings), "run `python -m docs.generate RECORDINGS`"


def test_no_column_is_constant_or_twice_there_on_real_data(recordings):
    sessions = [replayed(recordings / number, head=True) for number in HEADS]
    steps = np.concatenate([session.tensors.features for session in sessions])
    assert len(feature_report.columns(steps)) == TENSOR_WIDTH


def test_no_column_is_constant_or_twice_there_on_generated_data(generated):
    feature_report.columns(replayed(generated / "901").tensors.features)


def test_a_constant_column_is_found(generated):
    features = replayed(generated / "901").tensors.features.copy()
    features[:, COLUMN["spread"]] = 0.25
    with pytest.raises(ValueError, match="constant features: spread"):
        feature_report.columns(features)


def test_a_column_that_repeats_another_on_another_scale_is_found(generated):
    features = replayed(generated / "901").tensors.features.copy()
    features[:, COLUMN["gap_bid"]] = 1 - features[:, COLUMN["gap_ask"]] / 2
    with pytest.raises(ValueError, match="gap_bid and gap_ask say the same"):
        feature_report.columns(features)
