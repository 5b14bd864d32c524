"""Values of JSON fields, compiled: the place after a value, or `ODD` where one is not sure.

The text ends with a line feed, which is part of no value: every loop stops there at the latest.
"""

from __future__ import annotations

import numpy as np

from kalshi_pipeline.compiled import kernel, part
from kalshi_pipeline.config import BP_PER_DOLLAR, MAX_SIZE_CENTI
from kalshi_pipeline.market.prices import NO, YES
from kalshi_pipeline.recordings.scanner.layout import MAX_LADDER, NULL_64, ODD, Names

QUOTE, COMMA, COLON, OPEN, CLOSE = 34, 44, 58, 123, 125
_MINUS, _POINT, _ZERO, _OPEN_LIST, _CLOSE_LIST = 45, 46, 48, 91, 93
_PROBES = 64  # a name further than this from its slot is not found: names may be chosen to collide
_DIGEST = (1 << 32) - 1
_PLAIN = (np.arange(256) >= 32) & (np.arange(256) < 128) & ~np.isin(np.arange(256), [34, 92])
_TRUE, FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))
_YES_TEXT, _NO_TEXT = (np.frombuffer(word, np.uint8) for word in (b'"yes"', b'"no"'))
_TO_SCALE = np.array([10_000, 1_000, 100, 10, 1])  # by number of decimals


@part
def at(text, place):  # type: ignore[no-untyped-def]
    """The byte at a place."""
    # places are never negative: without the cast the compiler would ask at each byte
    return text[np.uint64(place)]


@part
def is_word(text, place, word):  # type: ignore[no-untyped-def]
    """Whether a word begins here."""
    same = 0
    while same < len(word) and at(text, place + same) == word[same]:
        same += 1
    return same == len(word)


@part
def blanks(text, place):  # type: ignore[no-untyped-def]
    """The place after spaces and tabs."""
    while at(text, place) == 32 or at(text, place) == 9:
        place += 1
    return place


@part
def find(text, place, group, names):  # type: ignore[no-untyped-def]
    """Code of the name that begins here, `ODD` = unknown; the place after its closing quote."""
    start, digest = place, np.int64(group)
    while _PLAIN[at(text, place)]:
        digest = (digest * 31 + at(text, place)) & _DIGEST
        place += 1
    if at(text, place) != QUOTE:
        return np.int32(ODD), ODD
    mask = len(names.slot) - 1
    slot = (digest ^ digest >> 15) & mask
    for _ in range(_PROBES):
        code = names.slot[slot]
        if code < 0:
            break
        first = names.start[code]
        if names.group[code] == group and names.start[code + 1] - first == place - start:
            same = start
            while same < place and at(text, same) == at(names.text, first + same - start):
                same += 1
            if same == place:
                return code, place + 1
        slot = slot + 1 & mask
    return np.int32(ODD), place + 1


@kernel
def insert(names: Names, code: int) -> None:
    """Enter a name, whose group, start and text are in place, into the slots."""
    digest = np.int64(names.group[code])
    for place in range(names.start[code], names.start[code + 1]):
        digest = (digest * 31 + names.text[place]) & _DIGEST
    mask = len(names.slot) - 1
    slot = (digest ^ digest >> 15) & mask
    for _ in range(_PROBES):
        if names.slot[slot] < 0:
            names.slot[slot] = code
            return
        slot = slot + 1 & mask


@part
def _digits(text, place):  # type: ignore[no-untyped-def]
    value, last = np.int64(0), place + 18
    digit = np.int64(at(text, place)) - _ZERO
    while 0 <= digit <= 9 and place <= last:
        value = value * 10 + digit
        place += 1
        digit = np.int64(at(text, place)) - _ZERO
    return value, place


@part
def read_integer(text, place):  # type: ignore[no-untyped-def]
    """An integer of at most 18 digits without a sign; the place after it."""
    first = place
    value, place = _digits(text, place)
    length = place - first
    if length == 0 or length > 18 or (length > 1 and at(text, first) == _ZERO):
        return value, ODD
    return value, place


