"""Models of other data, and lists of other tools, on the test of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from recsys.config import SegmentConfig
from recsys.errors import DataError
from recsys.evaluation.given_lists import read_lists
from recsys.evaluation.held_out import HeldOut
from recsys.recommender import Recommender
from recsys.recommender.drift import drift_tables
from recsys.recommender.other_data import OtherData, paired_values
from recsys.reporting.past_run import Paired, PastRun
from recsys.reporting.record import HELD_OUT_FILE
from tracking.model import resolve_bundle

_OF_A_USER = ("user_id", "n_train", "segment")


@dataclass(frozen=True, eq=False)
class RunTest:
    """The test of a run, by which other models are judged.

    Attributes:
        run: that holds its test interactions.
        tracking_uri: where its model is.
    """

    run: PastRun
    tracking_uri: str | None

    @cached_property
    def model(self) -> Recommender:
        """Of the run."""
        return _load_model(self.run, self.tracking_uri)

    @cached_property
    def held_out(self) -> HeldOut:
        """What is to be found.

        Raises:
            DataError: the run keeps no test interactions.
        """
        if self.run.held_out.empty:
            raise DataError(
                f"run '{self.run.name}': must keep its test interactions ({HELD_OUT_FILE}), by "
                "which other models are judged, and has none; a run made anew has"
            )
        model, record = self.model, self.run.record
        return HeldOut(
            self.run.held_out,
            model.users,
            model.items,
            model.seen,
            model.popularity,
            SegmentConfig(**record.setting("evaluation.segments")),
            record.setting("evaluation.metrics_k"),
        )

    def judged(self, run: PastRun) -> Paired | None:
        """A run of other data, by its model; None for one of the same data, judged as it is."""
        if run.fingerprint == self.run.fingerprint:
            return None
        return self.of_model(_load_model(run, self.tracking_uri), run.fingerprint)

    def of_model(self, other: Recommender, fingerprint: str) -> Paired:
        """A model of other data, by its lists for the test users.

        Args:
            other: the model.
            fingerprint: of the data it was trained on.
        """
        test = self.held_out
        own = OtherData.of(self.model, test).places
        found = OtherData.of(other, test)
        ours, theirs = paired_values(test, own, found)
        n_users = len(test.test_users)
        knows = np.unique(found.places.rows[found.knows_user])
        n_items, known_items = len(found.knows_item), int(found.knows_item.sum())
        return Paired(
            ours=self._joined(ours, own_values=True),
            theirs=self._joined(theirs),
            said=f"trained on data {fingerprint}; by its lists for {n_users:,} test users, "
            f"{len(knows):,} of them known to it, as are {known_items:,} of {n_items:,} test items",
            n_left_out=n_users - len(theirs),
            tables=tuple(drift_tables(other, self.model, test.segments)),
        )

    def of_lists(self, path: Path) -> Paired:
        """The lists of another tool."""
        test = self.held_out
        given = read_lists(path, test)
        values = pd.DataFrame(
            {"user_id": test.users.id_of(test.test_users)} | test.per_user(test.places(given.items))
        )
        return Paired(self.run.per_user, self._joined(values), f"{path}: {given}", 0)

    def _joined(self, values: pd.DataFrame, *, own_values: bool = False) -> pd.DataFrame:
        """Values with what the run's evaluation tells of each user, in its order."""
        per_user = self.run.per_user
        if own_values:  # as they were evaluated, baselines among them
            new = [name for name in values.columns if name not in per_user.columns]
            values = values[["user_id", *new]]
        else:
            per_user = per_user[[name for name in _OF_A_USER if name in per_user.columns]]
        return per_user.merge(values, on="user_id", how="inner", validate="one_to_one")


def _load_model(run: PastRun, tracking_uri: str | None) -> Recommender:
    """The model of a run, from its directory or from the store.

    Raises:
        BookendsError: it has none, or it cannot be reached.
    """
    if run.directory is not None:
        return Recommender.load(resolve_bundle(str(run.directory), tracking_uri))
    return Recommender.load(resolve_bundle(f"runs:/{run.run_id}/model", tracking_uri))
