"""How kernels are compiled, kept and kept no longer; how they copy bytes."""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile a function that only borrows its arrays: it allocates none and returns none.

    Numba counts the references of each array of a NamedTuple at every call, with atomic additions
    that cost many times what a kernel does with a row. The caller keeps the arrays alive anyway, so
    the counting is left out; a function that does allocate is refused by the compiler. Other
    threads may run meanwhile.
    """
    return _compiled(function)


def allocating_kernel(function: Function) -> Function:
    """Compile a function that makes arrays of its own."""
    return _compiled(function, _nrt=True)


def lane_kernel(function: Function) -> Function:
    """Compile such a function to divide as IEEE 754 says instead of checking each divisor.

    A check is a branch, and a loop with one in it is not worked on several numbers at a time.
    """
    return _compiled(function, error_model="numpy")


def lane_part(function: Function) -> Function:
    """A part of such kernels: not to be called from Python, and quicker to compile for that."""
    return _compiled(
        function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, cache=False
    )


def contracted_kernel(function: Function) -> Function:
    """Compile such a function to round a product and its addition once, where the processor can.

    The sums keep their order, so that a result does not depend on what is worked on beside it.
    """
    return _compiled(function, error_model="numpy", fastmath={"contract"})


def part(function: Function) -> Function:
    """Compile a piece of a kernel into every place that calls it.

    Each array of an argument is handed over as seven numbers; a call in the middle of a hot loop
    costs more than what a small piece does.
    """
    return _compiled(function, forceinline=True)


def _generate_copy(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    to, source = (
        context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2)
    )
    cgutils.raw_memcpy(
        builder,
        builder.gep(to, [arguments[1]]),
        builder.gep(source, [arguments[3]]),
        arguments[4],
        ir.Constant(ir.IntType(64), 1),
    )
    return context.get_dummy_value()


def _type_copy(_: Any, out: Any, at: Any, data: Any, begin: Any, count: Any) -> Any:
    del at, begin, count  # whole numbers, all of them
    return types.void(out, types.int64, data, types.int64, types.int64), _generate_copy


def copy_bytes(
    out: NDArray[np.uint8], at: int, data: NDArray[np.uint8], begin: int, count: int
) -> None:
    """Copy `count` bytes of `data` from `begin` on into `out` from `at` on, unchecked.

    Compiled it is a memcpy, which a loop over bytes does not become where the compiler cannot know
    that two arrays do not overlap.

    Args:
        out: uint8 `[bytes]`.
        at: where the copy begins.
        data: uint8 `[bytes]`.
        begin: where it is taken from.
        count: how many bytes.
    """
    out[at : at + count] = data[begin : begin + count]


def _generate_prefetch(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    declared = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
    fetch = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
    builder.call(fetch, [address, flag(0), flag(3), flag(1)])
    return context.get_dummy_value()


def _type_prefetch(_: Any, data: Any, at: Any) -> Any:
    return types.void(data, at), _generate_prefetch


def _generate_top_bit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
    word = arguments[0].type
    return builder.sub(
        ir.Constant(word, 63), builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
    )


def _type_top_bit(_: Any, word: Any) -> Any:
    del word  # a whole number
    return types.int64(types.int64), _generate_top_bit


def top_bit(word: int) -> int:
    """Place of the highest bit set in 64 (63 = the sign); -1 where none is."""
    return int(word).bit_length() - 1 if word >= 0 else 63


def prefetch(data: NDArray[Any], at: int) -> None:
    """Ask for the cache line of `data[at]`; an index beyond the end does no harm.

    The hardware foresees one stream of memory or two; a kernel that reads more of them, or jumps,
    says ahead of time where it will look.

    Args:
        data: one-dimensional, contiguous.
        at: index that will be read some iterations later.
    """


if not getattr(config, "DISABLE_JIT"):  # noqa: B009 - unknown to the type checker
    copy_bytes = cast(Any, intrinsic(_type_copy))
    prefetch = cast(Any, intrinsic(_type_prefetch))
    top_bit = cast(Any, intrinsic(_type_top_bit))


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


def _compiled(function: Function, **options: object) -> Function:
    settings: Any = {"nogil": True, "_nrt": False, **options}
    kept = settings.pop("cache", True)
    compiled: Any = njit(**settings)(function)
    if kept and hasattr(compiled, "_cache"):  # the function itself where nothing is compiled
        try:
            compiled._cache = _Cache(function)
        except RuntimeError as error:  # no folder that could be written
            _without_cache(str(error))
    return cast(Function, compiled)


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
