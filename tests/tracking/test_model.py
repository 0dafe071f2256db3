"""The bundle of a run as an MLflow model."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from packaging.requirements import Requirement

from recsys.errors import ArtifactError, TrackingError
from recsys.recommender import Recommender
from tracking import model as model_module
from tracking.mirror import mirror
from tracking.model import (
    FoundModel,
    find_model,
    requirements,
    resolve_bundle,
    save_model,
    signature,
)
from tracking.serving import RecommenderModel
from tracking.store import connect

ROOT = Path(__file__).parents[2]
SERVE = """
import sys, warnings
sys.path = [p for p in sys.path if p != sys.argv[2]]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[3])
model = mlflow.pyfunc.load_model(sys.argv[1])
import recsys
assert sys.argv[2] not in recsys.__file__, recsys.__file__
assert "tracking" not in sys.modules
print(model.predict(pd.DataFrame({"user_id": ["user-0"]}), params={"k": 1}).item_id[0])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory, bundle):
    path = tmp_path_factory.mktemp("model")
    bundle.save(path / "bundle")
    save_model(path / "bundle", path / "saved", users=["user-0", "user-1"])
    return path / "saved"


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
        ({"user_id": [7]}, {}, "user_id"),
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


def test_a_number_for_a_text_is_told_to_be_quoted(model):
    with pytest.raises(MlflowException, match=r"must hold texts, got 1; write \"1\"$"):
        ask(model, {"user_id": [1]})


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


def test_nothing_in_the_model_runs_on_loading_but_source(saved):
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


