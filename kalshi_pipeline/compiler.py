"""What Numba makes of a kernel, where it keeps that and for how long.

Importing this imports Numba; `compiled.py` does when a kernel is first called.
"""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from numba import config, njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.registry import cpu_target
from numba.extending import intrinsic, typeof_impl

from kalshi_pipeline.compiled import Lazily

Function = TypeVar("Function", bound=Callable[..., object])

UNCOMPILED = bool(getattr(config, "DISABLE_JIT"))  # noqa: B009 - unknown to the type checker


def kernel_of(function: Function, options: Mapping[str, object]) -> Function:
    """The function compiled, or as it is where nothing is.

    Args:
        function: to be compiled; what it calls may be declared lazily.
        options: of Numba's `njit`; with `cache` false it is not kept.
    """
    settings: Any = {"nogil": True, "_nrt": False, **options}
    kept = settings.pop("cache", True)
    compiled: Any = njit(**settings)(function)
    if kept and not UNCOMPILED:
        try:
            compiled._cache = _Cache(function)
        except RuntimeError as error:  # no folder that could be written
            _without_cache(str(error))
    return cast(Function, compiled)


def intrinsic_of(function: Function, typed: Callable[..., object]) -> Function:
    """Numba's intrinsic of this typing, or the function where nothing is compiled."""
    if UNCOMPILED:
        return function
    made = cast(Any, intrinsic(typed))
    cpu_target.typing_context.refresh()  # it may be needed by what is being compiled
    return cast(Function, made)


@typeof_impl.register(Lazily)
def _typeof_lazily(lazily: Lazily, _: object) -> Any:
    return cpu_target.typing_context.resolve_value_type(lazily.compiled)


class _HashedFile:
    # what is written into it, and its hash

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def write(self, content: bytes) -> None:
        self.hash.update(content)
        self._file.write(content)


class _CacheFiles(IndexDataCacheFile):
    # Numba's files, each with its own hash at its end (an unpickler stops before it): machine code
    # of which a bit is wrong would be carried out otherwise

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[_HashedFile]:
        with super()._open_for_write(filepath) as file:
            hashed = _HashedFile(file)
            yield hashed
            file.write(hashed.hash.digest())

    def _load_index(self) -> Any:
        _require_whole(Path(self._index_path))
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        _require_whole(Path(self._data_path(name)))
        return super()._load_data(name)


def _require_whole(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        if hashlib.sha256(content[:-_HASH_BYTES]).digest() != content[-_HASH_BYTES:]:
            raise ValueError(f"{path.name} is damaged")


class _Cache(FunctionCache):
    # Numba's cache that is never the reason why something fails: without it a function is compiled

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self._cache_file = _CacheFiles(
            self._cache_path,
            f"{self._impl.filename_base}.hashed",
            # Numba keeps a compiled function until its own file changes, though constants and parts
            # of other files are compiled into it
            (self._impl.locator.get_source_stamp(), sources_stamp(function.__module__)),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever an unpickler or a loader of code may say
            _without_cache(repr(error))
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _without_cache(repr(error))

    def _forget(self) -> None:
        try:
            self.flush()
        except OSError as error:
            _without_cache(repr(error))


_HASH_BYTES = hashlib.sha256().digest_size
_said: list[str] = []


def _without_cache(why: str) -> None:
    # once a process: there are hundreds of kernels
    if not _said:
        _said.append(why)
        warnings.warn(
            f"compiled code cannot be kept or found again, so it is compiled anew ({why}); give "
            "NUMBA_CACHE_DIR a private folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )


@cache
def sources_stamp(module: str) -> str:
    """Digest of a loaded module and of all it imports from its own package."""
    found: dict[str, str] = {}
    waiting = [module]
    imported = re.compile(
        rf"^from ({re.escape(module.partition('.')[0])}\.[\w.]+) import", re.MULTILINE
    )
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        if name not in found and path is not None:
            text = Path(path).read_text(encoding="utf-8")
            found[name] = hashlib.sha256(text.encode()).hexdigest()
            waiting += imported.findall(text)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()
