"""Features of readers whom training never saw, from the books they like.

They must be what :func:`recsys.data.features.aggregate_user_features` would have made of the same
books, so the means and deviations over the readers of train are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import sparse

from recsys.config import FeatureConfig
from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions
from recsys.data.features import SECONDS_A_DAY, Features

BLOCK_VALUES = 1 << 22
NEGLIGIBLE = 1e-6
"""Deviations below this share of the largest value are rounding, as for the readers of train."""


@dataclass(frozen=True, eq=False)
class Liked:
    """Readers' books, each with its weight in the aggregate.

    Attributes:
        books: one bag a reader, (n, I).
        weights: of each entry, (nnz,) float32; those of a reader sum to 1 for the means.
    """

    books: Bags
    weights: FloatArray

    @classmethod
    def alike(cls, books: Bags, config: FeatureConfig) -> Liked:
        """Books of which none is older than another."""
        if config.user_aggregate in ("sum", "max"):
            return cls(books, np.ones(len(books.indices), dtype=np.float32))
        share = (1 / np.maximum(books.lengths, 1)).astype(np.float32)
        return cls(books, np.repeat(share, books.lengths))

    @classmethod
    def decayed(cls, books: Bags, times: IntArray, half_life_days: float) -> Liked:
        """Books that weigh half as much with every half-life before the reader's latest one."""
        owners = np.repeat(np.arange(books.n_rows), books.lengths)
        latest = np.full(books.n_rows, np.iinfo(np.int64).min)
        np.maximum.at(latest, owners, times)
        weights = np.exp2(-(latest[owners] - times) / (half_life_days * SECONDS_A_DAY))
        totals = np.bincount(owners, weights, minlength=books.n_rows)
        return cls(books, (weights / totals[owners]).astype(np.float32))

    def rows(self, start: int, end: int) -> Liked:
        """The readers from ``start`` to ``end``."""
        offsets = self.books.offsets[start : end + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        bags = Bags(offsets - offsets[0], self.books.indices[entries], self.books.n_columns)
        return Liked(bags, self.weights[entries])

    def matrix(self) -> sparse.csr_matrix:
        """The weights as a matrix, (n, I)."""
        parts = (self.weights, self.books.indices, self.books.offsets)
        return sparse.csr_matrix(parts, shape=(self.books.n_rows, self.books.n_columns))


@dataclass(frozen=True, eq=False)
class ReaderFeaturizer:
    """From liked books to features of readers.

    Attributes:
        config: which aggregate.
        means: of each dense column over the readers of train, (1 + Fd,) float64.
        deviations: the same; 0 for a column that says nothing, which stays 0.
    """

    config: FeatureConfig
    means: FloatArray
    deviations: FloatArray

    @classmethod
    def fit(cls, item_features: Features, train: Interactions, config: FeatureConfig) -> Self:
        """As train had it.

        Args:
            item_features: of all items; of none where no reader is to be made features of.
            train: sorted by user.
            config: which aggregate.
        """
        if not len(item_features):
            nothing = np.zeros(1 + item_features.dense.shape[1])
            return cls(config, nothing, nothing)
        liked = _histories(train, config)
        n_readers = liked.books.n_rows
        active = liked.books.lengths > 0
        dense = np.zeros((n_readers, 1 + item_features.dense.shape[1]), dtype=np.float32)
        step = max(1, BLOCK_VALUES // max(dense.shape[1], 1))
        for start in range(0, n_readers, step):
            end = min(start + step, n_readers)
            dense[start:end] = _dense(liked.rows(start, end), item_features, config)
        means, deviations = np.zeros(dense.shape[1]), np.zeros(dense.shape[1])
        for column in range(dense.shape[1] if active.any() else 0):
            values = dense[active, column].astype(np.float64)
            means[column] = values.mean()
            deviation = values.std()
            if deviation > NEGLIGIBLE * max(1.0, float(np.abs(values).max())):
                deviations[column] = deviation
        return cls(config, means, deviations)

    def transform(self, item_features: Features, books: Bags) -> Features:
        """Features of readers who like the given books, in no order of time.

        With ``time_decayed_mean`` every book counts the same, as if all were read on one day.

        Args:
            item_features: of all items.
            books: items of each reader, each once, (n, I).
        """
        liked = Liked.alike(books, self.config)
        dense = _dense(liked, item_features, self.config)
        for column, (mean, deviation) in enumerate(zip(self.means, self.deviations, strict=True)):
            dense[:, column] -= mean
            dense[:, column] *= 0 if deviation == 0 else 1
            dense[:, column] /= deviation or 1
        dense[books.lengths == 0, 1:] = 0
        aggregate = self.config.user_aggregate
        names = ("log_train_interactions", *(f"{aggregate}_{n}" for n in item_features.dense_names))
        bags = {
            name: _bags(liked, bag, is_max=aggregate == "max")
            for name, bag in item_features.bags.items()
        }
        return Features(dense, names, bags, item_features.bag_labels)

    def to_json(self) -> dict[str, Any]:
        """A form that JSON can hold; the numbers come back bit for bit."""
        return {
            "user_aggregate": self.config.user_aggregate,
            "half_life_days": self.config.half_life_days,
            "means": self.means.tolist(),
            "deviations": self.deviations.tolist(),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The featurizer that :meth:`to_json` wrote."""
        config = FeatureConfig(
            user_aggregate=saved["user_aggregate"], half_life_days=saved["half_life_days"]
        )
        numbers = (np.array(saved[name], dtype=np.float64) for name in ("means", "deviations"))
        return cls(config, *numbers)


def _histories(train: Interactions, config: FeatureConfig) -> Liked:
    assert not len(train) or (np.diff(train.users) >= 0).all()
    offsets = np.zeros(train.n_users + 1, dtype=np.int64)
    np.cumsum(train.user_counts, out=offsets[1:])
    books = Bags(offsets, train.items, train.n_items)
    if config.user_aggregate == "time_decayed_mean":
        assert train.times is not None and config.half_life_days is not None
        return Liked.decayed(books, train.times, config.half_life_days)
    return Liked.alike(books, config)


def _dense(liked: Liked, features: Features, config: FeatureConfig) -> FloatArray:
    """Dense columns before they are standardised, (n, 1 + Fd) float32."""
    books = liked.books
    dense = np.zeros((books.n_rows, 1 + features.dense.shape[1]), dtype=np.float32)
    dense[:, 0] = np.log1p(books.lengths)
    if config.user_aggregate != "max":
        dense[:, 1:] = liked.matrix() @ features.dense
        return dense
    active = np.flatnonzero(books.lengths)
    if len(active):
        starts = books.offsets[active]
        dense[active, 1:] = np.maximum.reduceat(features.dense[books.indices], starts)
    return dense


def _bags(liked: Liked, bags: Bags, *, is_max: bool) -> Bags:
    product = liked.matrix() @ bags.to_scipy()
    product.sort_indices()
    weights = None if is_max else product.data
    offsets = product.indptr.astype(np.int64)
    return Bags(offsets, product.indices.astype(np.int32), bags.n_columns, weights)
