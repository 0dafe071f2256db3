"""The features of all users or items as tensors, looked up by index inside a tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.arrays import Bags
from recsys.data.features import Features
from recsys.models.bags import BagTensors, as_tensor

MOST_COLUMNS = {torch.float32: 4, torch.bfloat16: 64}
"""Columns for each entry up to which multiplying bag tables as a matrix takes less time than
gathering row by row."""
MATRIX_LIMIT_BYTES = 128 * 2**20
"""Features are held as a matrix up to this size."""


class BagTable(nn.Module):
    """Ragged rows of weighted columns; see :class:`recsys.data.arrays.Bags`.

    Attributes:
        mass: sum of each row's weights, (n,) float32.
    """

    offsets: Tensor
    columns: Tensor
    weights: Tensor | None
    mass: Tensor

    def __init__(self, bags: Bags) -> None:
        super().__init__()
        self.n_columns = bags.n_columns
        # Not persistent: features belong to the data set, not to the weights of the model.
        self.register_buffer("offsets", as_tensor(bags.offsets), persistent=False)
        self.register_buffer("columns", as_tensor(bags.indices), persistent=False)
        weights = None if bags.weights is None else as_tensor(bags.weights)
        self.register_buffer("weights", weights, persistent=False)
        mass = np.asarray(bags.to_scipy().sum(axis=1), dtype=np.float32).ravel()
        self.register_buffer("mass", as_tensor(mass), persistent=False)

    def bags(self, rows: Tensor | int) -> BagTensors:
        """The bags of the given rows, or of the first so many."""
        return BagTensors(self.offsets, self.columns, self.weights).take(rows)

    @property
    def fill(self) -> float:
        """Entries for each column."""
        return len(self.columns) / max(self.n_columns, 1)

    def matrix(self) -> Tensor:
        """The whole table, (n, n_columns) float32, on the CPU."""
        weights = None if self.weights is None else self.weights.cpu().numpy()
        offsets, columns = self.offsets.cpu().numpy(), self.columns.cpu().numpy()
        bags = Bags(offsets, columns, self.n_columns, weights)
        return as_tensor(bags.to_scipy().toarray())


def take_rows(table: Tensor, rows: Tensor | int) -> Tensor:
    """The given rows, or the first so many, of a table without a gradient."""
    return table[:rows] if isinstance(rows, int) else table.index_select(0, rows)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Features as columns of one matrix.

    Attributes:
        matrix: dense features, then the columns of each table, (n, C).
        names: of the tables.
    """

    matrix: Tensor
    names: tuple[str, ...]


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
        self._made: dict[tuple[torch.dtype, torch.device], SideBySide] = {}

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

    def side_by_side(self, dtype: torch.dtype) -> SideBySide:
        """Dense features and the well-filled bag tables in this precision, made once.

        Where there are no such tables, it is the dense features as they are.
        """
        key = dtype, self.dense.device
        if key not in self._made:
            self._made[key] = self._put_together(dtype)
        return self._made[key]

    def _put_together(self, dtype: torch.dtype) -> SideBySide:
        names = self._well_filled(dtype)
        if not names:
            return SideBySide(self.dense, ())
        tables = [self.bag_tables[name] for name in names]
        widths = [self.dense_dim, *(table.n_columns for table in tables)]
        matrix = torch.empty((len(self), sum(widths)), dtype=dtype)
        parts = torch.split(matrix, widths, dim=1)
        parts[0].copy_(self.dense)
        for part, table in zip(parts[1:], tables, strict=True):
            part.copy_(table.matrix())
        return SideBySide(matrix.to(self.dense.device), names)

    def _well_filled(self, dtype: torch.dtype) -> tuple[str, ...]:
        """The tables of the matrix: the fullest, while together they are full enough."""
        names: list[str] = []
        width, n_entries = self.dense_dim, 0
        tables = self.bag_tables
        for name in sorted(tables, key=lambda name: -tables[name].fill):
            width += tables[name].n_columns
            n_entries += len(tables[name].columns)
            if len(self) * width * dtype.itemsize > MATRIX_LIMIT_BYTES:
                break
            if len(self) * width > MOST_COLUMNS[dtype] * n_entries:
                break
            names.append(name)
        return tuple(names)
