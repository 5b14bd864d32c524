"""How old an asset may become before its page says so.

A state on the page, evaluated by the daemon: nothing is launched and nothing is stopped by it. An
asset that was asked for again and found unchanged is fresh: somebody looked. What is made when
something happens (a session's retraining and forward validation) has no such window.
"""

from datetime import timedelta

import dagster as dg

from kalshi_pipeline import plan_stages, stages

# a recorder that runs every day ends a session every day; evaluation and views follow nightly
DAILY = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=2), fail_window=timedelta(days=7))
# retraining is weekly: late by a day, then missed twice
WEEKLY = dg.FreshnessPolicy.time_window(
    warn_window=timedelta(days=8), fail_window=timedelta(days=15)
)
_DAILY = {*stages.SESSION_STAGES, plan_stages.EVALUATION, "warehouse_views"}


def with_freshness(assets: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The same assets, each with the window it may grow old in."""
    return assets.map_asset_specs(_fresh)


def _fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
    name = spec.key.path[-1]
    if name in _DAILY:
        return spec.replace_attributes(freshness_policy=DAILY)
    if spec.tags.get("stage") == "training" and "phase" in spec.tags:
        return spec.replace_attributes(freshness_policy=WEEKLY)
    return spec
