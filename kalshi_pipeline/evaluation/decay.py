"""Whether a policy does worse on a new session than on those it was validated on.

Source: `docs/EVALUATION.md`, "Decay"; the share and its floor are the training plan's (6.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.config import EvaluationConfig
from kalshi_pipeline.evaluation.failure_modes import FLOOR_CENTS, MOST_FORGOTTEN
from kalshi_pipeline.evaluation.generalisation import Comparison, Group
from kalshi_pipeline.evaluation.lineage import Label

DECAYED: Final = "decayed"
Status = Literal["decayed", "no decay shown", "not assessable"]
MOST_DECAYED = MOST_FORGOTTEN  # of what it reached in validation, at least of `FLOOR_CENTS`


@dataclass(frozen=True)
class Decay:
    """What a forward validation came to; amounts in cents an event, None where there is none.

    Args:
        status: by the rule.
        says: it in a sentence.
        clean: whether the rows are clean-forward; otherwise nothing is concluded from them.
        events: of the new session.
        pnl_cents: mean over them.
        pnl_interval: of that mean.
        validation_events: of the validation sessions.
        validation_cents: mean over them.
        drop_cents: validation less forward.
        drop_interval: of that difference.
    """

    status: Status
    says: str
    clean: bool
    events: int
    pnl_cents: float
    pnl_interval: tuple[float, float] | None
    validation_events: int
    validation_cents: float | None
    drop_cents: float | None
    drop_interval: tuple[float, float] | None


def decay(forward: pa.Table, validation: pa.Table | None, evaluation: EvaluationConfig) -> Decay:
    """Compare one policy's episodes on a new session with those on its validation sessions.

    Decayed: the interval of the drop lies above 0, and the drop is more than `MOST_DECAYED` of what
    was reached. The first says that it is no chance, the second that it matters.

    Args:
        forward: labelled ledger of the new session, at least one row.
        validation: the same of the validation sessions; None where the plan has none.
        evaluation: confidence, resamples, seed, and below how many events nothing is claimed.
    """
    unseen = forward.filter(pc.equal(forward["label"], Label.CLEAN_FORWARD.value))
    clean = unseen.num_rows > 0
    group = Group.of("forward", unseen if clean else forward)
    reference = None if validation is None else Group.of("validation", validation)
    (row,) = Comparison([group], reference).rows(evaluation)
    reached = None if reference is None else float(reference.event_cents.mean())
    status, says = _judged(row, clean, reached, evaluation)
    return Decay(
        status,
        says,
        clean,
        events=row["events"],
        pnl_cents=row["pnl_cents"],
        pnl_interval=row["pnl_interval"],
        validation_events=0 if reference is None else len(reference.events),
        validation_cents=reached,
        drop_cents=row["degradation_cents"],
        drop_interval=row["degradation_interval"],
    )


def _judged(
    row: dict[str, Any], clean: bool, reached: float | None, evaluation: EvaluationConfig
) -> tuple[Status, str]:
    if not clean:
        return "not assessable", "no row is clean forward of what the checkpoint was made from"
    if reached is None:
        return "not assessable", "the plan has no validation session it has not learned from"
    drop, interval = row["degradation_cents"], row["degradation_interval"]
    if interval is None:
        return "not assessable", f"fewer than {evaluation.min_units} events on either side"
    allowed = MOST_DECAYED * max(abs(reached), FLOOR_CENTS)
    figures = (
        f"{row['pnl_cents']:+.1f} cents an event after {reached:+.1f} in validation: a drop of "
        f"{drop:.1f} ({interval[0]:.1f} to {interval[1]:.1f}), more than {allowed:.1f} would matter"
    )
    if interval[0] > 0 and drop > allowed:
        return DECAYED, figures
    return "no decay shown", figures
