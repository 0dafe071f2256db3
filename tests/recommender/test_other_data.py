"""A model on the test of a run of other data, and what became of the data."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.config import SegmentConfig
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ArtifactError, DataError
from recsys.evaluation.given_lists import read_lists
from recsys.evaluation.held_out import HeldOut, held_out_pairs
from recsys.evaluation.ranking import Vectors
from recsys.recommender import Recommender
from recsys.recommender.books import Books
from recsys.recommender.drift import drift_tables
from recsys.recommender.other_data import OtherData, paired_values
from tests.small_arrays import bags_of

BOUNDS = SegmentConfig()


@pytest.fixture(scope="module")
def judged(trained, board_config, board_prepared):
    """A trained model on the checkerboard, the evaluation of it, and its run's test."""
    _, evaluation, model = trained
    pairs, settings = held_out_pairs(board_prepared), board_config().evaluation
    known = (model.users, model.items, model.seen, model.popularity)
    test = HeldOut(pairs, *known, settings.segments, settings.metrics_k)
    return model, evaluation, test


def simple(users, items, vectors, seen, counts=None, categories=None):
    """A recommender of the vectors alone; ``seen`` names items of each user."""
    ids = Vocabulary(pa.array(items))
    bags = bags_of([[items.index(item) for item in own] for own in seen], len(items))
    given = np.bincount(bags.indices, minlength=len(items)) if counts is None else np.array(counts)
    columns = {"item_id": ids.ids, "title": pa.array(items)}
    columns["categories"] = pa.array(categories or [""] * len(items))
    return Recommender(
        users=Vocabulary(pa.array(users)),
        books=Books(pa.table(columns)),
        vectors=vectors,
        seen=bags,
        popularity=given,
        provenance={},
    )


def test_values_on_the_own_test_are_those_of_the_evaluation(judged):
    model, evaluation, test = judged
    found = OtherData.of(model, test)
    values = test.per_user(found.places)
    for name in [*values]:
        np.testing.assert_array_equal(values[name], evaluation.per_user[name].to_numpy())
    assert found.knows_user.all() and found.knows_item.all() and not found.trained_on.any()


def test_the_order_of_ids_does_not_matter(judged):
    """The same model with its users and items in another order."""
    model, _, test = judged
    users = np.random.default_rng(1).permutation(len(model.users))
    items = np.random.default_rng(2).permutation(len(model.items))
    place = np.argsort(items)
    seen = model.seen.take(users)
    other = dataclasses.replace(
        model,
        users=Vocabulary(model.users.ids.take(pa.array(users))),
        books=Books(model.books.table.take(pa.array(items))),
        vectors=Vectors(model.vectors.users[users], model.vectors.items[items]),
        seen=dataclasses.replace(seen, indices=place[seen.indices].astype(np.int32)),
        popularity=model.popularity[items],
    )
    first, second = OtherData.of(model, test), OtherData.of(other, test)
    np.testing.assert_array_equal(first.places.places, second.places.places)


@pytest.fixture
def months():
    """A former model and the test of a latter run.

    Of the latter run's users ann and bob are known to the former model and cid is not; of its
    items d is new; x is gone. ann likes b best, then a, x; bob likes x best, then c, b.
    """
    items = ["a", "b", "c", "x"]
    users = np.array([[3, 4, 1, 2], [1, 2, 3, 4]], np.float32)
    former = simple(["ann", "bob"], items, Vectors(users, np.eye(4, dtype=np.float32)), ["c", "a"])
    held_out = pd.DataFrame({"user_id": ["ann", "bob", "cid"], "item_id": ["b", "d", "c"]})
    known = bags_of([[2], [0], [1]], 4)  # ann c, bob a, cid b
    names = [Vocabulary(pa.array(ids)) for ids in (["ann", "bob", "cid"], ["a", "b", "c", "d"])]
    test = HeldOut(held_out, *names, known, np.array([2, 2, 2, 1]), BOUNDS, (3,))
    return former, test


def test_a_former_model_ranks_what_it_knows_of_the_latter_catalogue(months):
    former, test = months
    found = OtherData.of(former, test)
    # ann: b first. bob: x is gone, d unknown. cid: placed by b: the vectors' mean is b itself,
    # which is left out; a and c are as near, and the order of ties decides.
    assert found.places.places.tolist()[:2] == [0, -1]
    assert found.places.places[2] in (0, 1)
    assert found.knows_user.tolist() == [True, True, False]
    assert found.knows_item.tolist() == [True, False, True]
    assert found.trained_on.tolist() == [False, False, False]


def test_what_the_run_knows_of_a_user_is_left_out(months):
    former, test = months
    known = bags_of([[0], [], []], 4)  # ann a
    pairs = pd.DataFrame({"user_id": ["ann"], "item_id": ["c"]})
    test = dataclasses.replace(test, known=known, pairs=pairs)
    assert OtherData.of(former, test).places.places.tolist() == [1]  # b, c: a is left out


def test_a_user_of_whom_nothing_is_known_gets_the_popular_list(months):
    former, test = months
    former = dataclasses.replace(former, popularity=np.array([1, 2, 9, 3]))
    test = dataclasses.replace(test, known=bags_of([[], [], []], 4))
    assert OtherData.of(former, test).places.places[2] == 0


