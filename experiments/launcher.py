"""Where work is done, as the user asked: on this machine, or by workers of a Ray cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys.errors import BookendsError, ConfigError

LauncherName = Literal["local", "ray"]


@dataclass(frozen=True)
class Launcher:
    """What the user asked for."""

    name: LauncherName = "local"
    ray_address: str | None = None
    """As ``ray.init`` takes it: auto (where not given), HOST:PORT, ray://HOST:PORT."""
    cpus_per_worker: float | None = None
    """That each worker reserves (1 where not given); as many threads, unless the user set them."""
    gpus_per_worker: float | None = None
    """None are reserved where not given."""
    ray_cache_dir: Path | None = None
    """Where machines keep what they fetch; where not given, the folder in which the parent does."""
    ray_listen: str | None = None
    """Address of this machine that workers reach; where not given, one is found."""

    def check(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: an option of another launcher, or an impossible number.
        """
        for name, value in vars(self).items():
            option = f"--{name.replace('_', '-')}"
            if name != "name" and value is not None and self.name != "ray":
                raise ConfigError(f"'{option}' must be given with '--launcher ray', got '{value}'")
            if isinstance(value, float) and (value < 0 or (value > 1 and not value.is_integer())):
                raise ConfigError(
                    f"'{option}' must be a whole number or a fraction below 1, got {value:g}"
                )


LOCAL = Launcher()


def thread_variables(n_threads: float) -> dict[str, str]:
    """Environment of a worker: so many threads, unless the user set their number."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ.get(name, str(max(1, int(n_threads)))) for name in names}


def local_threads(n_workers: int) -> dict[str, str]:
    """Environment of one of so many workers that share the cores of this machine."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return thread_variables(n_cores // n_workers)


@contextmanager
def said_by_first() -> Iterator[None]:
    """For what every process on a machine finds: where it fails, only the first of them says why.

    Raises:
        BookendsError: what did, in the first.
    """
    try:
        yield
    except BookendsError:
        is_one_of_several = "WORLD_SIZE" in os.environ  # a LOCAL_RANK may be left over
        if not is_one_of_several or os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        sys.exit(2)


@contextmanager
def ray_imported() -> Iterator[None]:
    """For imports that need Ray.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"'--launcher ray' needs the extra 'ray' ({error}): pip install 'bookends[ray]'"
        ) from None
