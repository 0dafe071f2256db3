"""The processes that ``bookends run`` trains with: those of torchrun, or its own."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import torch

from experiments.environment import configure_torch
from experiments.launcher import said_by_first
from experiments.runner import refit_trainer
from experiments.settings import dump_yaml
from experiments.signals import interruptible
from recsys.config import Config
from recsys.data.dataset import prepare_cached
from recsys.errors import BookendsError, ConfigError
from recsys.pipeline import build_trainer
from recsys.training.device import resolve_device
from recsys.training.processes import ALONE, Processes, joined
from recsys.training.trainer import Trainer

ADDRESS = "BOOKENDS_ADDRESS"
"""Environment variable: where processes meet that :func:`training_processes` started."""


@contextmanager
def training_processes(n: int, config: Config) -> Iterator[Processes]:
    """The processes that train together, this one among them.

    Of n above 1 this one is the first and starts the others.

    Raises:
        ConfigError: torchrun started this one, and n is above 1, or said only a part.
        BookendsError: they do not meet.
    """
    with said_by_first():
        size = _number("WORLD_SIZE", least=1)
        if n > 1 and size > 1:
            raise ConfigError(f"'--processes' must not be given under torchrun, got {n}")
    if n > 1:
        with _started(n, config) as processes:
            yield processes
    elif size == 1:
        yield ALONE
    else:
        address = os.environ.get(ADDRESS, "env://")
        names = ["RANK", *(["MASTER_ADDR", "MASTER_PORT"] if address == "env://" else [])]
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise ConfigError(
                f"with WORLD_SIZE={size} in the environment {' and '.join(missing)} must be there "
                "as well, as torchrun sets them"
            )
        rank, local = _number("RANK", least=0), _number("LOCAL_WORLD_SIZE", least=1)
        device = resolve_device(config.model.device)
        with joined(rank, size, address, device, local_size=local) as processes:
            yield processes


def _number(name: str, *, least: int) -> int:
    """A number that torchrun sets in the environment; the least where it has not."""
    text = os.environ.get(name, str(least))
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"{name} in the environment must be a whole number, at least {least}, as torchrun sets "
            f"it, got '{text}'"
        )
    return int(text)


@contextmanager
def _started(n: int, config: Config) -> Iterator[Processes]:
    """This process and n - 1 of its own, which end with it.

    They meet by a file and talk over the loopback interface; the cores are shared out.
    """
    loopback = "lo" if sys.platform == "linux" else "lo0"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    threads = torch.get_num_threads()
    own_threads = max(1, threads // n)
    with tempfile.TemporaryDirectory(prefix="bookends-processes-") as folder:
        path, address = Path(folder) / "config.yaml", f"file://{folder}/meeting"
        path.write_text(dump_yaml(config))
        environ = os.environ | {"OMP_NUM_THREADS": str(own_threads), ADDRESS: address}
        environ |= {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
        others = [
            Popen(
                [sys.executable, "-m", "experiments", "run", "--config", str(path)],
                env=environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the first, which ends the others
            )
            for rank in range(1, n)
        ]
        torch.set_num_threads(own_threads)
        try:
            device = resolve_device(config.model.device)
            with joined(0, n, address, device, local_size=n) as processes:
                yield processes
            for other in others:
                other.wait()
        finally:
            torch.set_num_threads(threads)
            for other in others:
                other.kill()
                other.wait()


def follow(config: Config, processes: Processes) -> None:
    """Do the part of a process other than the first: train along, and leave nothing behind.

    Args:
        config: all settings, the same as of the first.
        processes: that train together.

    Raises:
        Interrupted: a signal ended it.
        BookendsError: another process has ended before the training did.
    """
    logging.disable(logging.WARNING)  # the first says it
    with interruptible():
        configure_torch(config)
        prepared = processes.after_first(
            lambda: prepare_cached(config.data, config.experiment.seed)
        )
        trainer = build_trainer(config, prepared, processes)
        state: dict[str, Any] | None = processes.from_first(lambda: None)
        if state is not None:
            trainer.load_state_dict(state["trainer"])
        _train_along(trainer)
        refit = refit_trainer(config, prepared, trainer, state, processes)
        if refit is not None:
            _train_along(refit)


def _train_along(trainer: Trainer) -> None:
    for _ in trainer.epochs():
        pass
    if trainer.stop_reason is None:
        raise BookendsError(
            f"the first process must train to the end, but left after {len(trainer.history)} epochs"
        )