@pytest.mark.slow
def test_every_package_that_serving_imports_is_required(saved):
    """What the modules that loading touches import at their top, in the copy that travels."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "import recsys.recommender; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(saved / "code")],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout.split()
    imported = set()
    for name in loaded:
        if name.partition(".")[0] == "recsys":
            path = saved / "code" / Path(*name.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add((node.module or "").partition(".")[0])
    imported -= set(sys.stdlib_module_names) | {"recsys", "__future__"}
    required = {Requirement(text).name for text in requirements()}
    assert "numpy" in imported
    assert imported <= required


@pytest.mark.slow
def test_the_model_of_a_run_is_served_without_our_packages(run_dir, store, bundle, finish):
    finish(run_dir)
    bundle.save(run_dir / "model")
    sent = mirror(run_dir, store)
    done = subprocess.run(
        [sys.executable, "-c", SERVE, f"models:/{sent.model_id}", str(ROOT), store],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in {"book-1", "book-2", "book-3"}


# Where a bundle is -------------------------------------------------------------------------------


@pytest.fixture
def sent(run_dir, store, bundle, finish):
    """A finished run with a model, in the store, and version 1 of it in the registry."""
    finish(run_dir)
    bundle.save(run_dir / "model")
    sent = mirror(run_dir, store)
    client = connect(store)
    client.create_registered_model("bookends")
    (output,) = client.get_run(sent.run_id).outputs.model_outputs
    source = client.get_logged_model(output.model_id).artifact_location
    client.create_model_version("bookends", source, sent.run_id, model_id=output.model_id)
    client.set_registered_model_alias("bookends", "champion", "1")
    return sent


def test_a_model_is_found_by_alias_version_and_run(sent, store):
    for uri in (
        "models:/bookends@champion",
        "models:/bookends/1",
        f"models:/{sent.model_id}",
        f"runs:/{sent.run_id}/model",
    ):
        path = resolve_bundle(uri, store)
        assert Recommender.load(path).provenance == {"run": "test"}


def test_an_alias_is_found_as_the_version_that_it_means_now(sent, store):
    version = FoundModel("models:/bookends/1", "1", sent.run_id)
    for uri in ("models:/bookends@champion", version.uri):
        assert find_model(uri, store) == version
    of_run = f"runs:/{sent.run_id}/model"
    assert find_model(of_run, store) == FoundModel(of_run, run_id=sent.run_id)
    for uri in (f"models:/{sent.model_id}", "some@where"):
        assert find_model(uri, store) == FoundModel(uri)
    with pytest.raises(TrackingError, match="models:/bookends@challenger: must be a model in sql"):
        find_model("models:/bookends@challenger", store)
    with pytest.raises(TrackingError, match="must end in a version or an alias"):
        find_model("models:/bookends", store)


def test_looking_for_a_model_makes_no_store(tmp_path):
    with pytest.raises(TrackingError, match="must hold runs, but there is no such file"):
        resolve_bundle("models:/bookends/1", f"sqlite:///{tmp_path}/none.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["team/alpha", "Bücher", "..", "50% #1?"])
def test_names_and_places_of_any_letters_lead_to_the_model(
    copy_store, tmp_path, finish, bundle, running_record, name
):
    place = tmp_path / "Bü 50% #1%2F"
    place.mkdir()
    experiment = running_record.config["experiment"] | {"name": name}
    (place / "run").mkdir()
    finish(place / "run", config=running_record.config | {"experiment": experiment})
    bundle.save(place / "run" / "model")
    store = copy_store(place)
    sent = mirror(place / "run", store)
    path = resolve_bundle(f"runs:/{sent.run_id}/model", store)
    assert Recommender.load(path).provenance == {"run": "test"}
    assert path.is_relative_to(place / "mlruns")


def test_what_lies_on_this_machine_is_not_copied(sent, store, tmp_path):
    path = resolve_bundle("models:/bookends@champion", store)
    assert path.is_relative_to(tmp_path / "store")
    assert not (tmp_path / "artifacts").exists()


def test_a_bundle_is_found_in_every_directory_that_holds_one(tmp_path, run_dir, bundle, saved):
    bundle.save(tmp_path / "bundle")
    bundle.save(run_dir / "model")
    found = {
        path: resolve_bundle(str(path), None) for path in (tmp_path / "bundle", run_dir, saved)
    }
    assert found[tmp_path / "bundle"] == tmp_path / "bundle"
    assert found[run_dir] == run_dir / "model"
    assert found[saved].is_relative_to(saved)
    for path in found.values():
        Recommender.load(path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/bookends@challenger", "models:/bookends@challenger: must be a model in sqlite"),
        ("models:/bookends/7", "models:/bookends/7: must be a model in sqlite"),
        ("models:/nobody/1", "models:/nobody/1: must be a model in sqlite"),
        ("models:/bookends", "must end in a version or an alias, such as models:/bookends/1"),
        ("runs:/0123/model", "runs:/0123/model: must be a model in sqlite"),
        ("runs:/RUN/another", "the run must have a model, but logged none"),
        ("nowhere", "nowhere: must be a bundle or run directory .*, or an address such as models:"),
    ],
)
def test_a_model_that_is_not_there_is_named(sent, store, uri, message):
    with pytest.raises(TrackingError, match=message) as refusal:
        resolve_bundle(uri.replace("RUN", sent.run_id), store)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_model_elsewhere_is_copied_once(sent, store, tmp_path, monkeypatch):
    """A store that gives addresses as a server does: not of this machine's files."""
    here = resolve_bundle("models:/bookends/1", store).parents[1]
    copies = []

    def download(artifact_uri, dst_path, tracking_uri):
        assert (artifact_uri, tracking_uri) == ("mlflow-artifacts:/m-1", store)
        copies.append(dst_path)
        return str(shutil.copytree(here, dst_path, dirs_exist_ok=True))

    monkeypatch.setattr(model_module, "download_artifacts", download)
    monkeypatch.setattr(model_module, "_artifact_location", lambda *_: "mlflow-artifacts:/m-1")
    first, second = (
        resolve_bundle("models:/bookends/1", store, downloads=tmp_path / "kept") for _ in range(2)
    )
    assert first == second and first.is_relative_to(tmp_path / "kept")
    assert len(copies) == 1
    assert len(list((tmp_path / "kept").iterdir())) == 1
    Recommender.load(first)


# A clean environment -----------------------------------------------------------------------------

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
