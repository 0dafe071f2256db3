"""The loss that draws the item vectors of rare categories to the spread of the largest one's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import Bags, IntArray
from recsys.errors import DataError
from recsys.models.normalise import normalise
from recsys.models.tower import TowerParts
from recsys.training.batches import Batch


class CategoryAlignment:
    """Squared Frobenius distance of the covariance of each category to that of the largest.

    Category alignment of Yu et al., "A Dual Augmented Two-tower Model" (DLP-KDD 2021, eq. 8), after
    CORAL (Sun and Saenko 2016): summed over the categories with at least 2 items in the batch. An
    item counts in one category, the most frequent one that it has.

    Args:
        categories: of the catalogue, one row an item.
        is_cosine: vectors count at length 1.

    Raises:
        DataError: fewer than two categories are anybody's most frequent one.
    """

    def __init__(self, categories: Bags | None, *, is_cosine: bool) -> None:
        groups = np.zeros(0, dtype=np.int64) if categories is None else main_categories(categories)
        named, sizes = np.unique(groups[groups >= 0], return_counts=True)
        if len(named) < 2:
            raise DataError(
                "'training.alignment_weight' above 0 needs items of at least two categories, got "
                f"{len(named)}"
            )
        self._groups = torch.from_numpy(groups)
        self._largest = int(named[sizes.argmax()])
        self._is_cosine = is_cosine

    def __call__(self, users: TowerParts, items: TowerParts, batch: Batch) -> Tensor:
        """Scalar; 0 where the largest category or all others have fewer than 2 items."""
        self._groups = self._groups.to(items.vectors.device)
        chosen = batch.items
        groups = self._groups[:chosen] if isinstance(chosen, int) else self._groups[chosen]
        order = groups.argsort(stable=True)
        named, sizes = torch.unique(groups, return_counts=True)
        vectors = items.vectors.float().index_select(0, order)
        vectors = normalise(vectors) if self._is_cosine else vectors
        parts = torch.split(vectors, sizes.tolist())
        spreads = {
            name: torch.cov(part.T)
            for name, part in zip(named.tolist(), parts, strict=True)
            if name >= 0 and len(part) >= 2
        }
        largest = spreads.pop(self._largest, None)
        if largest is None or not spreads:
            return items.vectors.new_zeros(())
        return torch.stack([(largest - each).square().sum() for each in spreads.values()]).sum()


def main_categories(categories: Bags) -> IntArray:
    """Of each item the category that most items have, the first at a tie; -1 without any, (I,)."""
    counts = np.bincount(categories.indices, minlength=categories.n_columns)
    owners = categories.owners
    order = np.lexsort((categories.indices, -counts[categories.indices], owners))
    main = np.full(categories.n_rows, -1, dtype=np.int64)
    firsts, places = np.unique(owners[order], return_index=True)
    main[firsts] = categories.indices[order][places]
    return main
