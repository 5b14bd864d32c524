"""What training tells the trials ledger: each policy that was validated, chosen or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from kalshi_pipeline.config import TradingConfig
from kalshi_pipeline.learning.policy import NetworkPolicy
from kalshi_pipeline.learning.runs import RunKey
from kalshi_pipeline.learning.validation import Scored
from kalshi_pipeline.storage.publish import Warehouse
from kalshi_pipeline.storage.trials import LIKELIEST, Trial, digest_of, record, weights_of


def recorder(warehouse: Warehouse, key: RunKey, trading: TradingConfig) -> Scored:
    """What a run's validations are told to: it is on disk before the score is used.

    Args:
        warehouse: whose ledger.
        key: of the run.
        trading: rules of the episodes.
    """
    rules = digest_of(asdict(trading))

    def scored(policy: NetworkPolicy, totals: Mapping[tuple[int, str], int]) -> None:
        (checkpoint,) = policy.checkpoints
        trial = Trial(
            kind="validation",
            plan=key.plan,
            phase=key.phase,
            seed=key.seed,
            timesteps=checkpoint.state.timesteps_total,
            algorithm=key.algorithm,
            policy=LIKELIEST,
            recipe=key.digest,
            config=rules,
            weights=weights_of(checkpoint),
            sessions=tuple(sorted({session for session, _ in totals})),
            events=tuple(f"{session}/{event}" for session, event in totals),
            pnl_micro=tuple(totals.values()),
        )
        record(warehouse, [trial])

    return scored
