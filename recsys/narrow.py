"""Numbers of compiled loops that are float32 or bfloat16: numba knows the latter by its bits alone.

A bfloat16 is the upper half of a float32. A loop reads and writes both by :func:`widen` and
:func:`narrow`, and is compiled for whichever it is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import overload
from torch import Tensor

from recsys.data.arrays import FloatArray


def numbers(tensor: Tensor) -> FloatArray:
    """The memory of a float32 or bfloat16 tensor on the CPU; of the latter the bits, as uint16."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    tensor = tensor.contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def widen(number: Any) -> np.float32:
    """A number of such an array as float32, in a compiled loop."""
    raise NotImplementedError


def narrow(number: np.float32, array: FloatArray) -> Any:
    """A float32 as such an array holds it, in a compiled loop; to the nearest, ties to even."""
    raise NotImplementedError


# numba compares the signatures below, annotations and all, with those of what they return.


@overload(widen)
def _widen(number: Any) -> Any:
    return _from_bits if isinstance(number, types.Integer) else _as_it_is


@overload(narrow)
def _narrow(number: Any, array: Any) -> Any:
    return _to_bits if isinstance(array.dtype, types.Integer) else _as_it_is_in


def _as_it_is(number: Any) -> Any:
    return number


def _from_bits(number: Any) -> Any:
    return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)


def _as_it_is_in(number: Any, array: Any) -> Any:
    return number


def _to_bits(number: Any, array: Any) -> Any:
    bits = np.float32(number).view(np.int32)
    is_odd = np.int32(np.int32(bits >> np.int32(16)) & np.int32(1))
    rounded = np.int32(np.int32(bits + np.int32(0x7FFF) + is_odd) >> np.int32(16))
    return np.uint16(rounded if number == number else np.int32(0x7FC0))  # noqa: PLR0124 - a NaN
