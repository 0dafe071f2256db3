"""Whether products of matrices in bfloat16 are worth while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def is_fast(device: str = "cpu") -> bool:
    """Whether the device computes in bfloat16, instead of converting to float32 and back."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = ask()  # nothing before torch 2.9
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