@part
def read_decimal(text, place):  # type: ignore[no-untyped-def]
    """10,000 times a decimal number in quotes, or an integer without; the place after it."""
    quoted = at(text, place) == QUOTE
    place += quoted
    negative = at(text, place) == _MINUS
    place += negative
    first = place
    value, place = _digits(text, place)
    length, decimals = place - first, 0
    if length == 0 or length > 13:
        return value, ODD
    if not quoted and (length > 1 or negative) and at(text, first) == _ZERO:
        return value, ODD
    if quoted and at(text, place) == _POINT:
        place += 1
        first = place
        digit = np.int64(at(text, place)) - _ZERO
        while 0 <= digit <= 9:
            if place - first < 4:
                value = value * 10 + digit
                decimals += 1
            elif digit != 0:
                return value, ODD
            place += 1
            digit = np.int64(at(text, place)) - _ZERO
        if place == first or place - first > 18:
            return value, ODD
    if quoted:
        if at(text, place) != QUOTE:
            return value, ODD
        place += 1
    value *= _TO_SCALE[decimals]
    return -value if negative else value, place


@part
def read_side(text, place):  # type: ignore[no-untyped-def]
    """`"yes"` or `"no"`; the place after it."""
    if is_word(text, place, _YES_TEXT):
        return YES, place + 5
    if is_word(text, place, _NO_TEXT):
        return NO, place + 4
    return 0, ODD


@part
def skip_value(text, place):  # type: ignore[no-untyped-def]
    """The place after a string, an integer, true, false or null."""
    byte = at(text, place)
    if byte == QUOTE:
        place += 1
        while _PLAIN[at(text, place)]:
            place += 1
        return place + 1 if at(text, place) == QUOTE else ODD
    if byte == _MINUS:
        return read_integer(text, place + 1)[1]
    if is_word(text, place, _TRUE) or is_word(text, place, _NULL):
        return place + 4
    if is_word(text, place, FALSE):
        return place + 5
    return read_integer(text, place)[1]


@kernel
def read_ladder(text, place, ladder, scratch, cursor):  # type: ignore[no-untyped-def]
    """The place after `[[price, size], ...]`, whose levels go into the scratch."""
    if at(text, place) != _OPEN_LIST:
        return ODD
    level = MAX_LADDER * ladder
    scratch.ladder[ladder, 0] = scratch.ladder[ladder, 1] = level
    cursor.ladders[0] += 1
    mark = cursor.ladders[0]
    in_cents = ladder % 3 == 2
    place = blanks(text, place + 1)
    if at(text, place) == _CLOSE_LIST:
        return place + 1
    while True:
        if at(text, place) != _OPEN_LIST:
            return ODD
        price, place = read_decimal(text, blanks(text, place + 1))
        if place < 0:
            return ODD
        place = blanks(text, place)
        if at(text, place) != COMMA:
            return ODD
        size, place = read_decimal(text, blanks(text, place + 1))
        if place < 0:
            return ODD
        place = blanks(text, place)
        if at(text, place) != _CLOSE_LIST:
            return ODD
        price, size = price_bp(price, in_cents), centi(size, 1, MAX_SIZE_CENTI)
        if price < 0 or size == NULL_64 or scratch.seen[price] == mark:
            return ODD
        scratch.seen[price] = mark
        scratch.level_bp[level], scratch.level_centi[level] = price, size
        level += 1
        scratch.ladder[ladder, 1] = level
        place = blanks(text, place + 1)
        if at(text, place) == _CLOSE_LIST:
            return place + 1
        if at(text, place) != COMMA:
            return ODD
        place = blanks(text, place + 1)


@part
def price_bp(value, in_cents):  # type: ignore[no-untyped-def]
    """From 10,000 times dollars or cents; `ODD` = not exact, or not inside the dollar."""
    if in_cents:
        if value % 100 != 0:
            return ODD
        value //= 100
    return value if 0 < value < BP_PER_DOLLAR else ODD


@part
def centi(value, least, most):  # type: ignore[no-untyped-def]
    """From 10,000 times contracts; `NULL_64` = not exact, or out of range."""
    if value % 100 != 0:
        return NULL_64
    value //= 100
    return value if least <= value <= most else NULL_64
