"""The report's `generalisation`: the judged policy on one kind of episodes against another.

Degradation is P&L per event of the reference minus that of the row: above 0 where the row does
worse. Two groups without a common event are drawn anew each by itself; those that share any are
drawn together, over the events of either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.evidence import Evidence, played
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.trading.universe import SAME_TIME

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

VALIDATION = "validation"
WHOLE = "hindsight, whole session"
MARKET_COUNTS: tuple[int, ...] = (1_000, 500, 300)  # plan 5.3: training, test, stress test
MARKET_SHARES = (1.0, 0.5, 0.3)  # the same of a session that has fewer markets than the first
_DRAWS = 1_000  # of market subsets
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BLOCK = 1 << 22  # markets drawn at a time


@dataclass(frozen=True)
class Group:
    """Some rows of a ledger, one policy: N markets in C events.

    Args:
        name: how the report calls it.
        market_cents: `[N]` mean over repeats, summed over a market's segments.
        event: `[N]` number of each market's event, from 0 to C - 1.
        events: `[C]` session and event.
        label: that all rows have, or "mixed".
    """

    name: str
    market_cents: Floats
    event: Ints
    events: tuple[tuple[int, str], ...]
    label: str

    @classmethod
    def of(cls, name: str, rows: pa.Table) -> Group:
        """Sum rows of a labelled ledger up."""
        keys = [rows[key].to_pylist() for key in ("session", "event", "market", "segment")]
        segments: dict[tuple[Any, ...], list[int]] = {}
        for key, pnl in zip(zip(*keys, strict=True), rows["pnl_micro"].to_pylist(), strict=True):
            segments.setdefault(key, []).append(pnl)
        markets: dict[tuple[Any, ...], float] = {}
        for key, pnls in segments.items():
            markets[key[:3]] = markets.get(key[:3], 0.0) + sum(pnls) / len(pnls) / MICRO_PER_CENT
        events = {event: code for code, event in enumerate(sorted({key[:2] for key in markets}))}
        labels = set(rows["label"].to_pylist())
        return cls(
            name,
            np.array(list(markets.values())),
            np.array([events[key[:2]] for key in markets], np.int64),
            tuple(events),
            labels.pop() if len(labels) == 1 else "mixed",
        )

    @property
    def event_cents(self) -> Floats:
        """`[C]` total of each event."""
        totals = np.bincount(self.event, self.market_cents, minlength=len(self.events))
        return totals.astype(np.float64)

    def means(self, evaluation: EvaluationConfig, stream: int) -> Floats:
        """`[resamples]` mean per event; groups with different streams are drawn independently."""
        rng = np.random.default_rng((evaluation.seed, stream))
        values = self.market_cents[:, None]
        return stats.cluster_means(values, self.event, evaluation.resamples, rng)[:, 0]


def generalisation(evidence: Evidence) -> dict[str, Any]:
    """The section; see `docs/EVALUATION.md`, "Generalisation"."""
    case, evaluation = evidence.case, evidence.case.evaluation
    rows = evidence.ledger.filter(pc.equal(evidence.ledger["policy"], case.judged.name))
    known = {underlying_of(event) for event in case.used.events}
    conventions = case.provenance.get("conventions", {})
    axes: list[tuple[str, Comparison]] = [
        ("sessions", _sessions(rows)),
        ("underlying", _underlyings(rows, known)),
        ("unseen_events", _unseen(rows, case.used.events)),
        ("label", _labels(rows)),
        ("convention", _conventions(rows, conventions)),
        ("universe", _universes(evidence)),
    ]
    tables = [{"axis": name, "rows": axis.rows(evaluation)} for name, axis in axes]
    tables.insert(1, {"axis": "market_count", "rows": market_counts(rows, evaluation)})
    return {"axes": tables}


@dataclass(frozen=True)
class Comparison:
    """Groups that are compared with one of them, or with another.

    Args:
        groups: rows of the table.
        reference: what they are compared with; None where there is nothing to. It may share events
            with a group, or all of them.
    """

    groups: Sequence[Group]
    reference: Group | None

    def rows(self, evaluation: EvaluationConfig) -> list[dict[str, Any]]:
        """One row a group."""
        return [self._row(group, evaluation) for group in self.groups]

    def _row(self, group: Group, evaluation: EvaluationConfig) -> dict[str, Any]:
        cents, reference = float(group.event_cents.mean()), self.reference
        units, interval = len(group.events), None
        if units >= evaluation.min_units:
            draws = group.means(evaluation, 0)
            interval = stats.percentile_interval(draws, evaluation.confidence, units)
        compared = reference is not None and reference is not group
        return {
            "name": group.name,
            "label": group.label,
            "events": units,
            "markets": len(group.market_cents),
            "pnl_cents": cents,
            "pnl_interval": interval,
            "reference": reference.name if reference else None,
            "degradation_cents": float(reference.event_cents.mean()) - cents
            if reference and compared
            else None,
            "degradation_interval": self._degradation(reference, group, evaluation)
            if reference and compared
            else None,
        }

    def _degradation(
        self, reference: Group, group: Group, evaluation: EvaluationConfig
    ) -> Sequence[float] | None:
        units = min(len(reference.events), len(group.events))
        if units < evaluation.min_units:
            return None
        if set(reference.events).isdisjoint(group.events):
            draws = reference.means(evaluation, 1) - group.means(evaluation, 0)
        else:
            draws = _drawn_together(reference, group, evaluation)
        return stats.percentile_interval(draws, evaluation.confidence, units)


def _drawn_together(reference: Group, group: Group, evaluation: EvaluationConfig) -> Floats:
    # [resamples] difference of means per event, over the same draws of the events of either
    every = {event: code for code, event in enumerate(sorted({*reference.events, *group.events}))}
    columns = np.zeros((len(every), 4))
    for side, one in enumerate((reference, group)):
        places = [every[event] for event in one.events]
        columns[places, side], columns[places, 2 + side] = one.event_cents, 1.0
    rng = np.random.default_rng(evaluation.seed)
    draws = stats.cluster_means(columns, np.arange(len(every)), evaluation.resamples, rng)
    means = draws[:, :2] / np.maximum(draws[:, 2:], 1.0 / len(every))
    return np.asarray(means[:, 0] - means[:, 1])


def underlying_of(event: str) -> str:
    """What an event is about: its series without Kalshi's prefix and the length of its period."""
    series = event.split("-")[0].removeprefix("KX")
    return re.sub(r"\d+(?:M|MIN|H|D|W)$", "", series) or series


