import numpy as np
import pytest
from pytest import approx

from recsys.data.arrays import Bags
from recsys.errors import BookendsError
from recsys.evaluation import candidates as module
from recsys.evaluation.candidates import draw_candidates, sampled_metrics
from recsys.evaluation.metrics import mean, ranking_metrics
from recsys.evaluation.ranking import ItemWeights, Task, Vectors, rank, tie_order
from tests.small_arrays import bags_of, random_bags


def without(bags, other):
    rows, items = bags.entries(np.arange(bags.n_rows))
    keep = ~other.contains(rows, items)
    return Bags.from_pairs(rows[keep], items[keep], n_rows=bags.n_rows, n_columns=bags.n_columns)


def whole(rng, n_users, n_items):
    return Vectors(
        rng.integers(-3, 4, (n_users, 3)).astype(np.float32),
        rng.integers(-3, 4, (n_items, 3)).astype(np.float32),
    )


@pytest.fixture
def world():
    rng = np.random.default_rng(2)
    known = random_bags(rng, 300, 400, 0.1)
    relevant = without(random_bags(rng, 300, 400, 0.01), known)
    users = np.flatnonzero(relevant.lengths)
    return whole(rng, 300, 400), Task(users, relevant, (known,))


def sampled(vectors, task, n_samples=50, ks=(1, 5), seed=0, **kwargs):
    found = sampled_metrics(
        {"model": vectors}, task, n_samples=n_samples, ks=ks, seed=seed, **kwargs
    )
    return found["model"]


def test_drawn_items_are_distinct_and_neither_known_nor_held_out(world):
    _, task = world
    users = np.arange(256)
    drawn = draw_candidates(users, task.relevant, task.known, 50, seed=0)
    assert drawn.shape == (256, 50)
    assert all(len(set(row)) == 50 for row in drawn)
    assert drawn.min() >= 0
    for bags in (task.relevant, *task.known):
        assert not bags.contains(users[:, None], drawn).any()


def test_every_allowed_item_is_drawn_equally_often():
    """256 users draw 60 of 200 items: each item expects 256 * 60 / 200 = 76.8."""
    nothing = bags_of([[]] * 256, 200)
    drawn = [draw_candidates(np.arange(256), nothing, (), 60, seed) for seed in range(20)]
    counts = np.bincount(np.concatenate(drawn).ravel(), minlength=200)
    expected = 20 * 256 * 60 / 200
    deviation = np.sqrt(20 * 256 * 0.3 * 0.7)
    assert np.abs(counts - expected).max() < 5 * deviation


def test_all_allowed_items_are_candidates_where_too_few_are_left():
    known, relevant = bags_of([range(6)], 10), bags_of([[9]], 10)
    drawn = draw_candidates(np.array([0]), relevant, (known,), 5, seed=0)
    assert sorted(drawn[0]) == [-1, -1, 6, 7, 8]


