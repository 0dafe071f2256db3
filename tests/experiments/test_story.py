"""The whole story over a real tracking server: run, sweep, compare, register, serve, roll back."""

import json
from pathlib import Path

import pytest
import requests
import yaml
from mlflow import MlflowClient

from recsys.recommender import Recommender
from tests import forked
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TRAINED = {"weak": (2, 0.006), "again": (2, 0.006), "strong": (10, 0.01)}
"""Epochs and learning rate of each run."""


@pytest.fixture
def bookends(tmp_path):
    def call(*words, expected=0):
        done = forked.run("-m", "experiments", *words, cwd=tmp_path)
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


@pytest.fixture
def tracking_uri(tracking_server, tmp_path):
    with tracking_server(f"sqlite:///{tmp_path}/mlflow.db", tmp_path) as uri:
        yield uri


@pytest.fixture
def settings(tmp_path, tracking_uri):
    tree = yaml.safe_load((ROOT / "experiments" / "configs" / "quick.yaml").read_text())
    sample = ROOT / "data" / "sample"
    tree["model"]["popularity"] = False
    tree["data"] = {
        "books_path": str(sample / "books.csv"),
        "interactions_path": str(sample / "users.csv"),
        "cache_dir": str(tmp_path / "cache"),
    }
    tree["evaluation"]["baselines"] = []  # popularity is what the first one must beat
    tree["experiment"] = {"runs_dir": str(tmp_path / "runs"), "tracking_uri": tracking_uri}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump({"training.learning_rate": {"float": [0.0005, 0.005], "log": True}})
    )
    return tmp_path / "base.yaml"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_runs_to_a_served_champion_and_back(
    bookends, tracking_uri, settings, tmp_path, free_port, running
):
    for seed, (name, (epochs, rate)) in enumerate(TRAINED.items()):
        words = ["--experiment.run_name", name, "--training.num_epochs", str(epochs)]
        words += ["--training.learning_rate", str(rate), "--experiment.seed", str(seed % 2)]
        bookends("run", "--config", str(settings), *words)
    where = ["--tracking-uri", tracking_uri]
    search = ["--space", "space.yaml", "--config", str(settings), "--trials", "2", "--no-final"]
    search += ["--finalists", "0", "--baseline-trials", "0", "--training.num_epochs", "1"]
    bookends("sweep", *search, "--name", "story")
    assert "strong" in bookends("runs", *where)

    assert "strong is better than weak on NDCG@10" in bookends("compare", "weak", "strong", *where)
    bookends("register", "weak", *where)  # the first one need only beat popularity
    bookends("register", "again", *where, expected=1)
    # A model that has hardly learned lists more of what is not popular: it may lose half of that.
    bookends("register", "strong", "--margin", "0.5", *where)

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["experiments", "serve", "--model", "models:/bookends@champion", *where]
    command += ["--port", str(port), "--reload-seconds", "0.2"]
    with running(command, f"{address}/readyz", tmp_path):
        assert champion_lists(address, tmp_path / "runs" / "strong") == "3"
        client = MlflowClient(tracking_uri)
        assert [model.name for model in client.search_registered_models()] == ["bookends"]
        details = json.loads(client.get_model_version("bookends", "3").tags["bookends.details"])
        tags = client.get_logged_model(details["model_id"]).tags
        assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "bookends", "version": 3}]
        bookends("rollback", *where)
        wait_until(lambda: requests.get(f"{address}/model", timeout=5).json()["version"] == "1")
        assert champion_lists(address, tmp_path / "runs" / "weak") == "1"


def champion_lists(address, run_dir):
    """The version that answers, which must answer as the run's own model does."""
    recommender = Recommender.load(run_dir / "model")
    users = recommender.users.ids.to_pylist()[:5]
    question = {"user_ids": users, "k": 10}
    answer = requests.post(f"{address}/recommend", json=question, timeout=30).json()
    expected = recommender.recommend(users, 10)
    for result in answer["results"]:
        ranked = expected[expected["user_id"] == result["user_id"]]["item_id"].tolist()
        assert [item["item_id"] for item in result["items"]] == ranked
    return answer["model_version"]
