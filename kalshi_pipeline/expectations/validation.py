"""Running a suite: Great Expectations over the profiles, in memory, and the page about it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kalshi_pipeline.expectations.suites import Expectation, Profile

if TYPE_CHECKING:
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.datasource.fluent.pandas_datasource import PandasDatasource

_PAGE = "page.html.jinja"
_PLACE = "place"  # of an expectation in its suite
_SHOWN = 5  # offending rows told of an expectation


@dataclass(frozen=True)
class Offence:
    """One row of a profile of which an expectation does not hold.

    Args:
        about: what the row is about: a market, a feature, a counter; the session itself.
        market: ticker of the first row at fault, where it is known.
        row: that row, from 0, of the published table; None where no single row is at fault.
        value: the figure.
    """

    about: str
    market: str | None
    row: int | None
    value: str


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Args:
        profile: what a row of its profile is about.
        expectation: what must hold, in words.
        column: of the profile.
        observed: the figure, or the rows that do not hold.
        passed: whether it holds.
        warns: whether a failure stops nothing.
        offences: the first rows that do not hold.
    """

    profile: str
    expectation: str
    column: str
    observed: str
    passed: bool
    warns: bool
    offences: tuple[Offence, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether what follows must not be built."""
        return not self.passed and not self.warns


@dataclass(frozen=True)
class Validation:
    """The outcomes of a suite and the page that shows them."""

    outcomes: tuple[Outcome, ...]
    page: str


def validate(title: str, profiles: Sequence[Profile]) -> Validation:
    """Run the expectations of all profiles.

    Args:
        title: of the page.
        profiles: what was measured, with their expectations.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas("profiles")
    outcomes: list[Outcome] = []
    results = []
    for profile in profiles:
        result = _run(source, f"{title}, a row a {profile.title}", profile)
        results.append(result)
        outcomes += [
            _outcome(profile, expectation, single)
            for expectation, single in zip(profile.expectations, result.results, strict=True)
        ]
    return Validation(tuple(outcomes), _render(title, outcomes, results))


def _run(source: PandasDatasource, name: str, profile: Profile) -> ExpectationSuiteValidationResult:
    import great_expectations as gx
    import great_expectations.expectations as kinds
    import pandas as pd

    # its pages put values between their tags as they are: no value may carry any
    frame = pd.DataFrame(
        {column: list(map(_escaped, values)) for column, values in profile.columns.items()}
    )
    whole = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
    suite = gx.ExpectationSuite(
        name=name,
        expectations=[
            getattr(kinds, expectation.kind)(
                **_aimed(expectation),
                notes=expectation.says,
                severity="warning" if expectation.warns else "critical",
                meta={_PLACE: place},
            )
            for place, expectation in enumerate(profile.expectations)
        ],
    )
    result: ExpectationSuiteValidationResult = whole.get_batch({"dataframe": frame}).validate(
        suite,
        result_format={
            "result_format": "SUMMARY",
            "unexpected_index_column_names": [next(iter(profile.columns))],
        },
    )
    # what raised comes before what was only measured
    result.results.sort(key=_place)
    return result


def _place(single: ExpectationValidationResult) -> int:
    configured = single.expectation_config
    return int(configured.meta[_PLACE]) if configured and configured.meta else -1


def _aimed(expectation: Expectation) -> dict[str, Any]:
    limits = dict(expectation.limits)
    return limits if "column_A" in limits else {"column": expectation.column, **limits}


def _escaped(value: Any) -> Any:
    return html.escape(value) if isinstance(value, str) else value


def _outcome(
    profile: Profile, expectation: Expectation, single: ExpectationValidationResult
) -> Outcome:
    passed = bool(single.success)
    return Outcome(
        profile.title,
        expectation.says,
        expectation.column,
        _observed(profile, expectation, single.result),
        passed,
        expectation.warns,
        () if passed else tuple(_offences(profile, expectation, single.result)),
    )


def _observed(profile: Profile, expectation: Expectation, found: dict[str, Any]) -> str:
    if "element_count" not in found:
        return "could not be measured"
    rows, wrong = found["element_count"], found["unexpected_count"]
    if rows == 1:
        return _of_one_row(profile, expectation)
    if not wrong:
        return f"all of {rows}"
    told = [f"{about} {value}".strip() for about, value in _wrong(profile, expectation, found)]
    more = ", ..." if wrong > _SHOWN else ""
    return f"{wrong} of {rows}: {', '.join(told)}{more}"


def _of_one_row(profile: Profile, expectation: Expectation) -> str:
    names = [expectation.column, expectation.limits.get("column_B")]
    return ", ".join(
        f"{name} {_number(profile.columns[name][0])}" for name in names if name is not None
    )


def _wrong(
    profile: Profile, expectation: Expectation, found: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    # what the first wrong rows are about, and their figures
    key = next(iter(profile.columns))
    for row in found["partial_unexpected_index_list"][:_SHOWN]:
        value = _number(row.get(expectation.column, ""))
        yield html.unescape(str(row[key])), html.unescape(value)


def _offences(
    profile: Profile, expectation: Expectation, found: dict[str, Any]
) -> Iterator[Offence]:
    places = profile.places.get(expectation.column, ())
    if "element_count" not in found:
        yield Offence(profile.title, None, None, "could not be measured")
    elif found["element_count"] == 1:
        place = next(iter(places), None)
        about = profile.title
        if about != "session":
            about = str(profile.columns[next(iter(profile.columns))][0])
        market, row = (place.market, place.row) if place else (None, None)
        yield Offence(about, market, row, _of_one_row(profile, expectation))
    else:
        known = list(map(str, profile.columns[next(iter(profile.columns))]))
        for about, value in _wrong(profile, expectation, found):
            place = places[known.index(about)] if places else None
            market, row = (place.market, place.row) if place else (None, None)
            yield Offence(about, market, row, value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _render(
    title: str,
    outcomes: Sequence[Outcome],
    results: Sequence[ExpectationSuiteValidationResult],
) -> str:
    from great_expectations.render.components import RenderedDocumentContent
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    sections = []
    for result in results:
        # the first section begins with links to pages that are not made, the last tells when and by
        # what it was run: the page is about the data alone
        first, *others, _ = (
            ValidationResultsPageRenderer(run_info_at_end=True).render(result).sections
        )
        first.section_name = result.suite_name
        first.content_blocks = first.content_blocks[1:]
        sections += [first, *others]
    document = RenderedDocumentContent(
        renderer_type="ValidationResultsPageRenderer", page_title=title, sections=sections
    )
    view = DefaultJinjaPageView(custom_views_directory=str(Path(__file__).parent))
    page: str = view.render(document, template=_PAGE, outcomes=outcomes)
    return page
