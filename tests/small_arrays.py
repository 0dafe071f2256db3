"""Bags and rankings written down by hand, or drawn."""

from dataclasses import replace

import numpy as np

from recsys.data.arrays import Bags, Interactions
from recsys.data.features import Features
from recsys.evaluation.ranking import Ranking


def bags_of(rows, n_columns):
    """The given columns of each row."""
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    return Bags.from_pairs(owners, columns, n_rows=len(rows), n_columns=n_columns)


def random_bags(rng, n_rows, n_columns, share):
    """Each column of a row with the same probability."""
    rows, columns = np.nonzero(rng.random((n_rows, n_columns)) < share)
    return Bags.from_pairs(rows, columns, n_rows=n_rows, n_columns=n_columns)


def interactions_of(pairs, n_users, n_items, times=None):
    """The given (user, item) pairs."""
    users, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return Interactions(users, items, times, n_users, n_items)


def features_of_rows(features, rows):
    """The features of some of the items or users."""
    bags = {name: bags.take(np.array(rows)) for name, bags in features.bags.items()}
    return replace(features, dense=features.dense[rows], bags=bags)


def assert_equal_features(found, expected):
    """To the bit, under the same names."""
    names = [(each.dense_names, each.bag_labels, [*each.arrays]) for each in (found, expected)]
    assert names[0] == names[1]
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, expected.arrays[name])


def ranking_of(lists, users=None):
    """The given lists, of the first users where none are named; all scores are 0."""
    items = np.array(lists, dtype=np.int32)
    users = np.arange(len(items)) if users is None else np.asarray(users)
    return Ranking(users, items, np.zeros(items.shape, dtype=np.float32))


def categories_of(rows):
    """Features of items that have the given categories, and nothing else."""
    n = 1 + max((category for row in rows for category in row), default=-1)
    bags = {"categories": bags_of(rows, n)} if n else {}
    labels = {name: tuple(map(str, range(n))) for name in bags}
    return Features(np.empty((len(rows), 0), dtype=np.float32), (), bags, labels)
