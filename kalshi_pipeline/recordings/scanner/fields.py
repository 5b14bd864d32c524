"""Fields of a frame that nothing is made of: listed once, then passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from kalshi_pipeline.recordings.scanner.layout import EVENT, KNOWN, LINE, MESSAGE, TYPE

_KNOWN, _TYPES = frozenset(KNOWN), [name for group, name in KNOWN if group == TYPE]
_LONGEST_NAME = 100


def ignored_fields(line: bytes) -> Iterator[tuple[int, str, str]]:
    """Fields of a snapshot, delta, trade or ticker that the message table knows nothing of.

    Yields:
        Group of the name, the path before it, the name.
    """
    try:
        frame = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # an ignored value may be anything
    event = _object(frame).get("event")
    message = _object(event).get("msg")
    if _object(event).get("type") not in _TYPES:
        return
    for group, path, part in (
        (LINE, "", frame),
        (EVENT, "event.", event),
        (MESSAGE, "event.msg.", message),
    ):
        for name in _object(part):
            if (group, name) not in _KNOWN:
                yield group, path, name[:_LONGEST_NAME]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
