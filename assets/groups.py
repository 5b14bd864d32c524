"""Groups of the lineage page: the UI sorts them by name, so a number says where each stands."""

from kalshi_pipeline.plans import Plan

MARKET_DATA = "1_market_data"
FEATURES = "2_features"
WAREHOUSE = "4_warehouse"


def plan_group(plan: Plan) -> str:
    """The group of all that a plan makes: its phases, what follows them, its evaluation."""
    return f"3_plan_{plan.name}"
