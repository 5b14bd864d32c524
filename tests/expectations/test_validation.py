"""Great Expectations says of a profile what is so, and its page can be opened anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kalshi_pipeline import stages
from kalshi_pipeline.errors import NotPublished
from kalshi_pipeline.expectations import books, feature_tensors, raw_messages, suitable_markets
from kalshi_pipeline.expectations.suites import Expectation, Profile, absent, one_row
from kalshi_pipeline.expectations.validated import (
    DATA_DOCS,
    OUTCOME_SCHEMA,
    OUTCOMES,
    PROFILES,
    validated,
)
from kalshi_pipeline.expectations.validation import validate
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.tables import read_table
from tests.expectations.published import change_rows, honest_session, publish_session, republish

SUITES = {
    "raw messages": raw_messages.EXPECTATIONS,
    "counter of raw messages": raw_messages.OF_A_COUNTER,
    "session of books": books.OF_THE_SESSION,
    "market of books": books.OF_A_MARKET,
    "session of tensors": feature_tensors.OF_THE_SESSION,
    "feature of tensors": feature_tensors.OF_A_FEATURE,
    "session of markets": suitable_markets.OF_THE_SESSION,
    "market of markets": suitable_markets.OF_A_MARKET,
}


def figure(expectation: Expectation, *, good: bool) -> dict[str, object]:
    """Values that meet an expectation, or do not."""
    limits = expectation.limits
    if "column_B" in limits:
        return {expectation.column: 3, limits["column_B"]: 3 if good else 4}
    if "value_set" in limits:
        return {expectation.column: limits["value_set"][0] if good else -7}
    low, high = limits.get("min_value"), limits.get("max_value")
    inside = high if low is None else low
    outside = low - 1 if low is not None else high + 1
    return {expectation.column: inside if good else outside}


def renamed(expectation: Expectation, column: str) -> Expectation:
    """The same of another column."""
    limits = dict(expectation.limits)
    if "column_B" in limits:
        limits |= {"column_A": column, "column_B": f"other {column}"}
    return replace(expectation, column=column, limits=limits)


@pytest.mark.parametrize("good", [True, False])
def test_every_expectation_holds_of_what_is_right_and_of_nothing_else(good):
    profiles = []
    for title, suite in SUITES.items():
        # a column of its own for each, so that none decides about another
        several = [e for e in suite if e.kind != "ExpectColumnValuesToBeUnique"]
        apart = [renamed(expectation, f"figure {n}") for n, expectation in enumerate(several)]
        figures = {k: v for expectation in apart for k, v in figure(expectation, good=good).items()}
        profiles.append(Profile(title, one_row(**figures), tuple(apart)))
    outcomes = validate("all of them", profiles).outcomes
    assert len(outcomes) == sum(len(profile.expectations) for profile in profiles)
    assert {outcome.passed for outcome in outcomes} == {good}


def test_a_market_listed_twice_is_found():
    (expectation,) = (e for e in suitable_markets.OF_A_MARKET if "Unique" in e.kind)
    twice, once = (
        Profile(title, {"market": markets}, (expectation,))
        for title, markets in (("two", ["A", "A"]), ("one", ["A"]))
    )
    first, second = validate("markets", [twice, once]).outcomes
    assert (first.passed, second.passed) == (False, True)
    assert first.observed == "2 of 2: A A, A A"


def test_an_outcome_names_the_rows_that_are_wrong():
    columns = {"market": [f"KX-{n}" for n in range(9)], "off_tick": [0, 0, *range(1, 8)]}
    (expectation,) = (e for e in books.OF_A_MARKET if e.column == "off_tick")
    (outcome,) = validate("books", [Profile("market", columns, (expectation,))]).outcomes
    assert outcome.observed == "7 of 9: KX-2 1, KX-3 2, KX-4 3, KX-5 4, KX-6 5, ..."
    assert outcome.blocks


def test_a_session_of_no_markets_meets_the_expectations_of_a_market():
    columns: dict[str, list[object]] = {e.column: [] for e in books.OF_A_MARKET}
    outcomes = validate("books", [Profile("market", columns, books.OF_A_MARKET)]).outcomes
    assert all(outcome.passed for outcome in outcomes)
    assert {outcome.observed for outcome in outcomes} == {"all of 0"}


def test_a_figure_that_is_not_there_is_no_figure_that_is_right():
    columns = {"market": ["KX-1"]}
    (outcome,) = validate("x", [Profile("market", columns, books.OF_A_MARKET[:1])]).outcomes
    assert not outcome.passed
    assert outcome.observed == "could not be measured"


# --- pages


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attributes if k in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


FOREIGN = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "${HOME} $x",
]


def test_foreign_text_stays_text_on_the_page():
    profile = Profile("market", {"market": FOREIGN, "told": FOREIGN}, (absent("told", "no <b>"),))
    result = validate("<i>title</i>", [profile])
    page = Page(result.page)
    assert not {"script", "img", "i-title", "b"} & set(page.tags)
    assert all(text in page.words for text in FOREIGN)
    assert "<script>alert(1)</script>" in result.outcomes[0].observed
    assert "<i>title</i>" in page.words


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return publish_session(tmp_path_factory.mktemp("validation"), honest_session())


def test_every_stage_of_a_session_has_its_page_and_keeps_it(warehouse):
    pages = {stage: validated(warehouse, stage, 1).page for stage in PROFILES}
    for stage, path in pages.items():
        assert path is not None
        assert path.is_relative_to(warehouse.root / DATA_DOCS / stage / "session=1")
        page = Page(path.read_text())
        assert f"Session 1: {stage}" in page.words
        for outcome in validated(warehouse, stage, 1).outcomes:
            assert " ".join(outcome.expectation.split()) in " ".join(page.words.split())
        # nothing is fetched when it is opened
        assert "script" not in page.tags
        assert all(re.fullmatch(r"#.*", address) for address in page.addresses), page.addresses


def test_what_was_validated_is_not_validated_again(warehouse, monkeypatch):
    first = validated(warehouse, stages.BOOKS, 1)

    def never(*_):
        raise AssertionError("validated twice")

    monkeypatch.setattr("kalshi_pipeline.expectations.validated.validate", never)
    assert validated(warehouse, stages.BOOKS, 1) == first
    assert len(first.outcomes) == len(books.OF_THE_SESSION) + len(books.OF_A_MARKET)
    docs = warehouse.current(f"{DATA_DOCS}/{stages.BOOKS}", "1")
    assert read_table(docs.path(OUTCOMES), OUTCOME_SCHEMA).num_rows == len(first.outcomes)


def test_equal_tables_give_equal_pages(warehouse, tmp_path):
    again = publish_session(tmp_path, honest_session())
    for stage in (stages.BOOKS, stages.SUITABLE):
        validated(again, stage, 1), validated(warehouse, stage, 1)
        name = f"{DATA_DOCS}/{stage}"
        assert again.current(name, "1").content_hash == warehouse.current(name, "1").content_hash


def test_a_page_of_what_is_wrong_shows_it(warehouse, tmp_path):
    elsewhere = Warehouse(tmp_path)

    def spoil(folder: Path) -> None:
        change_rows(folder / "segments.parquet", lambda c: c["messages"].__setitem__(0, 3))

    republish(warehouse.current(stages.BOOKS, "1"), elsewhere, stages.BOOKS, spoil)
    found = validated(elsewhere, stages.BOOKS, 1)
    assert {o.column for o in found.outcomes if o.blocks} == {"segment_rows", "segment_overlaps"}
    assert found.page is not None
    words = Page(found.page.read_text()).words
    assert "fails" in words
    assert "segment_overlaps 1" in words


def test_changed_bytes_fail_the_validation_and_are_never_validated(warehouse, tmp_path):
    elsewhere = Warehouse(tmp_path)
    copy = republish(warehouse.current(stages.BOOKS, "1"), elsewhere, stages.BOOKS)
    assert validated(elsewhere, stages.BOOKS, 1).page is not None
    path = copy.folder / "books.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    found = validated(elsewhere, stages.BOOKS, 1)

    (outcome,) = found.outcomes
    assert outcome.blocks
    assert str(path) in outcome.observed
    assert found.page is None


def test_nothing_published_is_nothing_to_validate(tmp_path):
    with pytest.raises(NotPublished):
        validated(Warehouse(tmp_path), stages.BOOKS, 1)
