"""How many candidates there were, and what that leaves of the one that was judged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.evidence import Case, Evidence, Past
from kalshi_pipeline.evaluation.inference.sharpe import (
    deflated_sharpe,
    effective_trials,
    psr,
    sharpe_per_unit,
)
from kalshi_pipeline.evaluation.lineage import Label, Lineage
from kalshi_pipeline.evaluation.selection import Selection, selection
from kalshi_pipeline.evaluation.trials import Trials, trials, trials_table
from kalshi_pipeline.past import rules_of
from tests.evaluation.ledgers import event_ledger, labelled
from tests.evaluation.past import candidate, course, past, trial, validations
from tests.evaluation.test_evaluate import Renamed
from tests.evaluation.universes import named_universe

CONFIG = EvaluationConfig(resamples=200)
RNG = np.random.default_rng(5)
NOISE = RNG.normal(size=(40, 12)) * 10
GOOD = RNG.normal(loc=3.0, scale=10.0, size=60)


SCORED = {"sessions": [1], "events": ["1/E"], "pnl_micro": [1]}


class _Idle:
    name, stochastic = "PPO", False


def evidence(
    pnl_cents: np.ndarray, one: Past, label: Label = Label.CLEAN_FORWARD, **case: Any
) -> Evidence:
    ledger = labelled(event_ledger({"PPO": pnl_cents, "Hold": np.zeros(len(pnl_cents))}), label)
    made = Case(
        {1: named_universe(1, 1)}, {1: "forward"}, judged=Renamed(_Idle()), baselines=(),
        used=Lineage.of([]), provenance={"plan": "made_up"}, evaluation=CONFIG, past=one, **case,
    )  # fmt: skip
    return Evidence(made, ledger, lambda _: None)


def found(*arguments: Any, **options: Any) -> Selection:
    section = selection(evidence(*arguments, **options))
    assert section is not None
    return section


def noise(count: int = 12) -> list[dict[str, Any]]:
    return [trial(number, NOISE[:, number], timesteps=number) for number in range(count)]


def test_every_candidate_counts_once_and_the_judged_one_too() -> None:
    again = [*noise(), *noise()]
    section = found(GOOD, past(again))
    assert (section.trials, section.trials_scored, section.trials_missing) == (13, 25, 0)


def test_another_config_or_way_to_play_is_another_candidate() -> None:
    one = trial(1, NOISE[:, 0])
    others = [one, one | {"config": "other"}, one | {"policy": "sampled"}]
    assert found(GOOD, past(others)).trials == 4


def test_the_judged_candidate_scored_in_training_is_not_a_further_one() -> None:
    who = candidate()
    scored = trial(1, NOISE[:, 0]) | {k: who[k] for k in ("weights", "policy", "config")}
    assert found(GOOD, past([scored])).trials == 1


def test_the_figures_are_those_of_the_clean_events_and_of_n() -> None:
    section = found(GOOD, past(noise()))
    ratio = sharpe_per_unit(GOOD)
    assert section.sharpe == pytest.approx(ratio, rel=1e-4)
    assert section.psr == pytest.approx(psr(GOOD), rel=1e-4)
    sharpes = [sharpe_per_unit(NOISE[:, n]) for n in range(12)] + [ratio]
    deviation = max(float(np.std(np.array(sharpes, float), ddof=1)), 1 / math.sqrt(59))
    assert section.trial_sharpe_sd == pytest.approx(deviation, rel=1e-4)
    assert section.deflated_sharpe == pytest.approx(
        deflated_sharpe(GOOD, 13, section.trial_sharpe_sd), rel=1e-4
    )
    assert section.deflated_sharpe_effective >= section.deflated_sharpe
    assert section.deflated_sharpe < section.psr


def test_more_trials_leave_less() -> None:
    few, many = (found(GOOD, past(noise(n))).deflated_sharpe for n in (3, 12))
    assert many < few


def test_copies_of_one_candidate_are_worth_one() -> None:
    alike = [trial(n, NOISE[:, 0] + 1e-3 * NOISE[:, n]) for n in range(1, 11)]
    section = found(GOOD, past(alike))
    assert section.trials == 11
    assert section.effective_trials < 1.5
    apart = found(GOOD, past(noise())).effective_trials
    mean = (12 - effective_trials(NOISE)) / 11
    assert apart == pytest.approx(mean + (1 - mean) * 13, rel=1e-3)


def test_pbo_is_of_the_trials_that_were_scored_on_the_same_events() -> None:
    other = [trial(99, NOISE[:20, 0])]
    section = found(GOOD, past([*noise(), *other]))
    assert (section.pbo_trials, section.pbo_events, section.pbo_splits) == (12, 40, 12_870)
    assert section.pbo > 0.2
    better = [trial(7, NOISE[:, 7] + 20)]
    skilled = [*noise()[:7], *better, *noise()[8:]]
    assert found(GOOD, past(skilled)).pbo == 0.0


def test_where_too_few_were_scored_there_is_no_pbo_and_the_reason() -> None:
    section = found(GOOD, past([trial(1, NOISE[:8, 0]), trial(2, NOISE[:8, 1])]))
    assert (section.pbo, section.pbo_splits) == (None, None)
    assert any("no PBO: 2 trials were scored on the same 8 events" in note for note in section.note)


@pytest.mark.parametrize(
    ("events", "label", "reason"),
    [(29, Label.CLEAN_FORWARD, "29 clean-forward events are under 30"),
     (60, Label.IN_SAMPLE, "no clean-forward events")],
)  # fmt: skip
def test_without_enough_clean_events_nothing_is_said_and_why(events, label, reason) -> None:
    section = found(GOOD[:events], past(noise()), label)
    assert section.sharpe is section.psr is section.deflated_sharpe is None
    assert section.detectable_cents is None
    assert any(reason in note for note in section.note)
    assert section.trials == 13  # they are counted all the same


def test_removing_the_ledger_does_not_lower_n() -> None:
    courses = [course(validations=validations(*[0.1] * 12))]
    full = [trial(n, NOISE[:, n - 1], timesteps=n) for n in range(1, 13)]
    whole = found(GOOD, past(full, courses))
    assert (whole.trials, whole.trials_missing) == (13, 0)
    lost = found(GOOD, past(full[:5], courses))
    assert (lost.trials, lost.trials_missing) == (13, 7)
    assert any("7 candidates that the trainings declare" in note for note in lost.note)
    none = found(GOOD, past([], courses))
    assert (none.trials, none.trials_missing) == (13, 12)
    # with no spread known it is that of chance: the best of 13 is still held against it
    assert none.deflated_sharpe == pytest.approx(deflated_sharpe(GOOD, 13, None), rel=1e-4)


def test_trials_of_another_run_do_not_stand_for_those_that_are_missing() -> None:
    courses = [course(run="new", validations=validations(0.1, 0.2))]
    old = [trial(n, NOISE[:, n], timesteps=n, recipe="old") for n in (1, 2)]
    new = [trial(n + 2, NOISE[:, n], timesteps=n, recipe="new") for n in (1, 2)]
    whole, lost = found(GOOD, past([*old, *new], courses)), found(GOOD, past(old, courses))
    assert (whole.trials, whole.trials_missing) == (5, 0)
    assert (lost.trials, lost.trials_missing) == (5, 2)


def test_where_nobody_counted_there_is_no_section() -> None:
    assert selection(evidence(GOOD, Past())) is None


def test_a_foreign_model_says_that_its_makers_trials_are_unknown() -> None:
    one = evidence(GOOD, past(noise()))
    foreign = Evidence(
        replace(one.case, used=Lineage.of([], foreign=True)), one.ledger, lambda _: None
    )
    section = selection(foreign)
    assert section is not None
    assert any("others made the weights" in note for note in section.note)


def test_the_table_has_the_trials_before_and_the_judged_one() -> None:
    rows = trials_table(evidence(GOOD, past(noise())))
    assert rows is not None
    assert rows.num_rows == 13
    own = rows.to_pylist()[-1]
    assert own["recipe"] == "own"
    assert sum(own["pnl_micro"]) == pytest.approx(GOOD.sum() * 10_000, abs=60)
    assert len(own["events"]) == len(set(own["events"])) == 60


def test_counts_say_which_training_gave_how_many() -> None:
    rows = [*noise(5), *(one | {"phase": "phase_2", "seed": 2} for one in noise()[5:])]
    by = {(row["phase"], row["seed"], row["kind"]): row["trials"]
          for row in found(GOOD, past(rows)).by}  # fmt: skip
    assert by == {
        ("phase_1", 1, "validation"): 5,
        ("phase_2", 2, "validation"): 7,
        ("phase_1", 1, "evaluation"): 1,
    }


def test_who_does_nothing_counts_and_says_nothing_of_the_spread() -> None:
    idle = [trial(100 + number, np.zeros(40)) for number in range(1_000)]
    busy, both = found(GOOD, past(noise())), found(GOOD, past([*noise(), *idle]))
    assert both.trials == busy.trials + 1_000
    assert both.trial_sharpe_sd == busy.trial_sharpe_sd
    assert both.deflated_sharpe < busy.deflated_sharpe


def test_trials_of_a_few_events_say_nothing_of_the_spread() -> None:
    few = [trial(number, NOISE[:3, number]) for number in range(12)]
    assert len(trials(evidence(GOOD, past(few))).sharpes(30)) == 1  # the judged one
    section = found(GOOD, past(few))
    assert section.trial_sharpe_sd is None
    assert section.deflated_sharpe == pytest.approx(deflated_sharpe(GOOD, 13, None), rel=1e-4)


def test_trials_that_are_all_alike_do_not_make_chance_smaller() -> None:
    alike = [trial(n, NOISE[:, 0] + 1e-3 * NOISE[:, n]) for n in range(1, 11)]
    assert Trials(tuple(alike), 0).spread(30, 60) == pytest.approx(1 / math.sqrt(59))


def test_a_candidate_scored_twice_is_taken_where_it_was_scored_on_most() -> None:
    narrow, wide = trial(1, NOISE[:31, 0]), trial(1, NOISE[:, 0])
    (ratio,) = Trials((narrow, wide, narrow), 0).sharpes(30)
    assert ratio == pytest.approx(sharpe_per_unit(NOISE[:, 0]), rel=1e-3)


def test_the_best_of_many_without_skill_beside_a_thousand_that_hold_is_no_discovery() -> None:
    rng = np.random.default_rng(11)
    holding = [trial(100 + number, np.zeros(60)) for number in range(1_000)]
    alarms, sets = 0, 100
    for _ in range(sets):
        drawn = rng.normal(scale=10.0, size=(60, 45))
        best = drawn[:, np.argmax(drawn.mean(axis=0) / drawn.std(axis=0))]
        tried = Trials((*(trial(n, drawn[:, n]) for n in range(45)), *holding), 0)
        assert tried.count == 1_045
        found_sharpe = deflated_sharpe(best, tried.count, tried.spread(30, 60))
        alarms += found_sharpe is not None and found_sharpe >= 0.95
    assert alarms <= 0.05 * sets


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"stochastic_repeats": 6}, {"n_envs": 8}, {"min_episode_steps": 51}]
)
def test_a_figure_drawn_anew_is_a_further_trial(changed: dict[str, int]) -> None:
    def rules(min_episode_steps: int = 50, **settings: int) -> str:
        return rules_of(TradingConfig(), replace(CONFIG, **settings), min_episode_steps)

    assert rules() == rules_of(TradingConfig(), replace(CONFIG, resamples=9), 50)
    again = [candidate(config=rules(**one)) | SCORED for one in ({}, {}, changed)]
    assert found(GOOD, past(again)).trials == 3  # these two and the one that is judged
