"""A run that was, as trackers read it and comparisons take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord


@dataclass(frozen=True, eq=False)
class Paired:
    """Values per user of a run and of another model, on the run's test.

    Attributes:
        ours: of the run, as its evaluation gave them, with groups of test items beside.
        theirs: of the other, for the same users.
        said: how the other came by its lists.
        n_left_out: users left out, since the other was trained on a test item of theirs.
        tables: how the data of the two differ.
    """

    ours: pd.DataFrame
    theirs: pd.DataFrame
    said: str
    n_left_out: int = 0
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, eq=False)
class PastRun:
    """A run as it was left.

    Attributes:
        name: of the run.
        record: of the run.
        per_user: metrics of each test user as the run wrote them (user_id, n_train, segment, then
            one column a metric); without rows and columns where the run has none.
        held_out: the test interactions (user_id, item_id); empty where the run keeps none.
        run_id: the tracker's id; None where it has none.
        tables: by name, in the order in which its report shows them.
        directory: the local run directory, where there is one.
        paired: its values on the test of the run that it is compared with, where its own evaluation
            was of another; ``per_user`` has them as well.
    """

    name: str
    record: RunRecord
    per_user: pd.DataFrame
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    run_id: str | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    directory: Path | None = None
    paired: Paired | None = None

    @property
    def fingerprint(self) -> str:
        """Of the data and its split."""
        return str(self.record.dataset.get("fingerprint"))

    @property
    def means(self) -> dict[str, float | None]:
        """Mean of each metric on the test by which the run is judged."""
        if self.paired is not None:
            names = [name for name in self.paired.theirs.columns if "@" in name]
            return dict(self.paired.theirs[names].mean())
        assert self.record.judged is not None, "a compared run was evaluated"
        return self.record.judged.model.means
