"""The rule table reacts to its causes, within its bounds, once, and the same after a resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.errors import IncompatibleCheckpoint
from kalshi_pipeline.learning.alert_rules import BY_NAME, RULES, Firing, markdown_table
from kalshi_pipeline.learning.alerts import BLOCK_STEPS, REST_STEPS, Alerts
from kalshi_pipeline.learning.diagnostics import RolloutDiagnostics, diagnose, episode_figures
from kalshi_pipeline.trading.actions import Action
from tests.learning.test_diagnostics import seen, summary

KNOBS = {"learning_rate": 1e-4, "ent_coef": 0.05, "clip_range": 0.2, "n_epochs": 10.0}
QUIET = diagnose(np.arange(4_096) % 7, np.zeros(4_096), [], seen(np.ones(4_096)))


def acting(action: Action, share: float, steps: int = 4_096) -> RolloutDiagnostics:
    """A rollout in which one action takes this share of the steps."""
    shares = np.full(7, (1 - share) / 6)
    shares[action] = share
    return replace(QUIET, steps=steps, action_shares=tuple(shares.tolist()))


def earning(pnl: float, episodes: int = 20, *, sd: float = 0.1, **changes: Any) -> Any:
    """A rollout in which episodes ended with these dollars."""
    ended = episode_figures([summary(0, steps=1)])
    assert ended is not None
    figures = replace(ended, episodes=episodes, pnl_mean=pnl, pnl_sd=sd, **changes)
    return replace(QUIET, ended=figures)


class Phase:
    """Feeds rollouts to alerts and does what they say, as a trainer would."""

    def __init__(self, mode: Any = "act", knobs: dict[str, float] = KNOBS) -> None:
        self.alerts, self.knobs = Alerts(mode), dict(knobs)
        self.timesteps = 0
        self.fired: list[Firing] = []

    def roll(self, *rollouts: RolloutDiagnostics, progress: float = 0.1) -> list[str]:
        names = []
        for shown in rollouts:
            self.timesteps += shown.steps
            names += self._apply(
                self.alerts.after_rollout(shown, self.timesteps, progress, self.knobs)
            )
        return names

    def validate(self, scores: list[float], dropped: float | None = None) -> list[str]:
        return self._apply(
            self.alerts.after_validation(scores, dropped, self.timesteps, self.knobs)
        )

    def _apply(self, fired: list[Firing]) -> list[str]:
        for firing in fired:
            for knob, (old, new) in firing.changed.items():
                assert self.knobs[knob] == old
                self.knobs[knob] = new
        self.fired += fired
        return [firing.rule for firing in fired]


@pytest.mark.parametrize("action", list(Action))
def test_a_collapse_to_any_action_raises_the_entropy_coefficient(action: Action) -> None:
    phase = Phase()
    assert phase.roll(acting(action, 0.92)) == ["action_dominates"]
    assert phase.knobs == {**KNOBS, "ent_coef": 0.1}
    (firing,) = phase.fired
    assert firing.acted
    assert firing.changed == {"ent_coef": (0.05, 0.1)}
    assert action.name in firing.cause
    assert firing.value == pytest.approx(0.92, abs=1e-3)


def test_a_collapse_that_lasts_raises_it_once_more_and_never_above_its_bound() -> None:
    phase = Phase()
    phase.roll(*[acting(Action.SELL_BEST, 0.93)] * 40)
    assert [firing.changed["ent_coef"][1] for firing in phase.fired] == [0.1, 0.15]
    assert phase.fired[1].timesteps - phase.fired[0].timesteps >= REST_STEPS
    assert phase.knobs["ent_coef"] == 0.15


def test_almost_only_holding_raises_it_significantly() -> None:
    phase = Phase()
    phase.roll(acting(Action.HOLD, 0.97))
    assert phase.knobs["ent_coef"] == 0.15
    assert phase.fired[0].rule == "hold_dominates"


def test_selling_as_often_is_no_matter_of_the_rule_for_holding() -> None:
    phase = Phase()
    phase.roll(acting(Action.SELL_PASSIVE, 0.97))
    assert [firing.rule for firing in phase.fired] == ["action_dominates"]


def test_a_collapse_must_fill_a_thousand_steps() -> None:
    phase = Phase()
    assert phase.roll(*[acting(Action.HOLD, 1.0, 64)] * 15) == []  # 960 steps
    assert phase.roll(acting(Action.HOLD, 1.0, 64)) != []


def test_a_short_burst_among_other_actions_is_none() -> None:
    phase = Phase()
    calm, burst = acting(Action.HOLD, 0.5, 500), acting(Action.HOLD, 1.0, 499)
    assert phase.roll(calm, burst, calm, burst, calm) == []


def test_an_entropy_coefficient_above_the_bound_is_left_where_it_is() -> None:
    phase = Phase(knobs={**KNOBS, "ent_coef": 0.3})
    assert set(phase.roll(acting(Action.HOLD, 1.0))) == {"hold_dominates", "action_dominates"}
    assert phase.knobs["ent_coef"] == 0.3
    assert not any(firing.acted for firing in phase.fired)


def test_an_algorithm_without_the_knob_is_told_and_left_alone() -> None:
    phase = Phase(knobs={"learning_rate": 1e-4})
    phase.roll(acting(Action.HOLD, 1.0))
    assert phase.fired[0].changed == {}


def test_recording_alone_does_nothing_and_off_sees_nothing() -> None:
    recording, off = Phase("record"), Phase("off")
    for phase in (recording, off):
        phase.roll(*[acting(Action.HOLD, 1.0)] * 10)
        phase.validate([1.0, 0.1], dropped=0.9)
        assert phase.knobs == KNOBS
        assert not phase.alerts.stop
    names = [firing.rule for firing in recording.fired]
    assert sorted(names) == ["action_dominates", "hold_dominates", "validation_drop"]
    assert not any(firing.acted for firing in recording.fired)
    assert off.fired == []


def test_five_losing_episodes_ask_for_a_review_four_do_not() -> None:
    phase = Phase()
    assert phase.roll(earning(-0.9, 4)) == []
    assert phase.roll(earning(-0.9, 1)) == ["low_reward"]
    assert phase.roll(earning(-0.9, 50)) == []  # said once while it lasts
    assert Phase().roll(earning(-0.4, 50)) == []


def swinging(size: float, count: int = 20) -> list[RolloutDiagnostics]:
    """Rollouts whose mean rewards alternate by so many standard errors of a difference."""
    error = 0.1 * np.sqrt(2 / BLOCK_STEPS)
    return [
        replace(QUIET, reward_mean=(-1) ** n * size * error / 2, reward_sd=0.1)
        for n in range(count)
    ]


def test_oscillating_rewards_slow_learning_down_and_then_another_algorithm_is_advised() -> None:
    phase = Phase()
    names = phase.roll(*swinging(8.0))
    assert phase.knobs == {**KNOBS, "learning_rate": 5e-5, "clip_range": 0.1}
    assert names == ["unstable", "still_unstable"]
    assert [firing.acted for firing in phase.fired] == [True, False]


def test_noise_and_a_steady_rise_are_no_oscillation() -> None:
    assert Phase().roll(*swinging(2.0)) == []
    rise = [replace(QUIET, reward_mean=0.05 * n, reward_sd=0.1) for n in range(20)]
    assert Phase().roll(*rise) == []
    rng = np.random.default_rng(0)
    noise = [
        diagnose(np.arange(4_096) % 7, rng.normal(size=4_096), [], seen(np.ones(4_096)))
        for _ in range(60)
    ]
    assert Phase().roll(*noise) == []


def test_a_loss_that_does_not_shrink_is_slow_learning_a_gain_is_not() -> None:
    assert Phase().roll(*[earning(-0.3)] * 23) == []
    assert Phase().roll(*[earning(-0.3)] * 24) == ["slow_learning"]
    assert Phase().roll(*[earning(0.3)] * 24) == []
    assert Phase().roll(*[earning(-0.4 + 0.01 * n) for n in range(24)]) == []


def test_the_win_rate_is_judged_once_at_half_the_phase() -> None:
    losing = earning(0.0, trips=10, trip_win_share=0.3)
    phase = Phase()
    assert phase.roll(losing, progress=0.49) == []
    assert phase.roll(losing, progress=0.5) == ["low_win_rate"]
    assert phase.roll(*[losing] * 10, progress=0.6) == []
    assert Phase().roll(earning(0.0, trips=10, trip_win_share=0.4), progress=0.5) == []
    assert Phase().roll(QUIET, progress=0.5) == []  # no trip: no share


def test_ten_losing_validations_ask_for_tuning() -> None:
    assert Phase().validate([-0.1] * 9) == []
    assert Phase().validate([-0.1] * 10) == ["consistent_losses"]
    assert Phase().validate([-0.1] * 9 + [0.01]) == []


def test_validation_falling_while_training_gains_halves_the_epochs() -> None:
    gaining = [earning(-0.4 + 0.02 * n) for n in range(24)]
    falling = [1.0, 0.9, 0.8, 0.7]
    phase = Phase()
    phase.roll(*gaining)
    assert phase.validate(falling) == ["overfitting"]
    assert phase.knobs["n_epochs"] == 5
    assert Phase().validate(falling) == []  # nothing is known of training
    still = Phase()
    still.roll(*gaining)
    assert still.validate([1.0, 0.9, 0.8, 0.85]) == []


def test_a_validation_drop_stops_and_says_how_far_it_fell() -> None:
    phase = Phase()
    assert phase.validate([1.0, 0.6], dropped=0.4) == ["validation_drop"]
    assert phase.alerts.stop
    assert "40%" in phase.fired[0].cause


def test_a_cause_that_goes_and_returns_fires_again_but_not_before_it_has_rested() -> None:
    phase = Phase("record")
    flapping = [acting(Action.HOLD, 0.92), acting(Action.HOLD, 0.2)]
    phase.roll(*flapping * 50)
    times = [firing.timesteps for firing in phase.fired]
    assert len(times) > 5
    assert min(np.diff(times)) >= REST_STEPS


rollouts = st.lists(
    st.builds(
        lambda action, share, pnl, steps, mean: replace(
            earning(pnl, 3), steps=steps, reward_mean=mean, reward_sd=0.01,
            action_shares=acting(action, share, steps).action_shares,
        ),
        st.sampled_from(list(Action)),
        st.sampled_from([0.2, 0.92, 0.97, 1.0]),
        st.floats(-2, 2),
        st.sampled_from([64, 500, 4_096]),
        st.floats(-1, 1),
    ),
    min_size=2,
    max_size=40,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(rollouts, st.data())
def test_restored_alerts_go_on_as_if_they_had_never_stopped(shown: Any, data: Any) -> None:
    place = data.draw(st.integers(0, len(shown)))
    whole = Phase()
    whole.roll(*shown)
    first, second = Phase(), Phase()
    first.roll(*shown[:place])
    second.alerts.restore(json.loads(json.dumps(first.alerts.state())))
    second.knobs, second.timesteps = first.knobs, first.timesteps
    second.roll(*shown[place:])
    assert first.fired + second.fired == whole.fired
    assert second.knobs == whole.knobs
    assert second.alerts.state() == whole.alerts.state()


@settings(max_examples=40, deadline=None)
@given(rollouts)
def test_whatever_happens_knobs_stay_within_the_bounds_of_the_table(shown: Any) -> None:
    phase = Phase()
    phase.roll(*shown * 3)
    assert KNOBS["ent_coef"] <= phase.knobs["ent_coef"] <= 0.15
    assert 5e-5 <= phase.knobs["learning_rate"] <= KNOBS["learning_rate"]
    assert 0.1 <= phase.knobs["clip_range"] <= KNOBS["clip_range"]
    most = phase.timesteps / REST_STEPS + 1
    for rule in RULES:
        assert sum(firing.rule == rule.name for firing in phase.fired) <= most
    assert len(json.dumps(phase.alerts.state())) < 20_000


def test_another_mode_is_not_resumed() -> None:
    with pytest.raises(IncompatibleCheckpoint, match="record"):
        Alerts("act").restore(Alerts("record").state())


def test_only_rules_that_act_move_or_stop_anything() -> None:
    assert len(BY_NAME) == len(RULES)
    for rule in RULES:
        assert rule.acts == bool(rule.moves or rule.stops)
        assert all(move.knob in {*KNOBS, "entropy_share"} for move in rule.moves)


def test_the_page_shows_the_table_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "TRAINING.md"
    assert f"\n{markdown_table()}\n" in page.read_text()
