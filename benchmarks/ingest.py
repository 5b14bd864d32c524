"""Ingest: frames of a recording turned into a checked message table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.data import Material
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.recordings.folder import Recording, open_folder
from kalshi_pipeline.recordings.frame_reader import FrameReader
from kalshi_pipeline.recordings.ingest import BATCH_ROWS, ingest
from kalshi_pipeline.recordings.messages import FrameDecoder
from kalshi_pipeline.recordings.streams import BLOCK_BYTES

UNIT = "frames/s"
COUNTED, READ = "count the line feeds", "read and decompress the file"
# what the figures are to be of; a checkout without it measures the generated session
RECORDED = Path(__file__).parents[2] / "shared" / "recordings" / "111"
FRAMES = 100_000


def measure(material: Material, effort: Effort, frames: int = FRAMES) -> list[Row]:
    """Decoding alone, from text in memory; and the stage, from a file to Parquet.

    Args:
        material: the generated session.
        effort: how long to watch.
        frames: so many of the recording at most.
    """
    recording = open_folder(RECORDED) if RECORDED.is_dir() else material.recording
    lines = [line.text for line in islice(recording.lines(), frames) if line.text]
    result = [_decoding(recording, lines, effort)]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "messages.ndjson"
        plain.write_bytes(b"\n".join(lines))
        file = Recording(plain.parent, recording.info, recording.markets, (plain,))
        result.append(_stage("ingest, plain file to Parquet", file, effort))
    return [*result, _stage("ingest, gzip file to Parquet", material.recording, effort)]


class InMemory(Recording):
    """A recording whose text lies in memory."""

    text = b""

    def blocks(self) -> Iterator[tuple[int, bytes | None]]:
        for start in range(0, len(self.text), BLOCK_BYTES):
            yield 0, self.text[start : start + BLOCK_BYTES]
        yield 0, b""


def _decoding(recording: Recording, lines: Sequence[bytes], effort: Effort) -> Row:
    text = b"\n".join(lines)
    held = InMemory(**{part.name: getattr(recording, part.name) for part in fields(Recording)})
    object.__setattr__(held, "text", text)
    decoder = FrameDecoder(frozenset(recording.info.tickers))

    def scanned(_: None) -> int:
        reader = FrameReader(held, BATCH_ROWS, lambda _: None)
        rows = sum(len(batch) for batch in reader.batches())
        assert rows >= reader.frames == len(lines)
        return len(lines)

    contestants = {
        "FrameReader": Contestant(scanned),
        "FrameDecoder, line by line": _each(decoder.decode, lines),
        "json.loads, nothing checked": _each(json.loads, lines),
        **{name: _each(parse, lines) for name, parse in _parsers().items()},
        COUNTED: Contestant(lambda _: text.count(b"\n") + 1),
    }
    return row("frames_decoded", UNIT, contestants, effort, COUNTED)


def _stage(name: str, recording: Recording, effort: Effort) -> Row:
    def stage(_: None) -> int:
        with tempfile.TemporaryDirectory() as folder:
            return ingest(recording, Path(folder)).frames

    def loads(_: None) -> int:
        return sum(1 for line in recording.lines() if json.loads(line.text or b"null"))

    def read(_: None) -> int:
        return sum((block or b"").count(b"\n") for _, block in recording.blocks())

    contestants = {
        "ingest": Contestant(stage),
        "json.loads of each line, no table": Contestant(loads),
        READ: Contestant(read),
    }
    return row(name, UNIT, contestants, effort, READ)


def _each(parse: Callable[[bytes], Any], lines: Sequence[bytes]) -> Contestant:
    def run(_: None) -> int:
        for line in lines:
            parse(line)
        return len(lines)

    return Contestant(run)


def _parsers() -> dict[str, Callable[[bytes], Any]]:
    # the fastest general JSON libraries, where they are installed
    found: dict[str, Callable[[bytes], Any]] = {}
    try:
        import orjson
    except ImportError:
        pass
    else:
        found["orjson, nothing checked"] = orjson.loads
    try:
        import simdjson
    except ImportError:
        pass
    else:
        found["pysimdjson, nothing unpacked"] = simdjson.Parser().parse
    return found
