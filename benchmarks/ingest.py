"""Ingest: frames of a recording turned into a checked message table."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import msgspec

from benchmarks.data import Material
from benchmarks.timing import Contestant, Effort, Row, row
from kalshi_pipeline.recordings.ingest import ingest
from kalshi_pipeline.recordings.messages import FrameDecoder

UNIT = "frames/s"
FLOOR = "msgspec, untyped"


def measure(material: Material, effort: Effort) -> list[Row]:
    """The whole stage, from the compressed file to Parquet; and decoding alone, lines in memory."""
    recording = material.recording
    lines = [line.text for line in recording.lines() if line.text]
    decoder = FrameDecoder(frozenset(recording.info.tickers))
    plain = msgspec.json.Decoder()

    def stage(_: None) -> int:
        with tempfile.TemporaryDirectory() as folder:
            return ingest(recording, Path(folder)).frames

    def loads_file(_: None) -> int:
        done = 0
        for path in recording.files:
            with gzip.open(path, "rb") as file:
                for text in file:
                    json.loads(text)
                    done += 1
        return done

    def msgspec_file(_: None) -> int:
        return sum(1 for line in recording.lines() if plain.decode(line.text or b"null"))

    def decode(_: None) -> int:
        return sum(1 for text in lines if decoder.decode(text)[1])

    def loads(_: None) -> int:
        return sum(1 for text in lines if json.loads(text))

    def msgspec_lines(_: None) -> int:
        return sum(1 for text in lines if plain.decode(text))

    whole = {
        "ingest": Contestant(stage),
        "json.loads of each line, no table": Contestant(loads_file),
        FLOOR: Contestant(msgspec_file),
    }
    decoding = {
        "FrameDecoder": Contestant(decode),
        "json.loads, nothing checked": Contestant(loads),
        FLOOR: Contestant(msgspec_lines),
    }
    return [
        row("ingest, file to Parquet", UNIT, whole, effort, FLOOR),
        row("ingest, decoding alone", UNIT, decoding, effort, FLOOR),
    ]
