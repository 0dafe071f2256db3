"""New items among themselves, against a loop over users."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys.config import EvaluationConfig
from recsys.data.arrays import Bags
from recsys.evaluation.metrics import find_places
from recsys.evaluation.new_items import NewItems
from recsys.evaluation.ranking import ItemWeights, Task, Vectors, rank
from tests.small_arrays import bags_of, random_bags

CONFIG = EvaluationConfig(metrics_k=(3,))
N_USERS, N_ITEMS, N_NEW = 30, 40, 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def task(rng):
    """Of 40 items nobody is known to have the last 12; some users go on to choose one of them."""
    known = random_bags(rng, N_USERS, N_ITEMS - N_NEW, 0.3)
    known = Bags(known.offsets, known.indices, N_ITEMS)
    chosen = [[32, 5], [3], [28, 39], [31], *[[30 + user % 5] for user in range(4, N_USERS)]]
    return Task(np.arange(N_USERS), bags_of(chosen, N_ITEMS), (known,))


@pytest.fixture
def vectors(rng):
    numbers = rng.normal(size=(N_USERS + N_ITEMS, 4)).astype(np.float32)
    return Vectors(numbers[:N_USERS], numbers[N_USERS:])


def found(scorer, task, **options):
    return NewItems.of({"model": scorer}, task, CONFIG, **options)


def values(new_items):
    return new_items.of_metric("new_ndcg@3")["model"]


def table(new_items, scorer, task):
    ranking = rank(scorer, task.users, masked=task.known, k=3)
    judged = SimpleNamespace(ranking=ranking, found=find_places(ranking, task.relevant))
    return new_items.table({"model": judged}, CONFIG)


def row(scorer, task):
    return table(found(scorer, task), scorer, task).records()[0]


def raised(vectors, by):
    """The same with ``by`` added to the score of every new item."""
    more = np.zeros((N_ITEMS, 1))
    more[-N_NEW:] = by
    return Vectors(
        np.hstack([vectors.users, np.ones((N_USERS, 1))]), np.hstack([vectors.items, more])
    )


def test_a_held_out_item_is_ranked_among_the_new_ones(task, vectors):
    scores, expected = vectors.users @ vectors.items.T, []
    for user in task.users:
        own = [item for item in task.relevant.row(user) if item >= N_ITEMS - N_NEW]
        if own:
            places = [(scores[user, -N_NEW:] > scores[user, item]).sum() for item in own]
            gains = [1 / np.log2(place + 2) for place in places if place < 3]
            expected.append(sum(gains) / sum(1 / np.log2(n + 2) for n in range(len(own))))
    new_items = found(vectors, task)
    assert len(expected) == 29
    assert values(new_items) == pytest.approx(expected)
    assert row(vectors, task)["new_ndcg@3"] == pytest.approx(np.mean(expected))
    of_all = new_items.of_users(task.users, "model")["new_ndcg@3"]
    assert np.isnan(of_all[1]) and np.delete(of_all, 1) == pytest.approx(expected)


def test_to_raise_every_new_item_helps_among_all_and_not_among_the_new(task, vectors):
    low, plain, high = (row(raised(vectors, by), task) for by in (-50, 0, 50))
    assert low["new_ndcg@3"] == plain["new_ndcg@3"] == high["new_ndcg@3"]
    assert low["share_of_lists"] == 0 < plain["share_of_lists"] < 1 == high["share_of_lists"]
    assert low["ndcg@3"] == 0 < plain["ndcg@3"] < high["ndcg@3"] == high["new_ndcg@3"]


def test_weights_between_items_rank_as_vectors_do(task, rng):
    weights = rng.normal(size=(N_ITEMS, N_ITEMS)).astype(np.float32)
    (known,) = task.known
    by_weights = found(ItemWeights(known, weights), task)
    by_vectors = found(Vectors(known.to_scipy().toarray(), weights.T), task)
    assert values(by_weights) == pytest.approx(values(by_vectors))


def test_nothing_is_said_where_no_new_item_is_held_out(task, vectors):
    warm = Task(task.users, bags_of([[0]] * N_USERS, N_ITEMS), task.known)
    assert found(vectors, warm) is None


def test_what_is_tuned_for_new_items_stands_in_where_they_are_ranked_alone(task, vectors):
    other = Vectors(-vectors.users, vectors.items)
    mixed = found(vectors, task, tuned_for_it={"model": other})
    assert values(mixed).tolist() == values(found(other, task)).tolist()
    shown = table(mixed, vectors, task)
    assert shown.records()[0]["ndcg@3"] == row(vectors, task)["ndcg@3"]
    assert "For these model is tuned anew." in shown.note


def test_columns_of_bags_are_those_of_the_matrix(rng):
    bags = random_bags(rng, 6, 9, 0.4)
    weighted = Bags(bags.offsets, bags.indices, 9, rng.random(len(bags.indices), np.float32))
    chosen = np.array([7, 0, 4])
    for each in (bags, weighted):
        taken = each.columns(chosen).to_scipy().toarray()
        assert taken.tolist() == each.to_scipy().toarray()[:, chosen].tolist()
