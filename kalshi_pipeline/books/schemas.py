"""The tables of a session's books, column by column: what is written and what readers insist on."""

from __future__ import annotations

import pyarrow as pa

_BOOK_FIELDS = pa.schema(
    [
        ("market", pa.dictionary(pa.int32(), pa.string())),
        ("segment", pa.int32()),  # -1 = outside every segment
        ("frame", pa.int64()),  # ordinal of the frame in the recording
        ("epoch", pa.int32()),
        ("sid", pa.int32()),
        ("seq", pa.int64()),
        ("recv_ms", pa.int64()),
        ("time_ms", pa.int64()),  # receive time, never decreasing within a segment
        ("kind", pa.uint8()),  # RowKind
        ("side", pa.uint8()),
        ("price_bp", pa.int32()),
        ("size_centi", pa.int64()),
        ("bid_bp", pa.int32()),  # 0 = no bids
        ("ask_bp", pa.int32()),  # 10,000 = no asks
        ("bid_size_centi", pa.int64()),
        ("ask_size_centi", pa.int64()),
        ("bid_near_centi", pa.int64()),
        ("ask_near_centi", pa.int64()),
        ("bid_total_centi", pa.int64()),
        ("ask_total_centi", pa.int64()),
        ("bid_levels", pa.int32()),
        ("ask_levels", pa.int32()),
        ("bid_second_bp", pa.int32()),
        ("ask_second_bp", pa.int32()),
        ("buy_cost_micro", pa.int64()),
        ("sell_value_micro", pa.int64()),
    ]
)
# but for the counter nothing is ever missing, and what cannot be missing is written a third faster
BOOK_SCHEMA = pa.schema([field.with_nullable(field.name == "seq") for field in _BOOK_FIELDS])
SEGMENT_SCHEMA = pa.schema(
    [
        ("segment", pa.int32()),
        ("market", pa.string()),
        ("first_row", pa.int64()),  # of the book table
        ("end_row", pa.int64()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("messages", pa.int64()),
        ("ended_by", pa.string()),  # SegmentEnd
    ]
)
# of a tensor: its segments that have steps
INDEX_SCHEMA = SEGMENT_SCHEMA.append(pa.field("first_step", pa.int64())).append(
    pa.field("end_step", pa.int64())
)
LADDER_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # of the book table
        ("side", pa.uint8()),
        ("price_bp", pa.int32()),
        ("size_centi", pa.int64()),
    ]
)
MARKET_SCHEMA = pa.schema(
    [
        ("market", pa.string()),
        ("event", pa.string()),
        ("close_ms", pa.int64()),
        ("result", pa.string()),
        ("tick_ranges", pa.list_(pa.list_(pa.int32()))),
        ("finest_bp", pa.int32()),  # prices seen resting are multiples of it, or on a tick
    ]
)
