"""Message files with bytes changed, put in, taken out and repeated; and what ingest makes of them.

Run as a program it reports one line to its parent, which survives whatever happens here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tests.oracle.ingest import assert_same_tables
from tests.random_sessions import TICKERS, Lines, ingested, random_session

FILES_AT_ONCE = 25
# what breaks JSON, numbers, names and lines
TELLING = b'\n\r\0 \t"\\{}[]:,.-+0123456789eEtfnyo\x7f\x80\xc3\xef\xff'
EXTRAS = (b"\xef\xbb\xbf", b"null", b"1e5", b"-0", b"00", b'"yes"', b"[[41,5]]", b"\\u0041", b"{}")


class Files(Lines):
    """Several files that lie in memory, each in blocks; the last may break off."""

    def __init__(
        self, files: Sequence[Sequence[bytes]], header: dict[str, Any], *, cut: bool = False
    ) -> None:
        super().__init__((), header)
        object.__setattr__(self, "held", files)
        object.__setattr__(self, "cut", cut)

    def blocks(self) -> Iterator[tuple[int, bytes | None]]:
        last = len(self.held) - 1  # type: ignore[attr-defined]
        for file, blocks in enumerate(self.held):  # type: ignore[attr-defined]
            for block in filter(None, blocks):
                yield file, block
            yield file, None if self.cut and file == last else b""  # type: ignore[attr-defined]


def spoilt(text: bytes, random: Random) -> bytes:
    """A text with one to six faults."""
    out = bytearray(text)
    for _ in range(random.choice((1, 1, 1, 2, 6))):
        place = random.randrange(len(out) + 1)
        span = random.choice((1, 1, 2, 8, 40, 400))
        match random.randrange(6):
            case 0:
                out[place : place + 1] = random.choices(TELLING)
            case 1:
                out[place : place + 1] = random.randbytes(1)
            case 2:
                out[place:place] = random.choice(EXTRAS)
            case 3:
                del out[place : place + span]
            case 4:
                out[place:place] = out[place : place + span]
            case _:
                other = random.randrange(len(out) + 1)
                out[place : place + span] = out[other : other + span]
    return bytes(out)


def in_blocks(text: bytes, random: Random) -> list[bytes]:
    """A text cut at random places."""
    places = sorted(random.randrange(len(text) + 1) for _ in range(random.choice((0, 1, 5))))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def session_text(random: Random) -> bytes:
    """Some lines of a random session, with a trade and a ticker as the exchange sends them."""
    operations = [random.getrandbits(32) for _ in range(12)]
    session = random_session(operations, "complete", random.getrandbits(32))
    trade = (
        b'{"recv_ms":1785901540731,"conn":1,"event":{"type":"trade","sid":2,"seq":147562,"msg":{'
        b'"trade_id":"f195de40","market_ticker":"KXCENT-26-A","yes_price_dollars":"0.6800",'
        b'"no_price_dollars":"0.3200","count_fp":"46.02","taker_side":"yes",'
        b'"taker_outcome_side":"yes","taker_book_side":"bid","ts":1785901540,'
        b'"ts_ms":1785901540722}}}'
    )
    ticker = (
        b'{"recv_ms":1778477863452,"conn":1,"event":{"type":"ticker","sid":1,"msg":{'
        b'"market_id":"bdc2","market_ticker":"KXTAPER-26-B","price_dollars":"0.1100",'
        b'"time":"2026-05-11T05:37:43Z","ts_ms":1778477863000,"volume_fp":"73.00","yes_ask":12}}}'
    )
    return b"\n".join([*session.lines, trade, ticker]) + b"\n"


def check(seed: int, count: int) -> None:
    """Ingest `count` spoilt files; each table must be that of the reference, or this raises."""
    random = Random(seed)
    for _ in range(0, count, FILES_AT_ONCE):
        header = {
            "use_yes_price": random.random() < 0.5,
            "market_tickers": random.choice(([], list(TICKERS))),
        }
        texts = [spoilt(session_text(random), random) for _ in range(FILES_AT_ONCE)]
        files = Files(
            [in_blocks(text, random) for text in texts], header, cut=random.random() < 0.5
        )
        tables = ingested(files)
        assert_same_tables(files, tables.messages, tables.rejected)


if __name__ == "__main__":
    check(int(sys.argv[1]), int(sys.argv[2]))
    print("every table is that of the reference")
