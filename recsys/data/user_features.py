"""What is known of users beside their ids: the features of their train items, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, FiniteFloat
from scipy import sparse

from recsys.config import FeatureParams, UserAggregation
from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions, offsets_of
from recsys.data.features import USER_BAGS, Features
from recsys.errors import ConfigError

V = TypeVar("V")
SECONDS_A_DAY = 86_400
BLOCK_ENTRIES = 1 << 22
NEGLIGIBLE = 1e-6
"""Deviations below this share of the largest value are rounding."""


@dataclass(frozen=True)
class UserFeaturizer:
    """From the items of a user to features of the user, with everything learned from train.

    mean, sum and max are over a user's items. time_decayed_mean weighs an item by
    ``0.5 ** (days before the user's latest interaction / half_life_days)``. The first dense column
    is log(1 + number of items). All dense columns are standardised over the users with train
    interactions; the bags carry the aggregate itself as weights (for max of entries that all weigh
    1: none). A user without items has 0 in the other dense columns, their mean, and empty bags.

    Attributes:
        user_aggregation: which aggregate.
        half_life_days: of time_decayed_mean.
        means: of each dense column over the users with train interactions, (1 + Fd,).
        deviations: the same; 0 for a column that says nothing, which stays 0.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    user_aggregation: UserAggregation
    half_life_days: Annotated[FiniteFloat, Field(gt=0)] | None
    means: tuple[FiniteFloat, ...]
    deviations: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]

    @classmethod
    def fit(cls, item_features: Features, train: Interactions, config: FeatureParams) -> Self:
        """Fitted on the train interactions.

        Args:
            item_features: of all items; of none where no user is to be made features of.
            train: sorted or not.
            config: which aggregate.

        Raises:
            ConfigError: time_decayed_mean where the train interactions have no times.
        """
        if not len(item_features):
            nothing = (0.0,) * (1 + len(item_features.dense_names))
            return cls(config.user_aggregation, config.half_life_days, nothing, nothing)
        items = _weighted_items(train, config)
        dense = _aggregate_dense(items, item_features, config.user_aggregation)
        return cls._fit(dense, items.lengths, config)

    @classmethod
    def _fit(cls, dense: FloatArray, counts: IntArray, config: FeatureParams) -> Self:
        active = counts > 0
        means, deviations = np.zeros(dense.shape[1]), np.zeros(dense.shape[1])
        for number in range(dense.shape[1] if active.any() else 0):
            values = dense[active, number].astype(np.float64)
            means[number] = values.mean()
            deviation = values.std()
            if deviation > NEGLIGIBLE * max(1.0, float(np.abs(values).max())):
                deviations[number] = deviation
        scales = tuple(means.tolist()), tuple(deviations.tolist())
        return cls(config.user_aggregation, config.half_life_days, *scales)

    def transform(self, item_features: Features, items: Bags) -> Features:
        """Features of users who have the given items, in no order of time.

        With time_decayed_mean every item counts the same, as if all were of one day.

        Args:
            item_features: of all items.
            items: of each user, each once, (n, I).
        """
        weights = _even_weights(items.lengths, self.user_aggregation)
        weighted = replace(items, weights=weights)
        dense = _aggregate_dense(weighted, item_features, self.user_aggregation)
        return self._finish(weighted, dense, item_features)

    def _finish(self, items: Bags, dense: FloatArray, item_features: Features) -> Features:
        """Standardise ``dense`` in place, and add the bags."""
        scales = np.column_stack([self.means, self.deviations])  # float64, as the differences
        for number, (mean, deviation) in enumerate(scales):
            dense[:, number] -= mean
            dense[:, number] *= deviation > 0
            dense[:, number] /= deviation or 1
        dense[items.lengths == 0, 1:] = 0
        aggregate = self.user_aggregation
        bags = {
            name: _aggregate_bags(items, bag, is_max=aggregate == "max")
            for name, bag in user_side(item_features.bags).items()
        }
        names = ("log_train_interactions", *(f"{aggregate}_{n}" for n in item_features.dense_names))
        return Features(dense, names, bags, user_side(item_features.bag_labels))


def user_side(by_bag: Mapping[str, V]) -> dict[str, V]:
    """Of what items have by the name of a bag, that of the bags which users have too."""
    return {name: by_bag[name] for name in USER_BAGS if name in by_bag}


def aggregate_user_features(
    item_features: Features, train: Interactions, config: FeatureParams
) -> Features:
    """Features of users: those of their train items, put together; see :class:`UserFeaturizer`.

    The same as ``fit`` and ``transform``, with the times of the interactions.

    Args:
        item_features: of all items, (I, ...).
        train: sorted or not.
        config: which aggregate.

    Raises:
        ConfigError: time_decayed_mean where the train interactions have no times.
    """
    items = _weighted_items(train, config)
    dense = _aggregate_dense(items, item_features, config.user_aggregation)
    return UserFeaturizer._fit(dense, items.lengths, config)._finish(items, dense, item_features)


