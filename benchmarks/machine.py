"""What the figures were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

from benchmarks.sides import PEER_PYTHON, THREADS

PACKAGES = ("torch", "numpy", "pyarrow", "pandas", "mlflow", "optuna")
PEERS = ("implicit", "lightfm-next", "numpy")
PEER_VERSIONS = (
    "import importlib.metadata as m, sys\nfor name in sys.argv[1:]: print(name, m.version(name))"
)


def describe(size: str, device: str) -> list[str]:
    """Lines on time, processor, memory, load and versions."""
    return [
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, size {size}, device {device}",
        f"{processor()}, {THREADS} cores, all sides with {THREADS} threads; "
        f"{_memory_gb():.0f} GB; load before {os.getloadavg()[0]:.2f}",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        f"Peers: {_peers()}",
    ]


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _peers() -> str:
    if not PEER_PYTHON.exists():
        return "not installed"
    done = subprocess.run(
        [str(PEER_PYTHON), "-c", PEER_VERSIONS, *PEERS],
        capture_output=True,
        text=True,
        check=False,
    )
    return ", ".join(done.stdout.split("\n")).rstrip(", ") or "not installed"
