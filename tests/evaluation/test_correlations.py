"""Correlations against scipy's, corrections against arithmetic, and worlds with a known cause."""

import numpy as np
import pytest
from scipy import sparse, special, stats

from recsys.data.arrays import Bags
from recsys.data.features import Features
from recsys.evaluation import correlations as module
from recsys.evaluation.correlations import (
    correlation_table,
    feature_columns,
    mean_item_scores,
    p_values,
    pearson,
)
from recsys.evaluation.ranking import Vectors


def features_of(dense, memberships=None):
    """Features with numeric columns n0, n1, ... and one bag column a list of item indices."""
    dense = np.asarray(dense, dtype=np.float32)
    bags, labels = {}, {}
    if memberships is not None:
        columns = np.repeat(np.arange(len(memberships)), [len(m) for m in memberships])
        items = np.concatenate(memberships)
        bags["categories"] = Bags.from_pairs(
            items, columns, n_rows=len(dense), n_columns=len(memberships)
        )
        labels["categories"] = tuple(f"c{i}" for i in range(len(memberships)))
    return Features(dense, tuple(f"n{i}" for i in range(dense.shape[1])), bags, labels)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def table_of(vectors, features, rng, n_pairs=2000, top=50):
    return correlation_table(vectors, features, n_pairs=n_pairs, top=top, rng=rng)


def test_pearson_and_p_equal_scipys(rng):
    values, columns = rng.normal(size=80), rng.normal(size=(80, 6)) * (rng.random((80, 6)) < 0.4)
    r = pearson(sparse.csc_matrix(columns), values)
    expected = [stats.pearsonr(column, values) for column in columns.T]
    assert r == pytest.approx([found.statistic for found in expected])
    assert p_values(r, 80) == pytest.approx([found.pvalue for found in expected])


def test_a_large_common_offset_does_not_spoil_the_correlation(rng):
    values, column = rng.normal(size=60), rng.normal(size=60)
    expected = stats.pearsonr(column, values).statistic
    r = pearson(sparse.csc_matrix(column[:, None]), values + 1e6)
    assert r == pytest.approx([expected], rel=1e-6)


def test_constant_columns_and_constant_scores_have_no_correlation(rng):
    columns = sparse.csc_matrix(np.column_stack([np.full(9, 0.1), np.zeros(9), rng.random(9)]))
    assert np.isnan(pearson(columns, rng.random(9))).tolist() == [True, True, False]
    assert np.isnan(pearson(columns, np.full(9, 2.5))).all()


def test_a_perfect_correlation_has_p_zero_and_two_items_have_none():
    assert p_values(np.array([1.0, -1.0]), 5).tolist() == [0, 0]
    assert np.isnan(p_values(np.array([1.0]), 2)).all()


def test_p_is_corrected_for_all_tested_features(rng):
    vectors = Vectors(np.ones((2, 1), dtype=np.float32), rng.normal(size=(50, 1)).astype("f"))
    dense = np.column_stack([rng.normal(size=(50, 4)), np.ones(50)])  # the last is not tested
    table = table_of(vectors, features_of(dense), rng, top=1)
    (p,), (corrected,) = table.column("p"), table.column("p_corrected")
    assert corrected == pytest.approx(min(4 * p, 1))


def test_the_feature_that_makes_the_scores_comes_first(rng):
    cause = rng.normal(size=200)
    vectors = Vectors(np.ones((5, 1), dtype=np.float32), cause[:, None].astype(np.float32) * -2)
    dense = np.column_stack([rng.normal(size=200), cause, np.ones(200)])
    table = table_of(vectors, features_of(dense), rng)
    assert table.column("feature") == ["n1", "n0"]  # the constant one is not there
    assert table.rows[0][table.columns.index("r")] == pytest.approx(-1)


def test_without_a_cause_few_features_pass_the_correction(rng):
    """Over pairs, n would be 20,000 and nearly every feature would look significant."""
    items = rng.normal(size=(100, 3)).astype(np.float32)
    vectors = Vectors(rng.normal(size=(50, 3)).astype(np.float32) + 1, items)
    table = table_of(vectors, features_of(rng.normal(size=(100, 40))), rng, n_pairs=20_000)
    assert min(table.column("p_corrected")) > 0.05


