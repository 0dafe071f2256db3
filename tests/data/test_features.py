"""What is known of items and users beside their ids."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic_core import to_json
from pytest import approx

from recsys.config import FeatureParams
from recsys.data import user_features as module
from recsys.data.arrays import Interactions
from recsys.data.features import (
    Features,
    ItemFeaturizer,
    featurize_items,
    skewness,
    title_statistics,
)
from recsys.data.user_features import UserFeaturizer, aggregate_user_features
from recsys.errors import ConfigError, DataError
from tests.small_arrays import assert_equal_features, bags_of, features_of_rows

PLAIN = FeatureParams(title=False)


def books_of(n=None, **columns) -> pa.Table:
    n = n or max(len(values) for values in columns.values())
    empty = {name: [""] * n for name in ("title", "author", "categories")}
    return pa.table({"item_id": [str(i) for i in range(n)]} | empty | columns)


def column(features: Features, name: str) -> list[float]:
    return features.dense[:, features.dense_names.index(name)].tolist()


def fitted(books, config=PLAIN) -> ItemFeaturizer:
    return featurize_items(books, len(books), config)[0]


def fit_transform(books, config=PLAIN, numeric=("price",), n_train=None) -> Features:
    config = config.model_copy(update={"numeric_columns": numeric})
    return featurize_items(books, n_train or len(books), config)[1]


# Items -------------------------------------------------------------------------------------------


Z = np.sqrt(1.5)


@pytest.mark.parametrize(
    ("prices", "n_train", "expected"),
    [
        ([1.0, 2.0, 3.0], 3, {"price": [-Z, 0, Z]}),
        ([1.0, None, 3.0, np.nan], 4, {"price": [-1, 0, 1, 0], "price_missing": [0, 1, 0, 1]}),
        ([1.0, 3.0, None], 2, {"price": [-1, 1, 0]}),
        ([5.0, None, 5.0], 3, {"price": [0, 0, 0], "price_missing": [0, 1, 0]}),
    ],
    ids=["plain", "missing in train", "missing later", "only there or not"],
)
def test_numbers_become_z_scores_and_a_flag_where_train_misses_some(prices, n_train, expected):
    features = fit_transform(books_of(price=prices), n_train=n_train)
    assert features.dense_names == tuple(expected)
    assert features.dense.dtype == np.float32
    for name, values in expected.items():
        assert column(features, name) == approx(values)


@pytest.mark.parametrize(("values", "word"), [([None, None], "empty"), ([2.0, 2.0], "the same")])
def test_a_column_that_says_nothing_is_left_out_and_logged(values, word, caplog):
    price = pa.array(values, pa.float64())
    with caplog.at_level(logging.WARNING):
        features = fit_transform(books_of(price=price))
    assert features.dense.shape == (2, 0)
    assert f"feature 'price' is {word}" in caplog.text


SKEWED = np.array([0.0] * 9 + [np.e - 1, np.e**2 - 1])  # log(1 + x): nine 0, a 1 and a 2


@pytest.mark.parametrize(
    ("values", "limit", "taken"),
    [
        (SKEWED, 2.0, np.array([0.0] * 9 + [1, 2])),
        (SKEWED, None, SKEWED),
        (SKEWED, 10.0, SKEWED),
        (np.array([-1.0] * 20 + [100.0]), 2.0, np.array([-1.0] * 20 + [100.0])),
    ],
    ids=["skewed", "switched off", "below the limit", "negative"],
)
def test_a_skewed_column_without_negative_values_is_taken_by_its_logarithm(values, limit, taken):
    assert skewness(values) > 2
    config = FeatureParams(title=False, log_skewness=limit)
    scores = column(fit_transform(books_of(price=values), config), "price")
    assert scores == approx((taken - taken.mean()) / taken.std(), abs=1e-6)


def test_a_negative_number_after_training_counts_as_zero_under_the_logarithm():
    featurizer = fitted(books_of(price=SKEWED))
    negative, zero = featurizer.transform(books_of(price=[-5.0, 0.0])).dense[:, 0]
    assert negative == zero


def test_skewness_is_the_third_standardised_moment():
    assert skewness(np.array([0.0, 0.0, 3.0])) == approx(((-1) ** 3 * 2 + 2**3) / 3 / 2**1.5)
    assert skewness(np.array([4.0, 4.0])) == 0


def test_title_statistics_count_words_and_characters():
    statistics = title_statistics(pa.chunked_array([["The 39 Steps", "Été", " ", ""]]))
    assert statistics["title_words"].tolist() == approx([3, 1, np.nan, np.nan], nan_ok=True)
    assert statistics["title_characters"][:2].tolist() == [12, 3]
    assert statistics["title_word_length"][:2] == approx([10 / 3, 3])
    assert statistics["title_digit_share"][:2] == approx([2 / 10, 0])
    assert statistics["title_capital_share"][:2] == approx([2 / 10, 1 / 3])
    assert all(np.isnan(values[2:]).all() for values in statistics.values())


def test_titles_are_used_unless_switched_off():
    books = books_of(title=["One", "One Two"])
    assert "title_words" in fit_transform(books, FeatureParams(), ()).dense_names
    assert fit_transform(books, PLAIN, ()).dense_names == ()


def test_categories_and_authors_become_bags():
    books = books_of(categories=["b|a", "a"], author=["Ann, Bo", ""])
    config = FeatureParams(title=False, min_count=1, idf=False)
    features = fit_transform(books, config, ())
    assert features.bag_labels == {"categories": ("a", "b"), "authors": ("Ann", "Bo")}
    assert features.bags["categories"].to_scipy().toarray().tolist() == [[1, 1], [1, 0]]
    assert features.bags["authors"].to_scipy().toarray().tolist() == [[1, 1], [0, 0]]


def test_values_that_one_train_item_alone_has_are_left_out_by_default():
    books = books_of(categories=["a|b", "a", "b", "c"])
    features = fit_transform(books, numeric=(), n_train=3)
    assert features.bag_labels["categories"] == ("a", "b")
    assert features.bags["categories"].lengths.tolist() == [2, 1, 1, 0]
    assert fit_transform(books, FeatureParams(min_count=3, title=False), ()).bags == {}


def test_an_entry_weighs_by_its_rarity_and_each_row_has_length_1():
    """Of 6 train items 3 have a and 2 have b: log 2 and log 3; all have "all": log 1 = 0."""
    books = books_of(categories=["a|b|all", "a|all", "all", "b|all", "a|all", "all", "b", ""])
    features = fit_transform(books, numeric=(), n_train=6)
    assert features.bag_labels["categories"] == ("all", "a", "b")
    bags = features.bags["categories"]
    a, b = np.log([2, 3]) / np.hypot(*np.log([2, 3]))
    expected = [[0, a, b], [0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [0] * 3, [0, 0, 1], [0] * 3]
    assert bags.to_scipy().toarray() == approx(np.array(expected))
    assert bags.weights.dtype == np.float32


def test_titles_become_bags_of_series_words_and_trigrams():
    books = books_of(title=["Red Sky (Mars, #1)", "Blue Sky (Mars, #2)", "A Red Rose"])
    config = FeatureParams(title=False, title_ngram_top_k=100, idf=False)
    features = fit_transform(books, config, ())
    assert features.bag_labels["series"] == ("Mars",)
    assert features.bags["series"].lengths.tolist() == [1, 1, 0]
    assert features.bag_labels["title_words"] == ("mars", "red", "sky")
    assert set(features.bag_labels["title_ngrams"]) == {
        *("<ma", "mar", "ars", "rs>"), *("<re", "red", "ed>"), *("<sk", "sky", "ky>")
    }  # fmt: skip
    assert all(bags.weights is None for bags in features.bags.values())


def test_a_field_of_size_0_and_an_empty_field_are_absent():
    books = books_of(categories=["a"], author=[""])
    config = FeatureParams(title=False, category_top_k=0, min_count=1)
    assert fit_transform(books, config, ()).bags == {}


MIXED = books_of(
    title=["A Tale", "Two", "Three words here", "X"],
    author=["Ann", "Bo, Ann", "", "Cy"],
    categories=["a|b", "b", "c", "d|a"],
    price=[1.0, None, 30.0, 4.0],
)


@pytest.mark.parametrize("kind", ["top_k", "hashed"])
def test_fitting_looks_at_train_items_alone(kind):
    config = FeatureParams(bag_kind=kind, category_top_k=5, min_count=1)
    expected = fitted(MIXED.slice(0, 2), config)
    assert featurize_items(MIXED, 2, config)[0] == expected
    assert fitted(MIXED, config) != expected


@pytest.mark.parametrize("kind", ["top_k", "hashed"])
@pytest.mark.parametrize("idf", [True, False])
def test_a_saved_featurizer_makes_the_same_features(kind, idf):
    config = FeatureParams(bag_kind=kind, title_ngram_top_k=20, idf=idf, min_count=1)
    featurizer, features = featurize_items(MIXED, 3, config)
    assert features.bags.keys() == {"categories", "authors", "title_words", "title_ngrams"} | (
        {"series"} if kind == "hashed" else set()
    )
    saved = TypeAdapter(ItemFeaturizer).validate_json(to_json(featurizer), strict=True)
    assert saved == featurizer
    assert_equal_features(saved.transform(MIXED), features)
    assert all((bags.weights is not None) == idf for bags in features.bags.values())


def test_an_item_has_the_same_features_alone_as_among_others():
    config = FeatureParams(min_count=1)
    featurizer, features = featurize_items(MIXED, 3, config)
    for row in range(4):
        alone = featurizer.transform(MIXED.slice(row, 1))
        assert_equal_features(alone, features_of_rows(features, [row]))


def test_an_item_of_which_only_the_id_is_known_has_features():
    featurizer, features = featurize_items(MIXED, 4, FeatureParams())
    unknown = featurizer.transform(pa.table({"item_id": ["new"]}))
    assert unknown.dense.shape == (1, features.dense.shape[1])
    assert column(unknown, "price_missing") == [1]
    assert column(unknown, "title_words") == [0]
    assert all(bags.lengths.tolist() == [0] for bags in unknown.bags.values())


@pytest.mark.parametrize(("last", "n_warned"), [(1e6, 1), (9e14, 1), (4.9, 0)])
def test_one_number_that_flattens_its_column_is_named(caplog, last, n_warned):
    """Also in a column whose logarithm is taken: ratings of 3 to 5, and one of a million."""
    ratings = np.append(np.linspace(3, 5, 99), last)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        fit_transform(books_of(average_rating=ratings), numeric=("average_rating",))
    assert caplog.text.count(f"feature 'average_rating': one value, {last:.6g}, makes") == n_warned


def test_a_new_item_with_an_absurd_number_is_refused():
    featurizer = fitted(books_of(price=[1.0, 2.0]))
    for number in (1e308, -np.inf):
        with pytest.raises(DataError, match="'price' of an item must be between"):
            featurizer.transform(pa.table({"price": [number]}))


# Users -------------------------------------------------------------------------------------------

DAY = 86_400


def interactions_of(triples, n_users, n_items) -> Interactions:
    columns = np.array(triples, dtype=np.int64).reshape(-1, 3)
    users, items = columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32)
    return Interactions(users, items, columns[:, 2], n_users, n_items)


def item_features_of(dense, bags, weights=None) -> Features:
    categories = bags_of(bags, 4)
    if weights is not None:
        categories = replace(categories, weights=np.array(weights, dtype=np.float32))
    return Features(
        np.array(dense, dtype=np.float32).reshape(len(bags), -1),
        ("height",),
        {"categories": categories},
        {"categories": tuple("abcd")},
    )


def slow_aggregate(rows, times, aggregate, half_life_days):
    """Aggregate of one user's item rows (n, F), as a definition."""
    match aggregate:
        case "mean":
            return np.mean(rows, axis=0)
        case "sum":
            return np.sum(rows, axis=0)
        case "max":
            return np.max(rows, axis=0)
        case "time_decayed_mean":
            weights = 0.5 ** ((max(times) - np.array(times)) / DAY / half_life_days)
            return weights @ rows / weights.sum()