def _grouped(rows: pa.Table, names: Iterable[str | None]) -> dict[str, Group]:
    # name of each row -> its group, in order of names; rows without a name are left out
    column = pa.array(list(names), pa.string())
    found = sorted(set(column.drop_null().to_pylist()))
    return {name: Group.of(name, rows.filter(pc.equal(column, name))) for name in found}


def _sessions(rows: pa.Table) -> Comparison:
    """Each session against what the policy was trained on, or else chosen on."""
    groups = _grouped(rows, (f"session {session}" for session in rows["session"].to_pylist()))
    trained = rows.filter(pc.equal(rows["label"], Label.IN_SAMPLE.value))
    chosen = rows.filter(pc.match_substring(rows["role"], VALIDATION))
    reference = None
    if trained.num_rows:
        reference = Group.of("in-sample markets", trained)
    elif chosen.num_rows:
        numbers = set(chosen["session"].to_pylist())
        reference = (
            groups[f"session {numbers.pop()}"]
            if len(numbers) == 1
            else Group.of("validation sessions", chosen)
        )
    return Comparison(list(groups.values()), reference)


def _underlyings(rows: pa.Table, known: set[str]) -> Comparison:
    groups = _grouped(rows, map(underlying_of, rows["event"].to_pylist()))
    seen = [group for name, group in groups.items() if name in known]
    return Comparison(list(groups.values()), seen[0] if len(seen) == 1 else None)


def _unseen(rows: pa.Table, used: frozenset[str]) -> Comparison:
    names = (
        "events used" if event in used else "unseen events" for event in rows["event"].to_pylist()
    )
    groups = _grouped(rows, names)
    return Comparison(list(groups.values()), groups.get("events used"))


def _labels(rows: pa.Table) -> Comparison:
    groups = _grouped(rows, rows["label"].to_pylist())
    return Comparison(list(groups.values()), groups.get(Label.IN_SAMPLE.value))


