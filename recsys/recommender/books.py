"""The items of a catalogue as people see them: ids, texts and categories of ``books.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import pyarrow as pa

from recsys.data.arrays import Bags, BoolArray, IntArray
from recsys.data.columns import CATEGORIES, CATEGORY_SEPARATOR, ITEM_ID, TITLE
from recsys.data.value_bags import split_values
from recsys.data.vocabulary import Vocabulary, whole
from recsys.errors import DataError


@dataclass(frozen=True, eq=False)
class Books:
    """Ids and texts of I items.

    Attributes:
        table: item_id, title, author, categories, one row an item; strings.
    """

    table: pa.Table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def ids(self) -> Vocabulary:
        """Raw ids."""
        return Vocabulary(whole(self.table[ITEM_ID]))

    @property
    def titles(self) -> pa.Array:
        """One for each book."""
        return whole(self.table[TITLE])

    @cached_property
    def _by_category(self) -> tuple[dict[str, int], Bags]:
        """The categories by name, and the items of each."""
        lists = split_values(self.table[CATEGORIES], CATEGORY_SEPARATOR)
        sizes = {"n_rows": len(lists.values), "n_columns": len(self)}
        items_of = Bags.from_pairs(lists.bags.indices, lists.bags.owners, **sizes)
        return {name: row for row, name in enumerate(lists.values.to_pylist())}, items_of

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that an item carries."""
        return tuple(self._by_category[0])

    def category_counts(self, counts: IntArray) -> dict[str, int]:
        """How often each category was taken, where each item was ``counts`` times, (I,)."""
        rows, items_of = self._by_category
        totals = items_of.to_scipy() @ counts.astype(np.float64)
        return {name: int(totals[row]) for name, row in rows.items()}

    def carrying(self, categories: Sequence[str]) -> BoolArray | None:
        """Which items carry at least one of the categories, (I,); None (all) for no categories.

        Raises:
            DataError: no item carries one of them.
        """
        if isinstance(categories, str):
            raise DataError(f"'categories' must be a list of names, got the text '{categories}'")
        if not len(categories):
            return None
        rows, items_of = self._by_category
        carried = np.zeros(len(self), dtype=bool)
        for name in categories:
            if name not in rows:
                near = get_close_matches(str(name), rows, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise DataError(
                    f"'categories' must name categories of the catalogue, got '{name}'{hint}"
                )
            carried[items_of.row(rows[name])] = True
        return carried
