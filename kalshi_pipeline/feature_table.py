"""The 52 numbers an agent sees, defined once.

21 market and 14 temporal features are computed from the books (`features/`), 12 portfolio and 5
order features by the simulator, because they depend on the agent. Scaling is fixed here and never
fitted: training, evaluation and a live feed see the same numbers. `docs/FEATURES.md` is generated
from this table.

Notation: b, a = best bid and ask in dollars (0 and 1 where the side is empty: the bounds that hold
for every contract, nothing is invented); Sb, Sa = sizes there in contracts; t in seconds of market
time. L(x; X) = min(1, ln(1 + x) / ln(1 + X)). C(x) = x clipped to [-1, 1]. D_tau = exponentially
decayed with time constant tau: a count or sum weighs what happened s seconds ago by exp(-s / tau);
an average over time begins at its first value and moves towards the present one at rate 1 / tau.
An update is one message that changes the book. The tick at b = distance to the next price above b
that an order may have, or to 1 dollar. Of a flow under 10^-200 contracts none is left. x = signed
position in contracts. k = 10 contracts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["market", "temporal", "portfolio", "orders"]

FEATURE_TABLE_VERSION = "2"

# Upper ends of the logarithmic scales.
MAX_TICKS = 1_000.0
MAX_CONTRACTS = 1_000_000.0
MAX_LEVELS = 1_000.0
MAX_CENTS = 100.0
MAX_RATE_HZ = 1_000.0  # the busiest recorded market had 185 updates a second
DAY_S = 86_400.0
YEAR_S = 31_536_000.0
RATE_TAUS_S = (10.0, 60.0, 600.0)
VOLATILITY_TAUS_S = (60.0, 600.0)
CHANGE_GAINS = (10.0, 4.0, 2.0)  # longer windows see larger moves
VOLATILITY_GAINS = (5.0, 2.0)
FLOW_TAUS_S = (10.0, 60.0)


@dataclass(frozen=True)
class Feature:
    """One column of the observation.

    Args:
        name: column name.
        group: which of the four blocks it belongs to.
        unit: what one unit of the scaled number stands for.
        low: smallest possible value.
        high: largest possible value.
        formula: definition, in the notation of this module.
        lookback_s: time constant of what it remembers; 0 = the present book only, None = the
            whole segment or episode so far.
    """

    name: str
    group: Group
    unit: str
    low: float
    high: float
    formula: str
    lookback_s: float | None = 0.0


def _market() -> tuple[Feature, ...]:
    contracts = "log contracts"
    return (
        Feature("best_bid", "market", "dollar", 0, 1, "b"),
        Feature("best_ask", "market", "dollar", 0, 1, "a"),
        Feature("mid", "market", "dollar", 0, 1, "(a + b) / 2"),
        Feature(
            "microprice_offset",
            "market",
            "5 cents",
            -1,
            1,
            "C(20 ((b Sa + a Sb) / (Sa + Sb) - mid)); 0 unless two-sided",
        ),
        Feature("spread", "market", "log ticks", 0, 1, "L((a - b) / tick at b; 1000)"),
        Feature("touch_size_bid", "market", contracts, 0, 1, "L(Sb; 10^6)"),
        Feature("touch_size_ask", "market", contracts, 0, 1, "L(Sa; 10^6)"),
        Feature("near_size_bid", "market", contracts, 0, 1, "L(size within 5 cents of b; 10^6)"),
        Feature("near_size_ask", "market", contracts, 0, 1, "L(size within 5 cents of a; 10^6)"),
        Feature("total_size_bid", "market", contracts, 0, 1, "L(size of the YES ladder; 10^6)"),
        Feature("total_size_ask", "market", contracts, 0, 1, "L(size of the NO ladder; 10^6)"),
        Feature("imbalance_touch", "market", "share", -1, 1, "(Sb - Sa) / (Sb + Sa); 0 if none"),
        Feature("imbalance_near", "market", "share", -1, 1, "the same, sizes within 5 cents"),
        Feature("imbalance_total", "market", "share", -1, 1, "the same, whole ladders"),
        Feature(
            "gap_bid",
            "market",
            "log cents",
            0,
            1,
            "L(cents from b to the second bid; 100); 1 if there is no second bid",
        ),
        Feature(
            "gap_ask",
            "market",
            "log cents",
            0,
            1,
            "L(cents from a to the second ask; 100); 1 if there is no second ask",
        ),
        Feature("levels_bid", "market", "log levels", 0, 1, "L(number of bid levels; 1000)"),
        Feature("levels_ask", "market", "log levels", 0, 1, "L(number of ask levels; 1000)"),
        Feature(
            "cost_to_buy",
            "market",
            "log cents",
            0,
            1,
            "L(cents by which the average price of buying k exceeds a; 100), "
            "contracts that find no offer priced at 1 dollar",
        ),
        Feature(
            "cost_to_sell",
            "market",
            "log cents",
            0,
            1,
            "L(cents by which the average price of selling k falls short of b; 100), "
            "contracts that find no bid priced at 0",
        ),
        Feature(
            "book_state",
            "market",
            "flag",
            -0.5,
            1,
            "1 two-sided, 0.5 bids only, -0.5 asks only, 0 empty",
        ),
    )


def _temporal() -> tuple[Feature, ...]:
    rates = tuple(
        Feature(
            f"update_rate_{tau:.0f}s",
            "temporal",
            "log updates a second",
            0,
            1,
            f"L(r; 1000), r = D_{tau:.0f} count of updates / {tau:.0f} s",
            tau,
        )
        for tau in RATE_TAUS_S
    )
    changes = tuple(
        Feature(
            f"mid_change_{tau:.0f}s",
            "temporal",
            f"{100 / gain:.0f} cents",
            -1,
            1,
            f"C({gain:.0f} (m - D_{tau:.0f} average of m)), m = last two-sided mid",
            tau,
        )
        for tau, gain in zip(RATE_TAUS_S, CHANGE_GAINS, strict=True)
    )
    volatility = tuple(
        Feature(
            f"volatility_{tau:.0f}s",
            "temporal",
            f"{100 / gain:.0f} cents",
            0,
            1,
            f"C({gain:.0f} sqrt(D_{tau:.0f} sum of squared changes of m))",
            tau,
        )
        for tau, gain in zip(VOLATILITY_TAUS_S, VOLATILITY_GAINS, strict=True)
    )
    flow = tuple(
        Feature(
            f"order_flow_imbalance_{tau:.0f}s",
            "temporal",
            "share",
            -1,
            1,
            f"D_{tau:.0f} sum of e / D_{tau:.0f} sum of |e|, e = contribution of an update at "
            "the touch (Cont, Kukanov, Stoikov 2014, section 2.1); 0 if none is left",
            tau,
        )
        for tau in FLOW_TAUS_S
    )
    return (
        Feature(
            "seconds_since_update",
            "temporal",
            "log seconds",
            0,
            1,
            "L(seconds since the latest update of an earlier millisecond; 86400); 0 if none",
            None,
        ),
        *rates,
        *changes,
        *volatility,
        *flow,
        Feature("time_of_day_sin", "temporal", "circle", -1, 1, "sin(2 pi UTC seconds / 86400)"),
        Feature("time_of_day_cos", "temporal", "circle", -1, 1, "cos(2 pi UTC seconds / 86400)"),
        Feature(
            "seconds_to_close",
            "temporal",
            "log seconds",
            -1,
            1,
            "L(seconds to the close time known at that moment; 31536000); -1 if unknown",
        ),
    )


def _portfolio() -> tuple[Feature, ...]:
    ten = "10 dollars"
    return (
        Feature(
            "available_cash",
            "portfolio",
            "starting cash",
            0,
            2,
            "min(2, (cash - collateral - reservations) / starting cash)",
            None,
        ),
        Feature("inventory", "portfolio", "position limit", -1, 1, "x / position limit", None),
        Feature("is_long", "portfolio", "flag", 0, 1, "1 if x > 0", None),
        Feature("is_short", "portfolio", "flag", 0, 1, "1 if x < 0", None),
        Feature(
            "entry_offset",
            "portfolio",
            "10 cents",
            -1,
            1,
            "C(10 (average entry price - mid)), YES scale; 0 when flat",
            None,
        ),
        Feature(
            "unrealised_mid",
            "portfolio",
            ten,
            -1,
            1,
            "C((value of x at mid - its cost) / 10)",
            None,
        ),
        Feature(
            "unrealised_liquidation",
            "portfolio",
            ten,
            -1,
            1,
            "C((liquidation value of x - its cost) / 10)",
            None,
        ),
        Feature(
            "realised",
            "portfolio",
            ten,
            -1,
            1,
            "C(profit of closed contracts before fees / 10)",
            None,
        ),
        Feature("fees_paid", "portfolio", ten, 0, 1, "min(1, fees / 10)", None),
        Feature(
            "equity_change",
            "portfolio",
            "10 % of starting cash",
            -1,
            1,
            "C(10 (liquidation equity / starting cash - 1))",
            None,
        ),
        Feature(
            "drawdown",
            "portfolio",
            "10 % of starting cash",
            0,
            1,
            "C(10 (peak liquidation equity - liquidation equity) / starting cash)",
            None,
        ),
        Feature(
            "seconds_in_position",
            "portfolio",
            "log seconds",
            0,
            1,
            "L(seconds since x last left 0; 86400); 0 when flat",
            None,
        ),
    )


def _orders() -> tuple[Feature, ...]:
    return (
        Feature(
            "buy_distance",
            "orders",
            "50 cents",
            -1,
            1,
            "min(1, 2 |mid - price of the resting buy|); -1 if none rests",
            None,
        ),
        Feature(
            "sell_distance",
            "orders",
            "50 cents",
            -1,
            1,
            "min(1, 2 |price of the resting sell - mid|); -1 if none rests",
            None,
        ),
        Feature(
            "queue_ahead",
            "orders",
            "share",
            0,
            1,
            "size ahead / (size ahead + own size) of the older resting order; 0 if none. "
            "Size ahead starts as the size displayed at the price and never exceeds it",
            None,
        ),
        Feature(
            "order_age",
            "orders",
            "log seconds",
            0,
            1,
            "L(seconds the older resting order has rested; 86400); 0 if none",
            None,
        ),
        Feature(
            "fill_rate",
            "orders",
            "share",
            0,
            1,
            "weighted share of own orders that filled: f <- 0.9 f + 0.1 (filled share) as each "
            "order ends; starts at 0",
            None,
        ),
    )


# fmt: off
MARKET_FEATURES = _market()
TEMPORAL_FEATURES = _temporal()
PORTFOLIO_FEATURES = _portfolio()
ORDER_FEATURES = _orders()
TENSOR_FEATURES = MARKET_FEATURES + TEMPORAL_FEATURES  # what the tensor holds
AGENT_FEATURES = PORTFOLIO_FEATURES + ORDER_FEATURES   # what the simulator adds
FEATURES = TENSOR_FEATURES + AGENT_FEATURES            # the observation
# fmt: on

TENSOR_WIDTH = len(TENSOR_FEATURES)
OBSERVATION_WIDTH = len(FEATURES)
COLUMN = {feature.name: index for index, feature in enumerate(FEATURES)}
# what looks back further begins anew with each segment or episode
LONGEST_LOOKBACK_S = max(feature.lookback_s or 0.0 for feature in FEATURES)


def markdown_table() -> str:
    """The table as documentation, one row a feature."""
    rows = [
        "| # | name | group | unit | range | formula | remembers |",
        "|--:|---|---|---|---|---|---|",
    ]
    for index, feature in enumerate(FEATURES):
        if feature.lookback_s is None:
            memory = "segment" if feature.group == "temporal" else "episode"
        else:
            memory = f"{feature.lookback_s:.0f} s" if feature.lookback_s else "nothing"
        formula = feature.formula.replace("|", "\\|")
        rows.append(
            f"| {index} | `{feature.name}` | {feature.group} | {feature.unit} | "
            f"[{feature.low:g}, {feature.high:g}] | {formula} | {memory} |"
        )
    return "\n".join(rows) + "\n"
