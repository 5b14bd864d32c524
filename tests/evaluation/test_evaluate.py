"""A whole evaluation: labels, headline, sessions, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.baselines import PassiveTwoSided, RandomUniform, baselines
from kalshi_pipeline.evaluation.evaluate import Evaluation, evaluate
from kalshi_pipeline.evaluation.evidence import Case
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.policies import Policy
from kalshi_pipeline.evaluation.reports import render_html
from kalshi_pipeline.trading.tape import Universe
from tests.evaluation.universes import named_universe, ranges

CONFIG = EvaluationConfig(n_envs=16, resamples=200, stochastic_repeats=2)


@dataclass(frozen=True)
class Renamed:
    """A policy under another name, judged as if it had been learned."""

    policy: Policy
    name: str = "PPO"

    @property
    def stochastic(self) -> bool:
        return self.policy.stochastic

    def act(self, *arguments: Any) -> np.ndarray:
        return self.policy.act(*arguments)


def run(
    universes: dict[int, Universe],
    *,
    lineage: Any = (),
    selected_on: Any = (),
    policies: Sequence[Policy] = (Renamed(RandomUniform()), *baselines()),
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Evaluation:
    chosen = {
        "roles": dict.fromkeys(universes, "forward"),
        "judged": policies[0],
        "baselines": policies[1:],
        "used": Lineage.of(lineage, selected_on),
        "provenance": {"generated": True},
        "evaluation": CONFIG,
        **options,
    }
    return evaluate(Case(universes, **chosen), progress)


def test_only_clean_forward_rows_reach_the_headline() -> None:
    trained, chosen, forward = (named_universe(s, n) for s, n in ((1, 4), (2, 3), (3, 5)))
    evaluation = run(
        {1: trained, 2: chosen, 3: forward},
        roles={1: "generalisation", 2: "validation", 3: "forward"},
        lineage=ranges(trained, end_ms=0),
        selected_on=ranges(chosen, end_ms=0),
    )
    report = evaluation.report
    assert {label: count["events"] for label, count in report["labels"].items()} == {
        "in_sample": 4,
        "selected_on": 3,
        "clean_forward": 5,
    }
    assert report["headline"]["events"] == 5
    assert [(s["session"], s["role"], s["events"]) for s in report["sessions"]] == [
        (1, "generalisation", 4), (2, "validation", 3), (3, "forward", 5),
    ]  # fmt: skip
    by_session = zip(
        evaluation.tables["ledger"]["session"].to_pylist(),
        evaluation.tables["ledger"]["label"].to_pylist(),
        strict=True,
    )
    assert set(by_session) == {(1, "in_sample"), (2, "selected_on"), (3, "clean_forward")}
    validation = report["criteria"][0]
    assert (validation["events"], validation["in_sample"]) == (3, True)


def test_without_clean_forward_rows_there_is_no_headline() -> None:
    universe = named_universe(1, 4)
    report = run({1: universe}, lineage=ranges(universe)).report
    assert report["headline"] is None
    assert "no clean-forward events (there are 4 in-sample events)" in report["verdict"]["sentence"]
    assert all(criterion["in_sample"] for criterion in report["criteria"])
    assert report["shape"]["clean"] is False


@pytest.mark.parametrize("policy", [RandomUniform(), PassiveTwoSided()])
@pytest.mark.parametrize("events", [6, 40])
def test_a_policy_without_skill_gets_the_sober_sentence(policy: Policy, events: int) -> None:
    verdict = run({1: named_universe(1, events)}, policies=[Renamed(policy), *baselines()]).report[
        "verdict"
    ]
    assert not verdict["claim"]
    assert verdict["sentence"].startswith(("No evidence of profit", "Loses money"))
    assert "on generated sessions" in verdict["sentence"]


def test_hold_earns_exactly_zero_in_the_report() -> None:
    report = run({1: named_universe(1, 31)}).report
    hold = report["headline"]["policies"][1]
    assert (hold["policy"], hold["pnl_cents"], hold["pnl_interval"]) == ("Hold", 0.0, (0.0, 0.0))
    assert set(report["shape"]["paths"]["Hold"]) == {0.0}
    assert report["shape"]["band"] is not None


def test_paths_end_at_the_total() -> None:
    report = run({1: named_universe(1, 7)}).report
    for policy in report["headline"]["policies"]:
        path = report["shape"]["paths"][policy["policy"]]
        assert path[-1] == pytest.approx(7 * policy["pnl_cents"])
    assert report["shape"]["band"] is None  # 7 events


def test_adding_a_policy_changes_no_other() -> None:
    universes = {1: named_universe(1, 5)}
    judged = Renamed(RandomUniform())
    alone = run(universes, policies=[judged]).tables["ledger"]
    beside = run(universes, policies=[judged, RandomUniform(), PassiveTwoSided()]).tables["ledger"]
    assert beside.slice(0, alone.num_rows).equals(alone)


def test_exclusions_are_counted_by_reason() -> None:
    excluded = [
        {"session": 1, "reason": "under_50_steps", "market": "A"},
        {"session": 1, "reason": "under_50_steps", "market": "B"},
        {"session": 1, "reason": "empty", "count": 7},
    ]
    report = run({1: named_universe(1, 2)}, exclusions=excluded).report
    assert report["exclusions"] == [
        {"session": 1, "reason": "empty", "count": 7},
        {"session": 1, "reason": "under_50_steps", "count": 2},
    ]


def test_a_session_without_episodes_is_no_obstacle() -> None:
    full = named_universe(1, 2)
    report = run({1: full, 2: Universe(full.tape, ())}).report
    assert [section["session"] for section in report["sessions"]] == [1]


def test_progress_names_session_and_policy() -> None:
    told: list[str] = []
    run({1: named_universe(1, 2)}, policies=[Renamed(RandomUniform())], progress=told.append)
    assert told[0] == "session 1: PPO on 2 episodes"
    assert "touch, without fees, session 1: PPO on 2 episodes" in told
    assert len(set(told)) == len(told)
    assert "session 1: PPO, step by step" in told


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"policies": [RandomUniform(), RandomUniform()]}, "policies"),
        ({"roles": {}}, "roles"),
        ({"lineage": [{"session": 1}]}, "lineage"),
    ],
)
def test_refusals_name_the_rule(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        run({1: named_universe(1, 2)}, **options)
    assert caught.value.rule == rule


def test_nothing_to_evaluate_on_is_refused() -> None:
    empty = Universe(named_universe(1, 1).tape, ())
    with pytest.raises(EvaluationError, match="no episode"):
        run({1: empty})


def test_a_variant_of_the_judged_policy_is_shown_but_is_no_baseline() -> None:
    universes = {1: named_universe(1, 4), 2: named_universe(2, 5)}
    roles = {1: "validation", 2: "forward"}
    variant = Renamed(PassiveTwoSided(), name="PPO, likeliest action")
    alone = run(universes, roles=roles).report
    beside = run(universes, roles=roles, variants=[variant]).report
    assert beside["verdict"] == alone["verdict"]
    assert beside["criteria"] == alone["criteria"]
    assert beside["baselines"] == alone["baselines"]
    shown = [row["policy"] for row in beside["headline"]["policies"]]
    assert shown[:2] == ["PPO", "PPO, likeliest action"]


@pytest.mark.parametrize(("trained", "events"), [(2, 40), (5, 8), (5, 40)])
def test_several_seeds_stand_side_by_side_with_what_they_came_to_together(trained, events) -> None:
    names = {seed: "PPO" if seed == 0 else f"PPO, seed {seed}" for seed in range(trained)}
    policies = [Renamed(RandomUniform(), name) for name in names.values()]
    report = run(
        {1: named_universe(1, events)},
        policies=[policies[0], *baselines()],
        variants=policies[1:],
        seeds=names,
    ).report
    seeds = report["seeds"]
    shown = {row["policy"]: row["pnl_cents"] for row in report["headline"]["policies"]}
    assert [(seed, row["policy"]) for seed, row in seeds["seeds"]] == list(names.items())
    assert all(row["pnl_cents"] == shown[row["policy"]] for _, row in seeds["seeds"])
    mean = np.mean([shown[name] for name in names.values()])
    assert seeds["mean_cents"] == pytest.approx(mean)
    assert (seeds["mean_interval"] is not None) == (trained >= 5 and events >= 30)
    if seeds["mean_interval"]:
        assert seeds["mean_interval"].low < mean < seeds["mean_interval"].high
        assert seeds["iqm_interval"].low <= seeds["iqm_cents"] <= seeds["iqm_interval"].high
    assert not report["verdict"]["claim"]
    assert b'id="seeds"' in render_html(report)


def test_one_seed_needs_no_section_of_its_own() -> None:
    report = run({1: named_universe(1, 4)}, seeds={7: "PPO"}).report
    assert report["seeds"] is None
    assert b'id="seeds"' not in render_html(report)
