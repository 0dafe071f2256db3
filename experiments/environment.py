"""What a run is made with: versions, machine, commit, command, and how PyTorch is set up."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from recsys.addresses import without_password
from recsys.config import Config
from recsys.training.device import resolve_device

PACKAGES = ("bookends", "torch", "numpy", "scipy", "pandas", "pyarrow", "mlflow", "optuna")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def describe_environment() -> dict[str, Any]:
    """Python, platform, processor count, package versions, git commit and the command.

    The command is without the passwords of addresses: what is given here is kept and shown.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "command": shlex.join(["bookends", *map(without_password, sys.argv[1:])]),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the working directory, ``-dirty`` where files differ; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def configure_torch(config: Config) -> None:
    """Process-wide settings of torch: threads, and deterministic kernels on a GPU."""
    if config.training.num_threads is not None:
        torch.set_num_threads(config.training.num_threads)
    keep_memory()
    if resolve_device(config.model.device).type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def keep_memory() -> None:
    """Let the C library keep what is freed for the next step, where it is glibc.

    Else each large tensor of a step is fresh memory from the system, a page at a time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 2**30)
