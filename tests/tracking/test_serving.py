"""The model behind ``mlflow models serve``, asked over HTTP."""

import json
import os
import sys

import numpy as np
import pandas as pd
import pytest
import requests


@pytest.fixture(scope="module")
def server(towers_model, tmp_path_factory, free_port, running):
    """The address of a server of the model."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", str(towers_model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/ping", tmp_path_factory.mktemp("server"), {"PATH": path}):
        yield address


@pytest.fixture(scope="module")
def post(server):
    """Sends a body; gives the status and the answer's text."""

    def send(body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = requests.post(f"{server}/invocations", data, headers=headers, timeout=30)
        return answer.status_code, answer.text

    return send


@pytest.fixture(scope="module")
def ask(post):
    """Asks about rows; gives the answer as a frame."""

    def send(*rows, **params):
        status, text = post({"dataframe_records": list(rows), "params": params})
        assert status == 200, text
        assert "NaN" not in text  # which is no JSON
        return pd.DataFrame(json.loads(text)["predictions"])

    return send


def assert_same(found, expected):
    assert list(found.columns) == list(expected.columns)
    for name in found.columns:
        if name == "score":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
        else:
            assert list(found[name]) == list(expected[name])


def test_known_users_get_the_lists_of_the_recommender(ask, towers):
    found = ask({"user_id": "r0003"}, {"user_id": "r0001"}, k=5)
    assert_same(found.drop(columns="position"), towers.recommend(["r0003", "r0001"], k=5))


def test_users_are_answered_by_what_is_known_of_them_and_told(ask, towers):
    rows = [{"user_id": "r0003", "liked": None}, {"user_id": None, "liked": ["b0002", "b0004"]}]
    found = ask(*rows, {"user_id": "nobody", "liked": []}, k=1)
    assert list(found["user_id"].fillna("nameless")) == ["r0003", "nameless", "nobody"]
    assert list(found["source"]) == ["model", "fold_in", "popularity"]
    liked = towers.recommend_for_liked([["b0002", "b0004"]], k=1)
    assert found["item_id"][1] == liked["item_id"][0]


def test_ratings_are_taken_with_liked_books_as_many_as_they_are(ask, post, towers):
    rated = {"liked": ["b0002", "b0004"], "liked_ratings": [5.0, 3.0]}
    found = ask(rated, {"liked": ["b0001"], "liked_ratings": None}, k=2)
    assert list(found["source"]) == ["fold_in"] * 4
    rows = [rated | {"liked_ratings": [5.0]}]
    status, text = post({"dataframe_records": rows, "params": {"k": 1}})
    assert status == 400 and "ratings must be as many as the liked items, got 1 for 2" in text


def test_a_new_book_is_placed_by_its_metadata_alone(ask, towers):
    book = {"title": "A Square", "categories": "even"}
    similar = ask(book, task="similar_to_item", k=4)
    assert_same(ask(book, task="similar_to_book", k=4), similar)  # the name before
    assert_same(similar, towers.similar_to_book(pd.DataFrame([book]), k=4))
    users = ask(book, task="users_of_item", k=4)
    assert_same(users, towers.users_of_book(pd.DataFrame([book]), k=4))


ROW = {"user_id": "r0003"}
BAD = [  # what the model refuses is tested at the model; these have a way of their own over HTTP
    ([ROW], {"k": None}, "'k' must be from 1 to 60"),
    ([], {}, "must be given rows with columns user_id, liked"),
    ([{"user_id": 7}], {}, "column 'user_id' must hold texts, got 7"),
    ([{"liked": "b0001"}], {}, "liked"),
    ([{"title": 3}], {"task": "similar_to_item"}, "column 'title' of a new book must hold texts"),
    ([{"average_rating": "good"}], {"task": "similar_to_item"}, "columns title, author"),
]


@pytest.mark.parametrize(("rows", "params", "message"), BAD)
def test_bad_input_gets_a_400_with_what_must_hold_and_no_trace(post, rows, params, message):
    status, text = post({"dataframe_records": rows, "params": params})
    assert status == 400
    assert message in json.loads(text)["message"]
    assert "Traceback" not in text and "stack_trace" not in text


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"{}",
        {"inputs": {"user_id": ["r0003"]}},
        {"instances": [{"user_id": "r0003"}]},
        {"inputs": "r0003"},
        {"dataframe_records": ROW},
        {"dataframe_records": [ROW], "params": [1]},
    ],
)
def test_a_body_of_another_form_gets_a_400_and_no_trace(post, body):
    status, text = post(body)
    assert status == 400
    assert "Traceback" not in text and "stack_trace" not in text


def test_a_param_that_is_not_declared_never_reaches_the_model(ask):
    """MLflow drops it with a warning in the server's log; docs/serving.md says so."""
    assert len(ask(ROW, k=2, exclude_read=False)) == 2
