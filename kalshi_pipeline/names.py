"""Session ids and market tickers: what has the form of one.

Ids reach file names and SQL, so nothing else is ever let through.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from kalshi_pipeline.errors import InvalidName

_SESSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_TICKER = re.compile(r"[A-Z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def session_id(text: str | int) -> int:
    """A session id: a positive integer of at most nine digits.

    Raises:
        InvalidName: anything else, a path or a Unicode digit included.
    """
    if not _SESSION.fullmatch(str(text)):
        raise InvalidName(
            "a session id is a positive integer of at most nine digits",
            rule="session_id",
            value=text,
        )
    return int(text)


def is_ticker(text: object) -> TypeGuard[str]:
    """Whether this has the form of a market ticker."""
    return isinstance(text, str) and _TICKER.fullmatch(text) is not None
