"""Lists for users, known and new, and books near a book."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from recsys.data.columns import CATEGORY_SEPARATOR
from recsys.data.histories import Histories
from recsys.errors import BookendsError, ConfigError, DataError
from recsys.recommender import Recommender
from recsys.recommender.liked import liked_histories
from recsys.recommender.questions import new_item_vectors

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def recommender(trained):
    return trained[2]


def test_the_lists_are_those_that_evaluation_saw(trained, recommender, board_prepared):
    ranking = trained[1].rankings["model"]
    users = board_prepared.users.id_of(ranking.users)
    served = recommender.recommend(users, k=ranking.items.shape[1])
    evaluated = [
        (user, item)
        for user, row in zip(users, ranking.items, strict=True)
        for item in board_prepared.items.id_of(row[row >= 0])
    ]
    assert list(zip(served["user_id"], served["item_id"], strict=True)) == evaluated


def test_no_seen_item_is_recommended_unless_asked_for(recommender, board_prepared, board):
    users = list(board.withheld)
    everything = recommender.recommend(users, k=60)
    seen = set()
    for part in (board_prepared.train, board_prepared.validation):
        ids = board_prepared.users.id_of(part.users), board_prepared.items.id_of(part.items)
        seen |= set(zip(*ids, strict=True))
    listed = set(zip(everything["user_id"], everything["item_id"], strict=True))
    assert not listed & seen
    assert len(listed) + len(seen) == 40 * 60
    assert len(recommender.recommend(users, k=60, exclude_seen=False)) == 40 * 60


def test_each_list_is_ranked_by_falling_score_and_answers_come_in_the_order_asked(recommender):
    answer = recommender.recommend(["r0003", "nobody", "r0001", "r0003"], k=4)
    assert list(answer["user_id"]) == ["r0003"] * 4 + ["nobody"] * 4 + ["r0001"] * 4 + ["r0003"] * 4
    assert list(answer["rank"]) == [1, 2, 3, 4] * 4
    for start in range(0, 16, 4):
        assert (np.diff(answer["score"][start : start + 4]) <= 0).all()


def test_a_user_the_model_does_not_know_gets_popular_books_and_is_told(recommender):
    answer = recommender.recommend(["nobody", "r0000"], k=3)
    assert list(answer["source"]) == ["popularity"] * 3 + ["model"] * 3
    counts = dict(
        zip(recommender.items.ids.to_pylist(), recommender.popularity.tolist(), strict=True)
    )
    most = sorted(counts.values(), reverse=True)[:3]
    assert [counts[item] for item in answer["item_id"][:3]] == most


@pytest.mark.parametrize("k", [0, 61, -1, 2.5, True, "3"])
def test_an_impossible_list_length_is_refused(recommender, k):
    with pytest.raises(ConfigError, match=f"'k' must be from 1 to 60, the catalogue, got {k}"):
        recommender.recommend(["r0000"], k=k)


def test_no_users_get_an_empty_table(recommender):
    answer = recommender.recommend([], k=3)
    assert len(answer) == 0
    assert list(answer.columns) == ["user_id", "rank", "item_id", "score", "title", "source"]


# Categories --------------------------------------------------------------------------------------


def categories_of(recommender):
    """The categories that each item carries, by its id."""
    table = recommender.books.table.to_pydict()
    cells = zip(table["item_id"], table["categories"], strict=True)
    return {item_id: set(cell.split(CATEGORY_SEPARATOR)) for item_id, cell in cells}


def test_a_filtered_list_is_the_whole_list_without_the_other_books(shop, shop_prepared):
    wanted = {"Fantasy", "Astronomy"}
    users = [*shop_prepared.users.ids.to_pylist()[:80], "nobody"]
    whole = shop.recommend(users, k=len(shop.items))
    carried = categories_of(shop)
    kept = [bool(carried[item_id] & wanted) for item_id in whole["item_id"]]
    expected = whole[kept].groupby("user_id", sort=False).head(7)
    found = shop.recommend(users, k=7, categories=sorted(wanted))
    assert list(found["user_id"]) == list(expected["user_id"])
    assert list(found["item_id"]) == list(expected["item_id"])


def test_a_category_with_fewer_books_than_asked_for_gives_a_shorter_list(shop):
    n_carrying = sum("Astronomy" in carried for carried in categories_of(shop).values())
    found = shop.recommend(["x"], k=900, categories=["Astronomy"])
    assert len(found) == n_carrying < 900


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda shop: shop.recommend(["x"], 1, categories=["Fantasi"]),
         "got 'Fantasi'; did you mean 'Fantasy'"),
        (lambda shop: shop.recommend(["x"], 1, categories="Fantasy"),
         "'categories' must be a list of names"),
        (lambda shop: shop.similar_items(["b0001", "b9999"], 1),
         "'item_id' must be in the catalogue, got 'b9999'"),
        (lambda shop: shop.users_of_book(pd.DataFrame({"title": ["A"]}), len(shop.users) + 1),
         r"from 1 to \d+, the known users"),
    ],
    ids=["category", "one category as a text", "item", "more users than there are"],
)  # fmt: skip
def test_what_is_not_there_cannot_be_asked_for(shop, ask, message):
    with pytest.raises(BookendsError, match=message):
        ask(shop)


# New users -------------------------------------------------------------------------------------

USER = "--model.user_encoder"
IDS_ALONE = (f"{USER}.id_embedding.type=embedding", f"{USER}.history.pooling=none")
METADATA = (f"{USER}.feature_encoder.type=mlp", f"{USER}.feature_encoder.hidden_dims=[24]")
METADATA_ALONE = (*IDS_ALONE, *METADATA, f"{USER}.fusion=adaptive_mimic")
TOWERS = [
    (),
    (f"{USER}.history.pooling=attention",),
    (f"{USER}.history.table=own",),
    (f"{USER}.queries=3",),
    (f"{USER}.queries=3", *METADATA, f"{USER}.fusion=adaptive_mimic"),
    *(
        (f"{USER}.id_embedding.type=embedding", *METADATA, f"{USER}.fusion={fusion}")
        for fusion in ("sum", "concat")
    ),
    METADATA_ALONE,
]


def train_histories(prepared, users):
    """Ids and ratings of the books of each user, in the order of time."""
    histories = Histories.of(prepared.train).take(users)
    bounds = list(zip(histories.offsets[:-1], histories.offsets[1:], strict=True))
    ids = [prepared.items.id_of(histories.items[start:end]) for start, end in bounds]
    return ids, [histories.ratings[start:end].tolist() for start, end in bounds]


def books_of(prepared, user):
    return train_histories(prepared, np.array([user]))[0][0]


def unknown_id_vectors(model, prepared, users):
    """What the whole model gives users whose id it is made to forget."""
    embedding, histories = model.user_tower.id_embedding, Histories.of(prepared.train)
    if embedding is None:
        return model.user_vectors(histories)[users]
    n_warm, embedding.n_warm = embedding.n_warm, 0
    try:
        return model.user_vectors(histories)[users]
    finally:
        embedding.n_warm = n_warm


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("reloaded", [False, True])
def test_a_user_folded_in_by_their_train_books_gets_the_vectors_of_an_unknown_id(
    shop_recommender, shop_prepared, tower, similarity, reloaded, tmp_path
):
    model, recommender = shop_recommender(*tower, f"--model.similarity={similarity}")
    if reloaded:
        recommender.save(tmp_path / "model")
        recommender = Recommender.load(tmp_path / "model")
    users = np.arange(0, 300, 7)
    liked = liked_histories(*train_histories(shop_prepared, users), recommender.items)
    found = recommender.cold_start.user_vectors(liked)
    expected = unknown_id_vectors(model, shop_prepared, users)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_liked_books_and_their_ratings_change_the_list_of_a_new_user(
    shop_recommender, shop_prepared
):
    """Weights of a history as if training had learned that recent and high ratings count more."""
    _, recommender = shop_recommender(f"{USER}.history.recency=position")
    weights = recommender.cold_start.model.user_tower.history.weights
    with torch.no_grad():
        weights.slopes += 1
        weights.by_rating += 2 * torch.arange(len(weights.by_rating))
    liked = books_of(shop_prepared, 5)
    first, turned = (
        recommender.recommend_for_liked([ids], k=10, ratings=[[3] * len(ids)])
        for ids in (liked, liked[::-1])
    )
    assert list(first["score"]) != list(turned["score"])
    ratings = [1] * (len(liked) - 1) + [5]
    rated = recommender.recommend_for_liked([liked], k=10, ratings=[ratings])
    assert list(rated["score"]) != list(first["score"])


def test_a_folded_in_list_is_ranked_by_that_vector_without_the_liked_books(
    shop_recommender, shop_prepared
):
    model, recommender = shop_recommender()
    liked = books_of(shop_prepared, 5)
    scores = unknown_id_vectors(model, shop_prepared, [5])[0] @ recommender.vectors.items.T
    scores[recommender.items.index_of(liked)] = -np.inf
    best = recommender.items.id_of(np.argsort(-scores)[:10])
    answer = recommender.recommend_for_liked([liked], k=10)
    assert list(answer["item_id"]) == best
    assert set(answer["source"]) == {"fold_in"}
    with_liked = recommender.recommend_for_liked(
        [liked], k=len(recommender.items), exclude_seen=False
    )
    assert set(liked) < set(with_liked["item_id"])


def test_a_user_of_whom_no_book_is_known_gets_the_popular_list_and_is_told(shop, shop_prepared):
    answer = shop.recommend_for_liked([["no such book"], books_of(shop_prepared, 1), []], k=3)
    assert list(answer["position"]) == [0] * 3 + [1] * 3 + [2] * 3
    assert list(answer["source"]) == ["popularity"] * 3 + ["fold_in"] * 3 + ["popularity"] * 3
    popular = list(shop.recommend(["nobody"], k=3)["item_id"])
    assert list(answer["item_id"][:3]) == list(answer["item_id"][6:]) == popular


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_where_the_tower_knows_ids_alone_the_mean_of_the_liked_books_stands_for_the_user(
    shop_recommender, shop_prepared, similarity
):
    settings = (f"--model.similarity={similarity}", "--model.popularity=false")
    _, recommender = shop_recommender(*IDS_ALONE, *settings)
    liked = books_of(shop_prepared, 5)
    rows, items = recommender.items.index_of(liked), recommender.vectors.items
    scores = items @ items[rows].mean(axis=0)
    scores[rows] = -np.inf
    answer = recommender.recommend_for_liked([liked], k=10)
    assert list(answer["item_id"]) == recommender.items.id_of(np.argsort(-scores)[:10])
    assert set(answer["source"]) == {"liked_mean"}


# Several vectors a user --------------------------------------------------------------------------


def combined_scores(vectors, queries, items):
    """Scores of users with vectors (n, K, D) for some items, (n, m) float64."""
    products = np.einsum("nkd,md->nmk", queries.astype(float), items.astype(float))
    if vectors.combine == "max":
        return products.max(axis=2)
    return np.log(np.exp(products).sum(axis=2))


@pytest.mark.parametrize("n", [3, 60])
def test_lists_are_ranked_by_the_combined_scores_of_all_vectors(several, n):
    names = several.users.ids.to_pylist()[:n]
    scores = combined_scores(several.vectors, several.vectors.users[:n], several.vectors.items)
    for user in range(n):
        scores[user, several.seen.row(user)] = -np.inf
    answer = several.recommend(names, k=6)
    for name, row in zip(names, scores, strict=True):
        own = answer[answer["user_id"] == name]
        best = np.argsort(-row)[:6]
        assert list(own["item_id"]) == several.items.id_of(best)
        np.testing.assert_allclose(own["score"], row[best], rtol=1e-4)


def test_users_of_a_new_book_are_those_with_the_best_combined_score(several, metadata):
    book = metadata.iloc[[len(several.items) - 1]]
    vector = several.cold_start.item_vectors(pa.Table.from_pandas(book, preserve_index=False))
    scores = combined_scores(several.vectors, several.vectors.users, vector)[:, 0]
    answer = several.users_of_book(book, k=6)
    assert list(answer["user_id"]) == several.users.id_of(np.argsort(-scores)[:6])


class FourVectors:
    """Stands for a user tower that makes four vectors of a history; keeps what it was given."""

    encodes_users = True

    def __init__(self, vectors):
        self.vectors, self.given = vectors, None

    def user_vectors(self, histories):
        self.given = histories
        return self.vectors[: len(histories)]


def test_folded_in_users_are_ranked_by_all_vectors_of_their_history_in_order(several):
    made = np.random.default_rng(1).standard_normal((2, 4, several.vectors.items.shape[1]))
    tower = FourVectors(made.astype(np.float32))
    recommender = dataclasses.replace(several, cold_start=tower)
    first, second, third = several.items.ids.to_pylist()[:3]
    liked = [[third, first, second, first], [], [second]]
    answer = recommender.recommend_for_liked(liked, k=5, ratings=[[1, 2, 3, 4], [], None])
    assert tower.given.items.tolist() == [2, 1, 0, 1]
    np.testing.assert_array_equal(tower.given.ratings, np.array([1, 3, 4, np.nan], np.float32))
    scores = combined_scores(several.vectors, tower.vectors, several.vectors.items)
    scores[0, :3] = scores[1, 1] = -np.inf
    for position, row in zip((0, 2), scores, strict=True):
        own = answer[answer["position"] == position]
        assert list(own["item_id"]) == several.items.id_of(np.argsort(-row)[:5])
        assert set(own["source"]) == {"fold_in"}


def test_known_and_new_users_of_one_question_may_have_vectors_of_other_numbers(several):
    """Four of each known one, one of the mean of liked books; and one for the popular list."""
    recommender = dataclasses.replace(several, cold_start=None)
    known, liked = several.users.ids.to_pylist()[0], several.items.ids.to_pylist()[:2]
    together = recommender.recommend_for_users([known, None, None], [[], liked, []], k=4)
    assert list(together["source"]) == ["model"] * 4 + ["liked_mean"] * 4 + ["popularity"] * 4
    own = recommender.recommend([known], k=4)
    assert list(together["item_id"][:4]) == list(own["item_id"])
    alone = recommender.recommend_for_liked([liked], k=4)
    assert list(together["item_id"][4:8]) == list(alone["item_id"])


# Books -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_similar_books_are_the_nearest_by_the_cosine_of_their_vectors(shop_recommender, similarity):
    _, recommender = shop_recommender(f"--model.similarity={similarity}")
    vectors = recommender.vectors.items[:, :-1].astype(np.float64)  # without popularity
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = ["b0002", "b0001", "b0002"]
    answer = recommender.similar_items(asked, k=5)
    assert list(answer["item_id"]) == [name for name in asked for _ in range(5)]
    for start, name in zip((0, 5, 10), asked, strict=True):
        row = recommender.items.index_of([name])[0]
        cosines = unit @ unit[row]
        cosines[row] = -np.inf
        best = np.argsort(-cosines)[:5]
        assert list(answer["similar_item_id"][start : start + 5]) == recommender.items.id_of(best)
        np.testing.assert_allclose(answer["score"][start : start + 5], cosines[best], rtol=1e-4)


def test_similar_books_can_be_held_to_a_category(shop):
    answer = shop.similar_items(["b0002"], k=5, categories=["Fantasy"])
    carried = categories_of(shop)
    assert all("Fantasy" in carried[item] for item in answer["similar_item_id"])


NUMBERS = ["average_rating", "rating_number", "price"]


@pytest.fixture(scope="module")
def metadata(shop_prepared):
    """The books file in the order of the catalogue, as the metadata of new books."""
    frame = pd.read_csv(SAMPLE / "books.csv", dtype={"item_id": str}).set_index("item_id")
    frame = frame.loc[shop_prepared.items.ids.to_pylist()]
    return frame[["title", "author", "categories", *NUMBERS]].reset_index(drop=True)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("fusion", ["sum", "concat", "adaptive_mimic", "dual_augmented"])
def test_a_cold_book_given_by_its_metadata_gets_its_own_vector(
    shop_recommender, shop_prepared, metadata, fusion, similarity
):
    _, recommender = shop_recommender(
        f"--model.item_encoder.fusion={fusion}", f"--model.similarity={similarity}"
    )
    cold = np.arange(shop_prepared.n_warm_items, len(shop_prepared.items))
    assert len(cold) > 10
    found = new_item_vectors(recommender, metadata.iloc[cold])
    np.testing.assert_allclose(found, recommender.vectors.items[cold], rtol=1e-4, atol=1e-5)


def test_the_book_nearest_to_the_metadata_of_a_cold_book_is_that_book(
    shop, shop_prepared, metadata
):
    cold = np.arange(shop_prepared.n_warm_items, shop_prepared.n_warm_items + 8)
    answer = shop.similar_to_book(metadata.iloc[cold], k=1)
    assert list(answer["item_id"]) == shop_prepared.items.id_of(cold)
    np.testing.assert_allclose(answer["score"], 1, rtol=1e-5)


def test_what_is_not_said_of_a_new_book_counts_as_missing(shop):
    little = pd.DataFrame({"title": ["The Paper Sorcerer"]})
    more = pd.DataFrame(
        {"title": ["The Paper Sorcerer"], "author": [None], "price": [float("nan")]}
    )
    pd.testing.assert_frame_equal(shop.similar_to_book(little, 5), shop.similar_to_book(more, 5))


@pytest.mark.parametrize(
    ("book", "message"),
    [
        ({"titel": ["A"]}, "described by title, author, categories, .*price, got 'titel'"),
        ({}, "described by title, .* got none"),
        ({"price": ["cheap"]}, "column 'price' of a new book must hold numbers"),
        ({"price": [float("inf")]}, "column 'price' of a new book must hold finite numbers"),
        ({"title": [3.5]}, "column 'title' of a new book must hold texts"),
    ],
)
def test_a_book_described_wrongly_is_refused(shop, book, message):
    with pytest.raises(DataError, match=message):
        shop.similar_to_book(pd.DataFrame(book), k=1)


def test_a_tower_that_knows_ids_alone_refuses_new_books(shop_recommender):
    _, recommender = shop_recommender("--model.item_encoder.fusion=identity")
    with pytest.raises(DataError, match="item tower of this one is 'identity'"):
        recommender.similar_to_book(pd.DataFrame({"title": ["A"]}), k=1)


@pytest.mark.parametrize("ask", ["recommend", "similar_items", "is_known"])
def test_a_text_in_the_place_of_a_list_of_ids_is_refused(recommender, ask):
    with pytest.raises(DataError, match="must be given as a list of ids, got the text 'u1'"):
        getattr(recommender, ask)("u1")
