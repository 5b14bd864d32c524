"""Matrix products inside compiled code, by the BLAS that Numba's own `np.dot` calls.

`np.dot` with an output returns it, for which Numba counts references in all code around it; that
code then takes several times as long to compile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from kalshi_pipeline.compiled import intrinsic

_CHAR, _LONG = ir.IntType(8), ir.IntType(64)
_POINTER = _CHAR.as_pointer()
_GEMM = ir.FunctionType(
    ir.IntType(32),
    [_CHAR] * 3 + [_LONG] * 3
    + [_POINTER, _POINTER, _LONG, _POINTER, _LONG, _POINTER, _POINTER, _LONG],
)  # fmt: skip


def _generate_multiply(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    # BLAS thinks in columns: it is asked for the transposed product, of the factors in turn
    left, left_turned, right, right_turned, out = arguments
    first, second, result = (
        context.make_array(signature.args[at])(context, builder, matrix)
        for at, matrix in ((0, left), (2, right), (4, out))
    )
    first_shape = cgutils.unpack_tuple(builder, first.shape)
    rows, columns = cgutils.unpack_tuple(builder, result.shape)
    inner = builder.select(left_turned, first_shape[0], first_shape[1])
    single = ir.FloatType()
    one, zero = (cgutils.alloca_once_value(builder, single(number)) for number in (1.0, 0.0))

    def turned(flag: Any) -> Any:
        return builder.select(flag, _CHAR(ord("t")), _CHAR(ord("n")))

    def bare(pointer: Any) -> Any:
        return builder.bitcast(pointer, _POINTER)

    multiply = cgutils.get_or_insert_function(builder.module, _GEMM, "numba_xxgemm")
    builder.call(
        multiply,
        [
            _CHAR(ord("s")), turned(right_turned), turned(left_turned), columns, rows, inner,
            bare(one), bare(second.data), cgutils.unpack_tuple(builder, second.shape)[1],
            bare(first.data), first_shape[1], bare(zero), bare(result.data), columns,
        ],
    )  # fmt: skip
    return context.get_dummy_value()


def _type_multiply(
    _: Any, left: Any, left_turned: Any, right: Any, right_turned: Any, out: Any
) -> Any:
    from numba.np.linalg import ensure_blas

    ensure_blas()
    del left_turned, right_turned  # booleans
    flag = types.boolean
    return types.void(left, flag, right, flag, out), _generate_multiply


@intrinsic(_type_multiply)
def multiply(
    left: NDArray[np.float32],
    left_turned: bool,
    right: NDArray[np.float32],
    right_turned: bool,
    out: NDArray[np.float32],
) -> None:
    """Product of two matrices, each turned over first where it is to be; unchecked.

    Args:
        left: contiguous.
        left_turned: take its transpose.
        right: contiguous.
        right_turned: take its transpose.
        out: contiguous; overwritten.
    """
    np.matmul(left.T if left_turned else left, right.T if right_turned else right, out=out)
