"""The accounts of a ledger computed a second time, in SQL, from its fills and nothing else.

Nothing is shared with the simulator but the tables. Cash and position are sums over the fills; what
a settled position is worth is its settlement, what another one is worth is found by walking the
closing book. Profit is found once more from FIFO lots: the k-th contract bought belongs to the k-th
sold, whichever came first; that must come to the same to the micro-dollar. The simulator's own
figure of realised profit goes by average cost and is not compared.
"""

from __future__ import annotations

import pyarrow as pa

from kalshi_pipeline.trading.ledger import Ledger

# each: episode, what, the simulator's figure, the ledger's
_ACCOUNTS = """
WITH signed AS (
    SELECT *, CASE WHEN is_buy THEN size_centi ELSE -size_centi END AS change_centi FROM fills
),
running AS (
    SELECT *,
        sum(change_centi) OVER past AS after_centi,
        sum(-change_centi * price_bp - fee_micro) OVER past AS paid_micro
    FROM signed WINDOW past AS (PARTITION BY episode ORDER BY fill)
),
sums AS (
    SELECT e.episode,
        e.cash_start_micro + coalesce(sum(-change_centi * price_bp - fee_micro), 0) AS cash_micro,
        coalesce(sum(change_centi), 0) AS position_centi,
        coalesce(sum(fee_micro), 0) AS fees_micro,
        coalesce(sum(size_centi), 0) AS traded_centi,
        count(fill) FILTER (is_taker) AS taker_fills,
        count(fill) FILTER (NOT is_taker) AS maker_fills
    FROM episodes e LEFT JOIN signed USING (episode)
    GROUP BY e.episode, e.cash_start_micro
),
walk AS (
    SELECT s.episode, b.price_bp,
        greatest(least(b.size_centi, abs(s.position_centi)
            - coalesce(sum(b.size_centi) OVER earlier, 0)), 0) AS taken_centi
    FROM sums s JOIN closing_book b ON b.episode = s.episode
        AND b.side = CASE WHEN s.position_centi > 0 THEN 'yes' ELSE 'no' END
    WINDOW earlier AS (
        PARTITION BY s.episode ORDER BY b.level ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
sold AS (
    SELECT w.episode, sum(taken_centi * price_bp) AS proceeds_micro,
        -- rate 1e-4, multiplier 1e-2, size 1e-2, price twice 1e-4: 1e-16 dollar; up to the cent
        (sum(taken_centi::HUGEINT * price_bp * (10000 - price_bp)
            * e.taker_rate_bp * e.multiplier_pct) + 99999999999999)
            // 100000000000000 * 10000 AS fee_micro
    FROM walk w JOIN episodes e USING (episode) GROUP BY ALL
),
worth AS (
    SELECT s.*, s.cash_micro + CASE
        WHEN e.settled THEN s.position_centi * e.settlement_bp
        ELSE greatest(coalesce(proceeds_micro, 0) - coalesce(sold.fee_micro, 0), 0)
            - 10000 * greatest(-s.position_centi, 0)
        END AS equity_micro
    FROM sums s JOIN episodes e USING (episode) LEFT JOIN sold USING (episode)
),
units AS (
    SELECT *, sum(size_centi) OVER same - size_centi AS begin_centi,
        sum(size_centi) OVER same AS end_centi
    FROM signed WINDOW same AS (PARTITION BY episode, is_buy ORDER BY fill)
),
lots AS (
    SELECT b.episode, (s.price_bp - b.price_bp)
        * (least(b.end_centi, s.end_centi) - greatest(b.begin_centi, s.begin_centi)) AS gain_micro
    FROM units b JOIN units s ON s.episode = b.episode AND b.is_buy AND NOT s.is_buy
        AND b.begin_centi < s.end_centi AND s.begin_centi < b.end_centi
),
open_lots AS (  -- what is left of the longer side
    SELECT u.episode, sum((end_centi - greatest(begin_centi, matched_centi)) * price_bp
        * CASE WHEN is_buy THEN 1 ELSE -1 END) AS paid_micro
    FROM units u JOIN (
        SELECT episode, least(coalesce(sum(size_centi) FILTER (is_buy), 0),
            coalesce(sum(size_centi) FILTER (NOT is_buy), 0)) AS matched_centi
        FROM signed GROUP BY episode) m ON m.episode = u.episode
    WHERE end_centi > matched_centi GROUP BY ALL
),
fifo AS (
    SELECT w.episode, w.equity_micro - w.cash_micro
        - coalesce((SELECT paid_micro FROM open_lots o WHERE o.episode = w.episode), 0)
        + coalesce((SELECT sum(gain_micro) FROM lots l WHERE l.episode = w.episode), 0)
        - w.fees_micro AS profit_micro
    FROM worth w
),
flat AS (  -- cash whenever the position is 0, or would be on its way through it
    SELECT r.episode, fill, e.cash_start_micro + paid_micro + after_centi * price_bp AS cash_micro
    FROM running r JOIN episodes e USING (episode)
    WHERE after_centi != change_centi AND sign(after_centi) != sign(after_centi - change_centi)
),
trips AS (
    SELECT f.episode, f.cash_micro - lag(f.cash_micro, 1, e.cash_start_micro) OVER earlier AS gain
    FROM flat f JOIN episodes e USING (episode)
    WINDOW earlier AS (PARTITION BY f.episode ORDER BY f.fill)
    UNION ALL
    SELECT w.episode, w.equity_micro - coalesce((
        SELECT arg_max(f.cash_micro, fill) FROM flat f WHERE f.episode = w.episode
    ), e.cash_start_micro)
    FROM worth w JOIN episodes e USING (episode) WHERE w.position_centi != 0
),
ended AS (
    SELECT e.episode, count(o.order) FILTER (ended_by != 'unchanged') AS orders,
        count(o.order) FILTER (ended_by != 'unchanged' AND unfilled_centi > 0) AS cancels
    FROM episodes e LEFT JOIN orders o USING (episode) GROUP BY ALL
),
found AS (
    SELECT w.*, p.profit_micro, d.orders, d.cancels,
        (SELECT count(*) FROM trips t WHERE t.episode = w.episode) AS flat_trips,
        (SELECT count(*) FROM trips t WHERE t.episode = w.episode AND gain > 0) AS flat_wins
    FROM worth w JOIN fifo p USING (episode) JOIN ended d USING (episode)
),
pairs AS (
    SELECT episode, unnest([
        {'what': 'cash_micro', 'simulator': e.cash_micro, 'ledger': f.cash_micro},
        {'what': 'position_centi', 'simulator': e.position_centi, 'ledger': f.position_centi},
        {'what': 'fees_micro', 'simulator': e.fees_micro, 'ledger': f.fees_micro},
        {'what': 'traded_centi', 'simulator': e.traded_centi, 'ledger': f.traded_centi},
        {'what': 'equity_micro', 'simulator': e.equity_micro, 'ledger': f.equity_micro},
        {'what': 'profit_of_lots_micro', 'simulator': e.equity_micro - e.cash_start_micro,
            'ledger': f.profit_micro},
        {'what': 'taker_fills', 'simulator': e.taker_fills, 'ledger': f.taker_fills},
        {'what': 'maker_fills', 'simulator': e.maker_fills, 'ledger': f.maker_fills},
        {'what': 'orders', 'simulator': e.orders, 'ledger': f.orders},
        {'what': 'cancels', 'simulator': e.cancels, 'ledger': f.cancels},
        {'what': 'flat_trips', 'simulator': e.flat_trips, 'ledger': f.flat_trips},
        {'what': 'flat_wins', 'simulator': e.flat_wins, 'ledger': f.flat_wins}
    ]::STRUCT(what VARCHAR, simulator HUGEINT, ledger HUGEINT)[], recursive := true)
    FROM episodes e JOIN found f USING (episode)
)
SELECT episode, what, simulator::BIGINT AS simulator, ledger::BIGINT AS ledger
FROM pairs WHERE simulator IS DISTINCT FROM ledger
"""

