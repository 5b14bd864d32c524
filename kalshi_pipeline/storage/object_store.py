"""An object store, by the five calls that a warehouse in one needs.

Every call is one step for whoever looks: an object is there whole or as it was before. What fails
says which object and what kind of failure it was, and nothing of what the store or its client said:
their words hold addresses and request signatures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from kalshi_pipeline.errors import CorruptFile, StorageError

PATIENCE_S = 60.0
LARGEST_READ_BYTES = 64 << 20  # of what is read into memory at once
_CHUNK_BYTES = 8 << 20
_TRIES = 8
_STATUS = re.compile(r"status code: ([0-9]{3})")
_MEANINGS = {
    "400": "it takes the request for a wrong one: look at AWS_REGION",
    "401": "it does not know these credentials",
    "403": "it refuses these credentials: look at AWS_ACCESS_KEY_ID and its rights to the bucket",
    "404": "it has no such bucket",
    "429": "it is asked too often",
    "503": "it is asked too often, or out of service",
}


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _asking(
    call: Callable[Concatenate[ObjectStore, str, _P], _R],
) -> Callable[Concatenate[ObjectStore, str, _P], _R]:
    # a call of the client, what it says when it fails put into words of ours
    @wraps(call)
    def asked(store: ObjectStore, key: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        from obstore.exceptions import BaseError

        try:
            return call(store, key, *args, **kwargs)
        except (BaseError, FileNotFoundError, ValueError) as error:
            found, kind = _STATUS.search(str(error)), type(error).__name__
        told = f"it answers {found[1]}" if found else "it cannot be reached"
        meaning = _MEANINGS.get(found[1] if found else "", told)
        # outside of the handler: an error that is chained would be shown with this one
        raise StorageError(
            f"the object store fails: {meaning}", rule=kind, value=store.address(key)
        )

    return asked


class Downloaded(NamedTuple):
    """What was read: hash of the bytes, and when they were put, Unix seconds."""

    sha256: str
    made_s: float


class ObjectStore:
    """Objects under one address; a seam where tests make the k-th call fail.

    Args:
        url: of the bucket and what comes before every key, `s3://bucket/prefix`.
        patience_s: how long a call that fails for a passing reason is tried again.

    Where it is and with what credentials it is asked, its client reads from `AWS_*`.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        self.url = url.rstrip("/")
        self._patience_s = patience_s

    def address(self, key: str) -> str:
        """What errors call an object."""
        return f"{self.url}/{key}"

    @_asking
    def read(self, key: str) -> bytes | None:
        """A small object; None where there is none.

        Raises:
            CorruptFile: it is larger than anything that is read so.
            StorageError: the store does not answer, or refuses.
        """
        found = _found(self._client.get, key)
        if found is None:
            return None
        if found.meta["size"] > LARGEST_READ_BYTES:
            raise CorruptFile("an object is larger than any", value=self.address(key))
        return bytes(found.bytes())

    @_asking
    def download(self, key: str, target: Path) -> Downloaded | None:
        """Write an object to a file, piece by piece; None where there is none.

        Each piece is a request of its own, so that a large object on a slow line is no longer tried
        than any: the client's patience is of one request.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        found = _found(self._client.head, key)
        if found is None:
            return None
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for start in range(0, found["size"], _CHUNK_BYTES):
                end = min(start + _CHUNK_BYTES, found["size"])
                wanted = {"range": (start, end), "if_match": found["e_tag"]}  # of the same object
                piece = bytes(self._client.get(key, options=wanted).bytes())
                digest.update(piece)
                file.write(piece)
        return Downloaded(digest.hexdigest(), found["last_modified"].timestamp())

    @_asking
    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, in the place of one that was there.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        self._client.put(key, content, chunk_size=_CHUNK_BYTES)

    @_asking
    def create(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one already: of several at once, one is told it was.

        Raises:
            StorageError: the store does not answer, refuses, or knows no conditional writes.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            self._client.put(key, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            # or this very write, tried again after its answer was lost
            return self.read(key) == content
        return True

    @_asking
    def sizes(self, prefix: str) -> dict[str, int]:
        """Key -> bytes of every object in a folder, whatever is below it; "" = of all.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        pages = self._client.list(prefix or None)
        return {str(entry["path"]): int(entry["size"]) for page in pages for entry in page}

    @cached_property
    def _client(self) -> Any:  # made where it is first used: a process that forks has none yet
        from obstore.store import from_url

        return from_url(
            self.url,
            # an address without encryption is used where AWS_ENDPOINT_URL names one
            client_options={"allow_http": True, "connect_timeout": timedelta(seconds=10)},
            retry_config={
                "max_retries": _TRIES, "retry_timeout": timedelta(seconds=self._patience_s),
            },
        )  # fmt: skip


def _found(ask: Callable[[str], Any], key: str) -> Any:
    # None where there is no such object; a bucket that is not there is no empty warehouse
    try:
        return ask(key)
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise
        return None
