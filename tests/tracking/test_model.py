"""The bundle of a run as an MLflow model."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from packaging.requirements import Requirement

from tracking.mirror import mirror
from tracking.model import requirements, save_model

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
print(model.predict(pd.DataFrame({"user_id": ["reader-0"]}), params={"k": 1}).item_id[0])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory, bundle):
    path = tmp_path_factory.mktemp("model")
    bundle.save(path / "bundle")
    save_model(path / "bundle", path / "saved", readers=["reader-0", "reader-1"])
    return path / "saved"


@pytest.fixture(scope="module")
def model(saved):
    return mlflow.pyfunc.load_model(str(saved))


def readers(*ids):
    return pd.DataFrame({"user_id": list(ids)})


def test_the_model_answers_as_the_recommender_does(model, bundle):
    expected = bundle.recommend(["reader-1", "reader-2"], k=2)
    found = model.predict(readers("reader-1", "reader-2"), params={"k": 2})
    pd.testing.assert_frame_equal(found, expected)


def test_what_was_read_is_left_out_unless_asked_for(model):
    both = {
        exclude: model.predict(readers("reader-0"), params={"k": 1, "exclude_seen": exclude})
        for exclude in (True, False)
    }
    assert both[False].item_id[0] == "book-0"
    assert both[True].item_id[0] != "book-0"


def test_a_reader_never_seen_gets_popular_books_and_is_told(model):
    answer = model.predict(readers("nobody"), params={"k": 1})
    assert (answer.item_id[0], answer.source[0]) == ("book-3", "popularity")


def test_an_input_without_the_column_is_refused(model):
    with pytest.raises(MlflowException, match="user_id"):
        model.predict(pd.DataFrame({"reader": ["reader-0"]}), params={"k": 1})


def test_a_list_length_that_is_no_whole_number_is_refused(model):
    with pytest.raises(MlflowException, match="k"):
        model.predict(readers("reader-0"), params={"k": "many"})


def test_the_signature_names_columns_and_defaults(model):
    signature = model.metadata.signature
    assert signature.inputs.input_names() == ["user_id"]
    assert {param.name: param.default for param in signature.params} == {
        "k": 10,
        "exclude_seen": True,
    }
    assert signature.outputs.input_names()[:3] == ["user_id", "rank", "item_id"]


def test_the_input_example_can_be_predicted(saved, model):
    example = model.input_example
    answer = model.predict(example, params={"k": 2})
    assert list(answer.user_id.unique()) == ["reader-0", "reader-1", "a reader never seen"]


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
        [sys.executable, "-c", SERVE, f"runs:/{sent.run_id}/model", str(ROOT), store],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in {"book-1", "book-2", "book-3"}
