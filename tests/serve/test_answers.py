"""The answers over HTTP are those of the recommender."""

import pandas as pd
import pytest

from experiments.serve.answers import model_card
from experiments.serve.model import CurrentModel, ModelSource
from recsys.recommender import questions


def flat(results, *names, key="items"):
    """The lists of an answer as one frame, with the position and the named fields of each."""
    rows = [
        {"position": position, **{name: one[name] for name in names}, **entry}
        for position, one in enumerate(results)
        for entry in one[key]
    ]
    return pd.DataFrame(rows)


def ask(client, path, **question):
    answer = client.post(path, json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def assert_same(found, expected):
    columns = list(expected.columns)
    pd.testing.assert_frame_equal(found[columns], expected, check_dtype=False)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_known_users_get_the_lists_of_the_recommender(client, towers, exclude_seen):
    ids = towers.users.ids.to_pylist()[:5]
    results = ask(client, "/recommend", user_ids=ids, k=4, exclude_seen=exclude_seen)
    expected = towers.recommend(ids, 4, exclude_seen=exclude_seen)
    assert_same(flat(results, "user_id", "source"), expected)


def test_liked_books_place_a_user_without_an_id(client, towers):
    liked = [towers.items.ids.to_pylist()[:3], []]
    results = ask(client, "/recommend", liked=liked, k=3)
    expected = towers.recommend_for_liked(liked, 3)
    assert_same(flat(results, "source"), expected)
    assert [one["source"] for one in results] == ["fold_in", "popularity"]


def test_ratings_of_liked_books_reach_the_recommender(client, towers, monkeypatch):
    """None of today's models weighs them, so they are caught on their way."""
    given, answered = [], questions.recommend_for_users

    def caught(recommender, *args, ratings=None, **options):
        given.append(ratings)
        return answered(recommender, *args, ratings=ratings, **options)

    monkeypatch.setattr(questions, "recommend_for_users", caught)
    liked = [towers.items.ids.to_pylist()[:3], []]
    ask(client, "/recommend", liked=liked, liked_ratings=[[5, None, 2.5], None], k=3)
    assert given == [[[5, None, 2.5], None]]


def test_a_known_user_keeps_their_list_whatever_they_like(client, towers):
    user, book = towers.users.ids[0].as_py(), towers.items.ids[0].as_py()
    alone = ask(client, "/recommend", user_ids=[user])
    both = ask(client, "/recommend", user_ids=[user], liked=[[book]])
    assert both == alone


def test_a_user_of_whom_nothing_is_known_gets_the_popular_list_and_is_told(client):
    nobody, stranger = ask(client, "/recommend", user_ids=[None, "stranger"], k=2)
    assert nobody["source"] == stranger["source"] == "popularity"
    assert nobody["items"] == stranger["items"]
    assert (nobody["user_id"], stranger["user_id"]) == (None, "stranger")


def test_only_books_of_the_categories_are_recommended(open_client, small_paths):
    client = open_client(small_paths[0])
    (result,) = ask(
        client, "/recommend", user_ids=["user-1"], k=4, categories=["Prime"], exclude_seen=False
    )
    assert [item["item_id"] for item in result["items"]] == ["book-2"]


def test_a_user_without_a_book_left_gets_an_empty_list(open_client, small_paths):
    client = open_client(small_paths[1])
    question = {"user_ids": ["user-0", None], "categories": ["Even"], "k": 4}
    user, nobody = ask(client, "/recommend", **question)
    assert [item["item_id"] for item in user["items"]] == ["book-3"]
    assert [item["item_id"] for item in nobody["items"]] == ["book-3", "book-1"]
    (nothing,) = ask(client, "/recommend", liked=[["book-2"]], categories=["Prime"], k=1)
    assert (nothing["items"], nothing["source"]) == ([], None)


def test_a_book_without_a_neighbour_left_gets_an_empty_list(open_client, small_paths):
    client = open_client(small_paths[0])
    question = {"item_ids": ["book-2", "book-0"], "categories": ["Prime"], "k": 4}
    read, other = ask(client, "/similar-items", **question)
    assert read["items"] == []
    assert [item["item_id"] for item in other["items"]] == ["book-2"]


def test_similar_items_are_those_of_the_recommender_in_the_order_asked(client, towers):
    first, second = towers.items.ids.to_pylist()[:2]
    results = ask(client, "/similar-items", item_ids=[second, first, second], k=3)
    expected = towers.similar_items([second, first, second], 3)
    found = [(one["item_id"], item) for one in results for item in one["items"]]
    assert [name for name, _ in found] == expected["item_id"].tolist()
    assert [item["item_id"] for _, item in found] == expected["similar_item_id"].tolist()
    assert [item["score"] for _, item in found] == expected["score"].tolist()


def test_new_books_get_their_neighbours_and_users(client, towers):
    books = [{"author": "Author 0"}, {"title": "The Even Book", "categories": "Even"}]
    frame = pd.DataFrame(books)
    near = ask(client, "/new-book/similar", books=books, k=3)
    assert_same(flat(near), towers.similar_to_book(frame, 3))
    users = ask(client, "/new-book/users", books=books, k=3)
    assert_same(flat(users, key="users"), towers.users_of_book(frame, 3))


def test_the_model_says_what_it_is(client, towers, towers_path):
    card = client.get("/model").json()
    assert card["uri"] == str(towers_path)
    assert (card["version"], card["index"]) == (None, None)
    assert card["provenance"] == {"run": "test"}
    assert (card["n_users"], card["n_items"]) == (len(towers.users), len(towers.items))


def test_the_schema_types_every_answer(client):
    schema = client.get("/openapi.json").json()
    for path, method in [
        *((path, "post") for path in ("/recommend", "/similar-items")),
        *((path, "post") for path in ("/new-book/similar", "/new-book/users")),
        *((path, "get") for path in ("/healthz", "/readyz", "/model")),
    ]:
        answers = schema["paths"][path][method]["responses"]
        assert "$ref" in answers["200"]["content"]["application/json"]["schema"], path
        if method == "post":
            refusal = answers["422"]["content"]["application/json"]["schema"]["$ref"]
            assert refusal.endswith("/Problem")
    assert schema["components"]["schemas"]["RankedItem"]["required"] == [
        *("rank", "item_id", "score", "title")
    ]


def test_an_index_is_measured_and_shown(towers_path):
    pytest.importorskip("usearch")
    current = CurrentModel(ModelSource(str(towers_path), ann=True))
    current.start()
    card = model_card(current.served)
    assert 0 <= card.index.recall_lowest <= card.index.recall_mean <= 1
    assert card.index.k == 10
