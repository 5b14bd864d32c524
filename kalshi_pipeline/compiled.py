"""How kernels are declared, and how they copy bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial, update_wrapper
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])


class Lazily:
    """A function that Numba is shown when it is first called, by Python or in another kernel.

    To import Numba takes most of a second and 50 MB: who only looks at the pipeline waits for
    neither. Numba takes it for what it becomes (`compiler.py`).
    """

    def __init__(self, function: Callable[..., object], make: Callable[..., object]) -> None:
        update_wrapper(self, function)
        self.py_func, self._make = function, make

    @cached_property
    def compiled(self) -> Any:
        """What it becomes."""
        return self._make(self.py_func)

    def __call__(self, *arguments: object) -> Any:
        """Its result, as Numba's function gives it."""
        return self.compiled(*arguments)


def _compiled(function: Function, **options: object) -> Function:
    return cast(Function, Lazily(function, partial(_made_kernel, options)))


def _made_kernel(options: Mapping[str, object], function: Function) -> Function:
    from kalshi_pipeline.compiler import kernel_of

    return kernel_of(function, options)


def _made_intrinsic(typed: Callable[..., object], function: Function) -> Function:
    from kalshi_pipeline.compiler import intrinsic_of

    return intrinsic_of(function, typed)


def intrinsic(typed: Callable[..., object]) -> Callable[[Function], Function]:
    """Have a function written in instructions of its own; uncompiled it is what it says.

    Args:
        typed: Numba's way: types of the arguments -> signature and what writes the instructions.
    """

    def made(function: Function) -> Function:
        return cast(Function, Lazily(function, partial(_made_intrinsic, typed)))

    return made


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
    from llvmlite import ir
    from numba.core import cgutils

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
    from numba import types

    del at, begin, count  # whole numbers, all of them
    return types.void(out, types.int64, data, types.int64, types.int64), _generate_copy


@intrinsic(_type_copy)
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
    from llvmlite import ir
    from numba.core import cgutils

    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
    flag = ir.IntType(32)
    declared = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
    fetch = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
    builder.call(fetch, [address, flag(0), flag(3), flag(1)])
    return context.get_dummy_value()


def _type_prefetch(_: Any, data: Any, at: Any) -> Any:
    from numba import types

    return types.void(data, at), _generate_prefetch


def _generate_top_bit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
    from llvmlite import ir

    word = arguments[0].type
    return builder.sub(
        ir.Constant(word, 63), builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
    )


def _type_top_bit(_: Any, word: Any) -> Any:
    from numba import types

    del word  # a whole number
    return types.int64(types.int64), _generate_top_bit


@intrinsic(_type_top_bit)
def top_bit(word: int) -> int:
    """Place of the highest bit set in 64 (63 = the sign); -1 where none is."""
    return int(word).bit_length() - 1 if word >= 0 else 63


@intrinsic(_type_prefetch)
def prefetch(data: NDArray[Any], at: int) -> None:
    """Ask for the cache line of `data[at]`; an index beyond the end does no harm.

    The hardware foresees one stream of memory or two; a kernel that reads more of them, or jumps,
    says ahead of time where it will look.

    Args:
        data: one-dimensional, contiguous.
        at: index that will be read some iterations later.
    """
