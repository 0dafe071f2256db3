"""The sweep directory: everything a sweep leaves behind, the source that trackers mirror."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.settings import write_yaml
from recsys.artifacts import make_folder, replacement
from recsys.evaluation.evaluation import Evaluation
from recsys.evaluation.ranking import Vectors
from recsys.reporting.record import write_text
from sweeps.storage import journal_url


@dataclass(frozen=True)
class SweepDirectory:
    """Paths of one sweep.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def of(cls, sweeps_dir: Path, name: str) -> SweepDirectory:
        """The directory of the sweep of this name, made where absent."""
        path = (sweeps_dir / name).absolute()
        make_folder(path, "--sweeps-dir")
        return cls(path)

    @property
    def name(self) -> str:
        """Name of the sweep and of its study."""
        return self.path.name

    @property
    def default_storage(self) -> str:
        """Address of the embedded study."""
        return journal_url(self.journal_path)

    @property
    def journal_path(self) -> Path:
        """Where the embedded study lies."""
        return self.path / "journal.log"

    @property
    def lock_path(self) -> Path:
        """Held by a session while it does what only one may do."""
        return self.path / ".lock"

    @property
    def best_path(self) -> Path:
        """The winning configuration."""
        return self.path / "best.yaml"

    @property
    def finalists_dir(self) -> Path:
        """What finalists left for the comparison."""
        return self.path / "finalists"

    def worker_log(self, stage: str, index: int) -> Path:
        """What a worker printed."""
        path = self.path / "logs"
        path.mkdir(exist_ok=True)
        return path / f"{stage}-worker-{index}.txt"

    def write_settings(self, content: dict[str, Any]) -> None:
        """Keep the resolved settings of the sweep."""
        _write(self.path / "sweep.yaml", content)

    def write_best(self, tree: dict[str, Any], comment: str) -> None:
        """Keep the winning configuration as YAML that ``bookends run`` takes."""
        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        _write(self.best_path, tree, lines)


def _write(path: Path, content: dict[str, Any], head: str = "") -> None:
    text = write_yaml(content)
    write_text(path, head + text)


def keep_finalist(
    directory: Path, trial: int, seed: int, evaluation: Evaluation, vectors: Vectors
) -> None:
    """Put a finalist's values a reader and its vectors where the parent finds them."""
    with replacement(per_user_path(directory, trial, seed)) as path:
        evaluation.per_user.to_parquet(path, index=False)
    with replacement(vectors_path(directory, trial, seed)) as path:
        np.savez(path, users=vectors.users, items=vectors.items, combine=vectors.combine)


def per_user_path(directory: Path, trial: int, seed: int) -> Path:
    """Where a finalist's values a reader lie."""
    return directory / f"trial-{trial}-seed-{seed}.parquet"


def vectors_path(directory: Path, trial: int, seed: int) -> Path:
    """Where a finalist's vectors lie until test was looked at."""
    return directory / f"trial-{trial}-seed-{seed}.npz"