def test_candidates_are_the_first_distinct_allowed_draws_or_where_few_are_allowed_shuffled():
    """Users 0 and 300 may be given most of 400 items, user 1 but 60 of them."""
    held, rows = bags_of([[3]] * 301, 400), [range(4, 40)] * 301
    rows[1] = range(4, 343)
    known = bags_of(rows, 400)
    for user in (0, 1, 300):
        allowed = sorted({*range(400)} - {3, *rows[user]})
        draws = np.random.default_rng([7, user // 256]).integers(400, size=(256, 50 + 25 + 32))
        expected = [*dict.fromkeys(i for i in draws[user % 256].tolist() if i in allowed)][:50]
        if len(expected) < 50:
            expected = np.random.default_rng([7, 1, user]).permutation(allowed)[:50].tolist()
        drawn = draw_candidates(np.array([user]), held, (known,), 50, seed=7)
        assert (user == 1) == (len(allowed) == 60)
        assert drawn[0].tolist() == expected


def test_a_users_candidates_do_not_depend_on_who_else_is_judged(world):
    vectors, task = world
    everyone = sampled(vectors, task)
    some = np.array([5, len(task.users) - 1, 3, 20])
    few = sampled(vectors, Task(task.users[some], task.relevant, task.known))
    for name, values in few.items():
        np.testing.assert_array_equal(values, everyone[name][some])


def test_memory_and_block_size_change_no_value(world, monkeypatch):
    vectors, task = world
    expected = sampled(vectors, task)
    monkeypatch.setattr(module, "_USERS_PER_BLOCK", 7)
    for name, values in sampled(vectors, task, memory_limit_mb=1).items():
        np.testing.assert_array_equal(values, expected[name])


def test_another_seed_draws_other_candidates(world):
    vectors, task = world
    first, second = sampled(vectors, task), sampled(vectors, task, seed=1)
    assert (first["sampled_ndcg@5"] != second["sampled_ndcg@5"]).any()


def test_metrics_equal_a_sort_of_each_users_candidates(world):
    vectors, task = world
    place = np.argsort(tie_order(400))
    values = sampled(vectors, task)
    for row, user in enumerate(task.users):
        drawn = draw_candidates(np.array([user]), task.relevant, task.known, 50, seed=0)
        held = task.relevant.row(user)
        pool = [*held, *drawn[0]]
        scores = vectors.items @ vectors.users[user]
        best = sorted(pool, key=lambda item: (-scores[item], place[item]))[:5]
        hits = len(set(best) & set(held))
        assert values["sampled_recall@5"][row] == approx(hits / len(held))


def test_a_collapsed_model_scores_like_chance():
    """One held-out item among 50 drawn: the first of 51 is right once in 51."""
    rng = np.random.default_rng(0)
    n_users, n_items = 4000, 2000
    vectors = Vectors(
        np.tile(rng.standard_normal((1, 96), dtype=np.float32), (n_users, 1)),
        np.tile(rng.standard_normal((1, 96), dtype=np.float32), (n_items, 1)),
    )
    everyone = np.arange(n_users)
    relevant = bags_of(rng.integers(n_items, size=(n_users, 1)), n_items)
    found = mean(sampled(vectors, Task(everyone, relevant, ()))["sampled_recall@1"])
    assert abs(found - 1 / 51) < 4 * np.sqrt(1 / 51 / n_users)


def test_users_without_held_out_items_have_no_value(world):
    vectors, task = world
    users = np.flatnonzero(task.relevant.lengths == 0)[:3]
    values = sampled(vectors, Task(users, task.relevant, task.known))
    assert np.isnan(values["sampled_ndcg@5"]).all()


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_scorers_of_every_kind_are_judged_by_their_own_scores(world, combine):
    """With every item as a candidate the view equals the full ranking."""
    vectors, task = world
    rng = np.random.default_rng(0)
    users = rng.integers(-3, 4, (300, 4, 3)).astype(np.float32)
    weights = rng.integers(-3, 4, (400, 400)).astype(np.float32)
    systems = {
        "one": vectors,
        "several": Vectors(users, vectors.items, combine),
        "weights": ItemWeights(task.known[0], weights),
    }
    found = sampled_metrics(systems, task, n_samples=400, ks=(1, 5), seed=0)
    for name, scorer in systems.items():
        ranking = rank(scorer, task.users, masked=task.known, k=5)
        for metric, values in ranking_metrics(ranking, task.relevant, (1, 5)).items():
            np.testing.assert_allclose(found[name][f"sampled_{metric}"], values)


def test_all_systems_meet_the_same_candidates(world):
    vectors, task = world
    found = sampled_metrics({"one": vectors, "same": vectors}, task, n_samples=50, ks=(5,), seed=0)
    np.testing.assert_array_equal(found["one"]["sampled_ndcg@5"], found["same"]["sampled_ndcg@5"])


def test_vectors_that_are_not_finite_are_refused(world):
    vectors, task = world
    vectors.items[7] = np.nan
    with pytest.raises(BookendsError, match="the vector of item 7 holds NaN"):
        sampled(vectors, task)
