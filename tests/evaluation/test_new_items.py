"""New items among themselves, against a loop over users."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys.config import EvaluationConfig
from recsys.data.arrays import Bags
from recsys.evaluation.metrics import find_places
from recsys.evaluation.new_items import rank_new_items
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


def found(scorer, task, config=CONFIG, **options):
    ranking = rank(scorer, task.users, masked=task.known, k=3)
    judged = SimpleNamespace(ranking=ranking, found=find_places(ranking, task.relevant))
    return rank_new_items({"model": scorer}, {"model": judged}, task, config, **options)


def row(new_items):
    return new_items.table.records()[0]


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
    judged = found(vectors, task)
    assert len(expected) == 29
    assert judged.ndcg["model"] == pytest.approx(expected)
    assert row(judged)["ndcg@3_among_new"] == pytest.approx(np.mean(expected))


def test_to_raise_every_new_item_helps_among_all_and_not_among_the_new(task, vectors):
    low, plain, high = (row(found(raised(vectors, by), task)) for by in (-50, 0, 50))
    assert low["ndcg@3_among_new"] == plain["ndcg@3_among_new"] == high["ndcg@3_among_new"]
    assert low["share_of_lists"] == 0 < plain["share_of_lists"] < 1 == high["share_of_lists"]
    assert low["ndcg@3"] == 0 < plain["ndcg@3"] < high["ndcg@3"] == high["ndcg@3_among_new"]


def test_weights_between_items_rank_as_vectors_do(task, rng):
    weights = rng.normal(size=(N_ITEMS, N_ITEMS)).astype(np.float32)
    (known,) = task.known
    by_weights = found(ItemWeights(known, weights), task)
    by_vectors = found(Vectors(known.to_scipy().toarray(), weights.T), task)
    assert by_weights.ndcg["model"] == pytest.approx(by_vectors.ndcg["model"])


def test_nothing_is_said_where_no_new_item_is_held_out_or_a_list_holds_them_all(task, vectors):
    long = EvaluationConfig(metrics_k=(N_NEW,))
    assert found(vectors, task, long) is None
    warm = Task(task.users, bags_of([[0]] * N_USERS, N_ITEMS), task.known)
    assert found(vectors, warm) is None


def test_what_is_tuned_for_new_items_stands_in_where_they_are_ranked_alone(task, vectors):
    other = Vectors(-vectors.users, vectors.items)
    plain, turned = found(vectors, task), found(other, task)
    mixed = found(vectors, task, tuned_for_it={"model": other})
    assert mixed.ndcg["model"].tolist() == turned.ndcg["model"].tolist()
    assert row(mixed)["ndcg@3"] == row(plain)["ndcg@3"]
    assert "For these model is tuned anew." in mixed.table.note


def test_columns_of_bags_are_those_of_the_matrix(rng):
    bags = random_bags(rng, 6, 9, 0.4)
    weighted = Bags(bags.offsets, bags.indices, 9, rng.random(len(bags.indices), np.float32))
    chosen = np.array([7, 0, 4])
    for each in (bags, weighted):
        taken = each.columns(chosen).to_scipy().toarray()
        assert taken.tolist() == each.to_scipy().toarray()[:, chosen].tolist()
