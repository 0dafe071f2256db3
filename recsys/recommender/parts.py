"""What a recommender is made of, and the searches over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.data.columns import TEXT_FIELDS
from recsys.data.features import TITLE_STATISTICS
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.scorers import Vectors
from recsys.recommender.approximate import ApproximateSearch
from recsys.recommender.books import Books
from recsys.recommender.cold_start import ColdStart
from recsys.recommender.search import ItemSearch, Search, normalised


@dataclass(frozen=True, eq=False)
class Parts:
    """Vectors of known users and items, what each user has seen, and how to place those never seen.

    Attributes:
        users: ids of the known users, U.
        books: ids and texts of the catalogue, I.
        vectors: the product of a user's and an item's is the score; with several vectors a user,
            what is combined of their products.
        seen: items known of each user when the model was judged, train and validation, oldest
            first.
        popularity: train interactions of each item, (I,).
        provenance: where the model comes from (run, data fingerprint), as plain JSON values.
        cold_start: makes vectors of new users and items; None where only known ones have any.
        approximate: finds nearly the best items in less time; None to search exactly.
    """

    users: Vocabulary
    books: Books
    vectors: Vectors
    seen: Bags
    popularity: IntArray
    provenance: Mapping[str, Any]
    cold_start: ColdStart | None = None
    approximate: ApproximateSearch | None = None

    @property
    def items(self) -> Vocabulary:
        """Ids of the catalogue."""
        return self.books.ids

    @property
    def book_columns(self) -> tuple[str, ...]:
        """What a new book may be described by."""
        scales = () if self.cold_start is None else self.cold_start.item_featurizer.scales
        numbers = [scale.name for scale in scales if scale.name not in TITLE_STATISTICS]
        return (*TEXT_FIELDS, *numbers)

    @property
    def search(self) -> Search:
        """Finds the best items for vectors of users."""
        return self.approximate or self.exact_search

    @cached_property
    def exact_search(self) -> ItemSearch:
        """Finds the best items, none left out."""
        return ItemSearch(self.vectors.items, self.vectors.combine)

    @cached_property
    def popular_search(self) -> ItemSearch:
        """Finds the most popular items, for the vector (1)."""
        return ItemSearch(self.popularity.astype(np.float32)[:, None])

    @cached_property
    def user_search(self) -> ItemSearch:
        """Finds the users who score an item highest, for its vector."""
        return ItemSearch(self.vectors.users, self.vectors.combine)

    @cached_property
    def cosine_search(self) -> ItemSearch:
        """Finds the nearest items, for unit vectors of items."""
        return ItemSearch(normalised(self.likeness(self.vectors.items)))

    def likeness(self, items: FloatArray) -> FloatArray:
        """Vectors of items without the coordinates that say nothing of what they are like."""
        if self.cold_start is None:
            return items
        return np.ascontiguousarray(items[:, : self.cold_start.model.item_tower.dim])
