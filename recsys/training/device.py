"""Where to train, and in what precision."""

from __future__ import annotations

import os
from typing import Literal

import torch

from recsys.bfloat16 import is_fast
from recsys.config import Precision
from recsys.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a CUDA device where there is one, else the CPU.

    Of several processes on a machine each has a CUDA device of its own.

    Raises:
        ConfigError: ``cuda`` where PyTorch sees no such device, or too few for all processes;
            ``LOCAL_RANK`` in the environment is no number.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "'model.device: cuda' needs a CUDA device that PyTorch can use, and there is none; "
            "'auto' takes one where there is"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    number = os.environ.get("LOCAL_RANK")  # of several processes on a machine
    if name != "cuda" or number is None:
        return torch.device(name)
    if not number.isdecimal():
        raise ConfigError(
            "LOCAL_RANK in the environment must be a whole number, as torchrun sets it, got "
            f"'{number}'"
        )
    if int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"each process on a machine must have a CUDA device, but process {number} (from 0) has "
            f"none: there are {torch.cuda.device_count()}; fewer processes, or 'model.device: cpu'"
        )
    return torch.device("cuda", int(number))


def resolve_precision(name: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """That of matrix products; ``auto`` is bfloat16 on a CPU that computes in it.

    On a GPU ``auto`` is float32: what bfloat16 gives there has not been measured.
    """
    if name == "auto":
        return "bfloat16" if device.type == "cpu" and is_fast() else "float32"
    return name
