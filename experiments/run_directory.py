"""The run directory: everything a run leaves behind, the source that trackers mirror."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.dataset import data_changes
from experiments.settings import apart, check_config, dump_yaml, load_config
from recsys.artifacts import locked, new_directory, replacement
from recsys.config import Config
from recsys.config.section import flatten, nest
from recsys.errors import ArtifactError, ConfigError
from recsys.reporting.record import RECORD_FILE, RunRecord, write_text
from recsys.training.checkpoint import load_checkpoint

MAY_CHANGE_ON_RESUME = (
    "training.num_epochs",
    "training.early_stopping.patience",
    "training.refit",
    "evaluation.memory_limit_mb",
    "diagnostics.",
    "experiment.tags",
    "experiment.tracking",
    "experiment.tracking_uri",
)
"""None of these changes what an epoch gives, only how many there are or what is made of them.

``num_epochs`` is one of them with a constant step size alone.
"""


_MOST_DIFFERENCES = 3  # in the name of a run
_TOLD_APART = ("training.objective", "model.item_encoder.fusion", "training.num_threads")


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def create(cls, config: Config) -> RunDirectory:
        """A new directory under ``experiment.runs_dir``, named after the run, with its config.

        It appears with the config in it, so that a run that is killed at any time can go on.
        """
        name = config.experiment.run_name or _default_name(config)
        path = config.experiment.runs_dir / name
        try:
            with new_directory(path) as unfinished:
                cls(unfinished).write_config(config)
        except FileExistsError:
            if config.experiment.run_name:
                raise ConfigError(
                    f"'experiment.run_name' must be new, got '{name}': {path} exists; "
                    f"'bookends run --resume {path}' would go on with it"
                ) from None
            path = path.with_name(f"{name}-{secrets.token_hex(2)}")
            with new_directory(path) as unfinished:
                cls(unfinished).write_config(config)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The directory of an earlier run.

        Raises:
            ArtifactError: there is no run in it.
        """
        directory = cls(path)
        if not directory.config_path.is_file():
            raise ArtifactError(f"{path}: must be a run directory (config.yaml in it)")
        return directory

    def resume(self, config: Config, dataset: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make the settings those of the run, which is to go on with them.

        Returns:
            The checkpoint; None where the run was stopped before its first epoch ended.

        Raises:
            ConfigError: under the settings or data the first epochs would have been others.
        """
        record = self.read_record()
        if record is None:
            before = load_config(self.config_path)
        else:  # somebody may have edited the file
            before = check_config(record.config, {}, origin=str(self.path / RECORD_FILE))
        check_resumable(before, config)
        state = load_checkpoint(self.checkpoint_path) if self.checkpoint_path.exists() else None
        if state is not None and state["fingerprint"] != dataset["fingerprint"]:
            data = state if record is None else record.dataset
            raise ConfigError(
                f"a resumed run must have the data it began with, but of {self.path} "
                f"{data_changes(data, dataset)}"
            )
        self.write_config(config)
        return state

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    def read_record(self) -> RunRecord | None:
        """What an earlier session put down; None where it was killed before that."""
        return RunRecord.read(self.path) if (self.path / RECORD_FILE).exists() else None

    @property
    def config_path(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def checkpoint_path(self) -> Path:
        """State after the last finished epoch."""
        return self.path / "checkpoint.pt"

    def in_use(self) -> AbstractContextManager[None]:
        """Keep other processes from training in this directory.

        Raises:
            ArtifactError: one does already.
        """
        refusal = f"{self.path}: must not be in use, but another process is training there"
        return locked(self.path / ".lock", refusal=refusal)

    def write_config(self, config: Config) -> None:
        """Keep the settings, whole or not at all: a resumed run needs them."""
        write_text(self.config_path, dump_yaml(config))

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Keep a frame as a Parquet file."""
        with replacement(self.path / name) as path:
            frame.to_parquet(path, index=False)


def _default_name(config: Config) -> str:
    """Such as ``softmax-sum-learning_rate=0.01-20260102-030405``: what differs from the default."""
    objective, fusion = config.training.objective, config.model.item_encoder.fusion
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return "-".join([str(objective), fusion, *_differences(config), now])


def _differences(config: Config) -> list[str]:
    """Settings of model and training that differ from the default, the first few of them."""
    given = flatten(config.model_dump(mode="json", include={"model", "training"}))
    usual = flatten(Config(data=config.data).model_dump(mode="json", include={"model", "training"}))
    chosen = {name: value for name, value in given.items() if usual.get(name) != value}
    for name in list(chosen):  # one that follows from the others is not told
        rest = {other: value for other, value in chosen.items() if other != name}
        with suppress(ValueError):
            derived = Config.model_validate(nest(rest) | {"data": config.data})
            if flatten(derived.model_dump(mode="json", include={"model", "training"})) == given:
                chosen = rest
    found = {
        name.rpartition(".")[2]: _shown(value)
        for name, value in chosen.items()
        if name not in _TOLD_APART and isinstance(value, int | float | str)
    }
    shown = [f"{name}={text}" for name, text in list(found.items())[:_MOST_DIFFERENCES]]
    more = len(found) - len(shown)
    return [*shown, *([f"{more}_more"] if more > 0 else [])]


def _shown(value: float | str) -> str:
    """A value in the name of a directory."""
    text = f"{value:g}" if isinstance(value, float) else str(value).lower()
    return re.sub(r"[^\w.]+", "_", text)[:20]


def check_resumable(before: Config, now: Config) -> None:
    """Refuse to go on with settings under which the first epochs would have been others.

    Raises:
        ConfigError: names the first setting that differs.
    """
    old, new = flatten(before.model_dump(mode="json")), flatten(now.model_dump(mode="json"))
    schedule, epochs = before.training.schedule, "training.num_epochs"
    if schedule != "constant" and old[epochs] != new[epochs]:
        raise ConfigError(
            f"a resumed run must keep '{epochs}' where 'training.schedule' is '{schedule}', since "
            f"the step size ends with it: it was {old[epochs]}, got {new[epochs]}"
        )
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name) and not name.startswith(MAY_CHANGE_ON_RESUME):
            was, got = apart(old.get(name), new.get(name))
            raise ConfigError(f"a resumed run must keep '{name}': it was {was}, got {got}")
