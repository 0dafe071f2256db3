"""The run directory: everything a run leaves behind, the source that trackers mirror."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from experiments.settings import dump_yaml, load_config
from recsys.config import Config
from recsys.errors import ArtifactError, ConfigError
from recsys.reporting.record import RECORD_FILE


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def create(cls, config: Config) -> RunDirectory:
        """A new directory under ``experiment.runs_dir``, named after the run, with its config."""
        name = config.experiment.run_name or _default_name(config)
        path = config.experiment.runs_dir / name
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if config.experiment.run_name:
                raise ConfigError(
                    f"'experiment.run_name' must be new, got '{name}': {path} exists; "
                    f"'bookends run --resume {path}' would go on with it"
                ) from None
            path = path.with_name(f"{name}-{secrets.token_hex(2)}")
            path.mkdir(parents=True)
        directory = cls(path)
        directory.config_path.write_text(dump_yaml(config), encoding="utf-8")
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The directory of an earlier run.

        Raises:
            ArtifactError: there is no run in it.
        """
        directory = cls(path)
        if not directory.config_path.is_file() or not (path / RECORD_FILE).is_file():
            raise ArtifactError(
                f"{path}: must be a run directory (config.yaml and {RECORD_FILE} in it)"
            )
        return directory

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def checkpoint_path(self) -> Path:
        """State after the last finished epoch."""
        return self.path / "checkpoint.pt"

    @property
    def model_path(self) -> Path:
        """The servable bundle."""
        return self.path / "model"

    def read_config(self) -> Config:
        """The settings of the run."""
        return load_config(self.config_path)

    def write_per_user(self, per_user: pd.DataFrame) -> None:
        """Keep the per-user metrics."""
        per_user.to_parquet(self.path / "per_user.parquet", index=False)


def _default_name(config: Config) -> str:
    user, item = config.model.user_tower.fusion, config.model.item_tower.fusion
    fusion = item if user == item else f"{user}-{item}"
    return f"{fusion}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
