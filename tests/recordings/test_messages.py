"""Frames of both wire generations become the same rows; what cannot be trusted says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kalshi_pipeline.market.integrity import Reason, label
from kalshi_pipeline.recordings.messages import FrameDecoder, MessageKind
from tests.oracle.book import NO, YES
from tests.oracle.ingest import assert_same_tables
from tests.oracle.replay import Frame
from tests.random_sessions import Lines, ingested, wire_line

MARKET = "KXABC-26DEC31-T5"
DECODER = FrameDecoder(frozenset({MARKET}))
RECV_MS = 1_771_234_567_999


def line(kind: str, message: dict[str, Any], **event: Any) -> bytes:
    envelope = {"type": kind, "sid": 3, "seq": 7, "msg": {"market_ticker": MARKET} | message}
    return json.dumps({"recv_ms": RECV_MS, "conn": 2, "event": envelope | event}).encode()


def delta(**message: Any) -> bytes:
    fields = {"side": "yes", "price_dollars": "0.4200", "delta_fp": "-25.50"}
    return line("orderbook_delta", fields | message)


def snapshot(**message: Any) -> bytes:
    return line("orderbook_snapshot", message)


def verdict(text: bytes, decoder: FrameDecoder = DECODER) -> str | None:
    _, _, rejected = decoder.decode(text)
    return None if rejected is None else label(rejected.reason)


def levels(text: bytes, decoder: FrameDecoder = DECODER) -> list[tuple]:
    """(side, price_bp, size_centi) of a snapshot."""
    _, rows, rejected = decoder.decode(text)
    assert rejected is None
    assert rows[0][5] == MessageKind.SNAPSHOT
    assert all(row[5] == MessageKind.LEVEL for row in rows[1:])
    return [(row[6], row[7], row[8]) for row in rows[1:]]


# what a good frame says


def test_a_delta_keeps_every_number_of_the_wire():
    epoch, rows, rejected = DECODER.decode(delta(ts_ms=1_771_234_567_890, market_id="x"))
    assert (epoch, rejected) == (2, None)
    assert rows == [
        (3, 7, RECV_MS, 1_771_234_567_890, MARKET, MessageKind.DELTA, YES, 4_200, -2_550, None)
    ]


CURRENT_AND_LEGACY = [
    (
        snapshot(yes_dollars_fp=[["0.4100", "250.00"], ["0.4200", "75.00"]],
                 no_dollars_fp=[["0.5500", "900.00"]]),
        snapshot(yes=[[41, 250], [42, 75]], no=[[55, 900]],
                 yes_dollars=[["0.4100", 250], ["0.4200", 75]], no_dollars=[["0.5500", 900]]),
        snapshot(yes=[[41, 250], [42, 75]], no=[[55, 900]]),
    ),
    (
        delta(delta_fp="-25.00"),
        line("orderbook_delta", {"price": 42, "price_dollars": "0.4200", "delta": -25,
                                 "side": "yes", "ts": "2025-12-12T10:11:12.345678Z"}),
        line("orderbook_delta", {"price": 42, "delta": -25, "side": "yes"}),
    ),
    (
        line("trade", {"yes_price_dollars": "0.4200", "no_price_dollars": "0.5800",
                       "count_fp": "3.00", "taker_outcome_side": "no", "taker_book_side": "ask"}),
        line("trade", {"yes_price": 42, "no_price": 58, "count": 3, "taker_side": "no",
                       "ts": 1_765_535_472}),
    ),
]  # fmt: skip


@pytest.mark.parametrize("lines", CURRENT_AND_LEGACY, ids=["snapshot", "delta", "trade"])
def test_both_wires_give_the_same_rows(lines):
    current, *legacy = (DECODER.decode(text) for text in lines)
    assert current[2] is None
    assert all(decoded == current for decoded in legacy)


@given(
    kind=st.sampled_from(["delta", "trade", "snapshot"]),
    side=st.sampled_from([YES, NO]),
    cents=st.integers(1, 99),
    contracts=st.integers(1, 10**6),
    use_yes_price=st.booleans(),
)
def test_both_wires_and_both_scales_give_the_same_rows(kind, side, cents, contracts, use_yes_price):
    price_bp, size_centi = cents * 100, contracts * 100
    book = ((side, price_bp, size_centi),) if kind == "snapshot" else ()
    frame = Frame(kind, RECV_MS, 2, 3, 7, MARKET, side, price_bp, size_centi, book)
    plain = DECODER.decode(wire_line(frame))
    flipping = FrameDecoder(frozenset({MARKET}), use_yes_price=use_yes_price)
    for legacy in (False, True):
        text = wire_line(frame, legacy=legacy, use_yes_price=use_yes_price)
        assert flipping.decode(text) == plain


def test_no_prices_in_the_yes_scale_are_mirrored():
    flipping = FrameDecoder(use_yes_price=True)
    book = snapshot(yes_dollars_fp=[["0.4100", "1.00"]], no_dollars_fp=[["0.4500", "2.00"]])
    assert levels(book) == [(YES, 4_100, 100), (NO, 4_500, 200)]
    assert levels(book, flipping) == [(YES, 4_100, 100), (NO, 5_500, 200)]
    _, rows, _ = flipping.decode(delta(side="no", price_dollars="0.4321"))
    assert rows[0][7] == 5_679


def test_a_trade_is_in_the_yes_scale_whoever_took():
    flipping = FrameDecoder(use_yes_price=True)
    sale = {"yes_price_dollars": "0.3000", "count_fp": "0.01", "taker_side": "no"}
    for decoder in (DECODER, flipping):
        _, rows, rejected = decoder.decode(line("trade", sale))
        assert rejected is None
        assert rows[0][5:9] == (MessageKind.TRADE, NO, 3_000, 1)


def test_the_present_name_of_the_taking_side_wins():
    trade = {"yes_price": 30, "count": 1, "taker_outcome_side": "yes", "taker_side": "no"}
    assert DECODER.decode(line("trade", trade))[1][0][6] == YES


def test_a_missing_side_is_an_empty_side():
    assert levels(snapshot()) == []
    assert levels(snapshot(yes=None, no=[])) == []
    assert levels(snapshot(no_dollars_fp=[["0.5500", "9.00"]])) == [(NO, 5_500, 900)]


def test_block_trades_are_no_evidence_about_the_book():
    text = line("trade", {"yes_price": 30, "count": 1, "taker_side": "yes", "is_block_trade": True})
    _, rows, rejected = DECODER.decode(text)
    assert rejected is None
    assert rows[0][5] == MessageKind.CONTROL


def test_a_ticker_carries_price_and_traded_volume():
    _, rows, rejected = DECODER.decode(
        line("ticker", {"price_dollars": "0.0000", "volume_fp": "1234.50", "ts_ms": 5}, seq=None)
    )
    assert rejected is None
    assert rows[0][3:9] == (5, MARKET, MessageKind.TICKER, None, 0, 123_450)


def test_trades_and_tickers_of_other_markets_are_only_counted():
    for kind in ("trade", "ticker"):
        _, rows, rejected = DECODER.decode(line(kind, {"market_ticker": "KXOTHER-26"}))
        assert rejected is None
        assert (rows[0][4], rows[0][5]) == (None, MessageKind.CONTROL)


def test_control_frames_use_up_a_number_and_say_nothing():
    text = line("ok", {"market_tickers": [MARKET]}, id=6)
    epoch, rows, rejected = DECODER.decode(text)
    assert (epoch, rejected) == (2, None)
    assert rows == [(3, 7, RECV_MS, None, None, MessageKind.CONTROL, None, None, None, "ok")]


def test_a_lifecycle_event_keeps_its_message():
    _, rows, rejected = DECODER.decode(line("market_lifecycle_v2", {"event_type": "determined"}))
    assert rejected is None
    assert (rows[0][4], rows[0][5]) == (MARKET, MessageKind.LIFECYCLE)
    assert json.loads(rows[0][9])["event_type"] == "determined"


def test_extra_fields_are_ignored():
    assert (
        DECODER.decode(delta(client_order_id="x", subaccount=None))[1] == DECODER.decode(delta())[1]
    )


# what a bad frame is refused for

PRICES = [
    ("0.0000", "price_out_of_range"), ("1.0000", "price_out_of_range"),
    ("-0.0100", "price_out_of_range"), ("1.0100", "price_out_of_range"),
    ("99999999", "price_out_of_range"),
    ("0.00001", "not_a_number"), ("0.42001", "not_a_number"), ("abc", "not_a_number"),
    ("", "not_a_number"), ("NaN", "not_a_number"), ("inf", "not_a_number"),
    ("1e400", "not_a_number"), ("4e-1", "not_a_number"), ("1e999999999", "not_a_number"),
    ("0.4_2", "not_a_number"), (" 0.42", "not_a_number"), ("0.42\n", "not_a_number"),
    ("\u0660.\u0664", "not_a_number"), ("0x1", "not_a_number"), ("9" * 5_000, "not_a_number"),
    ("0.41000000000000000000000000000000001", "not_a_number"), (0.1 + 0.2, "not_a_number"),
    (True, "missing_field"), (None, "missing_field"), ([42], "missing_field"),
]  # fmt: skip


@pytest.mark.parametrize(("price", "reason"), PRICES, ids=[repr(p)[:25] for p, _ in PRICES])
def test_a_price_is_an_exact_number_inside_the_dollar(price, reason):
    assert verdict(delta(price_dollars=price)) == reason


def test_a_price_in_cents_is_checked_alike():
    for cents, reason in ((0, "price_out_of_range"), (100, "price_out_of_range"),
                          (101, "price_out_of_range"), (-1, "price_out_of_range"),
                          (42.001, "not_a_number"), ("x", "not_a_number")):  # fmt: skip
        assert verdict(delta(price_dollars=None, price=cents)) == reason
    assert verdict(delta(price_dollars=None, price=42.5)) is None  # half a cent is a price


SIZES = ["NaN", "abc", "1e5", "0.001", "1000000000.01", "-1000000000.01", 0.001, 10**30, "9" * 19]


@pytest.mark.parametrize("size", SIZES, ids=repr)
def test_a_size_is_an_exact_number_of_hundredths_up_to_a_billion(size):
    assert verdict(delta(delta_fp=size)) == "size_invalid"
    assert verdict(snapshot(yes_dollars_fp=[["0.41", size]])) == "size_invalid"
    assert verdict(line("trade", {"yes_price": 42, "taker_side": "yes", "count_fp": size})) == (
        "size_invalid"
    )


@pytest.mark.parametrize("size", ["0.00", "-5.00", 0, -5])
def test_levels_and_trades_have_a_positive_size(size):
    assert verdict(snapshot(yes_dollars_fp=[["0.41", size]])) == "size_invalid"
    assert verdict(line("trade", {"yes_price": 42, "taker_side": "yes", "count": size})) == (
        "size_invalid"
    )


def test_the_largest_sizes_are_accepted():
    for size in ("1000000000.00", "-1000000000.00", "0.00"):
        assert verdict(delta(delta_fp=size)) is None


def test_a_snapshot_gives_a_level_once():
    assert verdict(snapshot(no=[[41, 5], [41, 7]])) == "size_invalid"
    assert verdict(snapshot(yes=[[41, 5]], no=[[41, 7]])) is None


@pytest.mark.parametrize("side", ["YES", "bid", "", "maybe"])
def test_a_side_is_yes_or_no(side):
    assert verdict(delta(side=side)) == "side_invalid"
    trade = {"yes_price": 42, "count": 1, "taker_side": side}
    assert verdict(line("trade", trade)) == "side_invalid"


@pytest.mark.parametrize("field", ["side", "price_dollars", "delta_fp", "market_ticker"])
def test_every_field_of_a_delta_is_needed(field):
    frame = json.loads(delta())
    del frame["event"]["msg"][field]
    assert verdict(json.dumps(frame).encode()) == "missing_field"
    frame["event"]["msg"][field] = {}
    assert verdict(json.dumps(frame).encode()) == "missing_field"


@pytest.mark.parametrize("kind", ["orderbook_snapshot", "orderbook_delta", "trade", "ticker"])
@pytest.mark.parametrize("message", [None, [], 5, "x", {}])
def test_a_frame_without_its_message_is_refused(kind, message):
    assert verdict(line(kind, {}, msg=message)) == "missing_field"


def test_tickers_with_impossible_numbers_are_refused():
    assert verdict(line("ticker", {"price_dollars": "1.0001"})) == "price_out_of_range"
    assert verdict(line("ticker", {"volume_fp": "-1.00"})) == "size_invalid"
    assert verdict(line("ticker", {"volume_fp": "9" * 18})) == "size_invalid"


CORRUPT = [
    b"", b"null", b"[]", b"{}", b"{", b"\x00", b"\xff\xfe", b"NaN", b"1e400", b'"text"',
    b'{"recv_ms":1,"conn":1}', b'{"recv_ms":1,"conn":1,"event":5}',
    b'{"recv_ms":"1","conn":1,"event":{}}', b'{"recv_ms":1.5,"conn":1,"event":{}}',
    b'{"recv_ms":NaN,"conn":1,"event":{}}', b'{"recv_ms":-1,"conn":1,"event":{}}',
    b'{"recv_ms":253402300800000,"conn":1,"event":{}}',
    b'{"recv_ms":99999999999999999999999,"conn":1,"event":{}}',
    b'{"recv_ms":1,"conn":true,"event":{}}', b'{"recv_ms":1,"conn":-1,"event":{}}',
    b'{"recv_ms":1,"conn":2147483648,"event":{}}',
    b'{"recv_ms":1,"conn":1,"event":{"type":"ok"}', b'{"recv_ms":1,"conn":1,"event":{"sid":1e999}}',
    b'{"recv_ms":1,"conn":1,"event":{"type":"\xc3"}}',
    b'{"recv_ms":1,"conn":1,"event":{"type":"market_lifecycle_v2","msg":"\xc3"}}',
    b'{"recv_ms":1,"conn":1,"event":{"type":"\\ud800"}}',
    b'{"recv_ms":1,"conn":1,"event":{"type":"ok","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    b'{"recv_ms":1,"conn":1,"event":{"type":"trade","msg":' + b'{"a":' * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("text", CORRUPT, ids=[repr(text[:60]) for text in CORRUPT])
def test_what_is_no_frame_is_a_corrupt_line(text):
    epoch, rows, rejected = DECODER.decode(text)
    assert (epoch, rows) == (-1, [])
    assert rejected is not None
    assert rejected.reason == Reason.CORRUPT_LINE


def test_a_refused_frame_keeps_its_number_so_that_it_is_no_gap():
    epoch, rows, rejected = DECODER.decode(delta(price_dollars="2.0000"))
    assert rejected is not None
    assert (epoch, rejected.market, rejected.value) == (2, MARKET, "2.0000")
    assert rows[0][:6] == (3, 7, RECV_MS, None, MARKET, MessageKind.REJECTED)


def test_numbers_of_the_envelope_that_are_none_are_not_kept():
    for name, wrong in (("sid", -1), ("sid", True), ("sid", 2**31), ("seq", "7"), ("seq", 2**62)):
        _, rows, rejected = DECODER.decode(
            line("orderbook_delta", {"side": "yes", "price": 42, "delta": 1}, **{name: wrong})
        )
        assert rejected is not None
        assert rejected.reason == Reason.MISSING_FIELD
        assert rows[0][("sid", "seq").index(name)] is None
        assert rows[0][5] == MessageKind.REJECTED


def test_a_foreign_market_never_reaches_a_book():
    for ticker in ("KXOTHER-26", "../../etc/passwd", "", "x" * 10_000):
        for text in (delta(market_ticker=ticker), snapshot(market_ticker=ticker)):
            _, rows, rejected = DECODER.decode(text)
            assert rejected is not None
            assert rejected.reason == Reason.UNKNOWN_MARKET
            assert (rows[0][4], rows[0][5]) == (None, MessageKind.CONTROL)


def test_without_a_list_of_markets_anything_of_the_form_of_a_ticker_is_one():
    anyone = FrameDecoder()
    assert verdict(delta(market_ticker="KXOTHER-26"), anyone) is None
    for ticker in ("../up", "a b", "", "x" * 101, "Ж"):
        assert verdict(delta(market_ticker=ticker), anyone) == "unknown_market"


def test_a_book_frame_of_nobody_knows_which_market_accuses_its_subscription():
    for message in ({"market_ticker": None}, {"market_ticker": [MARKET]}, {"market_ticker": 5}):
        _, rows, rejected = DECODER.decode(line("orderbook_delta", message))
        assert rejected is not None
        assert (rows[0][0], rows[0][4], rows[0][5]) == (3, None, MessageKind.REJECTED)


@pytest.mark.parametrize("kind", [None, 5, ["orderbook_delta"]])
def test_a_frame_of_no_type_may_have_been_of_a_book(kind):
    _, rows, rejected = DECODER.decode(line("", {}, type=kind))
    assert rejected is not None
    assert rejected.reason == Reason.MISSING_FIELD
    assert (rows[0][1], rows[0][4], rows[0][5]) == (7, MARKET, MessageKind.REJECTED)


def test_types_nobody_knows_are_listed_once():
    unknown = line("x" * 1_000, {})
    tables = ingested(Lines([unknown, unknown, line("ok", {})], {}))
    assert tables.summary.other_types == {"ok": 1, "x" * 100: 2}


def test_a_refused_trade_accuses_no_book():
    _, rows, rejected = DECODER.decode(line("trade", {"yes_price": 42, "count": 1}))
    assert rejected is not None
    assert (rows[0][5], rows[0][9]) == (MessageKind.CONTROL, "trade")


# whatever comes


def assert_accounted(text: bytes, decoder: FrameDecoder) -> None:
    recording = Lines([text], {"market_tickers": [MARKET]} if decoder is DECODER else {})
    tables = ingested(recording)
    assert_same_tables(recording, tables.messages, tables.rejected)
    seen = {*tables.messages["frame"].to_pylist(), *tables.rejected["frame"].to_pylist()}
    assert seen == {*range(tables.summary.frames)}
    for reason in tables.rejected["reason"].to_pylist():
        assert reason in {label(known) for known in Reason if 10 <= known < 30}


@settings(max_examples=150)
@given(text=st.binary(max_size=200), listed=st.booleans())
@example(text=b"\xef\xbb\xbf{}", listed=True)
def test_random_bytes_end_in_quarantine(text, listed):
    assert_accounted(text, DECODER if listed else FrameDecoder())


GOOD = [text for lines in CURRENT_AND_LEGACY for text in lines] + [
    line("ticker", {"price_dollars": "0.4200", "volume_fp": "5.00", "ts_ms": 1}),
    line("market_lifecycle_v2", {"event_type": "created"}),
    line("ok", {}),
]


@settings(max_examples=200)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_lines_with_changed_bytes_never_raise(text, changes, listed):
    mutated = bytearray(text)
    for place, byte in changes:
        mutated[place % len(mutated)] = byte
    assert_accounted(bytes(mutated), DECODER if listed else FrameDecoder())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40)
    | st.floats() | st.text(max_size=8) | st.sampled_from(["yes", "0.42", MARKET]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)  # fmt: skip
FIELDS = ["side", "price", "price_dollars", "delta", "delta_fp", "yes", "no", "yes_dollars_fp",
          "no_dollars_fp", "count", "count_fp", "yes_price", "taker_side", "is_block_trade",
          "ts_ms", "volume_fp", "market_ticker"]  # fmt: skip


@settings(max_examples=300)
@given(
    st.sampled_from(GOOD),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
    st.dictionaries(st.sampled_from(["type", "sid", "seq", "msg"]), json_values, max_size=1),
    st.dictionaries(st.sampled_from(["recv_ms", "conn", "event"]), json_values, max_size=1),
    st.booleans(),
)
def test_frames_with_changed_fields_never_raise(text, message, event, envelope, listed):
    frame = json.loads(text)
    frame["event"]["msg"] |= message
    frame["event"] |= event
    mutated = json.dumps(frame | envelope).encode(errors="surrogatepass")
    assert_accounted(mutated, DECODER if listed else FrameDecoder())