def test_correlation_over_pairs_is_that_of_the_pairs_drawn(rng):
    vectors = Vectors(
        rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32)
    )
    dense = rng.normal(size=(30, 2))
    table = table_of(vectors, features_of(dense), np.random.default_rng(5), n_pairs=500)
    again = np.random.default_rng(5)
    users, items = again.integers(6, size=500), again.integers(30, size=500)
    scores = (vectors.users[users] * vectors.items[items]).sum(axis=1)
    found = dict(zip(table.column("feature"), table.column("r_pairs"), strict=True))
    for i in range(2):
        expected = np.corrcoef(scores, dense[items, i].astype(np.float32))[0, 1]
        assert found[f"n{i}"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_users_with_several_vectors_score_by_what_becomes_of_them(rng, combine, monkeypatch):
    monkeypatch.setattr(module, "_PRODUCTS", 7 * 3 * 50)  # seven users at once
    vectors = Vectors(rng.normal(size=(30, 3, 4)), rng.normal(size=(50, 4)), combine)
    products = np.einsum("ukd,id->uki", vectors.users, vectors.items)
    scores = products.max(1) if combine == "max" else special.logsumexp(products, axis=1)
    means, _ = mean_item_scores(vectors, rng)
    np.testing.assert_allclose(means, scores.mean(axis=0), rtol=1e-5)
    values = rng.normal(size=(50, 1))
    (row,) = table_of(vectors, features_of(values), rng, n_pairs=4000).rows
    expected = stats.pearsonr(values[:, 0], scores.mean(axis=0)).statistic
    assert row[3] == pytest.approx(expected, rel=1e-4)
    drawn = np.broadcast_to(values[:, 0], scores.shape).ravel()
    assert row[6] == pytest.approx(stats.pearsonr(drawn, scores.ravel()).statistic, abs=0.06)


def test_of_many_users_with_several_vectors_some_are_drawn_which_the_note_says(rng, monkeypatch):
    vectors = Vectors(rng.normal(size=(30, 3, 4)), rng.normal(size=(50, 4)))
    features = features_of(rng.normal(size=(50, 1)))
    assert "mean score over all users" in table_of(vectors, features, rng).note
    monkeypatch.setattr(module, "_USERS", 20)
    assert "mean score over 20 users drawn at random" in table_of(vectors, features, rng).note
    means, _ = mean_item_scores(vectors, np.random.default_rng(3))
    users = np.random.default_rng(3).choice(30, 20, replace=False)
    scores = np.einsum("ukd,id->uki", vectors.users[users], vectors.items).max(1)
    np.testing.assert_allclose(means, scores.mean(axis=0), rtol=1e-5)


def test_a_category_of_too_few_items_or_of_nearly_all_is_not_tested(rng):
    memberships = [range(4), range(5), range(26), range(25)]  # of 30: lacked by 26, 25, 4, 5
    vectors = Vectors(np.ones((2, 1), dtype=np.float32), rng.normal(size=(30, 1)).astype("f"))
    features = features_of(np.zeros((30, 0)), [np.array(m) for m in memberships])
    table = table_of(vectors, features, rng)
    assert sorted(table.column("feature")) == ["c1", "c3"]
    assert "2 tested of 4 features" in table.note


def test_only_the_top_features_are_shown_strongest_first(rng):
    vectors = Vectors(np.ones((2, 1), dtype=np.float32), rng.normal(size=(50, 1)).astype("f"))
    table = table_of(vectors, features_of(rng.normal(size=(50, 9))), rng, top=4)
    strengths = np.abs(table.column("r"))
    assert len(strengths) == 4
    assert (np.diff(strengths) <= 0).all()


def test_bags_stay_sparse_beside_dense_columns():
    features = features_of(np.ones((4, 1)), [np.array([0, 2]), np.array([3])])
    columns = feature_columns(features)
    assert sparse.issparse(columns.values)
    assert columns.values.toarray().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert columns.kinds == ("numeric", "categories", "categories")
