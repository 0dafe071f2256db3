"""Whether products of matrices in bfloat16 are worth while on this processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def is_fast() -> bool:
    """Whether the CPU computes in bfloat16, instead of converting to float32 and back."""
    ask: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = ask()  # nothing before torch 2.9
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
