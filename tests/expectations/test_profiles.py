"""What is measured of a published session finds what is wrong with it, each by its own figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.errors import CorruptFile
from kalshi_pipeline.expectations import feature_tensors, suitable_markets
from kalshi_pipeline.expectations.suites import Expectation, Profile
from kalshi_pipeline.expectations.validated import PROFILES
from kalshi_pipeline.feature_table import COLUMN
from kalshi_pipeline.market.replay_tables import RowKind
from kalshi_pipeline.recordings.ingest import QUARANTINE_SCHEMA
from kalshi_pipeline.recordings.messages import MessageKind
from kalshi_pipeline.storage.publish import Warehouse
from tests.expectations.published import (
    Columns,
    change_rows,
    honest_session,
    publish_session,
    republish,
)

# in so short a session a feature may stand still, and there are three markets of one event
SMALL = {"constant", "to_trade", "events"}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return publish_session(tmp_path_factory.mktemp("profiles"), honest_session())


def failing(profiles: list[Profile]) -> set[str]:
    """Columns of the expectations that a plain reading of the profiles finds broken."""
    return {
        expectation.column
        for profile in profiles
        for expectation in profile.expectations
        if not holds(profile, expectation)
    }


def holds(profile: Profile, expectation: Expectation) -> bool:
    values, limits = profile.columns[expectation.column], expectation.limits
    if "column_B" in limits:
        return list(values) == list(profile.columns[limits["column_B"]])
    if "value_set" in limits:
        return set(values) <= set(limits["value_set"])
    if expectation.kind == "ExpectColumnValuesToBeUnique":
        return len(set(values)) == len(values)
    low, high = limits.get("min_value"), limits.get("max_value")
    known = [value for value in values if value is not None]  # what is missing breaks no limit
    return all((low is None or v >= low) and (high is None or v <= high) for v in known)


@pytest.mark.parametrize("stage", PROFILES)
def test_an_honest_session_meets_every_expectation(warehouse, stage):
    profiles = PROFILES[stage](warehouse.current(stage, "1"))
    broken = failing(profiles)
    assert broken <= SMALL
    assert all(profile.expectations for profile in profiles)


@pytest.fixture
def found_in(warehouse, tmp_path):
    """Publishes a stage elsewhere with something wrong in it and says what is found broken."""

    def measured(stage: str, change: Callable[[Path], object], **figures: Any) -> set[str]:
        spoilt = republish(
            warehouse.current(stage, "1"), Warehouse(tmp_path), stage, change, **figures
        )
        return failing(PROFILES[stage](spoilt)) - SMALL

    return measured


# --- figures that contradict each other

FIGURES = [
    (stages.RAW, {"frames": 10**6}, {"frames"}),
    (stages.RAW, {"frames": 1, "rejected": 1}, {"frames", "rejected", "unreadable_rate"}),
    (stages.RAW, {"deltas": 7}, {"deltas"}),
    (stages.RAW, {"snapshots": 7}, {"snapshots"}),
    (stages.RAW, {"trades": 7}, {"trades"}),
    (stages.BOOKS, {"rows_in": 7}, {"rows_in"}),
    (stages.BOOKS, {"before_snapshot": 7}, {"rows_in"}),
    (stages.BOOKS, {"raw_rows": 7}, {"rows_in"}),
    (stages.BOOKS, {"applied": 7}, {"rows_in", "applied"}),
    (stages.BOOKS, {"quarantined": {"conflict": 7}}, {"rows_in", "quarantined"}),
    (stages.BOOKS, {"lost_messages": 1}, {"lost_messages"}),
    (stages.BOOKS, {"lost_messages": 10**5}, {"lost_messages", "loss_rate"}),
    (stages.BOOKS, {"clock_back": 1}, {"clock_back"}),
    (stages.BOOKS, {"drifted_levels": 1}, {"drifted_levels"}),
    (stages.BOOKS, {"idle_s": 91.0, "duration_s": 100.0}, {"idle_share"}),
    (stages.BOOKS, {"idle_s": 90.0, "duration_s": 100.0}, set()),
    (stages.TENSORS, {"steps": 7}, {"steps"}),
    (stages.SUITABLE, {"markets": 7}, {"markets"}),
    (stages.SUITABLE, {"suitable_markets": 1}, {"suitable"}),
]


@pytest.mark.parametrize(("stage", "figures", "broken"), FIGURES)
def test_a_stage_that_says_another_figure_is_found_out(found_in, stage, figures, broken):
    assert found_in(stage, lambda _: None, **figures) == broken


# --- tables with something wrong in them


def at(columns: Columns, kind: int, count: int = 2) -> int:
    """Where `count` rows of one kind, market and segment follow each other, sizes on both sides."""
    same = columns["kind"] == kind
    if "segment" in columns:
        same &= (columns["bid_bp"] > 0) & (columns["ask_bp"] < 10_000)
        owner = columns["segment"]
    else:
        owner = np.zeros(len(same))
    for row in range(1, len(same) - count):
        run = slice(row, row + count)
        if same[run].all() and len(set(owner[run])) == 1:
            return row
    raise AssertionError("no such rows")


def put(name: str, value: Any, kind: int, row: int = 0) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        place = at(columns, kind) + row
        columns[name][place] = value(columns[name][place]) if callable(value) else value

    return change


def exchange(columns: Columns) -> None:
    place = at(columns, RowKind.DELTA)
    seq = columns["seq"]
    seq[place], seq[place + 1] = seq[place + 1], seq[place]


def cross(columns: Columns) -> None:
    run = slice(place := at(columns, RowKind.DELTA, 8), place + 8)
    columns["ask_bp"][run] = columns["bid_bp"][run] - 100
    columns["ask_second_bp"][run] = 10_000
    columns["time_ms"][place + 7 :] += 2_000


def later_rows_first(columns: Columns) -> None:
    for values in columns.values():
        values[:] = np.roll(values, 5)


def first(name: str, value: int, row: int = 0) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[name][row] = value

    return change


RAW, BOOKS, SUITABLE = stages.RAW, stages.BOOKS, stages.SUITABLE
IN, LEVEL, DELTA = MessageKind.DELTA, MessageKind.LEVEL, RowKind.DELTA
TABLES: list[tuple[str, str, Callable[[Columns], object], str]] = [
    (RAW, "messages", put("frame", 0, IN, 1), "out_of_receive_order"),
    (RAW, "messages", put("kind", MessageKind.CONTROL, IN), "deltas"),
    (RAW, "messages", put("price_bp", 0, IN), "price_out_of_range"),
    (RAW, "messages", put("price_bp", 10_000, IN), "price_out_of_range"),
    (RAW, "messages", put("size_centi", 10**11 + 1, IN), "size_invalid"),
    (RAW, "messages", put("size_centi", 0, LEVEL), "size_invalid"),
    (RAW, "messages", put("side", 2, IN), "side_invalid"),
    (BOOKS, "books", exchange, "out_of_order"),
    (BOOKS, "books", put("epoch", 99, DELTA, 1), "out_of_order"),
    (BOOKS, "books", put("time_ms", 0, DELTA, 1), "clock_backward"),
    (BOOKS, "books", put("price_bp", 4_005, DELTA), "off_tick"),
    (BOOKS, "books", put("price_bp", 0, DELTA), "off_tick"),
    (BOOKS, "books", put("bid_near_centi", -1, DELTA), "negative_size impossible_touch"),
    (BOOKS, "books", put("sell_value_micro", -1, DELTA), "negative_size"),
    (BOOKS, "books", put("size_centi", lambda size: size + 1, DELTA, 1), "unexplained_change"),
    (BOOKS, "books", put("bid_levels", 0, DELTA), "impossible_touch"),
    (BOOKS, "books", put("ask_second_bp", 0, DELTA), "impossible_touch"),
    (BOOKS, "books", cross, "crossed_too_long"),
    (BOOKS, "segments", first("messages", 3), "segment_rows segment_overlaps"),
    (BOOKS, "segments", first("first_row", 0, row=1), "segment_overlaps"),
    (BOOKS, "ladders", first("size_centi", 0), "ladder_faults"),
    (BOOKS, "ladders", first("price_bp", 0), "ladder_faults"),
    (BOOKS, "depletion", first("traded_centi", -1), "depletion_faults"),
    (BOOKS, "depletion", first("confidence", 101), "depletion_faults"),
    (BOOKS, "traded", first("traded_centi", -1), "traded_faults"),
    (stages.TENSORS, "index", first("end_step", 1), "steps stray_steps"),
    (stages.TENSORS, "index", first("end_row", 1), "stray_steps"),
    (
        SUITABLE,
        "suitable_markets",
        first("steps", 40),
        "quarters_missing breaks_the_rule out_of_rank",
    ),
    (SUITABLE, "suitable_markets", first("q1", 10**6), "quarters_missing"),
    (SUITABLE, "suitable_markets", first("traded_centi", -1), "traded_centi out_of_rank"),
]


@pytest.mark.parametrize(("stage", "table", "change", "broken"), TABLES)
def test_a_table_with_something_wrong_in_it_is_found_out(found_in, stage, table, change, broken):
    def spoil(folder: Path) -> None:
        change_rows(folder / f"{table}.parquet", change)

    assert found_in(stage, spoil) == set(broken.split())


def rewrite(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        pq.write_table(change(pq.read_table(folder / name)), folder / name)

    return spoil


def replaced(table: pa.Table, column: str, value: Any, row: int = 0) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, table[column].type))


def test_a_row_without_its_market_is_incomplete(found_in):
    spoil = rewrite("messages.parquet", lambda table: replaced(table, "market", None, row=150))
    assert found_in(RAW, spoil) == {"incomplete"}


def test_rows_that_are_gone_are_missed(found_in):
    assert {"frames", "deltas"} <= found_in(
        RAW, rewrite("messages.parquet", lambda table: table.slice(0, table.num_rows - 50))
    )
    assert {"applied", "segment_rows"} <= found_in(
        BOOKS, rewrite("books.parquet", lambda table: table.slice(0, table.num_rows - 50))
    )


def test_a_market_whose_rows_lie_in_two_places_is_found(found_in):
    def torn(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(5), table.slice(0, 5)])

    assert "runs" in found_in(BOOKS, rewrite("books.parquet", torn))


def place_of(profiles: list[Profile], column: str) -> tuple[int, str | None]:
    """Where the only fault of a column begins, and of which market it is."""
    (profile,) = (profile for profile in profiles if column in profile.places)
    ((about, place),) = (
        (about, place)
        for about, place in zip(
            next(iter(profile.columns.values())), profile.places[column], strict=True
        )
        if place is not None
    )
    return place.row, about if profile.title == "market" else place.market


PLACED = [
    ("clock_backward", BOOKS, put("time_ms", 0, DELTA, 1), 1),
    ("off_tick", BOOKS, put("price_bp", 4_005, DELTA), 0),
    ("negative_size", BOOKS, put("sell_value_micro", -1, DELTA), 0),
    ("unexplained_change", BOOKS, put("size_centi", lambda size: size + 1, DELTA, 1), 1),
    ("impossible_touch", BOOKS, put("bid_levels", 0, DELTA), 0),
    ("out_of_order", BOOKS, put("epoch", 99, DELTA, 1), 1),
    ("crossed_too_long", BOOKS, cross, 0),
    ("price_out_of_range", RAW, put("price_bp", 0, IN), 0),
    ("size_invalid", RAW, put("size_centi", 0, LEVEL), 0),
    ("side_invalid", RAW, put("side", 2, IN), 0),
    ("out_of_receive_order", RAW, put("frame", 0, IN, 1), 1),
]


@pytest.mark.parametrize(("column", "stage", "change", "after"), PLACED)
def test_the_first_row_at_fault_and_its_market_are_told(
    warehouse, tmp_path, column, stage, change, after
):
    name = "books" if stage == BOOKS else "messages"
    where: list[int] = []

    def spoil(columns: Columns) -> None:
        eight = 8 if column == "crossed_too_long" else 2
        where.append(
            at(
                columns,
                LEVEL if column == "size_invalid" else DELTA if stage == BOOKS else IN,
                eight,
            )
        )
        change(columns)

    honest = warehouse.current(stage, "1")
    spoilt = republish(
        honest, Warehouse(tmp_path), stage,
        lambda folder: change_rows(folder / f"{name}.parquet", spoil),
    )  # fmt: skip
    tickers = pq.read_table(honest.folder / f"{name}.parquet")["market"].to_pylist()
    row = where[0] + after
    assert place_of(PROFILES[stage](spoilt), column) == (row, tickers[row])


@pytest.mark.parametrize(("value", "column"), [(np.nan, "not_finite"), (7.0, "out_of_range")])
def test_the_first_step_at_fault_of_a_feature_is_told(
    warehouse, tmp_path, monkeypatch, value, column
):
    monkeypatch.setattr(feature_tensors, "BLOCK_STEPS", 16)

    def spoil(folder: Path) -> None:
        features = np.load(folder / "features.npy")
        features[[37, 90], COLUMN["mid"]] = value
        np.save(folder / "features.npy", features)

    honest = warehouse.current(stages.TENSORS, "1")
    spoilt = republish(honest, Warehouse(tmp_path), stages.TENSORS, spoil)
    (profile,) = (p for p in feature_tensors.profile(spoilt) if p.title == "feature")
    places = dict(zip(profile.columns["feature"], profile.places[column], strict=True))
    assert {name: place.row for name, place in places.items() if place} == {"mid": 37}


def thin(table: pa.Table, **columns: Any) -> pa.Table:
    """A table of suitable markets whose rows say something else."""
    rows = [row | columns for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_a_session_of_few_markets_or_wide_spreads_is_worth_a_look(warehouse, tmp_path):
    honest = warehouse.current(SUITABLE, "1")
    for place, (columns, broken) in enumerate(
        [
            ({}, {"to_trade", "events"}),
            ({"spread_bp": 2_000.0}, {"to_trade", "events"}),
            ({"spread_bp": 2_001.0}, {"to_trade", "events", "usual_spread_bp"}),
        ]
    ):
        spoil = rewrite("suitable_markets.parquet", lambda table, c=columns: thin(table, **c))
        spoilt = republish(honest, Warehouse(tmp_path / str(place)), SUITABLE, spoil)
        found = suitable_markets.profile(spoilt)
        assert failing(found) == broken
        assert all(
            expectation.warns
            for profile in found
            for expectation in profile.expectations
            if expectation.column in broken
        )


def one_refused(folder: Path, reason: str) -> None:
    row = dict.fromkeys(QUARANTINE_SCHEMA.names) | {"frame": 10**9, "reason": reason}
    table = pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA)
    pq.write_table(table, folder / "quarantine.parquet")


@pytest.mark.parametrize(
    ("reason", "broken"),
    [
        ("after_gap", {"after_gap"}),
        ("negative_size", {"negative_size"}),
        ("conflict", {"conflict"}),
        ("duplicate", set()),  # one of hundreds
        ("bad luck", {"unknown_reasons"}),
    ],
)
def test_refused_rows_are_counted_by_reason(found_in, reason, broken):
    found = found_in(BOOKS, lambda folder: one_refused(folder, reason))
    assert found - {"quarantined"} == broken
    assert "quarantined" in found  # its stage had counted none


def test_a_session_that_two_collectors_wrote_is_worth_a_look(found_in):
    def twice(folder: Path) -> None:
        row = dict.fromkeys(QUARANTINE_SCHEMA.names) | {"reason": "duplicate"}
        rows = [row | {"frame": 10**9 + number} for number in range(50)]
        table = pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)
        pq.write_table(table, folder / "quarantine.parquet")

    assert found_in(BOOKS, twice) - {"quarantined"} == {"duplicate_rate"}


def test_a_quarantine_nobody_counted_is_found(found_in):
    assert found_in(RAW, lambda folder: one_refused(folder, "corrupt_line")) == {
        "frames", "rejected",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "value", "broken"),
    [
        ("mid", 1.5, "out_of_range"),
        ("best_bid", -0.01, "out_of_range"),
        ("imbalance_touch", np.nan, "not_finite"),
        ("spread", np.inf, "not_finite"),
    ],
)
def test_a_feature_out_of_its_range_is_found_and_named(warehouse, tmp_path, feature, value, broken):
    def spoil(folder: Path) -> None:
        features = np.load(folder / "features.npy")
        features[4, COLUMN[feature]] = value
        np.save(folder / "features.npy", features)

    honest = warehouse.current(stages.TENSORS, "1")
    spoilt = republish(honest, Warehouse(tmp_path), stages.TENSORS, spoil)
    _, by_feature = feature_tensors.profile(spoilt)
    counts = dict(zip(by_feature.columns["feature"], by_feature.columns[broken], strict=True))
    assert {name for name, count in counts.items() if count} == {feature}


def test_a_feature_that_stands_still_is_worth_a_look(warehouse, tmp_path):
    def spoil(folder: Path) -> None:
        features = np.load(folder / "features.npy")
        features[:, COLUMN["mid"]] = 0.5
        np.save(folder / "features.npy", features)

    honest = warehouse.current(stages.TENSORS, "1")
    spoilt = republish(honest, Warehouse(tmp_path), stages.TENSORS, spoil)
    assert "constant" in failing(feature_tensors.profile(spoilt))


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda features, steps: (features[:, :-1], steps), {"width"}),
        (lambda features, steps: (features[:-1], steps), {"steps"}),
        (lambda features, steps: (features, steps[:-1]), {"steps"}),
        (lambda features, steps: (features, steps[::-1]), {"disordered_steps", "stray_steps"}),
    ],
)
def test_steps_that_do_not_fit_the_tensor_are_found(found_in, change, broken):
    def spoil(folder: Path) -> None:
        names = ("features.npy", "step_row.npy")
        arrays = change(*(np.load(folder / name) for name in names))
        for name, array in zip(names, arrays, strict=True):
            np.save(folder / name, array)

    assert broken <= found_in(stages.TENSORS, spoil)


@pytest.mark.parametrize(
    ("column", "value", "broken"),
    [
        ("tier", None, {"tier_faults"}),
        ("tier", "huge", {"tier_faults"}),
        ("tier", "low", {"tier_faults"}),  # the most active of three
        ("reason", "no reason", {"unexplained"}),
        ("pattern", "odd", {"pattern"}),
        ("market", "KXQ2-SECOND", {"market"}),
    ],
)
def test_a_market_that_contradicts_itself_is_found(found_in, column, value, broken):
    def change(table: pa.Table) -> pa.Table:
        return replaced(table, column, table[column][1].as_py() if column == "market" else value)

    assert found_in(SUITABLE, rewrite("suitable_markets.parquet", change)) == broken


@pytest.mark.parametrize(
    ("stage", "name"),
    [(RAW, "messages"), (BOOKS, "books"), (BOOKS, "segments"), (SUITABLE, "suitable_markets")],
)
def test_a_table_of_another_schema_is_refused(warehouse, tmp_path, stage, name):
    spoil = rewrite(f"{name}.parquet", lambda table: table.rename_columns(
        ["other", *table.column_names[1:]]
    ))  # fmt: skip
    spoilt = republish(warehouse.current(stage, "1"), Warehouse(tmp_path), stage, spoil)
    with pytest.raises(CorruptFile, match="another schema"):
        PROFILES[stage](spoilt)
