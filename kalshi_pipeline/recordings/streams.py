"""The decompressed bytes of message files, in blocks, to the last good byte however damaged."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 1 << 22
_READ_BYTES = 1 << 20
_ZSTD_READ_BYTES = 1 << 12  # a block of zeros takes 4 bytes and decodes to 128 KiB


def blocks_of(path: Path) -> Iterator[bytes | None]:
    """The bytes of a file in blocks of `BLOCK_BYTES`, the last one shorter.

    Yields:
        b"" at the end of the file; None instead where its compressed stream is damaged or breaks
        off.
    """
    pieces: list[bytes] = []
    held = 0
    end: bytes | None = b""
    for piece in _pieces(path):
        if piece is None:
            end = None
            break
        pieces.append(piece)
        held += len(piece)
        if held >= BLOCK_BYTES:
            data = b"".join(pieces)
            whole = held - held % BLOCK_BYTES
            for start in range(0, whole, BLOCK_BYTES):
                yield data[start : start + BLOCK_BYTES]
            pieces, held = [data[whole:]], held - whole
    if held:
        yield b"".join(pieces)
    yield end


def _pieces(path: Path) -> Iterator[bytes | None]:
    # of any size; None marks a compressed stream that is damaged or breaks off
    if path.suffix == ".gz":
        return _gzip_pieces(path)
    if path.suffix == ".zst":
        return _zstd_pieces(path)
    return _plain_pieces(path)


def _plain_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece


def _gzip_pieces(path: Path) -> Iterator[bytes | None]:
    from isal import igzip, isal_zlib

    if path.stat().st_size == 0:  # gzip takes it for an empty file
        yield None
        return
    done = 0
    with igzip.open(path, "rb") as file:
        try:
            while piece := file.read1(_READ_BYTES):
                yield piece
                done += len(piece)
            return
        except (EOFError, OSError, isal_zlib.error):  # type: ignore[misc]  # a class, not typed so
            pass  # it keeps what it has to itself; the slower library gives every good byte
    yield from _damaged_gzip_pieces(path, done)


def _damaged_gzip_pieces(path: Path, skipped: int) -> Iterator[bytes | None]:
    with gzip.open(path, "rb") as file:
        try:
            # read() would throw away what it has when the stream breaks off
            while piece := file.read1(_READ_BYTES):
                yield piece[skipped:]
                skipped = max(0, skipped - len(piece))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            yield None


def _zstd_pieces(path: Path) -> Iterator[bytes | None]:
    # the library's stream reader takes a cut for the end: only frames that say they are over are
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame, is_over = decompressor.decompressobj(), False
    with path.open("rb") as file:
        while compressed := file.read(_ZSTD_READ_BYTES):
            while compressed:
                try:
                    piece = frame.decompress(compressed)
                except zstandard.ZstdError:
                    yield None
                    return
                if piece:
                    yield piece
                is_over, compressed = frame.eof, frame.unused_data
                if is_over:
                    frame = decompressor.decompressobj()
    if not is_over:
        yield None
