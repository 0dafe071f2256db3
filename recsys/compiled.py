"""Loops compiled by numba, for what numpy and torch would need many passes over memory for.

Compiled functions release the interpreter's lock, so that threads run them side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
FASTMATH = {"contract", "reassoc", "nsz"}
"""Sums may be taken in the order that vectorises; NaN and infinity keep their meaning."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and keep the machine code where a place is writable."""
    njit: Any = numba.njit  # its own types want a literal for every option
    options = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
    try:
        fast = njit(function, cache=True, **options)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        fast = njit(function, **options)
    return cast(Function, fast)


def inner(function: Function) -> Function:
    """Compile a function that only compiled functions call."""
    return cast(Function, numba.njit(fastmath=FASTMATH, error_model="numpy")(function))
