"""What the compiled step by ids needs beside :func:`recsys.compiled.compiled`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

from recsys.compiled import FASTMATH, Function
from recsys.data.arrays import FloatArray

CACHE_LINE = 64


def has_safe_threads() -> bool:
    """Whether numba finds OpenMP: its own pool dies where two threads of a process call it."""
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        return False
    return True


MAX_THREADS = (
    int(numba.config.NUMBA_NUM_THREADS) if has_safe_threads() else 1  # type: ignore[attr-defined]
)
"""That a compiled loop can run on."""


def side_by_side(function: Function) -> Function:
    """Compile a function whose ``prange`` runs on several threads."""
    options = {"fastmath": FASTMATH, "error_model": "numpy", "parallel": MAX_THREADS > 1}
    return cast(Function, numba.njit(**options)(function))  # type: ignore[call-overload]


def fetch(context: Any, array: Any, row: Any) -> Any:
    """Code that has the processor fetch a row of a matrix that will soon be used."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix = target.make_array(array)(target, builder, arguments[0])
        width = builder.extract_value(matrix.strides, 0)
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        start = builder.mul(builder.sext(arguments[1], width.type), width)
        first = builder.gep(builder.bitcast(matrix.data, byte), [start])
        step = width.type(CACHE_LINE)
        with cgutils.for_range_slice(builder, width.type(0), width, step, inc=True) as (at, _):
            # For writing, into the nearest cache, as data.
            builder.call(prefetch, [builder.gep(first, [at]), flag(1), flag(3), flag(1)])
        return target.get_dummy_value()

    return numba.types.void(array, row), generate


ask_for = cast(Callable[[FloatArray, int], None], intrinsic(fetch))
