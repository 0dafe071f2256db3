"""Lists that another tool made for the test users of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.arrays import IntArray
from recsys.data.columns import ITEM_ID, USER_ID, Column
from recsys.data.reading import read_checked
from recsys.errors import DataError, shown
from recsys.evaluation.held_out import HeldOut

RANK, SCORE = "rank", "score"
_COLUMNS = (
    Column(USER_ID, USER_ID, "id", True, ""),
    Column(ITEM_ID, ITEM_ID, "id", True, ""),
    Column(RANK, RANK, "rating", False, ""),
    Column(SCORE, SCORE, "rating", False, ""),
)


@dataclass(frozen=True, eq=False)
class GivenLists:
    """Lists of a file, as the run's own: without what the user is known to have.

    Attributes:
        items: (n, k) items of the run for its test users, best first, -1 where there is none.
        n_users: test users for whom the file has a list.
        n_known: rows left out, as the user has the item in train or validation.
        n_foreign: rows left out, as their user is no test user, or the item is not in the
            catalogue.
    """

    items: IntArray
    n_users: int
    n_known: int
    n_foreign: int

    def __str__(self) -> str:
        said = f"lists for {self.n_users:,} of {len(self.items):,} test users"
        if self.n_known:
            said += f"; {self.n_known:,} rows left out that the user is known to have"
        if self.n_foreign:
            said += f"; {self.n_foreign:,} rows of other users or items left out"
        return said


def read_lists(path: Path, test: HeldOut) -> GivenLists:
    """The lists of a CSV or Parquet file with user_id, item_id and rank or score.

    The order is that of ``rank``, lowest first, or, where there is none, of ``score``, highest
    first; what is equal keeps the order of the file.

    Args:
        path: of the file.
        test: of the run.

    Raises:
        DataError: the file cannot be read, holds neither rank nor score, an item twice for a
            user, or a list for no test user.
    """
    table = read_checked(path, _COLUMNS, limit=None, drop=False).table
    given = [name for name in (RANK, SCORE) if name in table.column_names]
    if not given:
        raise DataError(
            f"{path}: must have the column 'rank' or 'score' beside user_id and item_id"
        )
    order = table[given[0]].to_numpy() * (1 if given[0] == RANK else -1)
    user_ids, item_ids = (
        table[name].combine_chunks().cast("string") for name in (USER_ID, ITEM_ID)
    )
    row_of = np.full(len(test.users), -1)
    row_of[test.test_users] = np.arange(len(test.test_users))
    users, items = test.users.index_of(user_ids), test.items.index_of(item_ids)
    rows = np.where(users >= 0, row_of[users], -1)
    pairs = np.stack([users, items])[:, (rows >= 0) & (items >= 0)]
    if not pairs.size:
        raise DataError(
            f"{path}: must hold lists for test users of the run, such as "
            f"{shown(test.users.id_of(test.test_users[:1])[0])}, got {shown(user_ids[0].as_py())}"
        )
    _refuse_repeated(path, test, pairs)
    is_known = test.known.contains(np.maximum(users, 0), items) & (rows >= 0)
    kept = np.flatnonzero((rows >= 0) & (items >= 0) & ~is_known)
    kept = kept[np.lexsort((order[kept], rows[kept]))]
    lengths = np.bincount(rows[kept], minlength=len(test.test_users))
    places = np.arange(len(kept)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    lists = np.full((len(test.test_users), test.k), -1, dtype=np.int32)
    short = places < test.k
    lists[rows[kept][short], places[short]] = items[kept][short]
    n_foreign = int(((rows < 0) | (items < 0)).sum())
    n_users = len(np.unique(rows[rows >= 0]))
    return GivenLists(lists, n_users, int(is_known.sum()), n_foreign)


def _refuse_repeated(path: Path, test: HeldOut, pairs: IntArray) -> None:
    codes = pairs[0] * len(test.items) + pairs[1]
    values, counts = np.unique(codes, return_counts=True)
    if (counts > 1).any():
        user, item = divmod(int(values[counts > 1][0]), len(test.items))
        raise DataError(
            f"{path}: must name an item once for each user, but names "
            f"{shown(test.items.id_of(np.array([item]))[0])} twice for "
            f"{shown(test.users.id_of(np.array([user]))[0])}"
        )
