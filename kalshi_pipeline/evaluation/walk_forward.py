"""What was used, when it ended, and what was judged after it: the forward tests, kept apart.

Source: `docs/EVALUATION.md`, "Lineage".
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kalshi_pipeline.evaluation.evidence import Evidence
from kalshi_pipeline.evaluation.lineage import LONGEST_LOOKBACK_MS, Label
from kalshi_pipeline.evaluation.samples import take


def walk_forward(evidence: Evidence) -> dict[str, Any]:
    """The order of things: sessions used and judged, the boundary, what lies too close to it."""
    used, ledger = evidence.case.used, evidence.ledger
    judged = sorted(set(ledger["session"].to_pylist()))
    sessions = []
    for session in sorted({*used.sessions, *judged}):
        rows = ledger.filter(pc.equal(ledger["session"], session))
        sessions.append(
            {
                "session": session,
                "markets_trained_on": sum(s == session for s, _ in used.trained),
                "markets_selected_on": sum(s == session for s, _ in used.selected),
                "role": evidence.case.roles.get(session),
                "start_ms": pc.min(rows["start_ms"]).as_py(),
                "end_ms": pc.max(rows["end_ms"]).as_py(),
            }
        )
    return {
        "used_until_ms": used.end_ms,
        "embargo_s": max(0, used.apart_ms - LONGEST_LOOKBACK_MS) / 1_000,
        "lookback_s": LONGEST_LOOKBACK_MS / 1_000 if used.apart_ms else 0.0,
        "clean_from_ms": None if used.end_ms is None else used.end_ms + used.apart_ms,
        "purged_episodes": _episodes(ledger, Label.EMBARGO),
        "sessions": sessions,
    }


def forward_tests(evidence: Evidence) -> list[dict[str, Any]]:
    """Clean-forward events alone, a row a policy: all of them pooled, then each session's own."""
    if not evidence.is_clean:
        return []
    case = evidence.case
    clean = evidence.clean.filter(pc.is_in(evidence.clean["policy"], pa.array(case.names)))
    scopes = [("pooled", None, clean)]
    for session in sorted(set(clean["session"].to_pylist())):
        rows = clean.filter(pc.equal(clean["session"], session))
        scopes.append((f"session {session}", session, rows))
    found = []
    for scope, session, rows in scopes:
        sample = take(scope, rows, case.names, case.evaluation)
        found += [
            {
                "scope": scope,
                "session": session,
                "events": sample.events,
                "policy": metrics.policy,
                "pnl_cents": metrics.pnl_cents,
                "pnl_interval": metrics.pnl_interval,
                "difference_cents": metrics.difference_cents,
                "difference_interval": metrics.difference_interval,
            }
            for metrics in sample.metrics
        ]
    return found


def _episodes(ledger: pa.Table, label: Label) -> int:
    rows = ledger.filter(pc.equal(ledger["label"], label.value))
    names = ("session", "event", "market", "segment")
    return len(set(zip(*(rows[name].to_pylist() for name in names), strict=True)))