def config_of(aggregate) -> FeatureParams:
    half_life = 30 if aggregate == "time_decayed_mean" else None
    return FeatureParams(user_aggregation=aggregate, half_life_days=half_life)


AGGREGATES = ["mean", "sum", "max", "time_decayed_mean"]


def assert_same_features(found, expected):
    np.testing.assert_allclose(found.dense, expected.dense, rtol=1e-5, atol=1e-6)
    assert found.dense_names == expected.dense_names
    held, wanted = (each.bags["categories"] for each in (found, expected))
    matrices = (bags.to_scipy().toarray() for bags in (held, wanted))
    np.testing.assert_allclose(*matrices, rtol=1e-5)
    assert (held.weights is None) == (wanted.weights is None)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(
    triples=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 200 * DAY)),
        unique_by=lambda triple: triple[:2],
    ),
    block=st.integers(1, 6),
    weights=st.sampled_from([None, [0.5, 0.25, 1.0, 0.75, 2.0, 0.125]]),
)
def test_aggregates_are_those_of_each_users_items(aggregate, triples, block, weights):
    heights = np.array([0.5, -1, 2, 0, 3])
    bags = [[0, 1], [1], [], [0, 3], [2]]
    one_hot = np.array([[column in bag for column in range(4)] for bag in bags], dtype=float)
    if weights is not None:
        one_hot[one_hot > 0] = weights
    train, config = interactions_of(triples, n_users=5, n_items=5), config_of(aggregate)
    items = item_features_of(heights, bags, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ENTRIES", block)
        features = aggregate_user_features(items, train, config)
    dense, expected_bags = np.zeros(5), np.zeros((5, 4))
    for user in range(5):
        own = [(item, time) for u, item, time in triples if u == user]
        if own:
            items, times = (list(part) for part in zip(*own, strict=True))
            dense[user] = slow_aggregate(heights[items, None], times, aggregate, 30)[0]
            expected_bags[user] = slow_aggregate(one_hot[items], times, aggregate, 30)
    assert features.bags["categories"].to_scipy().toarray() == approx(expected_bags, abs=1e-6)
    active = train.user_counts > 0
    spread = dense[active].std() if active.any() else 0
    if spread > 1e-3:
        dense = np.where(active, (dense - dense[active].mean()) / spread, 0)
        assert column(features, f"{aggregate}_height") == approx(dense.tolist(), abs=1e-3)
    elif spread == 0:
        assert not features.dense[:, 1].any()


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(
    pairs=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1),
    user=st.integers(0, 4),
)
def test_new_users_have_the_features_that_train_would_have_given_them(aggregate, pairs, user):
    """All on one day, which is what is taken to be known; alone as among others."""
    train = interactions_of([(*pair, 100 * DAY) for pair in pairs], n_users=5, n_items=5)
    items = item_features_of([0.5, -1, 2, 0, 3], [[0, 1], [1], [], [0, 3], [2]])
    expected = aggregate_user_features(items, train, config_of(aggregate))
    featurizer = UserFeaturizer.fit(items, train, config_of(aggregate))
    assert_same_features(featurizer.transform(items, train.by_user), expected)
    alone = featurizer.transform(items, train.by_user.take(np.array([user])))
    assert_same_features(alone, features_of_rows(expected, [user]))


