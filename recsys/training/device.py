"""Where to train."""

from __future__ import annotations

import torch

from recsys.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        ConfigError: ``cuda`` where PyTorch sees no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "'training.device: cuda' needs a CUDA device that PyTorch can use, and there is none; "
            "'auto' takes one where there is"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
