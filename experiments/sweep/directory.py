"""The sweep directory: everything a sweep leaves behind, the source that trackers mirror."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from recsys.artifacts import replacement
from recsys.evaluation.evaluation import Evaluation
from recsys.evaluation.ranking import Vectors


def read_values(path: Path, metric: str) -> pd.Series[float]:
    """Of a file with values of each user those of a metric, by user id."""
    frame = pd.read_parquet(path, columns=["user_id", metric])
    return frame.set_index("user_id")[metric]


@dataclass(frozen=True)
class SweepDirectory:
    """Paths of one sweep."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the sweep and of its study."""
        return self.path.name

    @property
    def journal_path(self) -> Path:
        """Where the embedded study lies."""
        return self.path / "journal.log"

    @property
    def lock_path(self) -> Path:
        """Held by a session while it does what only one may do."""
        return self.path / ".lock"

    @property
    def settings_path(self) -> Path:
        """The resolved settings of the sweep."""
        return self.path / "sweep.yaml"

    @property
    def best_path(self) -> Path:
        """The winning configuration, as YAML that ``bookends run`` takes."""
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

    def per_user_path(self, trial: int, seed: int) -> Path:
        """Where a finalist's validation values of each user lie."""
        return self.finalists_dir / f"trial-{trial}-seed-{seed}.parquet"

    def vectors_path(self, trial: int, seed: int) -> Path:
        """Where a finalist's vectors lie until test was looked at."""
        return self.finalists_dir / f"trial-{trial}-seed-{seed}.npz"

    def keep_finalist(
        self, trial: int, seed: int, evaluation: Evaluation, vectors: Vectors
    ) -> None:
        """Put a finalist's values of each user and its vectors where the parent finds them."""
        with replacement(self.per_user_path(trial, seed)) as path:
            evaluation.per_user.to_parquet(path, index=False)
        with replacement(self.vectors_path(trial, seed)) as path:
            np.savez(path, users=vectors.users, items=vectors.items, combine=vectors.combine)