def _weighted_items(train: Interactions, config: FeatureParams) -> Bags:
    """Each user's items, weighing what they do in the aggregate, (U, I)."""
    if np.any(train.users[1:] < train.users[:-1]):
        train = train.select(np.argsort(train.users, kind="stable"))
    counts = np.bincount(train.users, minlength=train.n_users)
    decays = config.user_aggregation == "time_decayed_mean"
    weights = _decayed(train, config) if decays else _even_weights(counts, config.user_aggregation)
    return Bags(offsets_of(counts), train.items, train.n_items, weights)


def _even_weights(counts: IntArray, aggregate: UserAggregation) -> FloatArray:
    """Weights of items of which none is older than another: 1, or shares for the means."""
    if aggregate in ("sum", "max"):
        return np.ones(int(counts.sum()), dtype=np.float32)
    return np.repeat((1 / np.maximum(counts, 1)).astype(np.float32), counts)


def _decayed(train: Interactions, config: FeatureParams) -> FloatArray:
    """Weights of a user's interactions, halved with every half-life, summing to 1."""
    users, times = train.users, train.times
    if times is None or config.half_life_days is None:
        raise ConfigError(
            "'data.feature_params.user_aggregation: time_decayed_mean' needs interactions with "
            "timestamps"
        )
    latest = np.full(train.n_users, np.iinfo(np.int64).min)
    np.maximum.at(latest, users, times)
    age = (latest[users] - times) / (config.half_life_days * SECONDS_A_DAY)
    weights = np.exp2(-age)
    totals = np.bincount(users, weights, minlength=train.n_users)
    decayed: FloatArray = (weights / totals[users]).astype(np.float32)
    return decayed


def _blocks(items: Bags, cost: int) -> Iterator[tuple[slice, Bags]]:
    """Ranges of users, with their items, whose items times ``cost`` are about BLOCK_ENTRIES."""
    start = 0
    while start < items.n_rows:
        last = items.offsets[start] + BLOCK_ENTRIES // max(cost, 1)
        stop = max(int(np.searchsorted(items.offsets, last, side="right")) - 1, start + 1)
        offsets = items.offsets[start : stop + 1]
        entries = slice(offsets[0], offsets[-1])
        weights = None if items.weights is None else items.weights[entries]
        block = Bags(offsets - offsets[0], items.indices[entries], items.n_columns, weights)
        yield slice(start, stop), block
        start = stop


def _aggregate_dense(items: Bags, features: Features, aggregate: UserAggregation) -> FloatArray:
    """Dense columns of users before they are standardised, (U, 1 + Fd) float32."""
    n_dense = len(features.dense_names)
    dense = np.zeros((items.n_rows, n_dense + 1), dtype=np.float32)
    dense[:, 0] = np.log1p(items.lengths)
    for users, block in _blocks(items, n_dense):
        if aggregate != "max":
            dense[users, 1:] = block.to_scipy() @ features.dense
        elif len(block.indices):
            active = np.flatnonzero(block.lengths)
            rows = features.dense[block.indices]
            dense[users.start + active, 1:] = np.maximum.reduceat(rows, block.offsets[active])
    return dense


def _aggregate_bags(items: Bags, bags: Bags, *, is_max: bool) -> Bags:
    """The product of the users' items and the items' bags, or the highest entries."""
    if is_max and bags.weights is not None:
        mean_length = max(1, -(-len(bags.indices) // max(bags.n_rows, 1)))
        parts = [_highest_entries(block, bags) for _, block in _blocks(items, mean_length)]
        product = sparse.vstack(parts, format="csr")
    else:
        product = items.to_scipy() @ bags.to_scipy()
        product.sort_indices()
    weights = None if is_max and bags.weights is None else product.data
    offsets, indices = product.indptr.astype(np.int64), product.indices.astype(np.int32)
    return Bags(offsets, indices, bags.n_columns, weights)


def _highest_entries(items: Bags, bags: Bags) -> sparse.csr_matrix:
    """The highest weight of each column among the items of each of the users, as a matrix."""
    chosen = bags.take(items.indices)
    assert chosen.weights is not None
    users = np.repeat(items.owners, chosen.lengths)
    keys = users * bags.n_columns + chosen.indices
    order = np.argsort(keys, kind="stable")
    cells, firsts = np.unique(keys[order], return_index=True)
    highest = np.maximum.reduceat(chosen.weights[order], firsts) if len(cells) else np.zeros(0)
    rows, columns = np.divmod(cells, bags.n_columns)
    shape = (items.n_rows, bags.n_columns)
    return sparse.csr_matrix((highest.astype(np.float32), (rows, columns)), shape=shape)
