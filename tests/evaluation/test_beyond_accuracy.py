from itertools import combinations
from math import isnan, log2, sqrt

import numpy as np
import pytest
from pytest import approx

from recsys.data.arrays import Interactions
from recsys.evaluation import beyond_accuracy as module
from recsys.evaluation.beyond_accuracy import coverage, list_character
from tests.small_arrays import bags_of, ranking_of

# Item 0 is read by users 0, 1, 2; item 1 by user 0; items 2 and 3 by nobody.
TRAIN = Interactions(np.array([0, 1, 2, 0]), np.array([0, 0, 0, 1]), None, 4, 4)
CATEGORIES = bags_of([[0, 1], [1], [1, 2], []], 3)


def character(lists, users=None, k=2):
    values = list_character(ranking_of(lists, users), TRAIN, CATEGORIES, (k,))
    return {name.split("@")[0]: column for name, column in values.items()}


def test_coverage_is_the_share_of_the_catalogue_shown_to_anyone():
    shares = coverage(ranking_of([[0, 1, -1], [0, 2, 3]]), 8, (1, 3))
    assert shares == {"coverage@1": 1 / 8, "coverage@3": 4 / 8}


def test_novelty_is_in_bits_of_the_smoothed_share():
    """Counts 3, 1, 0, 0 become shares 4/8, 2/8, 1/8, 1/8."""
    assert character([[0, 2]])["novelty"][0] == approx((log2(8 / 4) + log2(8 / 1)) / 2)


def test_popularity_lift_compares_with_the_users_own_items():
    """User 0 read items of counts 3 and 1; the list has counts 3 and 0."""
    assert character([[0, 2]])["popularity_lift"][0] == approx((3 + 0) / 2 / ((3 + 1) / 2))


def test_users_without_train_items_have_no_popularity_lift():
    assert isnan(character([[0, 2]], users=[3])["popularity_lift"][0])


def test_diversity_is_one_minus_the_mean_cosine_of_pairs():
    cosines = [1 / sqrt(2), 1 / 2, 1 / sqrt(2)]
    assert character([[0, 1, 2]], k=3)["intra_list_diversity"][0] == approx(1 - sum(cosines) / 3)


def test_a_list_of_like_items_has_no_diversity():
    assert character([[1, 1]])["intra_list_diversity"][0] == approx(0)


def test_items_without_categories_are_left_out_of_diversity():
    values = character([[0, 3, 1], [0, 3, 3]], k=3)["intra_list_diversity"]
    assert values[0] == approx(1 - 1 / sqrt(2))
    assert isnan(values[1])


def test_only_the_first_k_count_and_padding_does_not():
    values = character([[0, -1, 2]], k=2)
    assert values["novelty"][0] == approx(log2(8 / 4))
    assert isnan(values["intra_list_diversity"][0])


def test_an_empty_list_has_no_character():
    assert all(isnan(column[0]) for column in character([[-1, -1]]).values())


def test_without_categories_there_is_no_diversity():
    values = list_character(ranking_of([[0, 1]]), TRAIN, None, (2,))
    assert set(values) == {"novelty@2", "popularity_lift@2"}


@pytest.fixture
def crowd():
    rng = np.random.default_rng(0)
    train = Interactions(rng.integers(0, 40, 300), rng.integers(0, 30, 300), None, 40, 30)
    categories = bags_of([rng.permutation(9)[: rng.integers(5)] for _ in range(30)], 9)
    lists = [rng.permutation(30)[:6] for _ in range(40)]
    return ranking_of(lists), train, categories


def test_diversity_equals_a_loop_over_pairs(crowd):
    ranking, train, categories = crowd
    values = list_character(ranking, train, categories, (6,))["intra_list_diversity@6"]
    sets = [set(categories.row(item).tolist()) for item in range(30)]
    for row, items in enumerate(ranking.items):
        described = [sets[item] for item in items if sets[item]]
        cosines = [len(a & b) / sqrt(len(a) * len(b)) for a, b in combinations(described, 2)]
        assert values[row] == approx(1 - np.mean(cosines))


def test_chunks_of_users_change_no_value(crowd, monkeypatch):
    ranking, train, categories = crowd
    expected = list_character(ranking, train, categories, (2, 6))
    monkeypatch.setattr(module, "_USERS_AT_ONCE", 7)
    for name, values in list_character(ranking, train, categories, (2, 6)).items():
        np.testing.assert_array_equal(values, expected[name])
