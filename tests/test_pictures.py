"""Pictures of what was published: small, and of the figures they say they are of."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kalshi_pipeline import stages
from kalshi_pipeline.books.schemas import BOOK_SCHEMA, SEGMENT_SCHEMA
from kalshi_pipeline.evaluation.charts.drawing import PAGE, PICTURE
from kalshi_pipeline.feature_table import TENSOR_FEATURES
from kalshi_pipeline.pictures import plans, sessions
from kalshi_pipeline.recordings.folder import open_folder
from kalshi_pipeline.recordings.messages import MESSAGE_SCHEMA, MessageKind
from kalshi_pipeline.storage.publish import Warehouse
from tests.evaluation.specimen import specimen

SESSION = 902
SMALL = 40_000  # bytes: pictures lie in Dagster's database


@pytest.fixture(scope="module")
def warehouse(generated, tmp_path_factory):
    made = Warehouse(tmp_path_factory.mktemp("published"))
    stages.ingest_session(made, open_folder(generated / str(SESSION)))
    stages.build_session_books(made, SESSION)
    stages.build_session_tensors(made, SESSION)
    stages.choose_session_markets(made, SESSION)
    return made


def published(warehouse, stage):
    return warehouse.current(stage, str(SESSION))


@pytest.fixture
def drawn(monkeypatch):
    """What the pictures of sessions were asked to draw."""
    asked = {}
    for name in ("lines", "columns", "dots", "plane"):
        draw = getattr(sessions, name)

        def remembered(*given, _name=name, _draw=draw, **more):
            asked[_name] = given
            return _draw(*given, **more)

        monkeypatch.setattr(sessions, name, remembered)
    return asked


def opened(png):
    assert len(png) < SMALL
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image


def test_activity_counts_every_change_of_the_session(warehouse, drawn):
    raw = published(warehouse, stages.RAW)
    opened(sessions.activity(raw))
    _, hours, series, *_ = drawn["lines"]
    kinds = pq.read_table(raw.path("messages.parquet"), columns=["kind"])["kind"].to_numpy()
    minutes = (hours[1] - hours[0]) * 60
    changes = next(one for one in series if one.judged)
    assert round(sum(changes.y) * minutes) == np.count_nonzero(kinds == MessageKind.DELTA) > 1000


def test_spreads_are_shares_of_the_trusted_rows_with_both_sides(warehouse, drawn):
    books = published(warehouse, stages.BOOKS)
    opened(sessions.spreads(books))
    _, names, shares, *_ = drawn["columns"]
    rows = pq.read_table(books.path("books.parquet")).to_pylist()
    spread = [
        row["ask_bp"] - row["bid_bp"]
        for row in rows
        if row["segment"] >= 0 and row["bid_bp"] > 0 and row["ask_bp"] < 10_000
    ]
    below = 0.0
    for name, share in zip(names, shares, strict=True):
        below += share
        expected = 100 * sum(one <= 100 * int(name) for one in spread) / len(spread)
        assert below == pytest.approx(expected)
    assert below == pytest.approx(100)


def test_the_busiest_market_is_shown_between_its_bid_and_its_ask(warehouse, drawn):
    books = published(warehouse, stages.BOOKS)
    opened(sessions.busiest_market(books))
    _, hours, (mid,), *_ = drawn["lines"]
    segments = pq.read_table(books.path("segments.parquet")).to_pylist()
    busiest = max(segments, key=lambda segment: segment["messages"])
    rows = pq.read_table(books.path("books.parquet")).slice(busiest["first_row"]).to_pylist()
    assert (mid.low[0], mid.high[0]) == (rows[0]["bid_bp"] / 100, rows[0]["ask_bp"] / 100)
    last = rows[busiest["end_row"] - busiest["first_row"] - 1]
    assert (mid.low[-1], mid.high[-1]) == (last["bid_bp"] / 100, last["ask_bp"] / 100)
    assert hours[-1] * 3_600_000 == pytest.approx(busiest["end_ms"] - busiest["start_ms"])


def test_every_feature_has_its_row(warehouse, drawn):
    opened(sessions.feature_ranges(published(warehouse, stages.TENSORS)))
    _, rows, _ = drawn["dots"]
    assert [row.name for row in rows] == [feature.name for feature in TENSOR_FEATURES]
    for row, feature in zip(rows, TENSOR_FEATURES, strict=True):
        assert feature.low <= row.interval[0] <= row.value <= row.interval[1] <= feature.high


def test_suitable_markets_are_told_from_those_left_out(warehouse, drawn):
    suitable = published(warehouse, stages.SUITABLE)
    opened(sessions.market_map(suitable))
    _, groups, *_ = drawn["plane"]
    assert len(groups["suitable"]) == suitable.summary["suitable_markets"] > 0


def test_a_session_without_messages_and_books_has_its_pictures_too(tmp_path):
    empty = {
        "messages": MESSAGE_SCHEMA, "books": BOOK_SCHEMA, "segments": SEGMENT_SCHEMA,
    }  # fmt: skip
    for name, schema in empty.items():
        pq.write_table(schema.empty_table(), tmp_path / f"{name}.parquet")
    nothing = SimpleNamespace(path=lambda name: tmp_path / name)
    opened(sessions.activity(nothing))
    opened(sessions.spreads(nothing))
    assert sessions.busiest_market(nothing) is None


def test_an_evaluation_shows_its_equity_and_its_intervals():
    for picture in (plans.equity, plans.intervals):
        image = opened(picture(specimen()))
        assert image.width > 700
        # the page's placeholders are no colours of a picture
        shown = {tuple(colour) for _, colour in image.convert("RGB").getcolors(1 << 20)}
        placeholders = {tuple(bytes.fromhex(code[1:])) for code in PAGE.values()}
        assert not shown & placeholders
        assert tuple(bytes.fromhex(PICTURE["panel"][1:])) in shown


def test_a_picture_has_a_colour_for_every_name_of_the_page():
    assert PICTURE.keys() == PAGE.keys()
