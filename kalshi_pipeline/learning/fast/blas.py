"""One thread for the matrix products of compiled code."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    # compiled products call the OpenBLAS of SciPy, which is not NumPy's: it must be loaded before
    # the libraries are looked for, or it keeps all its threads and two callers fight for the cores
    import scipy.linalg.cython_blas  # noqa: F401

    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[object]:
    """Every BLAS of the process on one thread, until the context is left."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited
