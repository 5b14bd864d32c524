"""The table of features: what it promises, its page, and that real data fill every column."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from docs.generate import PAGES
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


def assert_every_column_says_something(features: np.ndarray) -> None:
    spread = np.ptp(features, axis=0)
    constant = [TENSOR_FEATURES[column].name for column in np.flatnonzero(spread == 0)]
    assert not constant
    equal = [
        (TENSOR_FEATURES[i].name, TENSOR_FEATURES[j].name)
        for i, j in combinations(range(TENSOR_WIDTH), 2)
        if np.array_equal(features[:, i], features[:, j])
    ]
    assert not equal


@pytest.mark.parametrize("head", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_column_is_constant_or_twice_there_on_real_data(recordings, head):
    sessions = [replayed(recordings / number, head=head) for number in ("102", "112")]
    assert_every_column_says_something(
        np.concatenate([session.tensors.features for session in sessions])
    )


def test_no_column_is_constant_or_twice_there_on_generated_data(generated):
    assert_every_column_says_something(replayed(generated / "901").tensors.features)
