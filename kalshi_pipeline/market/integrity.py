"""Why a raw row was not applied, and why a segment of trusted book ended: the closed vocabularies.

Source: reliability rules D1-D20. Names are stable: they are keys of quarantine tables and reports.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """What became of one raw row (one delta or one snapshot frame)."""

    APPLIED = 0
    BEFORE_SNAPSHOT = 1  # outside the book's time: counted apart, not quarantined
    # rejected while decoding
    CORRUPT_LINE = 10  # not JSON, or not a frame
    TRUNCATED_FILE = 11  # the file ends in the middle of its compressed stream
    LINE_TOO_LONG = 12
    MISSING_FIELD = 13  # absent, or of another type
    NOT_A_NUMBER = 14  # a price that is none, or that does not convert exactly
    PRICE_OUT_OF_RANGE = 15
    SIZE_INVALID = 16  # no exact number, too large, or a snapshot's level not of one positive size
    SIDE_INVALID = 17
    UNKNOWN_MARKET = 18
    # rejected while reading rows of a database
    DISCONTINUITY = 19  # the size before the change is not the one our book has: rows are missing
    CONVENTION = 20  # a snapshot that fits neither convention of the four ladders
    ACTION_INVALID = 21
    # rejected while replaying
    PRICE_OFF_TICK = 30
    DUPLICATE = 31
    CONFLICT = 32
    NEGATIVE_SIZE = 33
    CROSSED = 34
    AFTER_GAP = 35  # between the end of a segment and the market's next snapshot
    STALE_EPOCH = 36  # from a connection that a newer snapshot of the market has replaced
    AFTER_CLOSE = 37  # the market's closing snapshot has been seen


class SegmentEnd(IntEnum):
    """Why a segment of trusted book ended."""

    END_OF_RECORDING = 0
    MARKET_CLOSED = 1
    GAP = 2
    NEW_EPOCH = 3
    NEGATIVE_SIZE = 4
    CROSSED = 5
    REJECTED_ROW = 6
    CONFLICT = 7
    DRIFT = 8  # a snapshot disagreed with the replayed book
    CLOCK_JUMP = 9  # the receive clock jumped further than a day


def label(code: Reason | SegmentEnd) -> str:
    """The lower-case name that tables and reports carry."""
    return code.name.lower()
