"""Options of commands whose workers may run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from experiments.launcher import Launcher

_OPTIONS = (
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Workers on this machine, or on a Ray cluster.",
    ),
    click.option("--ray-address", help="auto, HOST:PORT or ray://HOST:PORT.  [default: auto]"),
    click.option("--cpus-per-worker", type=float, help="Reserved on the cluster.  [default: 1]"),
    click.option(
        "--ray-cache-dir",
        type=click.Path(path_type=Path),
        help="Where machines keep what they fetch.  [default: the same folder as this one]",
    ),
)


def launcher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options of a launcher."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_launcher(options: dict[str, Any]) -> Launcher:
    """The launcher of a command's options, which then are without those that are its own."""
    from experiments.launcher import Launcher

    names = (Launcher.__dataclass_fields__.keys() - {"name"}) & options.keys()
    return Launcher(options.pop("launcher"), **{name: options.pop(name) for name in names})
