"""How kernels that allocate nothing are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile a function that only borrows its arrays: it allocates none and returns none.

    Numba counts the references of each array of a NamedTuple at every call, with atomic additions
    that cost many times what a kernel does with a row. The caller keeps the arrays alive anyway, so
    the counting is left out; a function that does allocate is refused by the compiler. Other
    threads may run meanwhile.
    """
    return _compiled(function)


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


def _compiled(function: Function, **options: object) -> Function:
    borrowing: Any = {"cache": True, "nogil": True, "_nrt": False, **options}
    return cast(Function, njit(**borrowing)(function))


def part(function: Function) -> Function:
    """Compile a piece of a kernel into every place that calls it.

    Each array of an argument is handed over as seven numbers; a call in the middle of a hot loop
    costs more than what a small piece does.
    """
    inlined: Any = {"cache": True, "_nrt": False, "forceinline": True}
    return cast(Function, njit(**inlined)(function))
