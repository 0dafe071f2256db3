"""Where to train, and in what precision."""

from __future__ import annotations

from typing import Literal

import torch

from recsys.bfloat16 import is_fast
from recsys.config import Precision
from recsys.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        ConfigError: ``cuda`` where PyTorch sees no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "'model.device: cuda' needs a CUDA device that PyTorch can use, and there is none; "
            "'auto' takes one where there is"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def resolve_precision(name: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """That of matrix products; ``auto`` is bfloat16 on a CPU that computes in it.

    On a GPU ``auto`` is float32: what bfloat16 gives there has not been measured.
    """
    if name == "auto":
        return "bfloat16" if device.type == "cpu" and is_fast() else "float32"
    return name
