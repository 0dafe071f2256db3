"""Where the bundle of a model is: in the registry, in a run, in a directory."""

import shutil

import mlflow
import pandas as pd
import pytest

from recsys.errors import TrackingError
from recsys.recommender import Recommender
from tracking import model as model_module
from tracking.mirror import mirror
from tracking.model import FoundModel, find_model, resolve_bundle
from tracking.store import connect


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


def test_a_model_is_found_by_alias_version_and_run_and_not_copied(sent, store, tmp_path):
    for uri in (
        "models:/bookends@champion",
        "models:/bookends/1",
        f"models:/{sent.model_id}",
        f"runs:/{sent.run_id}/model",
    ):
        path = resolve_bundle(uri, store)
        assert Recommender.load(path).provenance == {"run": "test"}
        assert path.is_relative_to(tmp_path / "store")
    assert not (tmp_path / "artifacts").exists()


def test_mlflow_loads_the_model_of_a_run_by_its_address(sent, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    model = mlflow.pyfunc.load_model(f"models:/{sent.model_id}")
    answer = model.predict(pd.DataFrame({"user_id": ["user-0"]}), params={"k": 1})
    assert answer["item_id"][0] in {"book-1", "book-2", "book-3"}


def test_an_alias_is_found_as_the_version_that_it_means_now(sent, store):
    version = FoundModel("models:/bookends/1", "1", sent.run_id)
    for uri in ("models:/bookends@champion", version.uri):
        assert find_model(uri, store) == version
    of_run = f"runs:/{sent.run_id}/model"
    assert find_model(of_run, store) == FoundModel(of_run, run_id=sent.run_id)
    for uri in (f"models:/{sent.model_id}", "some@where"):
        assert find_model(uri, store) == FoundModel(uri)


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
    assert connect(store).get_experiment(sent.experiment_id).name == name
    path = resolve_bundle(f"runs:/{sent.run_id}/model", store)
    assert Recommender.load(path).provenance == {"run": "test"}
    assert path.is_relative_to(place / "mlruns")


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
