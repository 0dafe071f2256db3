"""Which metadata the model's scores go along with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse, special

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.data.features import Features
from recsys.evaluation.scorers import Vectors, as_tensor, combine_products
from recsys.evaluation.significance import holm
from recsys.evaluation.tables import Table

MIN_ITEMS = 5
NOTE = (
    "Tests take the item as the unit, because pairs that share an item are not independent; what "
    "users differ in makes r_pairs smaller. items: items with a value other than 0. Constant "
    "features have no correlation; a category or author that fewer than "
    f"{MIN_ITEMS} items have, or lack, is not tested. A correlation says what high scores go along "
    "with, not why."
)
_BLOCK = 16_384
_PRODUCTS = 2**22
"""Products of vectors that are held at once."""
_USERS = 2000
"""Whose scores are averaged, where each has several vectors."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Feature columns of all items side by side, sparse.

    Attributes:
        values: (I, F), CSC.
        names: label of each column.
        kinds: "numeric", or the name of the bag.
    """

    values: sparse.csc_matrix
    names: tuple[str, ...]
    kinds: tuple[str, ...]


def correlation_table(
    vectors: Vectors, features: Features, *, n_pairs: int, top: int, rng: np.random.Generator
) -> Table:
    """The features whose values go most with the model's scores.

    Pairs that share an item share its features, so they are no independent observations: a test
    over pairs would find everything significant. The unit is therefore the item, with its mean
    score over users, and n the number of items.

    Args:
        vectors: whose products are the scores.
        features: metadata of every item.
        n_pairs: random (user, item) pairs behind ``r_pairs``.
        top: how many features to show.
        rng: draws the pairs, and the users where not all are averaged.
    """
    columns = feature_columns(features)
    support = np.diff(columns.values.indptr)
    mean_scores, averaged = mean_item_scores(vectors, rng)
    r = pearson(columns.values, mean_scores)
    r[_is_too_rare(columns, support)] = np.nan
    p = p_values(r, len(mean_scores))
    corrected = holm(p)
    r_pairs = _pair_correlations(columns, vectors, n_pairs, rng)
    order = np.argsort(-np.abs(np.where(np.isnan(r), 0, r)), kind="stable")
    shown = [index for index in order[:top] if not np.isnan(r[index])]
    tested = int((~np.isnan(r)).sum())
    rows = tuple(
        (columns.names[i], columns.kinds[i], support[i], r[i], p[i], corrected[i], r_pairs[i])
        for i in shown
    )
    note = (
        f"r: Pearson correlation of a feature with an item's mean score over {averaged}, over "
        f"{len(mean_scores):,} items. p: two-sided, t distribution; p_corrected: Holm (1979) over "
        f"the {tested:,} tested of {len(columns.names):,} features. r_pairs: the same correlation "
        f"over {n_pairs:,} random (user, item) pairs. {NOTE}"
    )
    names = ("feature", "kind", "items", "r", "p", "p_corrected", "r_pairs")
    return Table("feature_correlations", "Feature correlations", note, names, rows)


def mean_item_scores(vectors: Vectors, rng: np.random.Generator) -> tuple[FloatArray, str]:
    """The mean score of each item over users, (I,) float64, and which users those are in words.

    All of them where each has one vector, so that the mean score is the score of their mean; of
    users with several vectors at most 2,000, drawn by ``rng``.
    """
    n_users = len(vectors.users)
    if vectors.n_queries == 1:
        return vectors.items @ vectors.users.mean(axis=0, dtype=np.float64), "all users"
    users, named = np.arange(n_users), "all users"
    if n_users > _USERS:
        users = rng.choice(n_users, _USERS, replace=False)
        named = f"{_USERS:,} users drawn at random"
    items, sums = as_tensor(vectors.items), np.zeros(vectors.n_items)
    at_once = max(1, _PRODUCTS // (vectors.n_queries * vectors.n_items))
    for start in range(0, len(users), at_once):
        queries = as_tensor(vectors.users[users[start : start + at_once]])  # (n, K, D)
        scores = combine_products(queries @ items.T, vectors.combine, (1,))
        sums += scores.sum(dim=0, dtype=torch.float64).numpy()
    return sums / len(users), named


def feature_columns(features: Features) -> Columns:
    """Dense columns and bags side by side; bags are never made dense."""
    blocks = [sparse.csc_matrix(features.dense.astype(np.float64))]
    names, kinds = list(features.dense_names), ["numeric"] * len(features.dense_names)
    for kind, bag in features.bags.items():
        blocks.append(_matrix(bag))
        names += features.bag_labels[kind]
        kinds += [kind] * bag.n_columns
    return Columns(sparse.hstack(blocks, format="csc"), tuple(names), tuple(kinds))


def pearson(columns: sparse.csc_matrix, values: FloatArray) -> FloatArray:
    """Correlation of each column (n, F) with the values (n,), over rows; (F,).

    NaN where the column or the values are constant.
    """
    centred = values - values.mean()
    return _weighted_pearson(columns, np.ones(len(values)), centred, float(centred @ centred))


def p_values(r: FloatArray, n: int) -> FloatArray:
    """Two-sided p of each correlation under no correlation, t with n - 2 degrees of freedom.

    NaN where r is NaN or n below 3.
    """
    if n < 3:
        return np.full(len(r), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):  # r of 1 has t infinite and p 0
        t = np.abs(r) * np.sqrt((n - 2) / np.maximum(1 - r**2, 0))
    p: FloatArray = 2 * special.stdtr(n - 2, -t)
    return p


def _pair_correlations(
    columns: Columns, vectors: Vectors, n_pairs: int, rng: np.random.Generator
) -> FloatArray:
    users = rng.integers(len(vectors.users), size=n_pairs)
    items = rng.integers(len(vectors.items), size=n_pairs)
    scores = np.empty(n_pairs)
    for start in range(0, n_pairs, _BLOCK):
        block = slice(start, start + _BLOCK)
        scores[block] = vectors.score_listed(users[block], items[block, None])[:, 0]
    scores -= scores.mean()
    counts = np.bincount(items, minlength=len(vectors.items)).astype(np.float64)
    sums: FloatArray = np.asarray(
        np.bincount(items, weights=scores, minlength=len(vectors.items)), dtype=np.float64
    )
    return _weighted_pearson(columns.values, counts, sums, float(scores @ scores))


def _weighted_pearson(
    columns: sparse.csc_matrix,
    counts: FloatArray,
    sums: FloatArray,
    sum_of_squares: float,
) -> FloatArray:
    """Correlation over observations, from what each row's sum to; their mean must be about 0.

    Args:
        columns: (n, F).
        counts: observations of each row, (n,).
        sums: the sum of each row's observations, (n,).
        sum_of_squares: of all observations.
    """
    total = counts.sum()
    means = columns.T @ counts / total
    squares = columns.multiply(columns).T @ counts / total
    variances = squares - means**2
    variances[variances <= 1e-12 * squares] = np.nan  # constant up to rounding
    if sum_of_squares <= 0:
        return np.full(columns.shape[1], np.nan)
    covariances = columns.T @ (sums - counts * (sums.sum() / total)) / total
    r: FloatArray = np.clip(covariances / np.sqrt(variances * sum_of_squares / total), -1, 1)
    return r


def _is_too_rare(columns: Columns, support: IntArray) -> BoolArray:
    """Whether too few items have, or lack, the value of a bag's column."""
    is_bag = np.array([kind != "numeric" for kind in columns.kinds], dtype=bool)
    rarer = np.minimum(support, columns.values.shape[0] - support)
    return np.asarray(is_bag & (rarer < MIN_ITEMS))


def _matrix(bag: Bags) -> sparse.csc_matrix:
    matrix = bag.to_scipy().astype(np.float64).tocsc()
    matrix.sum_duplicates()
    return matrix
