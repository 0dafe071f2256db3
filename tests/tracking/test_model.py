"""The bundle of a run as an MLflow model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from packaging.requirements import Requirement

from recsys.errors import ArtifactError
from tracking.model import (
    requirements,
    save_model,
    signature,
)
from tracking.serving import RecommenderModel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(saved):
    return mlflow.pyfunc.load_model(str(saved))


def ask(model, rows, **params):
    return model.predict(pd.DataFrame(rows), params=params)


def test_the_model_answers_as_the_recommender_does(model, bundle):
    expected = bundle.recommend(["user-1", "user-2"], k=2)
    found = ask(model, {"user_id": ["user-1", "user-2"]}, k=2)
    assert list(found["position"]) == [0, 0, 1, 1]
    found = found.drop(columns="position").astype({"user_id": expected["user_id"].dtype})
    pd.testing.assert_frame_equal(found, expected)
    rows = ask(model, {"user_id": ["user-1", "user-2"]}, task="recommend_lists", k=2)
    assert rows.index.tolist() == [0, 1]
    for name, column in (("item_ids", "item_id"), ("scores", "score")):
        assert rows[name].tolist() == expected[column].to_numpy().reshape(2, 2).tolist()
    near = ask(model, {"item_id": ["book-1"]}, task="similar_items", k=2)
    pd.testing.assert_frame_equal(near, bundle.similar_items(["book-1"], k=2))


def test_seen_items_are_left_out_unless_asked_for_and_categories_choose(model):
    user = {"user_id": ["user-0"]}
    assert ask(model, user, k=1, exclude_seen=False).item_id[0] == "book-0"
    assert ask(model, user, k=1, exclude_seen=True).item_id[0] != "book-0"
    assert set(ask(model, user, k=4, categories=["Even"])["item_id"]) == {"book-1", "book-3"}


def test_each_user_is_answered_by_what_is_known_of_them_and_told(model):
    rows = {
        "user_id": ["user-0", "nobody", None, None, "nobody"],
        "liked": [["book-3"], ["book-1"], ["book-2"], [], None],
    }
    answer = ask(model, rows, k=1, exclude_seen=False)
    popular = "popularity"
    assert list(answer["source"]) == ["model", "liked_mean", "liked_mean", popular, popular]
    assert list(answer["item_id"]) == ["book-0", "book-1", "book-2", "book-3", "book-3"]
    assert list(answer["user_id"]) == ["user-0", "nobody", None, None, "nobody"]


@pytest.mark.parametrize("task", ["similar_to_item", "users_of_item"])
def test_a_new_book_needs_a_model_with_towers(model, task):
    with pytest.raises(MlflowException, match="a new book needs a model with towers"):
        ask(model, {"title": ["A"]}, task=task, k=1)


@pytest.mark.parametrize(
    ("rows", "params", "message"),
    [
        ({"user": ["user-0"]}, {}, "columns user_id, liked, liked_ratings, got none of them"),
        ({"title": ["A"]}, {}, "columns user_id, liked, liked_ratings, got 'title'"),
        ({"liked": [["book-1"]], "liked_ratings": [[1.0, 2.0]]}, {}, "got 2 for 1 items"),
        ({"user_id": ["user-0"], "title": ["A"]}, {}, "got 'title'"),
        ({"user_id": [["user-0"]]}, {}, r"'user_id' must hold texts, got \['user-0'\]"),
        ({"user_id": [7]}, {}, 'must hold texts, got 7; write "7"$'),
        ({"liked": ["book-1"]}, {}, "list"),
        ({}, {}, "columns user_id, liked, liked_ratings, got none of them"),
        ({"user_id": ["user-0"]}, {"k": 0}, "'k' must be from 1 to 4, the catalogue, got 0"),
        ({"user_id": ["user-0"]}, {"k": 5}, "'k' must be from 1 to 4, the catalogue, got 5"),
        ({"user_id": ["user-0"]}, {"k": None}, "'k' must be from 1 to 4"),
        ({"user_id": ["user-0"]}, {"k": "many"}, "Invalid parameters .*'k'"),
        ({"user_id": ["user-0"]}, {"k": 2.0}, "Invalid parameters .*'k'"),
        ({"user_id": ["user-0"]}, {"exclude_seen": "no"}, "Invalid parameters .*exclude_seen"),
        ({"user_id": ["user-0"]}, {"categories": "Odd"}, "Invalid parameters .*categories"),
        ({"user_id": ["user-0"]}, {"categories": ["Old"]}, "got 'Old'; did you mean 'Odd'"),
        ({"user_id": ["user-0"]}, {"task": "guess"}, "must be one of recommend, .*got 'guess'"),
        ({"item_id": ["book-9"]}, {"task": "similar_items"}, "catalogue, got 'book-9'"),
        ({"item_id": [None]}, {"task": "similar_items"}, "row 0 has none"),
        ({"user_id": ["user-0"]}, {"task": "similar_items"}, "columns item_id, got 'user_id'"),
        ({"title": ["A", None]}, {"task": "similar_to_item"}, "row 1 is empty"),
        (
            {"title": ["A"]},
            {"task": "users_of_item", "categories": ["Odd"]},
            "'categories' has no meaning",
        ),
    ],
)
def test_bad_input_is_refused_with_what_must_hold(model, rows, params, message):
    with pytest.raises(MlflowException, match=message) as refusal:
        ask(model, rows, **({"k": 1} | params))
    assert refusal.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("column", "task"),
    [("user_id", "recommend"), ("user_id", "recommend_lists"), ("item_id", "similar_items")],
)
def test_no_rows_are_no_answers(model, column, task):
    answer = ask(model, {column: pd.Series([], dtype=str)}, task=task, k=1)
    assert len(answer) == 0
    assert {"score", "scores"} & {*answer.columns}


class Echo:
    """A recommender that answers with what it was asked about."""

    book_columns = ("title", "price")

    def similar_to_book(self, books, k, categories):
        return books


@pytest.mark.parametrize("price", [[7], [7.5], [7, None]])
def test_a_price_may_be_whole(price):
    rows = pd.DataFrame({"title": ["A"] * len(price), "price": price})
    given = _enforce_schema(rows, signature(Echo.book_columns).inputs)
    model = RecommenderModel()
    model._recommender = Echo()
    answer = model.predict(None, given, {"task": "similar_to_item"})
    assert answer["price"].dtype == "float64"
    assert answer["price"].dropna().tolist() == [float(each) for each in price if each]


def test_a_price_that_is_no_number_is_refused():
    model = RecommenderModel()
    model._recommender = Echo()
    with pytest.raises(MlflowException, match="column 'price' must hold numbers"):
        model.predict(None, pd.DataFrame({"price": ["dear"]}), {"task": "similar_to_item"})


def test_the_signature_names_columns_and_defaults(model):
    given = model.metadata.signature
    columns = ["user_id", "liked", "liked_ratings", "item_id", "title", "author", "categories"]
    assert given.inputs.input_names() == columns
    assert not given.inputs.required_input_names()
    assert {param.name: param.default for param in given.params} == {
        "task": "recommend",
        "k": 10,
        "exclude_seen": True,
        "categories": [],
    }
    assert given.outputs.input_names()[:4] == ["position", "user_id", "rank", "item_id"]


def test_the_input_example_can_be_predicted(saved, model):
    example = model.input_example
    answer = model.predict(example, params={"k": 2})
    assert list(answer.user_id.unique()) == ["user-0", "user-1", "a user never seen"]
    assert list(answer.source.unique()) == ["model", "liked_mean"]


def test_a_damaged_bundle_does_not_become_a_model(tmp_path, bundle):
    bundle.save(tmp_path / "bundle")
    (tmp_path / "bundle" / "extra").write_text("x")
    with pytest.raises(ArtifactError, match="got 'extra'"):
        save_model(tmp_path / "bundle", tmp_path / "saved", users=[])
    assert not (tmp_path / "saved").exists()


def test_nothing_in_the_model_runs_on_loading_but_source(bundle, tmp_path):
    """A model of its own: Python compiles what it loads of one, beside it."""
    bundle.save(tmp_path / "bundle")
    saved = tmp_path / "saved"
    save_model(tmp_path / "bundle", saved, users=["user-0"])
    allowed = {".json", ".safetensors", ".arrow", ".py", ".yaml", ".txt", ".typed", ".css"}
    allowed |= {".j2", ".html", ".md", ".svg", ""}
    suffixes = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert suffixes <= allowed
    assert not list(saved.rglob("*.pkl")) + list(saved.rglob("__pycache__"))


def test_requirements_are_ranges_that_hold_here():
    for text in requirements():
        requirement = Requirement(text)
        assert {spec.operator for spec in requirement.specifier} == {">=", "<"}
        module = __import__(requirement.name)
        assert requirement.specifier.contains(module.__version__.partition("+")[0])


ASK_ALL = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import recsys
assert recsys.__file__.startswith(sys.argv[1]), recsys.__file__
answers = [
    model.predict(pd.DataFrame(rows), params=params).to_dict("list")
    for rows, params in json.loads(sys.argv[2])
]
print(json.dumps(answers))
"""
QUESTIONS = [
    ({"user_id": ["r0003", "nobody"]}, {"k": 3}),
    ({"liked": [["b0002", "b0004"]]}, {"k": 3}),
    ({"item_id": ["b0007"]}, {"k": 3, "task": "similar_items"}),
    ({"categories": ["even"]}, {"k": 3, "task": "similar_to_item"}),
    ({"categories": ["odd"]}, {"k": 3, "task": "users_of_item"}),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_in_an_environment_with_only_what_is_listed_the_answers_are_the_same(
    towers_model, tmp_path
):
    uv = pytest.importorskip("uv").find_uv_bin()
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if "PIP_FIND_LINKS" in os.environ:  # where this machine keeps its build of torch
        outside["UV_FIND_LINKS"] = os.environ["PIP_FIND_LINKS"]

    def run(*command):
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=outside
        )

    run(uv, "venv", "clean", "--python", sys.executable)
    python = str(tmp_path / "clean" / "bin" / "python")
    listed = ["-r", str(towers_model / "requirements.txt"), "-c", str(ROOT / "constraints.txt")]
    installed = run(uv, "pip", "install", "--python", python, *listed)
    if "error sending request" in installed.stderr:
        pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr
    done = run(python, "-c", ASK_ALL, str(towers_model), json.dumps(QUESTIONS))
    assert done.returncode == 0, done.stderr
    model = mlflow.pyfunc.load_model(str(towers_model))
    for found, (rows, params) in zip(json.loads(done.stdout), QUESTIONS, strict=True):
        expected = model.predict(pd.DataFrame(rows), params=params)
        pd.testing.assert_frame_equal(pd.DataFrame(found), expected, check_dtype=False)
