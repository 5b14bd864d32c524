"""What must hold of an evaluation before anybody reads its verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.rules.behaviour import most_micro
from kalshi_pipeline.rules.finding import Fact, Finding, faultless
from kalshi_pipeline.storage.publish import Generation
from kalshi_pipeline.storage.tables import read_table

HOLD, RANDOM, UNTRAINED = "Hold", "Random", "Untrained network"
CHANCE_P = 0.001  # of one policy without skill; eight of them are looked at, every night
RESAMPLES = 9_999
_SEED = 20_251_214


def hold_earns_nothing(evaluation: Generation) -> Finding:
    """Doing nothing changes nothing: the first check of any account."""
    table = _ledger(evaluation, "policy", "session", "market", "segment", "pnl_micro")
    of_hold = table.filter(pc.equal(table["policy"], HOLD))
    moved = of_hold.filter(pc.not_equal(of_hold["pnl_micro"], 0))
    total = int(np.abs(moved["pnl_micro"].to_numpy()).sum())
    says = f"Hold traded {of_hold.num_rows} episodes and earned {total} micro-dollars"
    facts = tuple(_facts(moved, lambda row: row["pnl_micro"], "Hold earns exactly 0"))
    return Finding(of_hold.num_rows > 0 and not facts, says, facts)


def report_is_complete(evaluation: Generation) -> Finding:
    """The report has its verdict, its sessions and its baselines."""
    report = _report(evaluation)
    wanted = (
        "schema_version", "verdict", "sessions", "criteria", "provenance", "labels", "selection",
        "decisions", "failure_modes", "recommendations",
    )  # fmt: skip
    missing = [name for name in wanted if not report.get(name)]
    facts = tuple(Fact("missing", "every part of a report", row=name) for name in missing)
    return Finding(not missing, f"missing parts: {', '.join(missing) or 'none'}", facts)


def report_follows_its_schema(evaluation: Generation) -> Finding:
    """The report is of the schema version that this code reads, every field of its type."""
    from kalshi_pipeline.errors import UnreadableReport
    from kalshi_pipeline.evaluation.reports.schema import SCHEMA_VERSION, read_report

    try:
        read_report(evaluation.path("report.json").read_bytes(), "report.json")
    except UnreadableReport as error:
        fact = Fact(error.value, f"schema {SCHEMA_VERSION}", row=error.rule)
        return Finding(False, str(error), (fact,))
    return Finding(True, f"schema {SCHEMA_VERSION}, every field of its type")


def no_used_session_is_clean(evaluation: Generation) -> Finding:
    """No row is called clean-forward of a session that weights or selection have used."""
    columns = _ledger(evaluation, "session", "label")
    clean = {
        session
        for session, label in zip(
            *(columns[name].to_pylist() for name in columns.column_names), strict=True
        )
        if label == "clean_forward"
    }
    used = {
        entry["session"]
        for entry in _report(evaluation)["walk_forward"]["sessions"]
        if entry["markets_trained_on"] or entry["markets_selected_on"]
    }
    both = sorted(clean & used)
    return Finding(
        not both,
        f"{len(clean)} sessions have clean-forward rows, {len(used)} were used; "
        f"both: {', '.join(map(str, both)) or 'none'}",
        tuple(Fact("clean_forward", "a used session is never clean", one) for one in both),
    )


def baselines_are_there(evaluation: Generation) -> Finding:
    """Every baseline has played every episode that the judged policy has, and chance has traded."""
    from kalshi_pipeline.evaluation.baselines import baselines

    ledger = _ledger(evaluation, "policy", "session", "market", "segment", "contracts_centi")
    played: dict[str, set[tuple[Any, ...]]] = {}
    keys = zip(*(ledger[key].to_pylist() for key in ("session", "market", "segment")), strict=True)
    for policy, key in zip(ledger["policy"].to_pylist(), keys, strict=True):
        played.setdefault(policy, set()).add(key)
    judged = played.get(_report(evaluation)["policy"], set())
    names = [*(baseline.name for baseline in baselines()), UNTRAINED]

    def faults() -> Iterator[Fact]:
        if not judged:
            yield Fact(0, "the judged policy has played", row="Learned")
        for name in names:
            missing = sorted(judged - played.get(name, set()))
            for session, market, segment in missing[:1]:
                value = f"{len(missing)} episodes missing, the first of segment {segment}"
                yield Fact(value, "every episode of the judged policy", session, market, name)
        traded = pc.sum(ledger.filter(pc.equal(ledger["policy"], RANDOM))["contracts_centi"])
        if not traded.as_py():
            yield Fact(0, "a policy that acts by chance trades", row=RANDOM)

    return faultless(faults(), f"{len(names)} baselines on {len(judged)} episodes")


def money_adds_up(evaluation: Generation) -> Finding:
    """Profit is spread, drift and settlement less fees; and never more than trades can bring.

    A contract pays a dollar or nothing, so no episode gains more than a dollar a contract traded:
    the predecessor's account paid 98 cents for each sale, at every step.
    """
    sums = ("spread_micro", "drift_micro", "settlement_micro", "fees_micro", "pnl_micro")
    ledger = _ledger(evaluation, "policy", "session", "market", "segment", "contracts_centi", *sums)
    spread, drift, settlement, fees, pnl = (ledger[name].to_numpy() for name in sums)
    unexplained = pnl - (spread + drift + settlement - fees)
    most = most_micro(ledger["contracts_centi"].to_numpy())
    rules = (
        ("profit is its parts", unexplained != 0, unexplained),
        ("at most a dollar a contract traded", pnl > most, pnl),
        ("fees are paid, not earned", fees < 0, fees),
    )

    def faults() -> Iterator[Fact]:
        for rule, broken, values in rules:
            for place in np.flatnonzero(broken)[:10].tolist():
                row = ledger.slice(place, 1).to_pylist()[0]
                value = f"{int(values[place]):,} micro-dollars by {row['policy']}"
                yield Fact(value, rule, row["session"], row["market"], place)

    return faultless(faults(), f"{ledger.num_rows:,} rows of the ledger")


def chance_earns_nothing(evaluation: Generation) -> Finding:
    """No policy without skill gains: acting by chance, or always alike, pays spread and fees.

    Where one does, the simulator gives money away or all markets went one way; either way the
    judged policy's profit means little.
    """
    from kalshi_pipeline.evaluation.inference import sign_flip_test
    from kalshi_pipeline.trading.actions import Action

    names = [RANDOM, *(f"Always {action.name}" for action in Action if action is not Action.HOLD)]
    ledger = _ledger(evaluation, "policy", "session", "event", "repeat", "pnl_micro")
    facts, means = [], {}
    for name in names:
        rows = ledger.filter(pc.equal(ledger["policy"], name))
        if not rows.num_rows:
            continue
        totals = rows.group_by(["session", "event"]).aggregate([("pnl_micro", "sum")])
        repeats = len(set(rows["repeat"].to_pylist()))
        cents = totals["pnl_micro_sum"].to_numpy() / repeats / MICRO_PER_CENT
        means[name] = float(cents.mean())
        if len(cents) < EvaluationConfig.min_units or cents.mean() <= 0:
            continue  # under so many events nothing is claimed, for nobody
        (both_ways,) = sign_flip_test(cents[:, None], RESAMPLES, np.random.default_rng(_SEED))
        if both_ways / 2 <= CHANCE_P:
            value = f"{cents.mean():+.1f} ¢ an event, p {both_ways / 2:.2g}, {len(cents)} events"
            facts.append(Fact(value, "no gain without skill", row=name))
    if not means:
        return faultless([Fact(0, "policies without skill have played")], "no such policy")
    best = max(means, key=lambda name: means[name])
    return faultless(facts, f"the best of {len(means)}: {best}, {means[best]:+.1f} ¢ an event")


def judged_by_the_strict_rules(evaluation: Generation) -> Finding:
    """Fees on, quotes fill only when crossed, the end is liquidated, orders arrive late."""
    cell = _report(evaluation)["cell"]
    wanted = {"fill_model": "cross", "mark": "liquidation", "fees": True, "headline": True}
    facts = [
        Fact(cell.get(name), f"{name} is {value}", row=name)
        for name, value in wanted.items()
        if cell.get(name) != value
    ]
    return faultless(facts, f"fill model {cell.get('fill_model')}, {cell.get('mark')} mark")


def claims_only_what_it_shows(evaluation: Generation) -> Finding:
    """A verdict that claims success has every figure a claim takes; most claim nothing."""
    from kalshi_pipeline.evaluation import verdict as claims

    report = _report(evaluation)
    said = report["verdict"]
    if not said["claim"]:
        return Finding(True, f"claims nothing: {said['sentence']}")
    events = report["labels"].get("clean_forward", {}).get("events", 0)
    deflated = (report.get("selection") or {}).get("deflated_sharpe")
    compared = [one for one in report.get("paired") or () if not one["cheating"]]

    def faults() -> Iterator[Fact]:
        fact = partial(Fact, row="claim")
        if not report["cell"]["headline"]:
            yield fact(report["cell"]["fill_model"], "claims are made in the headline cell")
        if events < claims.CLAIM_EVENTS:
            yield fact(events, f"{claims.CLAIM_EVENTS} clean-forward events")
        if deflated is None or not deflated >= claims.MIN_DEFLATED_SHARPE:
            yield fact(deflated, f"a deflated Sharpe ratio of {claims.MIN_DEFLATED_SHARPE:g}")
        if not compared:
            yield fact(0, "a baseline beside it")
        for one in compared:
            beaten = one["p_holm"] is not None and one["p_holm"] < claims.CLAIM_P
            if not (beaten and one["difference_cents"] > 0):
                value = f"p {one['p_holm']} against {one['baseline']}"
                yield fact(value, f"every baseline beaten at {claims.CLAIM_P:g}")

    return faultless(faults(), f"claims success: {said['sentence']}")


def _ledger(evaluation: Generation, *columns: str) -> pa.Table:
    from kalshi_pipeline.evaluation.ledger import JUDGED_SCHEMA

    return read_table(evaluation.path("ledger.parquet"), JUDGED_SCHEMA, list(columns))


def _report(evaluation: Generation) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(evaluation.path("report.json").read_bytes())
    return report


def _facts(rows: pa.Table, value: Any, rule: str) -> Iterator[Fact]:
    for row in rows.slice(0, 10).to_pylist():
        yield Fact(value(row), rule, row["session"], row["market"], f"segment {row['segment']}")
