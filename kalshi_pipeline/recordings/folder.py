"""Recording folders: `<root>/<session_id>/` with session.json, markets.json and messages.

Messages are `messages*.ndjson`, plain, `.gz` or `.zst`. The raw capture is read, never written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kalshi_pipeline.config import MAX_LINE_BYTES
from kalshi_pipeline.errors import CorruptRecording, InvalidName, MissingFile, SessionNotFound
from kalshi_pipeline.names import is_ticker
from kalshi_pipeline.names import session_id as parse_session_id
from kalshi_pipeline.recordings.streams import blocks_of

MESSAGE_FILES = ("messages*.ndjson", "messages*.ndjson.gz", "messages*.ndjson.zst")
_BOM = b"\xef\xbb\xbf"
_HASHED_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True)
class SessionInfo:
    """What the collector wrote down about a session.

    Args:
        sequence: `complete` = every message of a subscription is here, a hole is a loss;
            `shared` = the counter also counted markets that are not recorded; `none` = polls.
        tickers: markets subscribed to; empty = not said.
        generated: made by the generator, not recorded.
    """

    session: int
    title: str
    sequence: str
    started_ms: int | None
    ended_ms: int | None
    use_yes_price: bool
    tickers: tuple[str, ...]
    generated: bool
    declared: Mapping[str, Any]


def is_completed(info: SessionInfo) -> bool:
    """Whether a session will get no more rows; a folder is written when its session is over."""
    is_active = info.declared.get("status") not in (None, "closed", "error")
    return info.ended_ms is not None or not is_active


@dataclass(frozen=True)
class RawLine:
    """One line of a recording, or the place where a file broke off.

    Args:
        file: index of the file, in the order of the names.
        offset: byte offset of the line in the decompressed file.
        text: the bytes; None where the line is longer than the limit.
        truncated: the file's compressed stream ends inside (or right before) this line.
    """

    file: int
    offset: int
    text: bytes | None
    truncated: bool = False


@dataclass(frozen=True)
class Recording:
    """One session on disk."""

    folder: Path
    info: SessionInfo
    markets: tuple[Mapping[str, Any], ...]
    files: tuple[Path, ...]

    def blocks(self) -> Iterator[tuple[int, bytes | None]]:
        """The decompressed bytes of the files, in the order of their names.

        Yields:
            Index of the file and a block of it; b"" at its end, None instead where its compressed
            stream is damaged or breaks off.

        Raises:
            CorruptRecording: a file cannot be read at all.
        """
        for index, path in enumerate(self.files):
            try:
                for block in blocks_of(path):
                    yield index, block
            except OSError as error:
                raise CorruptRecording(
                    f"{path.name} cannot be read: {error}", session=self.info.session
                ) from error

    def lines(self) -> Iterator[RawLine]:
        """Every line in receive order, one at a time; `ingest` reads blocks of them.

        Raises:
            CorruptRecording: a file cannot be read at all.
        """
        return _lines_of(self.blocks())

    def fingerprint(self, go_on: Callable[[], None] | None = None) -> str:
        """sha256 over the names and bytes of the folder's files: the version of the raw data.

        Args:
            go_on: called before every block, so that it can raise where it takes too long.
        """
        digest = hashlib.sha256()
        for path in sorted((*self.folder.glob("*.json"), *self.files)):
            content = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while True:
                    if go_on is not None:
                        go_on()
                    if not (block := file.read(_HASHED_AT_ONCE)):
                        break
                    content.update(block)
            digest.update(path.name.encode())
            digest.update(content.digest())
        return digest.hexdigest()[:16]


class RecordingFolders:
    """The sessions under one or more root folders; the first root that has a session wins."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)

    def sessions(self) -> list[int]:
        """Ids of every complete-looking session folder, ascending."""
        found = set()
        for root in self.roots:
            for folder in root.iterdir() if root.is_dir() else ():
                try:
                    number = parse_session_id(folder.name)
                except InvalidName:
                    continue
                if (folder / "session.json").is_file():
                    found.add(number)
        return sorted(found)

    def open(self, session: int) -> Recording:
        """One session.

        Raises:
            SessionNotFound: no root has a folder of this name; lists those that exist.
            MissingFile: the folder lacks session.json or messages.
            CorruptRecording: session.json or markets.json cannot be read.
        """
        number = parse_session_id(session)
        for root in self.roots:
            folder = root / str(number)
            if folder.is_dir():
                return open_folder(folder)
        known = ", ".join(map(str, self.sessions())) or "none"
        searched = ", ".join(map(str, self.roots)) or "no folder"
        raise SessionNotFound(
            f"no recording of this session under {searched}; sessions there: {known}",
            session=number,
        )


