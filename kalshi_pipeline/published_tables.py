"""What every published table holds, column by column: the words of Dagster's pages and of SQL.

Types are those of the file; units end the names: `_bp` 1/10,000 dollar, `_centi` 1/100 contract,
`_micro` 1/1,000,000 dollar, `_ms` Unix milliseconds. A test holds the names against the schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kalshi_pipeline.feature_table import TENSOR_FEATURES

Columns = Mapping[str, str]


@dataclass(frozen=True)
class PublishedTable:
    """A Parquet file of a published output.

    Args:
        asset: whose it is: a stage of a session, `evaluation` or `forward_validation`.
        file: its name.
        says: what a row is.
        columns: what each column holds, in the order of the file.
        view: name of its view in `kalshi.duckdb`; None = it has none.
    """

    asset: str
    file: str
    says: str
    columns: Columns
    view: str | None = None


_FRAME = "ordinal of the frame in the recording"
_MARKET = "Kalshi's ticker"
_EVENT = "Kalshi's event, whose markets move together: the unit of all statistics"
_SEGMENT = "of the session, from 0: an unbroken, trusted stretch of one market's book"
_BOOK_ROW = "of books.parquet, from 0"
_PLACE = {
    "epoch": "connection of the collector, from 0",
    "sid": "subscription on that connection",
    "seq": "the exchange's counter within the subscription, over all its markets; null = none",
    "recv_ms": "when the collector received it",
}
_ADDRESS = {
    "file": "ordinal of the recording's file",
    "offset": "byte offset of the line in the decompressed file, or the database's row",
}

_MESSAGES = {
    "frame": _FRAME,
    **_PLACE,
    "exchange_ms": "the exchange's own time; null = not said",
    "market": _MARKET,
    "kind": "0 snapshot, 1 level of one, 2 delta, 3 trade, 4 ticker, 5 lifecycle, 6 control, "
    "7 rejected",
    "side": "ladder: 0 YES bids, 1 NO bids; of a trade: what the taker bought",
    "price_bp": "in the ladder's own scale; of a trade or ticker on the YES scale",
    "size_centi": "of a delta the signed change; of a ticker the traded size so far",
    **_ADDRESS,
    "detail": "of a lifecycle or control frame: what it says",
}
_QUARANTINE = {
    "market": _MARKET,
    **_PLACE,
    "frame": _FRAME,
    **_ADDRESS,
    "reason": "the rule it breaks",
    "value": "what shows it",
}
_SEGMENTS = {
    "segment": _SEGMENT,
    "market": _MARKET,
    "first_row": f"its first row {_BOOK_ROW}",
    "end_row": "one past its last row",
    "start_ms": "market time of its snapshot",
    "end_ms": "market time of its last message",
    "messages": "applied in it",
    "ended_by": "market_closed, end_of_recording, or what ended the trust: gap, new_epoch, drift, "
    "negative_size, crossed, rejected_row, conflict, clock_jump",
}
_BOOKS = {
    "market": _MARKET,
    "segment": f"{_SEGMENT}; -1 = outside every segment",
    "frame": _FRAME,
    **_PLACE,
    "time_ms": "market time: receive time, never decreasing within a segment",
    "kind": "0 snapshot, 1 delta, 2 trade, 3 close",
    "side": "of the message: 0 YES bids, 1 NO bids",
    "price_bp": "of the message, in its ladder's own scale",
    "size_centi": "of the message: the signed change of a delta, the size of a trade",
    "bid_bp": "best bid after it, YES scale; 0 = no bids",
    "ask_bp": "best ask after it, YES scale; 10000 = no asks",
    "bid_size_centi": "resting at the best bid",
    "ask_size_centi": "resting at the best ask",
    "bid_near_centi": "resting within 5 cents of the best bid, it included",
    "ask_near_centi": "resting within 5 cents of the best ask, it included",
    "bid_total_centi": "resting on all bid levels",
    "ask_total_centi": "resting on all ask levels",
    "bid_levels": "prices with resting bids",
    "ask_levels": "prices with resting asks",
    "bid_second_bp": "second best bid; 0 = none",
    "ask_second_bp": "second best ask; 10000 = none",
    "buy_cost_micro": "what buying 10 contracts at once would cost, without fees",
    "sell_value_micro": "what selling 10 contracts at once would bring, without fees",
}
_LADDERS = {
    "row": f"after which the ladder looked so, {_BOOK_ROW}",
    "side": "0 YES bids, 1 NO bids",
    "price_bp": "of the level, in its ladder's own scale",
    "size_centi": "resting there",
}
_MARKETS = {
    "market": _MARKET,
    "event": _EVENT,
    "close_ms": "declared close of trading; null = unknown",
    "result": "yes, no, or empty where it is not known",
    "tick_ranges": "grid of prices: [from, to, step] in 1/10,000 dollar",
    "finest_bp": "prices seen resting are multiples of it, or lie on a tick",
}
_TRADED = {
    "market": _MARKET,
    "source": "how its traded size is known: trades, ticker or none",
    "traded_centi": "traded in the session, by that source",
    "trades": "trade frames",
    "trades_centi": "their size",
    "tickers": "ticker frames",
    "ticker_centi": "gained between the first and the last ticker",
    "across_reconnects_centi": "of this, between tickers of two connections",
    "trades_between_tickers_centi": "size of trade frames to compare ticker_centi with",
}
_DEPLETION = {
    "row": f"a decrease of the touch, {_BOOK_ROW}",
    "market": _MARKET,
    "traded_centi": "of the decrease, what was traded away",
    "cancelled_centi": "of the decrease, what was cancelled",
    "confidence": "in the split, from 0 (a convention, nothing is known) to 100 %",
}
_INDEX = {
    **_SEGMENTS,
    "first_step": "its first step of the tensor",
    "end_step": "one past its last step",
}
_SUITABLE = {
    "market": _MARKET,
    "event": _EVENT,
    "steps": "when an agent may act, in its segments",
    "deltas": "changes of its book, in its segments",
    "trades": "trade frames of the session",
    "traded_centi": "traded in the session; null = not known",
    "traded_source": "how that is known: trades, ticker or none",
    "resting_centi": "mean size of both sides of the book, over rows",
    "spread_bp": "median ask - bid, over rows with both sides",
    "volatility_bp": "root mean square change of mid from step to step",
    **{
        f"q{quarter}": f"steps in quarter {quarter} of its observed life" for quarter in range(1, 5)
    },
    "pattern": "where in its life it is active: front-loaded, mid-peak, back-loaded or even",
    "suitable": "chosen with the whole session in sight",
    "causal": "chosen from the first part of its life alone, as a live trader would",
    "tier": "third of the suitable markets by steps: high, medium or low",
    "reason": "why it is left out; empty = it is not",
}

_EPISODE = {
    "policy": "what played",
    "session": "recorded or generated session",
    "event": _EVENT,
    "market": _MARKET,
    "segment": _SEGMENT,
}
_REPEAT = "of the same episode, with other random draws and latencies; from 0"
_ROLE_LABEL = {
    "role": "of the session in the plan",
    "label": "what the policy's makers knew of it: clean_forward = nothing",
}
_DOUBTS = {
    "thin_touch": "the touch showed under 10 contracts: an own order would have been seen",
    "stale_book": "no message for 10 minutes before the one it filled on",
    "improved": "a quote better than the best: others would have answered it",
}
_LEDGER = {
    **_EPISODE,
    "tier": "of the market: high, medium or low activity",
    "repeat": _REPEAT,
    "terminated": "settled by the market's result; otherwise the segment ended before",
    "steps": "actions taken",
    "pnl_micro": "change of equity after fees, settled or liquidated against the closing book",
    "pnl_mid_micro": "the same with what is left marked at mid",
    "fees_micro": "all fees but that of the closing mark",
    "taker_fills": "fills by taking",
    "maker_fills": "fills of resting orders",
    "contracts_centi": "traded size",
    "orders": "orders sent, a repeated quote counted once",
    "cancels": "orders that ended with something unfilled",
    "invalid_actions": "actions that did nothing because the mask forbade them",
    "final_position_centi": "signed position at the end",
    "max_drawdown_micro": "largest fall of liquidation equity from its peak",
    "max_capital_micro": "largest cost of position plus reservations",
    "start_ms": "market time of the first step",
    "end_ms": "market time of the last step",
    "round_trips": "FIFO lots opened and closed",
    "winning_trips": "those that gained after fees",
    "spread_micro": "of the P&L: fills against the mid they met",
    "drift_micro": "of the P&L: moves of the mid while something was held",
    "settlement_micro": "of the P&L: from the last mid to the settlement or liquidation",
    "action_hold": "times it left everything as it was",
    **{
        f"action_{side}_{how}": f"times it chose to {side} {says}"
        for side in ("buy", "sell")
        for how, says in {
            "best": "at the touch, taking",
            "improve": "one tick inside the touch, resting",
            "passive": "at its own side's best, resting",
        }.items()
    },
    **_ROLE_LABEL,
}
_TRADE_KEYS = {**_EPISODE, "repeat": _REPEAT, "label": _ROLE_LABEL["label"]}
_TRADES = {
    **_TRADE_KEYS,
    "fill": "of the episode, in the order they happened, from 0",
    "step": "of the episode, at which the order was decided",
    "decided_ms": "market time of that step",
    "time_ms": "market time of the fill",
    "is_buy": "bought YES; otherwise sold",
    "price_bp": "YES scale",
    "size_centi": "filled",
    "fee_micro": "of this fill",
    "is_taker": "took; otherwise rested",
    "improved": _DOUBTS["improved"],
    "bid_bp": "best bid of the book it met",
    "ask_bp": "best ask of the book it met",
    "bid_size_centi": "resting at that bid",
    "ask_size_centi": "resting at that ask",
    "spread_bp": "ask - bid of the book it met",
    "mid2_bp": "twice the mid of the book it met, so that it is whole",
    "age_ms": "from the message before to the one it filled on",
    "thin_touch": _DOUBTS["thin_touch"],
    "stale_book": _DOUBTS["stale_book"],
    "position_centi": "signed position after it",
    "cash_micro": "cash after it",
    **{
        f"mid2_{after}s_bp": f"twice the mid {after} s later; null = the segment ends before"
        for after in (1, 10, 60)
    },
    "opens_trip": "first round trip it opens; null = none",
    "closes_trip": "first round trip it closes; null = none",
}
_TRIPS = {
    **_TRADE_KEYS,
    "trip": "of the episode, in the order they were opened, from 0",
    "opened_by": "fill that opened it",
    "closed_by": "fill that closed it; null = the end of the episode",
    "opened_ms": "market time of the opening fill",
    "closed_ms": "market time of its end",
    "is_buy": "opened by buying YES",
    "price_bp": "of the opening fill, YES scale",
    "size_centi": "of the lot",
    "at_end_centi": "of this, closed by the end of the episode",
    "ended_by": "fill, settlement or liquidation",
    "entry_fee_micro": "its share of the opening fee",
    "gain_micro": "after fees",
    "held_micro": "the gain, had it been held to the end of the episode",
    **_DOUBTS,
}
_TRIALS = {
    "kind": "validation while training, evaluation, or forward validation of a new session",
    "plan": "name of the plan, or by_hand",
    "phase": "of the training",
    "seed": "of the training",
    "timesteps": "environment steps behind the weights, parents included",
    "algorithm": "how it learned",
    "policy": "how it plays: sampled, or its likeliest action",
    "recipe": "digest of the training or evaluation that scored it",
    "config": "digest of the rules of the episodes",
    "weights": "digest of the weights",
    "sessions": "it was scored on",
    "events": "session/event, in the order in which they ended",
    "pnl_micro": "what each of these events came to, fees on, liquidated",
}
_GRID = {
    "fill_model": "cross, queue or touch: from the worst to the best for the policy",
    "fees": "charged",
    **_LEDGER,
}

PUBLISHED_TABLES = (
    PublishedTable("raw_messages", "messages.parquet", "a row a frame, and one a level of it",
                   _MESSAGES, "messages"),
    PublishedTable("raw_messages", "quarantine.parquet", "every line or row that could not be read",
                   _QUARANTINE),
    PublishedTable("books", "books.parquet", "a row an applied message, and the book after it",
                   _BOOKS, "books"),
    PublishedTable("books", "segments.parquet", "trusted stretches of the markets' books",
                   _SEGMENTS, "segments"),
    PublishedTable("books", "quarantine.parquet", "every rejected raw row and its reason",
                   _QUARANTINE, "quarantine"),
    PublishedTable("books", "ladders.parquet", "full ladders, kept now and then", _LADDERS,
                   "ladders"),
    PublishedTable("books", "markets.parquet", "event, close, result and ticks of the markets",
                   _MARKETS, "markets"),
    PublishedTable("books", "traded.parquet", "traded size by market, and where it is known from",
                   _TRADED, "traded"),
    PublishedTable("books", "depletion.parquet", "decreases of the touch: traded or cancelled",
                   _DEPLETION, "depletion"),
    PublishedTable("feature_tensors", "index.parquet", "segments that have steps, and which steps",
                   _INDEX, "tensors"),
    PublishedTable("suitable_markets", "suitable_markets.parquet", "markets, most active first",
                   _SUITABLE, "suitable_markets"),
    PublishedTable("evaluation", "ledger.parquet",
                   "evaluated episodes: a row a policy, market segment and repeat", _LEDGER,
                   "episodes"),
    PublishedTable("evaluation", "trades.parquet",
                   "fills in evaluated episodes, and the book each met", _TRADES, "trades"),
    PublishedTable("evaluation", "trips.parquet", "round trips (FIFO lots) in evaluated episodes",
                   _TRIPS, "trips"),
    PublishedTable("evaluation", "trials.parquet", "every candidate that this report chose among",
                   _TRIALS),
    PublishedTable("evaluation", "grid.parquet",
                   "episodes again, under every fill model, with fees and without", _GRID),
    PublishedTable("forward_validation", "ledger.parquet",
                   "episodes of a new session and of the validation sessions", _LEDGER),
)  # fmt: skip
# of features.npy, which has no header
TENSOR_COLUMNS: Columns = {feature.name: feature.formula for feature in TENSOR_FEATURES}


def tables_of(asset: str) -> tuple[PublishedTable, ...]:
    """The tables of an asset; its main one first."""
    return tuple(table for table in PUBLISHED_TABLES if table.asset == asset)