def _conventions(rows: pa.Table, conventions: Mapping[str, str]) -> Comparison:
    groups = _grouped(rows, (conventions.get(str(s)) for s in rows["session"].to_pylist()))
    ranked = sorted(groups.values(), key=lambda group: -len(group.events))
    return Comparison(list(groups.values()), ranked[0] if len(ranked) > 1 else None)


def market_counts(rows: pa.Table, evaluation: EvaluationConfig) -> list[dict[str, Any]]:
    """What random nested subsets of each session's markets earn, at the whole session's size.

    Each market is an account of its own, so that fewer of them change nothing a policy does: what
    varies is which markets there are. A subset's P&L is its mean per market times the markets per
    event of the whole session: an event that has lost markets to the draw is no smaller for it. The
    quantiles are of the subsets, not a confidence interval.
    """
    made = []
    for session in sorted(set(rows["session"].to_pylist())):
        group = Group.of(f"session {session}", rows.filter(pc.equal(rows["session"], session)))
        n = len(group.market_cents)
        counts = MARKET_COUNTS
        if n < max(MARKET_COUNTS):
            counts = tuple(dict.fromkeys(max(1, round(share * n)) for share in MARKET_SHARES))
        rng = np.random.default_rng((evaluation.seed, session))
        whole = float(group.event_cents.mean())
        for count, (cents, events) in zip(counts, _subsets(group, counts, rng), strict=True):
            mean = whole if count == n else float(cents.mean())
            quantiles = np.quantile(cents, _QUANTILES).tolist()
            made.append(
                {
                    "name": f"{group.name}: {count:,} of {n:,} markets",
                    "label": group.label,
                    "session": session,
                    "events": round(float(events.mean())),
                    "markets": count,
                    "of_markets": n,
                    "pnl_cents": mean,
                    "pnl_interval": None,
                    "pnl_quantiles": [
                        {"quantile": share, "cents": value}
                        for share, value in zip(_QUANTILES, quantiles, strict=True)
                    ],
                    "profitable_share": float(np.mean(cents > 0)),
                    "draws": len(cents),
                    "reference": f"all {n:,} markets",
                    "degradation_cents": None if count == n else whole - mean,
                    "degradation_interval": None,
                }
            )
    return made


def _subsets(
    group: Group, counts: Sequence[int], rng: np.random.Generator
) -> list[tuple[Floats, Ints]]:
    """For each count `[_DRAWS]` P&L of a subset, per event of the whole, and how many it has."""
    n, events = len(group.market_cents), len(group.events)
    markets_per_event = n / events
    parts: list[list[tuple[Floats, Ints]]] = [[] for _ in counts]
    block = max(1, _BLOCK // n)
    for start in range(0, _DRAWS, block):
        size = min(block, _DRAWS - start)
        order = rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
        for place, count in enumerate(counts):
            chosen = order[:, :count]
            present = np.zeros((size, events), np.bool_)
            present[np.arange(size)[:, None], group.event[chosen]] = True
            found = present.sum(axis=1)
            cents = group.market_cents[chosen].mean(axis=1) * markets_per_event
            parts[place].append((cents, found))
    return [
        (np.concatenate([c for c, _ in part]), np.concatenate([e for _, e in part]))
        for part in parts
    ]


def _universes(evidence: Evidence) -> Comparison:
    """Markets chosen by the whole session and by its first part alone, over the same time."""
    case = evidence.case
    if case.later is None:
        return Comparison((), None)
    tables: dict[str, list[pa.Table]] = {}
    for session in sorted(case.universes):
        for name, universe in case.later(session).items():

            def tell(line: str, name: str = name) -> None:
                evidence.progress(f"{name}, {line}")

            rows = played(case, {session: universe}, [case.judged], case.trading, tell)
            tables.setdefault(name, []).append(rows)
    scope = evidence.scope
    groups = {WHOLE: Group.of(WHOLE, scope.filter(pc.equal(scope["policy"], case.judged.name)))}
    for name, parts in tables.items():
        rows = pa.concat_tables(parts)
        if evidence.is_clean:
            rows = rows.filter(pc.equal(rows["label"], Label.CLEAN_FORWARD.value))
        if rows.num_rows:
            groups[name] = Group.of(name, rows)
    return Comparison(list(groups.values()), groups.get(SAME_TIME))
