"""Every number of the ledger, by hand and against a slow twin."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference
from kalshi_pipeline.evaluation.ledger import ACTION_COLUMNS
from kalshi_pipeline.evaluation.metrics import PolicyMetrics, measure, panel
from tests.evaluation.ledgers import event_ledger, ledger, row
from tests.oracle.event_totals import event_totals

CONFIG = EvaluationConfig(resamples=400)


def measured(pnl_cents: dict[str, np.ndarray]) -> dict[str, PolicyMetrics]:
    data = panel(event_ledger(pnl_cents), list(pnl_cents))
    return {metrics.policy: metrics for metrics in measure(data, CONFIG)}


def test_an_event_is_the_sum_of_its_segments_each_the_mean_of_its_repeats() -> None:
    rows = [
        row("P", 10, event="E1", market="E1-A", repeat=0),
        row("P", 20, event="E1", market="E1-A", repeat=1),
        row("P", 7, event="E1", market="E1-A", segment=1),
        row("P", -4, event="E1", market="E1-B"),
        row("P", 1, event="E2", market="E2-A"),
    ]
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    assert metrics.pnl_cents == pytest.approx((15 + 7 - 4 + 1) / 2)
    assert metrics.pnl_episode_cents == pytest.approx((15 + 7 - 4 + 1) / 4)
    assert (metrics.positive_events, metrics.positive_share) == (2, 1.0)


@given(data=st.data())
@settings(max_examples=40)
def test_event_totals_equal_the_slow_twin_in_any_row_order(data: st.DataObject) -> None:
    rows = []
    for session in (1, 2):
        for market in range(data.draw(st.integers(1, 5))):
            event = f"E{data.draw(st.integers(0, 2))}"
            ends = data.draw(st.integers(1_000, 1_005))
            for segment in range(data.draw(st.integers(1, 2))):
                for policy, repeats in (("P", data.draw(st.integers(1, 3))), ("Q", 1)):
                    for repeat in range(repeats):
                        cents = data.draw(st.integers(-500, 500))
                        rows.append(
                            row(policy, cents, session=session, event=event, market=f"M{market}",
                                segment=segment, repeat=repeat, end_ms=ends)
                        )  # fmt: skip
    expected = event_totals(rows, "pnl_micro")
    totals = panel(ledger(data.draw(st.permutations(rows))), ["P", "Q"]).per_event("pnl_micro")
    for k, policy in enumerate(("P", "Q")):
        wanted = sorted(float(value) for key, value in expected.items() if key[0] == policy)
        assert np.allclose(np.sort(totals[:, k]), wanted, atol=1e-3)


def test_the_same_event_in_two_sessions_is_two_units() -> None:
    rows = [row("P", 1, session=1), row("P", 1, session=2)]
    assert panel(ledger(rows), ["P"]).events == 2


def test_hold_is_exactly_zero() -> None:
    rng = np.random.default_rng(0)
    hold = measured({"P": rng.normal(size=40), "Hold": np.zeros(40)})["Hold"]
    assert hold.pnl_cents == 0.0
    assert hold.pnl_interval == (0.0, 0.0)
    assert (hold.max_drawdown_cents, hold.max_drawdown_share, hold.sharpe) == (0.0, 0.0, None)


def test_no_interval_below_thirty_events() -> None:
    values = np.random.default_rng(1).normal(size=30)
    few = measured({"P": values[:29], "Hold": np.zeros(29)})
    enough = measured({"P": values, "Hold": np.zeros(30)})
    intervals = [name for name in vars(few["P"]) if name.endswith("_interval")]
    assert all(getattr(metrics, name) is None for metrics in few.values() for name in intervals)
    assert few["P"].detectable_cents is None
    assert enough["P"].pnl_interval is not None
    assert enough["Hold"].difference_interval is not None


def test_the_difference_is_paired_by_event() -> None:
    noise = np.random.default_rng(2).normal(scale=1_000, size=60)
    baseline = measured({"P": noise + 5, "Q": noise})["Q"]
    assert baseline.difference_cents == pytest.approx(5, abs=1e-3)
    assert baseline.difference_interval is not None
    assert baseline.difference_interval == pytest.approx((5, 5), abs=1e-3)


def test_counts_and_ratios() -> None:
    rows = [
        row("P", -30, event="E1", market="A", max_drawdown_micro=40 * MICRO_PER_CENT,
            max_capital_micro=50 * MICRO_PER_CENT),
        row("P", 60, event="E2", market="B", max_drawdown_micro=10 * MICRO_PER_CENT,
            max_capital_micro=10 * MICRO_PER_CENT, round_trips=3, winning_trips=3),
        row("P", 0, event="E3", market="C", max_capital_micro=0, orders=0, round_trips=0,
            winning_trips=0, taker_fills=0, maker_fills=0),
    ]  # fmt: skip
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    assert metrics.max_drawdown_cents == 40
    assert metrics.max_drawdown_share == pytest.approx(1.0)  # of the second: 10 of 10
    assert metrics.return_on_capital == pytest.approx(30 / 60)
    assert metrics.win_rate == pytest.approx(4 / 5)
    assert metrics.fills_per_order == pytest.approx(6 / 10)
    assert metrics.maker_share == pytest.approx(1 / 3)
    assert metrics.hold_share == pytest.approx(0.9)
    assert sum(metrics.action_shares) == pytest.approx(1.0)
    assert metrics.best_event_share == 1.0
    assert metrics.pnl_without_best_cents == pytest.approx(-15)
    assert metrics.fees_cents == pytest.approx(2)
    assert metrics.contracts == pytest.approx(3)


@pytest.mark.parametrize(
    ("falls", "cents", "share"),
    [
        ([(90, 1_000), (5, 6)], 90, 5 / 6),
        ([(90, 1_000), (5, 0)], 90, 0.09),  # nothing at risk: no share
        ([(5, 0)], 5, None),
        ([(0, 0)], 0, 0.0),
    ],
)
def test_the_worst_share_may_be_of_another_episode_than_the_worst_fall(falls, cents, share) -> None:
    rows = [
        row(policy, 0, market=f"M{place}", max_drawdown_micro=fall * MICRO_PER_CENT,
            max_capital_micro=capital * MICRO_PER_CENT)
        for policy in ("Q", "P")
        for place, (fall, capital) in enumerate(falls if policy == "P" else [(1, 1)] * len(falls))
    ]  # fmt: skip
    metrics, _ = measure(panel(ledger(rows), ["P", "Q"]), CONFIG)
    assert metrics.max_drawdown_cents == cents
    assert metrics.max_drawdown_share == (None if share is None else pytest.approx(share))


def test_events_are_in_the_order_in_which_they_end() -> None:
    rows = [
        row("P", 1, event="E1", market="A", end_ms=30),
        row("P", 2, event="E2", market="B", end_ms=10),
        row("P", 3, event="E2", market="C", end_ms=20),
    ]
    data = panel(ledger(rows), ["P"])
    assert data.event_end_ms.tolist() == [20, 30]
    assert data.per_event("pnl_micro")[:, 0].tolist() == [5 * MICRO_PER_CENT, 1 * MICRO_PER_CENT]


def test_the_same_ledger_gives_the_same_numbers() -> None:
    values = np.random.default_rng(3).normal(size=50)
    first, again = (measured({"P": values, "Q": -values}) for _ in range(2))
    assert first == again
    other = measure(
        panel(event_ledger({"P": values}), ["P"]), replace(CONFIG, seed=CONFIG.seed + 1)
    )
    assert other[0].pnl_interval != first["P"].pnl_interval


def test_a_second_interval_is_shown_where_skewness_moves_an_end() -> None:
    rng = np.random.default_rng(7)
    rows = measured({"P": rng.normal(size=60), "Skewed": rng.exponential(size=60) ** 2.5})
    assert rows["P"].pnl_bca_interval is None
    percentile, bca = rows["Skewed"].pnl_interval, rows["Skewed"].pnl_bca_interval
    assert percentile is not None
    assert bca is not None
    assert bca.high - percentile.high > 0.1 * (percentile.high - percentile.low)
    assert bca.low > percentile.low


COUNTS = (
    "pnl_mid_micro", "fees_micro", "contracts_centi", "taker_fills", "maker_fills", "orders",
    "invalid_actions", "max_capital_micro", "max_drawdown_micro", *ACTION_COLUMNS,
)  # fmt: skip


def random_rows(events: int) -> list[dict[str, object]]:
    """Two policies on one or two markets an event, one or two segments, "P" repeated there."""
    rng = np.random.default_rng(11)
    rows = []
    for event in range(events):
        for market in range(1 + event % 2):
            for segment in range(1 + event % 3 // 2):
                for policy, repeats in (("P", 1 + segment), ("Q", 1)):
                    for repeat in range(repeats):
                        trips = int(rng.integers(1, 9))
                        columns: dict[str, object] = {
                            name: int(rng.integers(1, 60_000)) for name in COUNTS
                        }
                        columns["round_trips"] = trips
                        columns["winning_trips"] = int(rng.integers(0, trips + 1))
                        rows.append(
                            row(policy, float(rng.normal(20, 90)), event=f"E{event:03d}",
                                market=f"E{event:03d}-{market}", segment=segment, repeat=repeat,
                                end_ms=1_000 + event, **columns)
                        )  # fmt: skip
    return rows


def close_to(interval: object, centre: float, error: float) -> bool:
    """Whether a bootstrap interval is the one that a normal mean would have, nearly."""
    low, high = interval[:2]  # type: ignore[index]
    half = 1.96 * error
    return abs(low - (centre - half)) < 0.4 * half and abs(high - (centre + half)) < 0.4 * half


def test_every_number_is_what_its_definition_says() -> None:
    events, rows = 60, random_rows(60)
    both = measure(panel(ledger(rows), ["P", "Q"]), EvaluationConfig(resamples=2_000))
    names = ("pnl_micro", "round_trips", "winning_trips", *COUNTS)
    episodes = {(one["event"], one["market"], one["segment"]) for one in rows}
    by_event: dict[str, dict[str, np.ndarray]] = {}
    for metrics in both:
        own = [one for one in rows if one["policy"] == metrics.policy]
        found = {name: event_totals(own, name) for name in names}
        by_event[metrics.policy] = {
            name: np.array([float(totals[key]) for key in sorted(totals)])
            for name, totals in found.items()
        }
        at = by_event[metrics.policy]
        total = {name: values.sum() for name, values in at.items()}
        pnl = at["pnl_micro"] / 10_000
        decisions = sum(total[name] for name in ACTION_COLUMNS)
        fills = total["taker_fills"] + total["maker_fills"]
        positive = int((pnl > 0).sum())
        expected = {
            "pnl_cents": pnl.mean(),
            "pnl_mid_cents": total["pnl_mid_micro"] / events / 10_000,
            "pnl_episode_cents": pnl.sum() / len(episodes),
            "return_on_capital": total["pnl_micro"] / total["max_capital_micro"],
            "sharpe": pnl.mean() / pnl.std(ddof=1),
            "positive_events": positive,
            "positive_share": positive / events,
            "round_trips": total["round_trips"] / events,
            "win_rate": total["winning_trips"] / total["round_trips"],
            "max_drawdown_cents": max(one["max_drawdown_micro"] for one in own) / 10_000,
            "max_drawdown_share": max(
                one["max_drawdown_micro"] / one["max_capital_micro"] for one in own
            ),
            "fees_cents": total["fees_micro"] / events / 10_000,
            "contracts": total["contracts_centi"] / events / 100,
            "orders": total["orders"] / events,
            "fills_per_order": fills / total["orders"],
            "maker_share": total["maker_fills"] / fills,
            "hold_share": total["action_hold"] / decisions,
            "invalid_share": total["invalid_actions"] / decisions,
            "best_event_share": pnl.max() / pnl[pnl > 0].sum(),
            "pnl_without_best_cents": (pnl.sum() - pnl.max()) / (events - 1),
        }
        for name, value in expected.items():
            assert getattr(metrics, name) == pytest.approx(value), name
        assert isinstance(metrics.positive_events, int)
        assert metrics.action_shares == pytest.approx(
            [total[name] / decisions for name in ACTION_COLUMNS]
        )
        assert metrics.sharpe_interval == inference.sharpe_interval(pnl, 0.95)
        assert metrics.positive_interval == inference.wilson_interval(positive, events, 0.95)
        assert metrics.detectable_cents == pytest.approx(
            inference.smallest_detectable_effect(float(pnl.std(ddof=1)), events, 0.95)
        )
        assert close_to(metrics.pnl_interval, pnl.mean(), pnl.std() / math.sqrt(events))
        rate = total["winning_trips"] / total["round_trips"]
        off = (at["winning_trips"] - rate * at["round_trips"]) / at["round_trips"].mean()
        assert close_to(metrics.win_interval, rate, off.std() / math.sqrt(events))
    judged, other = both
    assert (judged.policy, other.policy) == ("P", "Q")
    apart = (by_event["P"]["pnl_micro"] - by_event["Q"]["pnl_micro"]) / 10_000
    assert (judged.difference_cents, judged.difference_interval) == (None, None)
    assert other.difference_cents == pytest.approx(apart.mean())
    assert close_to(other.difference_interval, apart.mean(), apart.std() / math.sqrt(events))
    with pytest.raises(FrozenInstanceError):
        judged.orders = 0.0  # type: ignore[misc]


def test_where_nothing_was_done_there_is_no_share() -> None:
    idle = dict.fromkeys((*COUNTS, "round_trips", "winning_trips"), 0)
    rows = [row("P", 0, event=f"E{n:02d}", market=f"M{n}", **idle) for n in range(30)]
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    undefined = ("return_on_capital", "win_rate", "win_interval", "fills_per_order", "maker_share",
                 "best_event_share", "sharpe")  # fmt: skip
    assert {name: getattr(metrics, name) for name in undefined} == dict.fromkeys(undefined)
    assert metrics.action_shares == (0.0,) * len(ACTION_COLUMNS)
    assert (metrics.hold_share, metrics.invalid_share) == (0.0, 0.0)
    assert metrics.pnl_interval == (0.0, 0.0)


def test_an_event_is_positive_above_nothing() -> None:
    rows = [
        row("P", cents, event=f"E{place}", market=f"M{place}")
        for place, cents in enumerate((0, 0.5, -0.5, 0.75))
    ]
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    assert (metrics.positive_events, metrics.positive_share) == (2, 0.5)
    assert metrics.best_event_share == pytest.approx(0.75 / 1.25)


def test_one_event_has_nothing_without_its_best() -> None:
    (metrics,) = measure(panel(ledger([row("P", 5)]), ["P"]), CONFIG)
    assert metrics.pnl_without_best_cents is None
    assert metrics.best_event_share == 1.0
    rows = [row("P", 5, event="A", market="A-M"), row("P", 7, event="B", market="B-M")]
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    assert metrics.pnl_without_best_cents == 5


def test_a_rate_of_trips_has_an_interval_only_where_every_resample_has_trips() -> None:
    """One trip in all: some resample has none."""
    rows = [
        row("P", 1, event=f"E{n:02d}", market=f"M{n}", round_trips=int(n == 0), winning_trips=0)
        for n in range(30)
    ]
    (metrics,) = measure(panel(ledger(rows), ["P"]), CONFIG)
    assert (metrics.win_rate, metrics.win_interval) == (0.0, None)


def test_a_panel_counts_markets_events_and_episodes() -> None:
    data = panel(ledger(random_rows(7)), ["Q", "P"])
    assert data.policies == ("Q", "P")
    assert data.events == 7
    assert np.bincount(data.cluster).tolist() == [1, 2, 1, 2, 1, 2, 1]
    # the second segment: in events 2 and 5, of one and of two markets
    assert data.episodes == 10 + 1 + 2
    assert {values.shape for values in data.totals.values()} == {(10, 2)}
    assert data.event_end_ms.tolist() == list(range(1_000, 1_007))
