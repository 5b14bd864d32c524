"""The report's `trades`: splits, mark-outs, round trips, concentration, flags, the portfolio.

Per event, as everywhere: summed over the market segments of an event, the mean over repeats.
Intervals draw events whole, all policies and figures from the same draws; none below `min_units`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.config import MICRO_PER_CENT, EvaluationConfig
from kalshi_pipeline.evaluation import inference as stats
from kalshi_pipeline.evaluation.evidence import Evidence, Turn
from kalshi_pipeline.evaluation.lineage import Label
from kalshi_pipeline.evaluation.trades.clock import GRID_MS, in_time, pooled
from kalshi_pipeline.evaluation.trades.dissect import HORIZONS_S, NO_MID, Flag
from kalshi_pipeline.evaluation.trades.examples import examples
from kalshi_pipeline.trading.actions import BUY

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BEST_SHARE = 0.01
_BP2_PER_CENT = 200  # mids are stored twice


@dataclass(frozen=True)
class _Rows:
    """The ledger's rows in scope: N rows of the whole ledger, C events, M markets."""

    event: Ints  # [N] -1: out of scope
    market: Ints  # [N]
    repeat: Ints  # [N]
    weight: Floats  # [N] 1 / repeats; 0: out of scope
    events: int
    markets: int


@dataclass
class _Ratios:
    """Ratios of sums over events whose intervals are found all at once."""

    entries: list[tuple[dict[str, Any], str, Floats, Floats]] = field(default_factory=list)

    def add(
        self, row: dict[str, Any], name: str, interval: str, over: Floats, under: Floats
    ) -> None:
        """`row[name] = sum(over) / sum(under)`, each `[C]`, and its interval later."""
        total = float(under.sum())
        row[name] = float(over.sum()) / total if total > 0 else None
        row[interval] = None
        if total > 0:
            self.entries.append((row, interval, over, under))

    def resolve(self, evaluation: EvaluationConfig) -> None:
        """Write the intervals."""
        if not self.entries or len(self.entries[0][2]) < evaluation.min_units:
            return
        units = len(self.entries[0][2])
        columns = np.column_stack([part for _, _, *parts in self.entries for part in parts])
        means = stats.cluster_means(
            columns, np.arange(units), evaluation.resamples, np.random.default_rng(evaluation.seed)
        )
        for place, (row, interval, _, _) in enumerate(self.entries):
            over, under = means[:, 2 * place], means[:, 2 * place + 1]
            if (under > 0).all():
                row[interval] = stats.percentile_interval(
                    over / under, evaluation.confidence, units
                )


def section(evidence: Evidence) -> dict[str, Any]:
    """`trades` of the report; see `docs/EVALUATION.md`."""
    rows, ratios = _rows(evidence), _Ratios()
    by_policy = [
        (name, [turn for turn in evidence.turns if turn.policy == name])
        for name in evidence.case.shown
    ]
    found = {
        "split": [_split(name, evidence, rows) for name, _ in by_policy],
        "markouts": [
            row for name, turns in by_policy for row in _markouts(name, turns, rows, ratios)
        ],
        "trips": [_trips(name, turns, evidence, rows, ratios) for name, turns in by_policy],
        "concentration": [_concentration(name, turns, rows) for name, turns in by_policy],
        "flags": [_flags(name, turns, rows, ratios) for name, turns in by_policy],
        "portfolio": _portfolio(by_policy, evidence),
        "examples": examples(evidence, rows.weight),
    }
    ratios.resolve(evidence.case.evaluation)
    return found


def _rows(evidence: Evidence) -> _Rows:
    ledger = evidence.ledger
    clean = Label.CLEAN_FORWARD.value
    labels = np.array(ledger["label"].to_pylist(), dtype=object)
    chosen = labels == clean if evidence.is_clean else np.ones(len(labels), np.bool_)
    names = [ledger[key].to_pylist() for key in ("session", "event", "market", "segment", "policy")]
    event, market, played = (
        _numbered(list(zip(*(names[i] for i in which), strict=True)), chosen)
        for which in ((0, 1), (0, 1, 2), (0, 2, 3, 4))
    )
    event = _in_time(event, names, ledger["end_ms"].to_numpy())
    repeats = np.bincount(played[chosen], minlength=1)
    weight = np.where(chosen, 1.0 / repeats[np.maximum(played, 0)], 0.0)
    repeat = ledger["repeat"].to_numpy()
    return _Rows(event, market, repeat, weight, int(event.max()) + 1, int(market.max()) + 1)