# an order is what filled of it and what did not; its fee is rounded up to the cent once, until the
# rule of 28 May 2026 (fee_rule 1), under which the simulator's own fee of each fill stands
_ORDERS = """
WITH filled AS (
    SELECT o.*, coalesce(sum(f.size_centi), 0) AS filled_centi,
        coalesce(sum(f.fee_micro), 0) AS fee_micro,
        coalesce(sum(f.size_centi::HUGEINT * f.price_bp * (10000 - f.price_bp) * e.multiplier_pct
            * CASE WHEN f.is_taker THEN e.taker_rate_bp ELSE e.maker_rate_bp END), 0) AS product,
        bool_or(CASE WHEN o.is_buy THEN f.price_bp > o.limit_bp ELSE f.price_bp < o.limit_bp END)
            AS beyond,
        bool_or(f.time_ms > o.ended_ms OR f.time_ms < o.sent_ms) AS at_another_time,
        any_value(e.fee_rule) AS fee_rule
    FROM orders o JOIN episodes e USING (episode) LEFT JOIN fills f USING (episode, "order")
    GROUP BY ALL
)
SELECT episode, rule AS what, simulator::BIGINT AS simulator, ledger::BIGINT AS ledger FROM (
    SELECT episode, 'size of order ' || "order" AS rule, size_centi AS simulator,
        filled_centi + unfilled_centi AS ledger FROM filled
    UNION ALL
    SELECT episode, 'fee of order ' || "order", fee_micro,
        CASE WHEN fee_rule = 0 THEN (product + 99999999999999) // 100000000000000 * 10000
        ELSE fee_micro END FROM filled
    UNION ALL
    SELECT episode, 'a fill beyond the limit of order ' || "order", 0, coalesce(beyond, false)::INT
        FROM filled
    UNION ALL
    SELECT episode, 'a fill outside the life of order ' || "order", 0,
        coalesce(at_another_time, false)::INT FROM filled
    UNION ALL
    SELECT f.episode, 'a fill of no order ' || f.order, 0, 1 FROM fills f
        ANTI JOIN orders o USING (episode, "order")
) WHERE simulator IS DISTINCT FROM ledger
"""


def differences(ledger: Ledger) -> pa.Table:
    """Where the simulator's account and the ledger disagree: no row means nowhere.

    Returns:
        `episode`, `what`, the `simulator`'s figure, the `ledger`'s.
    """
    import duckdb  # only who audits needs it

    with duckdb.connect() as connection:
        for name, table in ledger.tables().items():
            connection.register(name, table)
        parts = [connection.sql(query).to_arrow_table() for query in (_ACCOUNTS, _ORDERS)]
    return pa.concat_tables(parts).sort_by([("episode", "ascending"), ("what", "ascending")])
