from math import isnan, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from recsys.config import RANKING_METRICS
from recsys.evaluation import metrics as module
from recsys.evaluation.metrics import find_places, mean, means, ranking_metrics
from tests.small_arrays import bags_of, ranking_of


def one(name, items, relevant):
    k = int(name.split("@")[1])
    return ranking_metrics(ranking_of([items]), bags_of([relevant], 50), (k,))[name][0]


@pytest.mark.parametrize(
    ("name", "items", "relevant", "value"),
    [
        ("recall@2", [5, 6, 7], [6, 7, 8, 9], 1 / 4),  # by the number of relevant items
        ("precision@3", [5, 6, 7], [6], 1 / 3),
        ("precision@3", [6, -1, -1], [6], 1 / 3),  # by k even when the list is shorter
        ("hit_rate@3", [5, 6, 7], [6, 7], 1),
        ("hit_rate@1", [5, 6, 7], [6, 7], 0),
        ("ndcg@3", [5, 6, 7], [6], 1 / log2(3)),
        # against the best list of k
        ("ndcg@2", [5, 6, 7], [6, 7, 8], (1 / log2(3)) / (1 / log2(2) + 1 / log2(3))),
        ("map@3", [6, 5, 7], [6, 7, 8, 9], (1 / 1 + 2 / 3) / 3),  # by what k places can hold
        ("map@3", [6, 5, 7], [6, 7], (1 / 1 + 2 / 3) / 2),
        ("mrr@3", [5, 6, 7], [7, 6], 1 / 2),
        ("mrr@1", [5, 6, 7], [7, 6], 0),  # beyond k
        ("recall@2", [-1, -1], [0, 49], 0),  # padding is never a hit
    ],
)
def test_metrics_are_those_of_the_textbook(name, items, relevant, value):
    assert one(name, items, relevant) == approx(value)


@pytest.mark.parametrize("metric", RANKING_METRICS)
def test_a_list_that_begins_with_all_relevant_items_is_perfect(metric):
    expected = {"precision": 3 / 5}.get(metric, 1)
    assert one(f"{metric}@5", [4, 2, 3, 0, 1], [2, 3, 4]) == approx(expected)


def test_users_without_held_out_items_are_not_averaged():
    values = ranking_metrics(ranking_of([[1, 2], [1, 2]]), bags_of([[1], []], 50), (2,))
    assert all(isnan(column[1]) for column in values.values())
    assert means(values)["recall@2"] == 1


def test_the_mean_of_nobody_is_nan():
    assert isnan(mean(np.array([np.nan])))
    assert isnan(mean(np.array([])))


def test_lists_are_matched_to_the_bags_of_their_users():
    values = ranking_metrics(ranking_of([[1], [0]], users=[1, 0]), bags_of([[0], [1]], 50), (1,))
    assert values["recall@1"].tolist() == [1, 1]


def test_lists_shorter_than_k_are_our_mistake():
    with pytest.raises(AssertionError, match="shorter than the largest k"):
        ranking_metrics(ranking_of([[1, 2]]), bags_of([[1]], 50), (3,))


def test_places_are_found_for_every_held_out_pair():
    found = find_places(ranking_of([[7, 8, 9], [1, 2, 3]]), bags_of([[9, 4], [1]], 50))
    assert found.rows.tolist() == [0, 0, 1]
    assert found.items.tolist() == [9, 4, 1]
    assert found.places.tolist() == [2, -1, 0]


def slow_metrics(items, relevant, k):
    """Straight from the definitions, one user at a time."""
    if not relevant:
        return dict.fromkeys(RANKING_METRICS, np.nan)
    hits = [item in relevant for item in items[:k]]
    gains = [1 / log2(place + 2) for place, hit in enumerate(hits) if hit]
    ideal = sum(1 / log2(place + 2) for place in range(min(k, len(relevant))))
    precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    return {
        "recall": sum(hits) / len(relevant),
        "precision": sum(hits) / k,
        "hit_rate": float(any(hits)),
        "ndcg": sum(gains) / ideal,
        "map": sum(precisions) / min(k, len(relevant)),
        "mrr": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
    }


users_lists = st.lists(
    st.tuples(
        st.permutations(range(12)).flatmap(
            lambda order: st.integers(0, 12).map(lambda n: order[:n] + [-1] * (12 - n))
        ),
        st.sets(st.integers(0, 14)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(users_lists, st.sampled_from([(1,), (2, 5), (3, 12)]))
def test_metrics_equal_their_definitions(users, ks):
    values = ranking_metrics(
        ranking_of([a for a, _ in users]), bags_of([b for _, b in users], 50), ks
    )
    for k in ks:
        slow = [slow_metrics(items, relevant, k) for items, relevant in users]
        for metric in RANKING_METRICS:
            np.testing.assert_allclose(values[f"{metric}@{k}"], [row[metric] for row in slow])


def test_chunks_do_not_change_a_metric(monkeypatch):
    rng = np.random.default_rng(0)
    ranking = ranking_of([rng.permutation(50)[:10] for _ in range(23)])
    relevant = bags_of([rng.permutation(50)[: rng.integers(6)] for _ in range(23)], 50)
    whole = ranking_metrics(ranking, relevant, (3, 10))
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(module, "_COMPARISONS", 30)
    for name, values in ranking_metrics(ranking, relevant, (3, 10)).items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.fixture
def scored_world():
    """Random scores of 40 items for 30 users, with their full lists and relevant items."""
    rng = np.random.default_rng(3)
    scores = rng.random((30, 40))
    truth = rng.random((30, 40)) < 0.1
    truth[:, 0] = True  # scikit-learn has no word for nothing to find
    lists = np.argsort(-scores, axis=1)
    return scores, truth, ranking_of(lists), bags_of([np.flatnonzero(row) for row in truth], 40)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_ndcg_equals_that_of_scikit_learn(scored_world, k):
    scores, truth, ranking, relevant = scored_world
    ours = mean(ranking_metrics(ranking, relevant, (k,))[f"ndcg@{k}"])
    assert ours == approx(ndcg_score(truth, scores, k=k))


def test_map_over_the_whole_list_equals_average_precision_of_scikit_learn(scored_world):
    scores, truth, ranking, relevant = scored_world
    ours = mean(ranking_metrics(ranking, relevant, (40,))["map@40"])
    assert ours == approx(label_ranking_average_precision_score(truth, scores))