def _in_time(event: Ints, names: Sequence[Sequence[Any]], end_ms: Ints) -> Ints:
    """Events numbered as `metrics.panel` does: the same draws, so the same intervals."""
    keys: dict[int, tuple[int, Any, Any]] = {}
    for row in np.flatnonzero(event >= 0).tolist():
        number = int(event[row])
        end = max(int(end_ms[row]), keys[number][0] if number in keys else 0)
        keys[number] = (end, names[0][row], names[1][row])
    rank = np.full(len(keys) + 1, -1, np.int64)  # the last: out of scope
    rank[sorted(keys, key=lambda number: keys[number])] = np.arange(len(keys))
    ranked: Ints = rank[event]
    return ranked


def _numbered(keys: Sequence[tuple[Any, ...]], chosen: NDArray[np.bool_]) -> Ints:
    numbers: dict[tuple[Any, ...], int] = {}
    found = np.full(len(keys), -1, np.int64)
    for row in np.flatnonzero(chosen).tolist():
        found[row] = numbers.setdefault(keys[row], len(numbers))
    return found


def _by_event(rows: _Rows, row: Ints, values: NDArray[Any]) -> Floats:
    """`[C]` weighted sums of what belongs to rows of the ledger."""
    weight = rows.weight[row]
    kept = weight > 0
    return np.bincount(
        rows.event[row[kept]], (weight * values)[kept], minlength=rows.events
    ).astype(np.float64)


def _split(name: str, evidence: Evidence, rows: _Rows) -> dict[str, Any]:
    ledger = evidence.ledger
    of = np.array([policy == name for policy in ledger["policy"].to_pylist()])
    weight = rows.weight * of
    cents = {
        part: float(weight @ ledger[f"{part}_micro"].to_numpy()) / MICRO_PER_CENT / rows.events
        for part in ("spread", "fees", "drift", "settlement", "pnl")
    }
    return {
        "policy": name,
        "spread_cents": cents["spread"],
        "fees_cents": -cents["fees"],
        "drift_cents": cents["drift"],
        "settlement_cents": cents["settlement"],
        "total_cents": cents["pnl"],
    }


def _markouts(
    name: str, turns: Sequence[Turn], rows: _Rows, ratios: _Ratios
) -> list[dict[str, Any]]:
    # cents a contract in the direction of the fill
    found = []
    for kind, taker in (("all", None), ("maker", False), ("taker", True)):
        for place, horizon in enumerate(HORIZONS_S):
            over, under = np.zeros(rows.events), np.zeros(rows.events)
            fills = 0
            for turn in turns:
                took = turn.dissection
                later = took.later_mid2_bp[place]
                which = later != NO_MID
                if taker is not None:
                    which &= took.fills.taker == taker
                row = turn.first + took.fills.job[which]
                sign = np.where(took.fills.side[which] == BUY, 1, -1)
                size = took.fills.size_centi[which]
                moved = sign * size * (later - took.mid2_bp)[which] / _BP2_PER_CENT
                over += _by_event(rows, row, moved)
                under += _by_event(rows, row, size)
                fills += int(np.count_nonzero(rows.weight[row] > 0))
            entry = {"policy": name, "side": kind, "horizon_s": horizon, "fills": fills}
            ratios.add(entry, "cents", "interval", over, under)
            found.append(entry)
    return found


def _trips(
    name: str, turns: Sequence[Turn], evidence: Evidence, rows: _Rows, ratios: _Ratios
) -> dict[str, Any]:
    gain, matched, row, forced = _lots(turns, evidence)
    ones = np.ones(len(gain))
    trips, wins = _by_event(rows, row, ones), _by_event(rows, row, gain > 0)
    held = _by_event(rows, row, matched > 0)
    weight = rows.weight[row]
    win, loss = _mean(gain, weight * (gain > 0)), _mean(-gain, weight * (gain < 0))
    entry: dict[str, Any] = {
        "policy": name,
        "trips": float(trips.sum()) / rows.events,
        "average_win_cents": win,
        "average_loss_cents": loss,
        "break_even_rate": loss / (win + loss) if win and loss else None,
        "forced_share": _mean(forced * float(MICRO_PER_CENT), weight),
        "matched_trips": float(trips.sum()) / rows.events,
    }
    ratios.add(entry, "win_rate", "win_interval", wins, trips)
    ratios.add(entry, "matched_win_rate", "matched_win_interval", held, trips)
    ratios.add(entry, "above_matched", "above_matched_interval", wins - held, trips)
    return entry


