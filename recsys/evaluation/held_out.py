"""What a run held out for its test, by which lists of any other model can be judged too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from recsys.config import SegmentConfig
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.data.dataset import Prepared
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ArtifactError
from recsys.evaluation.metrics import Places, find_places, metrics_of_places
from recsys.evaluation.ranking import Ranking
from recsys.evaluation.segments import tail_metrics

KNOWN, NEW_USERS, NEW_ITEMS = "known_", "new_users_", "new_items_"
"""Of the columns per user that look at some test items alone, where the other model is of other
data: those of which it knows user and item, not the user, not the item."""


def held_out_pairs(prepared: Prepared) -> pd.DataFrame:
    """The test interactions: user_id and item_id, ascending by the user's index."""
    users, items = prepared.test.by_user.entries(np.arange(len(prepared.users)))
    return pd.DataFrame(
        {"user_id": prepared.users.id_of(users), "item_id": prepared.items.id_of(items)}
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The test of a run: what is to be found, and what must not be shown.

    Attributes:
        pairs: of :func:`held_out_pairs`, whose users and items are among those that follow.
        users: ids of all users, U.
        items: ids of the catalogue, I.
        known: items of each user in train and validation, oldest first, (U, I).
        item_counts: train interactions of each item, (I,).
        segments: bounds of cold, tail and head.
        ks: list lengths.
    """

    pairs: pd.DataFrame
    users: Vocabulary
    items: Vocabulary
    known: Bags
    item_counts: IntArray
    segments: SegmentConfig
    ks: Sequence[int]

    @cached_property
    def relevant(self) -> Bags:
        """Test items of each user, (U, I), no item twice.

        Raises:
            ArtifactError: a user or an item of the pairs is none of those given.
        """
        rows = self.users.index_of(self.pairs["user_id"].tolist())
        columns = self.items.index_of(self.pairs["item_id"].tolist())
        if (rows < 0).any() or (columns < 0).any():
            raise ArtifactError(
                "the test interactions of a run must be of the users and items of its model, "
                f"but {int(((rows < 0) | (columns < 0)).sum()):,} are not"
            )
        return Bags.from_set(rows, columns, n_rows=len(self.users), n_columns=len(self.items))

    @cached_property
    def test_users(self) -> IntArray:
        """Users with a test item, ascending, (n,)."""
        return np.flatnonzero(self.relevant.lengths)

    @property
    def k(self) -> int:
        """Length of the longest list."""
        return max(self.ks)

    def places(self, lists: IntArray) -> Places:
        """Where the test items stand in lists of the test users, (n, k) items, -1 for none."""
        ranking = Ranking(self.test_users, lists, np.zeros(lists.shape, np.float32))
        return find_places(ranking, self.relevant)

    def per_user(self, places: Places, chosen: BoolArray | None = None) -> dict[str, FloatArray]:
        """Every ranking metric of each test user, (n,), NaN where nothing is to be found.

        Args:
            places: of all test items.
            chosen: the only test items to be found, as in ``places``; None for all.

        Returns:
            Keys such as ``"ndcg@10"``, and ``"tail_items_ndcg@10"`` of items outside the head.
        """
        if chosen is not None:
            places = places.select(chosen)
        tail = tail_metrics(places, self.item_counts, self.segments, self.ks)
        return metrics_of_places(places, self.ks) | tail