def test_bags_of_a_max_have_no_weights_and_those_of_a_mean_have():
    train = interactions_of([(0, 0, 0)], 1, 1)
    items = item_features_of([1], [[0, 2]])
    assert (
        aggregate_user_features(items, train, config_of("max")).bags["categories"].weights is None
    )
    mean = aggregate_user_features(items, train, config_of("mean")).bags["categories"]
    assert mean.weights.tolist() == [1, 1]
    assert mean.indices.dtype == np.int32


def test_users_have_no_aggregate_of_the_words_of_titles():
    features = fit_transform(MIXED, FeatureParams(min_count=1), ())
    train = interactions_of([(0, 0, 0), (0, 3, 0)], 1, 4)
    users = aggregate_user_features(features, train, FeatureParams())
    assert "title_words" in features.bags
    assert users.bags.keys() == users.bag_labels.keys() == {"categories", "authors"}


def test_a_user_without_train_interactions_has_zeros_and_an_empty_bag():
    train = interactions_of([(0, 0, 0), (2, 0, 0), (2, 1, 0)], 3, 2)
    features = aggregate_user_features(item_features_of([1, 2], [[0], [1]]), train, PLAIN)
    assert column(features, "mean_height")[1] == 0
    assert features.bags["categories"].lengths.tolist() == [1, 0, 2]
    logs = np.log1p([1, 2])  # of the others' numbers of train interactions: standardised, -1 and 1
    expected = [-1, -logs.mean() / logs.std(), 1]
    assert column(features, "log_train_interactions") == approx(expected)


def test_decay_without_times_is_refused():
    train = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32), None, 1, 1)
    with pytest.raises(ConfigError, match="needs interactions with timestamps"):
        aggregate_user_features(item_features_of([1], [[0]]), train, config_of(AGGREGATES[3]))
