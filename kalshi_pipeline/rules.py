"""What must hold of each published output before anything is built on it.

Pure functions over the figures a stage reported; Dagster's asset checks carry their verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kalshi_pipeline.feature_table import TENSOR_FEATURES
from kalshi_pipeline.features import read_tensors
from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.storage.publish import Generation

MAX_LOSS_RATE = 0.01  # reliability rule D1: above it the session does not go on
MAX_UNREADABLE_RATE = 0.01


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule.

    Args:
        holds: whether it does.
        says: one sentence with the figures.
        warns: True where a failure is worth a look but stops nothing.
        figures: shown beside it.
    """

    holds: bool
    says: str
    warns: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


def capture_is_readable(raw: Generation) -> Finding:
    """At most 1 % of a recording's frames may be unreadable."""
    frames, rejected = raw.summary["frames"], raw.summary["rejected"]
    rate = rejected / frames if frames else 0.0
    return Finding(
        rate <= MAX_UNREADABLE_RATE,
        f"{rejected:,} of {frames:,} frames could not be read ({rate:.2%}; limit "
        f"{MAX_UNREADABLE_RATE:.0%})",
    )


def rows_are_conserved(books: Generation) -> Finding:
    """Rows in = applied + quarantined + before the first snapshot, exactly."""
    quality = books.summary
    quarantined = sum(quality["quarantined"].values())
    total = quality["applied"] + quarantined + quality["before_snapshot"]
    return Finding(
        quality["rows_in"] == total,
        f"{quality['rows_in']:,} rows in = {quality['applied']:,} applied + {quarantined:,} "
        f"quarantined + {quality['before_snapshot']:,} before a snapshot",
    )


def losses_are_bounded(books: Generation) -> Finding:
    """At most 1 % of a session's messages may be lost (rule D1)."""
    lost, rows = books.summary["lost_messages"], books.summary["rows_in"]
    rate = lost / (lost + rows) if lost else 0.0
    return Finding(
        rate <= MAX_LOSS_RATE,
        f"{books.summary['gaps']} gaps, {lost:,} messages lost ({rate:.2%}; limit "
        f"{MAX_LOSS_RATE:.0%})",
    )


def sizes_are_never_negative(books: Generation) -> Finding:
    """A right replay of an unbroken stream never takes more from a level than is there."""
    found = books.summary["quarantined"].get(label(Reason.NEGATIVE_SIZE), 0)
    return Finding(found == 0, f"{found} changes would have made a size negative", warns=True)


def crossed_books_are_brief(books: Generation) -> Finding:
    """Real feeds cross for milliseconds; a book that stays crossed ends its segment."""
    ended = books.summary["segments_ended_by"].get("crossed", 0)
    return Finding(
        ended == 0,
        f"{books.summary['crossed_states']} crossed states lasting "
        f"{books.summary['crossed_ms']} ms in all; {ended} segments ended by one",
        warns=True,
    )


def features_lie_in_their_ranges(tensors: Generation) -> Finding:
    """Every feature is finite and within the range its table declares."""
    features = read_tensors(tensors.verified()).features
    low = np.array([feature.low for feature in TENSOR_FEATURES], dtype=np.float32)
    high = np.array([feature.high for feature in TENSOR_FEATURES], dtype=np.float32)
    inside = np.isfinite(features) & (features >= low) & (features <= high)
    broken = [
        feature.name
        for feature, holds in zip(TENSOR_FEATURES, np.asarray(inside.all(axis=0)), strict=True)
        if not holds
    ]
    shown = ", ".join(broken) or "none"
    return Finding(not broken, f"{len(features):,} steps; features out of range: {shown}")


def there_is_something_to_trade(suitable: Generation) -> Finding:
    """A session without a suitable market is published and said to be empty."""
    found, markets = suitable.summary["suitable_markets"], suitable.summary["markets"]
    return Finding(found > 0, f"{found} of {markets} markets are suitable", warns=True)


def hold_earns_nothing(evaluation: Generation) -> Finding:
    """Doing nothing changes nothing: the first check of any account."""
    import pyarrow.parquet as pq

    ledger = pq.read_table(evaluation.path("ledger.parquet"), columns=["policy", "pnl_micro"])
    of_hold = ledger["pnl_micro"].to_numpy()[np.array(ledger["policy"].to_pylist()) == "Hold"]
    moved = int(np.abs(of_hold).sum())
    return Finding(
        len(of_hold) > 0 and moved == 0,
        f"Hold traded {len(of_hold)} episodes and earned {moved} micro-dollars",
    )


def report_is_complete(evaluation: Generation) -> Finding:
    """The report has its verdict, its sessions and its baselines."""
    report = json.loads(evaluation.path("report.json").read_bytes())
    wanted = ("schema_version", "verdict", "sessions", "criteria", "provenance", "labels")
    missing = [name for name in wanted if not report.get(name)]
    return Finding(not missing, f"missing parts: {', '.join(missing) or 'none'}")


def weights_are_sound(checkpoint: Generation) -> Finding:
    """Every tensor of a checkpoint is there, of its shape, and finite."""
    from kalshi_pipeline.errors import TrainingError
    from kalshi_pipeline.storage import checkpoints

    try:
        state = checkpoints.load(checkpoint.verified()).state
    except TrainingError as error:
        return Finding(False, str(error))
    markets = len({(entry.session, entry.market) for entry in state.lineage})
    return Finding(
        markets > 0, f"{state.timesteps_total:,} steps in all, {markets} markets in its lineage"
    )