def open_folder(folder: Path) -> Recording:
    """The recording in a folder; see `RecordingFolders.open` for what it raises."""
    number = parse_session_id(folder.name)
    header = _json(folder / "session.json", number)
    if not isinstance(header, dict):
        raise CorruptRecording("session.json is not an object", session=number)
    declared = header.get("session_id", number)
    if declared != number:
        raise CorruptRecording(
            "session.json carries another id than its folder", session=number, value=declared
        )
    markets_path = folder / "markets.json"
    markets = _json(markets_path, number) if markets_path.is_file() else []
    if not isinstance(markets, list) or not all(isinstance(entry, dict) for entry in markets):
        raise CorruptRecording("markets.json is not a list of objects", session=number)
    found = (path for pattern in MESSAGE_FILES for path in folder.glob(pattern))
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise MissingFile(
            "the recording has no messages*.ndjson[.gz|.zst]", session=number, value=str(folder)
        )
    return Recording(folder, session_info(number, header), tuple(markets), tuple(files))


def time_ms(text: object) -> int | None:
    """An RFC 3339 time as Unix milliseconds; None where there is none.

    Raises:
        ValueError: it is not such a time, or carries no zone.
    """
    if not text:
        return None
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return round(moment.timestamp() * 1000)


def session_info(number: int, header: Mapping[str, Any]) -> SessionInfo:
    """The facts of a `session.json`.

    Raises:
        CorruptRecording: an unknown kind of sequence, a ticker that is none, a flag that is
            neither true nor false, or an unreadable time.
    """
    sequence, tickers = header.get("sequence", "complete"), header.get("market_tickers", [])
    if sequence not in ("complete", "shared", "none"):
        raise CorruptRecording(
            "session.json declares an unknown kind of sequence", session=number, value=sequence
        )
    if not isinstance(tickers, list) or not all(map(is_ticker, tickers)):
        raise CorruptRecording(
            "session.json's market_tickers is not a list of tickers",
            session=number,
            value=str(tickers)[:200],
        )
    try:
        started, ended = time_ms(header.get("started_at")), time_ms(header.get("ended_at"))
    except ValueError as error:
        raise CorruptRecording(
            "session.json carries an unreadable time", session=number, value=str(error)
        ) from error
    return SessionInfo(
        session=number,
        title=str(header.get("title", "")),
        sequence=sequence,
        started_ms=started,
        ended_ms=ended,
        use_yes_price=_flag(number, header, "use_yes_price"),
        tickers=tuple(tickers),
        generated=_flag(number, header, "generated"),
        declared=dict(header),
    )


def _flag(session: int, header: Mapping[str, Any], name: str) -> bool:
    flag = header.get(name, False)
    if not isinstance(flag, bool):
        raise CorruptRecording(
            f"session.json's {name} is neither true nor false", session=session, value=flag
        )
    return flag


def _json(path: Path, session: int) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingFile(
            f"the recording has no {path.name}", session=session, value=str(path.parent)
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        raise CorruptRecording(
            f"{path.name} is not readable JSON: {error}", session=session, value=str(path)
        ) from error


def _lines_of(blocks: Iterator[tuple[int, bytes | None]]) -> Iterator[RawLine]:
    offset, rest, skipping = 0, b"", False
    for file, block in blocks:
        if not block:
            line = stripped(offset, rest)
            if line or block is None:
                yield RawLine(file, offset, line, truncated=block is None)
            offset, rest, skipping = 0, b"", False
            continue
        *lines, rest = (rest + block).split(b"\n")
        for text in lines:
            if not skipping:
                yield from _line(file, offset, text)
            offset, skipping = offset + len(text) + 1, False
        if len(rest) > MAX_LINE_BYTES and not skipping:
            yield RawLine(file, offset, None)
            skipping = True
        if skipping:  # forget an endless line piece by piece; it is reported once
            offset, rest = offset + len(rest), b""


def _line(file: int, offset: int, text: bytes) -> Iterator[RawLine]:
    if len(text) > MAX_LINE_BYTES:
        yield RawLine(file, offset, None)
    elif line := stripped(offset, text):
        yield RawLine(file, offset, line)


def stripped(offset: int, text: bytes) -> bytes:
    """A line without the white space around it, and without a byte order mark before the file."""
    return (text.removeprefix(_BOM) if offset == 0 else text).strip()
