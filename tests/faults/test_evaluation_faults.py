"""Faults T10 and T11 of the reliability page: what an evaluation must not be taken in by."""

from __future__ import annotations

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.baselines import RandomUniform, baselines
from kalshi_pipeline.evaluation.evaluate import Evaluation, evaluate
from kalshi_pipeline.evaluation.evidence import Case
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.reports import render_html
from kalshi_pipeline.trading.tape import Universe
from tests.evaluation.past import past
from tests.evaluation.test_evaluate import Renamed
from tests.evaluation.universes import named_universe, ranges

CONFIG = EvaluationConfig(n_envs=16, resamples=200, stochastic_repeats=1)


def judged(universes: dict[int, Universe], used: list[dict[str, object]]) -> Evaluation:
    case = Case(
        universes, dict.fromkeys(universes, "forward test"), judged=Renamed(RandomUniform()),
        baselines=baselines(), used=Lineage.of(used), provenance={"generated": True},
        evaluation=CONFIG, past=past(),
    )  # fmt: skip
    return evaluate(case, lambda _: None)


def test_t10_a_market_of_the_lineage_is_in_sample_and_never_in_the_headline() -> None:
    universe = named_universe(1, 33)
    seen = ranges(universe, end_ms=0)[:2]
    report = judged({1: universe}, seen).report
    # no part of a session that was used is clean
    assert {label: count["events"] for label, count in report["labels"].items()} == {
        "in_sample": 2, "backward": 31,
    }  # fmt: skip
    assert report["headline"] is None
    assert report["forward_tests"] == []


def test_t10_only_the_markets_outside_the_lineage_reach_the_headline() -> None:
    trained, forward = named_universe(1, 4), named_universe(2, 31)
    both = judged({1: trained, 2: forward}, ranges(trained, end_ms=0))
    ledger = both.tables["ledger"].to_pylist()
    of_trained = {row["label"] for row in ledger if row["session"] == 1}
    assert of_trained == {"in_sample"}
    assert both.report["headline"]["events"] == 31
    alone = judged({2: forward}, ranges(trained, end_ms=0)).report
    assert both.report["headline"] == alone["headline"]
    assert {row["session"] for row in both.report["forward_tests"]} == {None, 2}


@pytest.mark.parametrize("events", [1, 2])
def test_t11_with_one_or_two_events_no_interval_is_possible_and_nothing_assessable(events) -> None:
    evaluation = judged({2: named_universe(2, events)}, [])
    report = evaluation.report
    assert report["headline"]["events"] == events
    for policy in report["headline"]["policies"]:
        assert [value for name, value in policy.items() if name.endswith("_interval")] == (
            [None] * sum(name.endswith("_interval") for name in policy)
        )
    assert {answer["status"] for answer in report["criteria"]} == {"not assessable"}
    assert "no interval possible" in report["criteria"][1]["note"]
    assert f"{events} clean-forward event" in report["verdict"]["sentence"]
    assert not report["verdict"]["claim"]
    selected = report["selection"]
    assert selected["sharpe"] is selected["psr"] is selected["deflated_sharpe"] is None
    assert selected["pbo"] is None
    assert report["decisions"][2]["outcome"] == "iterate"
    assert "no interval possible" in render_html(report).decode().lower()


def test_t11_without_a_clean_event_the_report_says_so_and_claims_nothing() -> None:
    trained = named_universe(1, 2)
    report = judged({1: trained}, ranges(trained)).report
    assert report["headline"] is None
    assert "no clean-forward events" in report["verdict"]["sentence"]
    assert {answer["status"] for answer in report["criteria"]} == {"not assessable"}
    assert all(answer["in_sample"] for answer in report["criteria"])
    assert "no interval possible" in render_html(report).decode().lower()


def test_t11_without_any_episode_there_is_no_evaluation() -> None:
    nothing = Universe(named_universe(1, 1).tape, ())
    with pytest.raises(EvaluationError, match="no episode"):
        judged({1: nothing}, [])


def test_t11_an_empty_session_is_among_what_was_left_out() -> None:
    empty = Universe(named_universe(1, 1).tape, ())
    report = judged({1: empty, 2: named_universe(2, 2)}, []).report
    assert report["exclusions"] == [
        {"session": 1, "reason": "the whole session: no episode in it", "count": 1}
    ]
    assert np.unique([row["session"] for row in report["sessions"]]).tolist() == [2]
