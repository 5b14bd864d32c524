"""Made-up judgements of a report; see `specimen`."""

from __future__ import annotations

from typing import Any


def judgement(mark: str) -> dict[str, Any]:
    return {
        "selection": {
            "trials": 261, "trials_scored": 274, "trials_missing": 2, "effective_trials": 31.4,
            "trial_sharpe_sd": 0.12, "events": 41, "sharpe": -0.05, "psr": 0.38,
            "deflated_sharpe": 0.004, "deflated_sharpe_effective": 0.02, "pbo": 0.44,
            "pbo_splits": 12_870, "pbo_trials": 50, "pbo_events": 64, "detectable_cents": 15.2,
            "by": [{"plan": f"specimen{mark}", "phase": f"phase_{phase}", "seed": 0,
                    "kind": "validation", "trials": 50 * phase} for phase in (1, 2, 3)],
            "note": [f"not in N: what was tried outside this warehouse{mark}"],
        },
        "decisions": [
            {"point": point, "question": question, "when": f"Day {4 * point}, phase_{point}{mark}",
             "outcome": outcome, "action": "no rule of the plan asks for a change",
             "figures": [
                 {"name": "decisions that hold", "value": 0.62, "unit": "share", "comparison": ">",
                  "threshold": 0.95, "holds": False},
                 {"name": "Sharpe ratio per event", "value": None, "unit": "ratio",
                  "comparison": ">", "threshold": 0.5, "holds": None},
             ]}
            for point, question, outcome in (
                (1, "Continue or pivot", "continue"), (2, "Scale or refine", "refine"),
                (3, "Deploy or iterate", "iterate"),
            )
        ],
        "failure_modes": [
            {"mode": mode, "probability": "medium", "impact": "high", "status": status,
             "rule": "HOLD above 90 % of decisions", "mitigation": "holding may be right",
             "figures": [{"name": "decisions that hold", "value": 0.62, "unit": "share"},
                         {"name": "P&L an event, clean-forward", "value": -4.1, "unit": "cents"},
                         {"name": "trainings", "value": None, "unit": "count"}]}
            for mode, status in (
                ("HOLD-dominant behaviour", "not seen"), ("Reward hacking", "seen"),
                ("Catastrophic forgetting", "not assessable"),
            )
        ],
        "recommendations": [
            {"topic": "deployment", "advice": "Do not trade with this checkpoint.",
             "because": f"No evidence of profit{mark}"},
            {"topic": "training", "advice": "Train 5 seeds or more (`seeds = 5` in the plan).",
             "because": "1 was trained: how much of it is luck is unknown"},
        ],
    }  # fmt: skip
