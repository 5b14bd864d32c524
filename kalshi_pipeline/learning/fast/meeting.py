"""Two threads that meet: flags one writes and the other reads, a wait that yields its core."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
from numba import config, types
from numpy.typing import NDArray

from kalshi_pipeline.compiled import intrinsic, lane_part

CACHE_LINE = 8  # whole numbers in one: flags of two threads do not share it
LEFT = -1  # the flag of a thread that will not come
_SPINS = 2_000  # a few microseconds; whoever is later than that may have lost its core


def _generate_load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)


def _type_load(_: Any, flags: Any, at: Any) -> Any:
    del at  # a whole number
    return types.int64(flags, types.int64), _generate_load


def _generate_store(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    builder.store_atomic(arguments[2], builder.gep(data, [arguments[1]]), "release", 8)
    return context.get_dummy_value()


def _type_store(_: Any, flags: Any, at: Any, value: Any) -> Any:
    del at, value  # whole numbers
    return types.void(flags, types.int64, types.int64), _generate_store


@intrinsic(_type_load)
def load(flags: NDArray[np.int64], at: int) -> int:
    """Read a flag; what its writer wrote before it is seen after it."""
    return int(flags[at])


@intrinsic(_type_store)
def store(flags: NDArray[np.int64], at: int, value: int) -> None:
    """Write a flag; what was written before it is seen by whoever reads it."""
    flags[at] = value


def _no_yield() -> int:
    return 0


give_way: Any = getattr(os, "sched_yield", _no_yield)

if not getattr(config, "DISABLE_JIT"):  # noqa: B009 - unknown to the type checker
    # a symbol of the C library, because a pointer would keep the kernel out of Numba's cache
    give_way = (
        lane_part(_no_yield)
        if sys.platform == "win32"
        else types.ExternalFunction("sched_yield", types.int32())
    )


@lane_part
def arrive(flags: NDArray[np.int64], own: int, other: int, meeting: int) -> bool:
    """Say that this thread has come to a meeting and wait for the other; False where it left.

    Args:
        flags: `[2 * CACHE_LINE]` the last meeting each thread came to.
        own: this thread, 0 or 1.
        other: the one to wait for; `own` waits for nobody.
        meeting: counted from 1.
    """
    store(flags, own * CACHE_LINE, meeting)
    spins = 0
    seen = load(flags, other * CACHE_LINE)
    while 0 <= seen < meeting:
        spins += 1
        if spins > _SPINS:
            give_way()
        seen = load(flags, other * CACHE_LINE)
    return seen >= 0
