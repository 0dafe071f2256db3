"""The features of all users or items as tensors, looked up by index inside a tower."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from recsys.data.arrays import Bags
from recsys.data.features import Features
from recsys.models.bags import BagTensors, as_tensor

WELL_FILLED = 4
"""A bag table with at most so many columns for each entry is well filled: a matrix product runs at
many times the rate of gathering rows, so it wins below half full."""
MATRIX_LIMIT_BYTES = 128 * 2**20
"""A well-filled table up to this size is held as a matrix besides."""


class BagTable(nn.Module):
    """Ragged rows of weighted columns; see :class:`recsys.data.arrays.Bags`.

    Attributes:
        mass: sum of each row's weights, (n,) float32.
        matrix: the whole table, (n, n_columns) float32, where it is well filled and small (the
            categories of users); else None.
    """

    offsets: Tensor
    columns: Tensor
    weights: Tensor | None
    mass: Tensor
    matrix: Tensor | None

    def __init__(self, bags: Bags) -> None:
        super().__init__()
        self.n_columns = bags.n_columns
        # Not persistent: features belong to the data set, not to the weights of the model.
        self.register_buffer("offsets", as_tensor(bags.offsets), persistent=False)
        self.register_buffer("columns", as_tensor(bags.indices), persistent=False)
        weights = None if bags.weights is None else as_tensor(bags.weights)
        self.register_buffer("weights", weights, persistent=False)
        matrix = bags.to_scipy()
        mass = np.asarray(matrix.sum(axis=1), dtype=np.float32).ravel()
        self.register_buffer("mass", as_tensor(mass), persistent=False)
        n_cells = bags.n_rows * bags.n_columns
        is_matrix = n_cells <= min(WELL_FILLED * len(bags.indices), MATRIX_LIMIT_BYTES // 4)
        dense = as_tensor(matrix.toarray()) if n_cells and is_matrix else None
        self.register_buffer("matrix", dense, persistent=False)

    def bags(self, rows: Tensor | int) -> BagTensors:
        """The bags of the given rows, or of the first so many."""
        return BagTensors(self.offsets, self.columns, self.weights).take(rows)


def take_rows(table: Tensor, rows: Tensor | int) -> Tensor:
    """The given rows, or the first so many, of a table without a gradient."""
    return table[:rows] if isinstance(rows, int) else table.index_select(0, rows)


class FeatureTable(nn.Module):
    """Dense features and bags of n users or items.

    Args:
        features: as prepared; dense (n, Fd) float32 and bags of n rows.
    """

    dense: Tensor

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.register_buffer("dense", as_tensor(features.dense), persistent=False)
        self.bags = nn.ModuleDict({name: BagTable(bags) for name, bags in features.bags.items()})

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def dense_dim(self) -> int:
        """Number of dense features, Fd."""
        return int(self.dense.shape[1])

    @property
    def bag_tables(self) -> Mapping[str, BagTable]:
        """The bags by name."""
        return {name: table for name, table in self.bags.items() if isinstance(table, BagTable)}