def _lots(turns: Sequence[Turn], evidence: Evidence) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    # gain, gain had it been held, row of the ledger, whether liquidation closed of it
    gain, matched, row, forced = [], [], [], []
    for turn in turns:
        found = turn.dissection
        tape = evidence.case.universes[turn.session].tape
        truncated = tape.settlement_bp[found.episode[found.lots.job]] < 0
        gain.append(found.lots.gain_micro)
        matched.append(found.matched_micro)
        row.append(turn.first + found.lots.job)
        forced.append((found.lots.at_end_centi > 0) & truncated)
    return tuple(np.concatenate(parts) for parts in (gain, matched, row, forced))  # type: ignore[return-value]


def _mean(values_micro: NDArray[Any], weight: Floats) -> float | None:
    """Weighted mean in cents."""
    total = float(weight.sum())
    return float(weight @ values_micro) / total / MICRO_PER_CENT if total > 0 else None


def _concentration(name: str, turns: Sequence[Turn], rows: _Rows) -> dict[str, Any]:
    gain = np.concatenate([turn.dissection.lots.gain_micro for turn in turns])
    row = np.concatenate([turn.first + turn.dissection.lots.job for turn in turns])
    weighted = gain * rows.weight[row]
    kept = rows.weight[row] > 0
    by_market = np.bincount(rows.market[row[kept]], weighted[kept], rows.markets)
    best = math.ceil(BEST_SHARE * int(kept.sum()))
    without = np.sort(weighted[kept])[: max(int(kept.sum()) - best, 0)].sum()
    return {
        "policy": name,
        "best_market_share": _best_share(by_market),
        "best_event_share": _best_share(_by_event(rows, row, gain)),
        "best_trade_share": _best_trade_share(gain[kept], rows.repeat[row[kept]]),
        "pnl_without_best_percent_cents": float(without) / MICRO_PER_CENT / rows.events,
    }


def _best_trade_share(gain: Ints, repeat: Ints) -> float | None:
    # each repeat by itself, and their mean: a trade repeated is no second one, and the share of one
    # among the gains of all repeats would fall with their number
    shares = [_best_share(gain[repeat == one]) for one in np.unique(repeat)]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None


def _best_share(values: NDArray[Any]) -> float | None:
    gains = float(values[values > 0].sum())
    return float(values.max()) / gains if gains > 0 else None


def _flags(name: str, turns: Sequence[Turn], rows: _Rows, ratios: _Ratios) -> dict[str, Any]:
    fill_row = np.concatenate([turn.first + turn.dissection.fills.job for turn in turns])
    fill_flags = np.concatenate([turn.dissection.flags for turn in turns])
    lot_row = np.concatenate([turn.first + turn.dissection.lots.job for turn in turns])
    lot_flags = np.concatenate([turn.dissection.lots.flags for turn in turns])
    gain = np.concatenate([turn.dissection.lots.gain_micro for turn in turns]) / MICRO_PER_CENT
    weight = rows.weight[fill_row]
    entry: dict[str, Any] = {"policy": name}
    for flag, key in (
        (Flag.THIN_TOUCH, "thin_touch"),
        (Flag.STALE_BOOK, "stale_book"),
        (Flag.IMPROVED, "improved"),
    ):
        total = float(weight.sum())
        flagged = float(weight @ (fill_flags & flag > 0))
        entry[f"{key}_share"] = flagged / total if total > 0 else None
        without = _by_event(rows, lot_row, gain * (lot_flags & flag == 0))
        ratios.add(
            entry, f"pnl_without_{key}_cents", f"pnl_without_{key}_interval", without,
            np.ones(rows.events),
        )  # fmt: skip
        entry[f"pnl_of_{key}_cents"] = (
            float(_by_event(rows, lot_row, gain * (lot_flags & flag > 0)).sum()) / rows.events
        )
    return entry


def _portfolio(
    by_policy: Sequence[tuple[str, Sequence[Turn]]], evidence: Evidence
) -> dict[str, Any]:
    paths = {
        name: pooled([turn.clean_path if evidence.is_clean else turn.path for turn in turns])
        for name, turns in by_policy
    }
    judged = paths[evidence.case.judged.name]
    figures = {name: asdict(in_time(path)) for name, path in paths.items()}
    equity = judged.equity_micro / MICRO_PER_CENT
    return {
        "grid_s": GRID_MS // 1_000,
        "points": [
            {"time_ms": tick * GRID_MS, "equity_cents": cents}
            for tick, cents in zip(judged.tick.tolist(), equity.tolist(), strict=True)
        ],
        **figures[evidence.case.judged.name],
        "policies": [{"policy": name, **each} for name, each in figures.items()],
    }
