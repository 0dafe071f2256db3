"""Which workers a sweep has: processes of this machine, or tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.sweep.local import local_pool
from experiments.sweep.pool import Pool
from experiments.sweep.session import Session
from experiments.sweep.state import Stage
from recsys.errors import ConfigError

LauncherName = Literal["local", "ray"]
NewPool = Callable[[Session, Stage], Pool]


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
    """Where machines keep the data set; where not given, ``data.cache_dir`` of the parent."""
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


@contextmanager
def launching(launcher: Launcher) -> Iterator[NewPool]:
    """What makes the pools of a sweep, until the block ends.

    Raises:
        ConfigError: the extra is not installed, or no cluster answers.
    """
    launcher.check()
    if launcher.name == "local":
        yield local_pool
        return
    try:
        from experiments.sweep.ray_cluster import connected
    except ImportError as error:
        raise ConfigError(
            f"'--launcher ray' needs the extra 'ray' ({error}): pip install 'bookends[ray]'"
        ) from None
    with connected(launcher) as cluster:
        yield cluster.pool