def test_test_items_the_model_was_trained_on_leave_their_user_out(months):
    former, test = months
    ours = OtherData.of(former, test)
    leaked = dataclasses.replace(ours, trained_on=np.array([True, False, False]))
    frames = paired_values(test, ours.places, leaked)
    assert [frame["user_id"].tolist() for frame in frames] == [["bob", "cid"]] * 2
    pairs = pd.DataFrame({"user_id": ["ann"], "item_id": ["c"]})
    assert OtherData.of(former, dataclasses.replace(test, pairs=pairs)).trained_on.all()


def test_groups_hold_what_the_model_knows_and_does_not(months):
    former, test = months
    found = OtherData.of(former, test)
    frame, _ = paired_values(test, found.places, found)
    held = {
        group: frame["user_id"][frame[f"{group}_ndcg@3"].notna()].tolist()
        for group in ("known", "new_users", "new_items")
    }
    assert held == {"known": ["ann"], "new_users": ["cid"], "new_items": ["bob"]}
    assert frame["known_ndcg@3"][0] == 1


def test_test_interactions_of_other_ids_are_refused(months):
    former, test = months
    other = dataclasses.replace(test, pairs=pd.DataFrame({"user_id": ["zoe"], "item_id": ["a"]}))
    with pytest.raises(ArtifactError, match="1 are not"):
        OtherData.of(former, other)


# Lists of other tools ----------------------------------------------------------------------------


def test_a_models_own_answers_as_a_file_give_its_own_values(judged, tmp_path):
    model, evaluation, test = judged
    answers = model.recommend(test.users.id_of(test.test_users), k=20)
    shuffled = answers.sample(frac=1, random_state=3)
    shuffled[["user_id", "item_id", "rank"]].to_csv(tmp_path / "lists.csv", index=False)
    given = read_lists(tmp_path / "lists.csv", test)
    values = test.per_user(test.places(given.items))
    for name in [*values]:
        np.testing.assert_array_equal(values[name], evaluation.per_user[name].to_numpy())
    assert (given.n_users, given.n_known, given.n_foreign) == (len(test.test_users), 0, 0)


def test_scores_order_where_there_are_no_ranks_and_known_items_are_left_out(months, tmp_path):
    _, test = months
    rows = [
        ("ann", "c", 9.0),  # known
        ("ann", "b", 7.0),
        ("ann", "a", 8.0),
        ("ann", "q", 9.0),  # in no catalogue
        ("zoe", "a", 1.0),  # no test user
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "score"])
    frame.to_parquet(tmp_path / "lists.parquet")
    given = read_lists(tmp_path / "lists.parquet", test)
    assert given.items.tolist() == [[0, 1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert str(given) == (
        "lists for 1 of 3 test users; 1 rows left out that the user is known to have; "
        "2 rows of other users or items left out"
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("user_id,item_id\nann,a\n", "must have the column 'rank' or 'score'"),
        ("user_id,item,rank\nann,a,1\n", "column 'item_id' is missing"),
        ("user_id,item_id,rank\nann,a,1\nann,a,2\n", "names 'a' twice for 'ann'"),
        ("user_id,item_id,rank\nzoe,a,1\n", "such as 'ann', got 'zoe'"),
        ("user_id,item_id,rank\nann,a,first\n", "line 2"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(months, tmp_path, rows, said):
    (tmp_path / "lists.csv").write_text(rows)
    with pytest.raises(DataError, match=said):
        read_lists(tmp_path / "lists.csv", months[1])


# Drift -------------------------------------------------------------------------------------------


def records(tables, name):
    (table,) = [table for table in tables if table.name == name]
    return table.records()


def test_what_is_new_and_gone_is_counted():
    vectors = Vectors(np.ones((2, 1), np.float32), np.ones((3, 1), np.float32))
    before = simple(["ann", "bob"], ["a", "b", "c"], vectors, [["a", "b"], ["c"]])
    after = simple(["bob", "cid"], ["b", "c", "d"], vectors, [["c", "d"], ["b"]])
    counts = records(drift_tables(before, after, BOUNDS), "drift_counts")
    assert [tuple(row.values()) for row in counts] == [
        ("users", 2, 2, 1, 1, 1, 0.5),
        ("items", 3, 3, 2, 1, 1, 1 / 3),
        ("interactions", 3, 3, 1, 2, 2, 2 / 3),  # bob and c alone is in both
    ]


def test_data_that_did_not_move_show_no_drift_and_those_apart_the_largest():
    vectors = Vectors(np.ones((2, 1), np.float32), np.ones((3, 1), np.float32))
    seen = [["a", "b"], ["a"]]
    one = simple(["ann", "bob"], ["a", "b", "c"], vectors, seen, categories=["X", "Y", "Z"])
    other = simple(["ann", "bob"], ["d", "e", "f"], vectors, [["d"], ["e"]], categories=["U"] * 3)
    same = records(drift_tables(one, one, BOUNDS), "drift")
    assert [row["drift"] for row in same[:3]] == pytest.approx([1, 0, 0])
    assert all(row["before"] == row["after"] for row in same[3:])
    apart = records(drift_tables(one, other, BOUNDS), "drift")
    assert [row["drift"] for row in apart[:3]] == [None, pytest.approx(1), pytest.approx(1)]
    (first, *_) = records(drift_tables(one, other, BOUNDS), "drift_categories")
    assert (first["category"], first["before"], first["after"]) == ("U", 0, 1)
