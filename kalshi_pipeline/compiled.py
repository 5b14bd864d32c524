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
    the counting is left out; a function that does allocate is refused by the compiler.
    """
    borrowing: Any = {"cache": True, "_nrt": False}
    return cast(Function, njit(**borrowing)(function))
