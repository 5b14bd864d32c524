"""One backtest a fill model and fees, two marks each; who earns only where free money is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kalshi_pipeline.config import EvaluationConfig, TradingConfig
from kalshi_pipeline.evaluation.baselines import (
    Always,
    OneStepOracle,
    PassiveTwoSided,
    Quoter,
    RandomUniform,
    Shuffled,
)
from kalshi_pipeline.evaluation.evidence import Case, Evidence, gather
from kalshi_pipeline.evaluation.grid import GRID_SCHEMA, grid, grid_table
from kalshi_pipeline.evaluation.lineage import Lineage
from kalshi_pipeline.evaluation.metrics import measure, panel
from kalshi_pipeline.evaluation.robustness import axes, robustness, with_fees
from kalshi_pipeline.trading.actions import Action
from kalshi_pipeline.trading.tape import Universe
from tests.evaluation.universes import named_universe, ranges
from tests.tapes import book, delta, trade, universe_from_messages

CONFIG = EvaluationConfig(resamples=500, stochastic_repeats=2)
CELLS = 12


def coin_flips(events: int = 40, spread_bp: int = 800, steps: int = 60) -> Universe:
    """Deep books whose mid is a fair coin and never meets a quote: nothing trades through one."""
    rng, episodes = np.random.default_rng(8), []
    for _ in range(events):
        mid = 5_000 + 100 * np.cumsum(rng.choice((-1, 1), size=steps))
        half = spread_bp // 2
        episodes.append(
            [
                book(1_000 * t, (int(m) - half, 10**6), (int(m) + half, 10**6))
                for t, m in enumerate(mid)
            ]
        )
    made = universe_from_messages(episodes)
    names = (replace(e, event=f"E{n}", market=f"M{n}") for n, e in enumerate(made.episodes))
    return Universe(made.tape, tuple(names))


def evidence_of(universes: dict[int, Universe], **options: Any) -> Evidence:
    chosen: dict[str, Any] = {
        "judged": RandomUniform(),
        "baselines": (Always(Action.HOLD), PassiveTwoSided(), Quoter(buys=True), OneStepOracle()),
        "used": Lineage.of((), ()),
        "provenance": {},
        "evaluation": CONFIG,
        **options,
    }
    roles = dict.fromkeys(universes, "forward")
    return gather(Case(universes, roles, **chosen), lambda _: None)


@pytest.fixture(scope="module")
def flipped() -> Evidence:
    return evidence_of({1: coin_flips()})


def cell(rows: list[dict[str, Any]], policy: str, **wanted: Any) -> dict[str, Any]:
    wanted = {"fees": False, "mark": "liquidation", "policy": policy} | wanted
    (found,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return found


def test_every_policy_is_in_every_cell_and_one_cell_is_the_headline(flipped: Evidence) -> None:
    rows = grid(flipped)
    assert len(rows) == CELLS * len(flipped.case.shown)
    headline = [row for row in rows if row["headline"]]
    assert [row["policy"] for row in headline] == list(flipped.case.shown)
    assert {(row["fill_model"], row["mark"], row["fees"]) for row in headline} == {
        ("cross", "liquidation", True)
    }
    assert {row["fill_model"] for row in rows} == {"cross", "queue(0.5)", "touch"}


def test_the_headline_cell_is_the_headline(flipped: Evidence) -> None:
    measured = measure(panel(flipped.scope, flipped.case.shown), CONFIG)
    for row, figures in zip(
        [row for row in grid(flipped) if row["headline"]], measured, strict=True
    ):
        for name in ("pnl_cents", "difference_cents", "sharpe", "round_trips", "fees_cents"):
            assert row[name] == getattr(figures, name)
        assert row["pnl_interval"] == pytest.approx(figures.pnl_interval)
        if figures.difference_interval:
            assert row["difference_interval"] == pytest.approx(figures.difference_interval)


def test_touch_gives_a_quoter_the_spread_of_a_fair_coin(flipped: Evidence) -> None:
    rows = grid(flipped)
    kind = cell(rows, "Passive two-sided", fill_model="touch")
    assert kind["pnl_interval"].low > 0
    assert kind["sharpe"] > 1
    assert cell(rows, "Passive two-sided", fill_model="cross")["pnl_cents"] <= 0


def test_the_mid_mark_gives_a_buyer_half_the_spread_of_a_fair_coin(flipped: Evidence) -> None:
    rows = grid(flipped)
    at_mid = cell(rows, "Passive buy-only", fill_model="touch", mark="mid")
    sold = cell(rows, "Passive buy-only", fill_model="touch")
    assert at_mid["pnl_interval"].low > 0
    assert sold["pnl_interval"].low < 0 < at_mid["pnl_cents"] - sold["pnl_cents"]
    # ten contracts, half of eight cents each
    assert at_mid["pnl_cents"] - sold["pnl_cents"] == pytest.approx(40, rel=0.05)


@pytest.mark.parametrize("model", ["cross", "queue(0.5)", "touch"])
@pytest.mark.parametrize("mark", ["liquidation", "mid"])
def test_nobody_gains_by_fees_and_hold_earns_nothing_anywhere(
    flipped: Evidence, model: str, mark: str
) -> None:
    rows = grid(flipped)
    for fees in (True, False):
        hold = cell(rows, "Hold", fill_model=model, mark=mark, fees=fees)
        assert hold["pnl_cents"] == hold["fees_cents"] == hold["round_trips"] == 0
        assert tuple(hold["pnl_interval"]) == (0, 0)
    assert cell(rows, "Random", fill_model=model, mark=mark, fees=False)["fees_cents"] == 0
    assert cell(rows, "Random", fill_model=model, mark=mark, fees=True)["fees_cents"] > 0


def test_the_table_holds_every_episode_of_every_cell(flipped: Evidence) -> None:
    table = grid_table(flipped)
    assert table.schema == GRID_SCHEMA
    assert table.num_rows == 6 * flipped.scope.num_rows
    touch = table.filter(
        [
            a == "touch" and not b
            for a, b in zip(*(table[c].to_pylist() for c in ("fill_model", "fees")), strict=True)
        ]
    )
    random = touch.filter([name == "Random" for name in touch["policy"].to_pylist()])
    total = sum(random["pnl_micro"].to_pylist()) / 10_000 / CONFIG.stochastic_repeats
    row = cell(grid(flipped), "Random", fill_model="touch")
    assert total / len(set(random["event"].to_pylist())) == pytest.approx(row["pnl_cents"])


def test_the_grid_is_of_the_headlines_rows_alone() -> None:
    trained, forward = named_universe(1, 4), named_universe(3, 5)
    judged = evidence_of(
        {1: trained, 3: forward}, used=Lineage.of(ranges(trained, end_ms=0), ()),
        baselines=(Always(Action.HOLD), Shuffled(RandomUniform())),
    )  # fmt: skip
    assert set(grid_table(judged)["session"].to_pylist()) == {3}
    assert all(row["pnl_interval"] is None for row in grid(judged))  # five events


def test_a_curve_passes_through_the_headline_where_its_rule_is_as_it_was(
    flipped: Evidence,
) -> None:
    found = robustness(flipped)
    assert [curve["axis"] for curve in found["curves"]] == [
        "starting_capital", "position_limit", "order_size", "fee_multiple", "latency",
        "fill_model",
    ]  # fmt: skip
    base = {"starting_capital": "100", "position_limit": "10", "order_size": "1",
            "fee_multiple": "1", "latency": "250", "fill_model": "cross"}  # fmt: skip
    headline = cell(grid(flipped), "Random", fill_model="cross", fees=True)
    for curve in found["curves"]:
        (point,) = (
            p for p in curve["points"]
            if p["setting"] == base[curve["axis"]] and p["policy"] == "Random"
        )  # fmt: skip
        assert point["pnl_cents"] == headline["pnl_cents"]
        assert point["pnl_interval"] == pytest.approx(headline["pnl_interval"])
        held = [p["pnl_cents"] for p in curve["points"] if p["policy"] == "Hold"]
        assert not any(held)
        assert len(held) == len(curve["points"]) / 4


def test_costs_rise_with_the_fee_multiple(flipped: Evidence) -> None:
    (curve,) = (c for c in robustness(flipped)["curves"] if c["axis"] == "fee_multiple")
    earned = [p["pnl_cents"] for p in curve["points"] if p["policy"] == "Random"]
    assert [p["value"] for p in curve["points"] if p["policy"] == "Random"] == [0, 0.5, 1, 2, 3]
    assert earned == sorted(earned, reverse=True)
    assert earned[0] == cell(grid(flipped), "Random", fill_model="cross")["pnl_cents"]


def test_fees_are_multiplied_on_the_tape_and_nothing_else_is() -> None:
    universe = named_universe(1, 3)
    twice = with_fees(universe, 2.0)
    assert twice.tape.fee_schedule[:, 2].tolist() == [200, 200, 200]
    assert universe.tape.fee_schedule[:, 2].tolist() == [100, 100, 100]
    assert twice.reel.episodes["fees"][:, 2].tolist() == [200, 200, 200]
    assert twice.episodes == universe.episodes


def fading() -> Universe:
    """A market of 48 to 52 cents where size leaves and comes back, and nothing trades.

    Ten contracts are ahead of an order at the touch, and about fifteen leave from there.
    """
    messages = [book(0, (4_800, 1_000), (5_200, 1_000))]
    messages += [delta(1_000 * t, t % 2, 4_800, 100 if t // 2 % 2 else -100) for t in range(2, 68)]
    return universe_from_messages([messages], fee_schedule=(0, 0, 100, 0))


def test_the_share_of_decreases_that_must_be_trades_is_found_to_the_percent() -> None:
    evidence = evidence_of({1: fading()})
    alphas = robustness(evidence)["break_even_alphas"]
    alpha = alphas["Passive two-sided"]
    assert alpha is not None
    assert 0.5 < alpha <= 1.0

    def earned(share: float) -> int:
        config = TradingConfig(fill_model="queue", queue_alpha=share)
        rows = evidence.under(config, [PassiveTwoSided()], "queue")
        return sum(rows["pnl_micro"].to_pylist())

    assert earned(alpha) > 0
    assert earned(round(alpha - 0.01, 2)) <= 0
    assert alphas["Hold"] is None


def test_who_gains_by_trades_alone_needs_no_decreases() -> None:
    messages = [book(0, (4_800, 100), (5_200, 100))]
    messages += [trade(1_000 * t, 4_800 if t % 2 else 5_200, 100, t % 2) for t in range(1, 60)]
    evidence = evidence_of({1: universe_from_messages([messages], fee_schedule=(0, 0, 100, 0))})
    assert robustness(evidence)["break_even_alphas"]["Passive two-sided"] == 0.0


def test_nothing_is_played_twice() -> None:
    judged = RandomUniform()
    seen: list[str] = []
    evidence = evidence_of(
        {1: fading()}, judged=judged,
        baselines=(Always(Action.HOLD), Shuffled(judged), PassiveTwoSided()),
    )  # fmt: skip
    evidence = replace(evidence, progress=seen.append)
    found = robustness(evidence)
    grid(evidence)
    assert len(seen) == len(set(seen))
    # all four under the rules of no cell of the grid, and the quoter alone to find its percentage
    cells = [line for line in seen if " fees, " in line]
    asked = [line for line in seen if "break-even" in line]
    settings = {s.rules for axis in axes(evidence.case.trading) for s in axis.settings}
    assert len(cells) == 5 * 4  # the sixth was judged
    assert len(seen) == len(cells) + 4 * (len(settings) - 3) + len(asked)
    assert 0 < len(asked) <= 6
    assert all("Passive two-sided" in line for line in asked)
    # and comes to the same as what is played anew
    alone = replace(evidence, case=replace(evidence.case, baselines=()), progress=lambda _: None)
    assert robustness(alone) == found


def test_a_curve_passes_through_rules_that_are_not_on_its_axis() -> None:
    base = TradingConfig(
        fill_model="queue", queue_alpha=0.3, latency_ms=100, position_limit_centi=450,
        order_size_centi=300, cash_start_micro=50_000_000,
    )  # fmt: skip
    for axis in axes(base):
        assert [setting.rules for setting in axis.settings].count((base, 1.0)) == 1, axis.name
        values = [setting.value for setting in axis.settings if setting.value is not None]
        assert values == sorted(values)
    names = {axis.name: [setting.name for setting in axis.settings] for axis in axes(base)}
    assert names["latency"] == ["0", "100", "250", "1,000", "5,000"]
    assert names["position_limit"] == ["1", "3", "4.5", "10", "30"]
    assert names["fill_model"] == ["cross", "queue(0)", "queue(0.3)", "queue(0.5)", "queue(1)",
                                   "touch"]  # fmt: skip


def test_every_axis_changes_one_rule() -> None:
    base = TradingConfig()
    for axis in axes(base):
        for setting in axis.settings:
            changed = {
                name for name in vars(base) if getattr(base, name) != getattr(setting.config, name)
            }
            assert len(changed - {"queue_alpha"}) <= 1, (axis.name, changed)
