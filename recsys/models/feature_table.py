"""The features of all users or items as tensors, looked up by index inside a tower."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.arrays import Bags
from recsys.data.features import Features
from recsys.models.bag_sum import Bag, entries


def as_tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """The array as a tensor over the same memory, so that workers share a memory-mapped file."""
    with warnings.catch_warnings():
        # Nothing here writes to features, and a copy would cost every worker the whole table.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


WELL_FILLED = 4
"""A bag table with at most so many columns for each entry is well filled: a matrix product runs at
many times the rate of gathering rows, so it wins below half full."""
MATRIX_LIMIT_BYTES = 128 * 2**20
"""A well-filled table up to this size is held as a matrix besides."""
CHUNK = 8192


class BagTable(nn.Module):
    """Ragged rows of weighted columns; see :class:`recsys.data.arrays.Bags`.

    Attributes:
        mass: sum of each row's weights, (n,) float32.
        matrix: the whole table, (n, n_columns) float32, where it is well filled and small (the
            categories of readers); else None.
    """

    offsets: Tensor
    indices: Tensor
    weights: Tensor | None
    mass: Tensor
    matrix: Tensor | None

    def __init__(self, bags: Bags) -> None:
        super().__init__()
        self.n_columns = bags.n_columns
        # Not persistent: features belong to the data set, not to the weights of the model.
        self.register_buffer("offsets", as_tensor(bags.offsets), persistent=False)
        self.register_buffer("indices", as_tensor(bags.indices), persistent=False)
        weights = None if bags.weights is None else as_tensor(bags.weights)
        self.register_buffer("weights", weights, persistent=False)
        # In float64, so that a difference of two sums over the whole table is exact enough.
        shares = np.ones(len(bags.indices)) if bags.weights is None else bags.weights
        sums = np.concatenate([[0.0], np.cumsum(shares, dtype=np.float64)])[bags.offsets]
        self.register_buffer("mass", as_tensor(np.diff(sums).astype(np.float32)), persistent=False)
        n_rows = len(bags.offsets) - 1
        is_small = 4 * n_rows * bags.n_columns <= MATRIX_LIMIT_BYTES
        matrix = None
        if n_rows and is_small and bags.n_columns * n_rows <= WELL_FILLED * len(bags.indices):
            chunks = torch.split(torch.arange(n_rows), CHUNK)
            matrix = torch.cat([self._scatter(rows) for rows in chunks])
        self.register_buffer("matrix", matrix, persistent=False)
        self._half: Tensor | None = None

    @property
    def bag(self) -> Bag:
        """Offsets, columns and weights of all rows."""
        return self.offsets, self.indices, self.weights

    def dense(self, rows: Tensor) -> Tensor:
        """The given rows as a matrix, (n, n_columns) float32; under autocast in its type."""
        if self.matrix is None:
            return self._scatter(rows)
        if not torch.is_autocast_enabled(rows.device.type):
            return self.matrix.index_select(0, rows)
        dtype = torch.get_autocast_dtype(rows.device.type)
        return self.matrix_in(dtype).index_select(0, rows)

    def matrix_in(self, dtype: torch.dtype) -> Tensor:
        """The matrix in the dtype of the products, so that rows are gathered as they enter one."""
        assert self.matrix is not None
        if dtype is self.matrix.dtype:
            return self.matrix
        if self._half is None or self._half.dtype is not dtype:
            self._half = self.matrix.to(dtype)
        return self._half

    def _scatter(self, rows: Tensor) -> Tensor:
        offsets, columns, weights = entries(self.bag, rows)
        owners = torch.repeat_interleave(
            torch.arange(len(rows), device=rows.device), offsets.diff()
        )
        matrix = torch.zeros(len(rows) * self.n_columns, device=rows.device)
        flat = owners * self.n_columns + columns
        if weights is None:
            weights = torch.ones((), device=rows.device).expand(len(flat))
        matrix.scatter_add_(0, flat, weights)  # hashed values of one row may share a column
        return matrix.view(len(rows), self.n_columns)


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

    @property
    def dense_dim(self) -> int:
        """Number of dense features, Fd."""
        return int(self.dense.shape[1])

    @property
    def bag_tables(self) -> Mapping[str, BagTable]:
        """The bags by name."""
        return {name: table for name, table in self.bags.items() if isinstance(table, BagTable)}
