"""Lines of NDJSON -> columns, compiled.

The scanner takes a line only when it is sure of every byte: plain ASCII strings without escapes,
plain decimals, names it has seen before, values in range. Any other line is *odd* and is left to
`FrameDecoder`, the reference: a line taken here has the rows that the reference would give it, so
what is odd changes the speed and never the table. Tests hold both against each other.

One pass finds the fields and the end of the line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.recordings.scanner.layout import (
    F_BLOCK,
    F_CONN,
    F_EVENT,
    F_LADDER,
    F_MARKET,
    F_MSG,
    F_PRICE_DOLLARS,
    F_RECV_MS,
    F_SID,
    F_SIDE,
    F_TS_MS,
    F_TYPE,
    FIELDS,
    GROUPS,
    ODD,
    SEEN,
    TYPE,
    UNKNOWN,
    UNKNOWN_FIELD,
    UNKNOWN_TICKER,
    Columns,
    Cursor,
    Names,
    OddLines,
    Scratch,
)
from kalshi_pipeline.recordings.scanner.rows import write
from kalshi_pipeline.recordings.scanner.values import (
    CLOSE,
    COLON,
    COMMA,
    FALSE,
    OPEN,
    QUOTE,
    at,
    blanks,
    find,
    is_word,
    read_decimal,
    read_integer,
    read_ladder,
    read_side,
    skip_value,
)
from kalshi_pipeline.recordings.wire import END_OF_IDS, END_OF_TIME_MS

_NEWLINE = 10
_BLANK = np.isin(np.arange(256), [9, 11, 12, 13, 32])  # what bytes.strip() takes away
_BOM = np.frombuffer(b"\xef\xbb\xbf", np.uint8)


@kernel
def scan(
    text: NDArray[np.uint8],
    end: int,
    offset: int,
    file: int,
    mirrored: bool,
    enough: int,
    learning: int,
    keys: Names,
    tickers: Names,
    scratch: Scratch,
    columns: Columns,
    odd: OddLines,
    cursor: Cursor,
) -> None:
    """Read whole lines until the text ends, there are rows enough, or too many are odd.

    Args:
        text: `[end + 1]` bytes or more; `text[end]` is a line feed.
        end: length of what there is to read; an unfinished last line is left.
        offset: of the text in its file, in bytes.
        file: index of the file.
        mirrored: NO prices come in the YES scale.
        enough: stop when this many rows are written; the columns hold `MAX_ROWS` more.
        learning: stop behind a line whose name of such a kind is unknown: it may be known for the
            next one.
        keys: `KNOWN` and, after them, fields to pass over.
        tickers: known markets; a code is the place of the ticker.
        scratch: see there.
        columns: output, from `cursor.row` on.
        odd: output, from `cursor.odd` on.
        cursor: where to begin; left where it ends.
    """
    place, row, frame = cursor.place[0], cursor.row[0], cursor.frame[0]
    count = cursor.odd[0]
    while place < end and row < enough and count < len(odd.start):
        start = place
        if offset + place == 0 and is_word(text, place, _BOM):
            place += 3
        while _BLANK[at(text, place)]:
            place += 1
        if at(text, place) == _NEWLINE and place < end and place - start <= MAX_LINE_BYTES:
            place += 1
            continue
        scratch.values[UNKNOWN] = 0
        place = _read(text, place, keys, tickers, scratch, cursor)
        rows = 0
        if place > 0:
            while _BLANK[at(text, place)]:
                place += 1
            if at(text, place) == _NEWLINE and place - start <= MAX_LINE_BYTES:
                rows = write(scratch, columns, row, mirrored)
        if rows <= 0:
            place = max(place, start)
            while at(text, place) != _NEWLINE:
                place += 1
        if place >= end:  # an unfinished line
            place = start
            break
        if rows > 0:
            for i in range(row, row + rows):
                columns.frame[i], columns.file[i] = frame, file
                columns.offset[i] = offset + start
            row += rows
        else:
            odd.start[count], odd.end[count] = start, place
            odd.row[count], odd.frame[count] = row, frame
            count += 1
        frame += 1
        place += 1
        if rows <= 0 and scratch.values[UNKNOWN] & learning:
            break
    cursor.place[0], cursor.row[0], cursor.frame[0], cursor.odd[0] = place, row, frame, count


@part
def _read(text, place, keys, tickers, scratch, cursor):  # type: ignore[no-untyped-def]
    # fields of the line -> scratch; the place after it, or ODD
    if at(text, place) != OPEN:
        return ODD
    place = blanks(text, place + 1)
    level, last, seen = 0, 0, 0
    while True:
        key, place = _key(text, place, level, last, keys, scratch)
        if place < 0 or at(text, place) != COLON:
            return ODD
        last = GROUPS + key
        place = blanks(text, place + 1)
        if key < FIELDS:
            if seen >> key & 1:
                return ODD
            seen |= 1 << key
        if key in (F_EVENT, F_MSG):
            if at(text, place) != OPEN:
                return ODD
            level += 1
            last = level
            place = blanks(text, place + 1)
            continue
        place = _value(text, place, key, keys, tickers, scratch, cursor)
        if place < 0:
            return ODD
        place = blanks(text, place)
        while at(text, place) == CLOSE:
            place += 1
            if level == 0:
                scratch.values[SEEN] = seen
                return place
            level -= 1
            last = GROUPS + (F_EVENT if level == 0 else F_MSG)
            place = blanks(text, place)
        if at(text, place) != COMMA:
            return ODD
        place = blanks(text, place + 1)


@part
def _key(text, place, level, last, keys, scratch):  # type: ignore[no-untyped-def]
    # code of the name of a field, and the place after it; fields mostly come in the same order
    if at(text, place) != QUOTE:
        return ODD, ODD
    place += 1
    code = scratch.follows[last]
    if code >= 0:
        first = keys.start[code]
        length = keys.start[code + 1] - first
        same = 0
        while same < length and at(text, place + same) == at(keys.text, first + same):
            same += 1
        if same == length and at(text, place + length) == QUOTE:
            return code, blanks(text, place + length + 1)
    code, place = find(text, place, level, keys)
    if code < 0:
        scratch.values[UNKNOWN] = UNKNOWN_FIELD
        return ODD, ODD
    scratch.follows[last] = code
    return code, blanks(text, place)


@part
def _value(text, place, key, keys, tickers, scratch, cursor):  # type: ignore[no-untyped-def]
    # the place after the value of a field, which goes into the scratch, or ODD
    if key >= FIELDS:
        return skip_value(text, place)
    if key >= F_LADDER:
        return read_ladder(text, place, key - F_LADDER, scratch, cursor)
    if key >= F_PRICE_DOLLARS:
        value, place = read_decimal(text, place)
    elif key >= F_SIDE:
        value, place = read_side(text, place)
    elif key in (F_MARKET, F_TYPE):
        if at(text, place) != QUOTE:
            return ODD
        if key == F_MARKET:
            value, place = find(text, place + 1, 0, tickers)
            if value < 0:
                scratch.values[UNKNOWN] = UNKNOWN_TICKER
        else:
            value, place = find(text, place + 1, TYPE, keys)
        if value < 0:
            return ODD
    elif key == F_BLOCK:
        value, place = 0, (place + 5 if is_word(text, place, FALSE) else ODD)
    else:
        value, place = read_integer(text, place)
        if key in (F_CONN, F_SID) and value >= END_OF_IDS:
            return ODD
        if key in (F_RECV_MS, F_TS_MS) and value >= END_OF_TIME_MS:
            return ODD
    scratch.values[key] = value
    return place
