"""Where runs go."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from recsys.errors import TrackingError
from tests import forked
from tests.forked import Forked
from tracking.store import (
    STORE_ERRORS,
    connect,
    ensure_experiment,
    how_to_look,
    resolve_uri,
)

ROOT = Path(__file__).parents[2]
OPEN = "import sys; from tracking.store import connect; connect(sys.argv[1]).search_experiments()"


def test_the_setting_goes_before_the_environment_and_that_before_the_default(tmp_path, monkeypatch):
    assert resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://two")
    assert resolve_uri("http://one") == "http://one"
    assert resolve_uri(None) == "http://two"


@pytest.mark.parametrize(
    "uri", ["postgresql://ada:se@secret@db/x", "http://ada:80/secret@host", "http://a:b?secret@c"]
)
def test_a_password_that_a_driver_would_cut_and_show_is_refused(uri):
    with pytest.raises(TrackingError, match="@ as %40") as caught:
        resolve_uri(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "ftp://somewhere"])
def test_an_address_that_can_be_no_store_is_refused(uri):
    with pytest.raises(TrackingError, match="must start with sqlite"):
        resolve_uri(uri)


def test_patience_that_the_user_set_stays(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    connect(store)
    names = ("HTTP_REQUEST_MAX_RETRIES", "HTTP_REQUEST_TIMEOUT")
    assert [os.environ[f"MLFLOW_{name}"] for name in names] == ["9", "20"]
    assert os.environ["PGCONNECT_TIMEOUT"] == "20"


def test_a_database_that_takes_a_connection_and_says_nothing_is_given_up(monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")  # the least that it takes
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(STORE_ERRORS, match="timeout expired"):
        connect(f"postgresql+psycopg://ada@127.0.0.1:{silent.getsockname()[1]}/db")


def test_a_database_without_its_driver_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(TrackingError, match="psycopg2"):
        connect("postgresql+psycopg2://nobody@127.0.0.1:1/none")


def test_a_store_that_is_made_keeps_a_write_ahead_log(template_store):
    with sqlite3.connect(template_store) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


ADD = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    row = ("said", "so", 0)
    connection.execute(
        "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", row
    )
connection.close()
"""


def test_a_store_that_is_connected_to_twice_shows_what_other_processes_write(client, store):
    """A process whose locks are gone has its log deleted by the next one that ends."""
    path = Path(store.removeprefix("sqlite:///"))
    client.search_experiments()
    connect(store)
    subprocess.run([sys.executable, "-c", ADD, path], check=True)
    assert Path(f"{path}-wal").exists()
    assert client.get_experiment("0").tags["said"] == "so"


@pytest.mark.slow
def test_four_processes_may_touch_a_fresh_store_at_once(tmp_path):
    """Without the lock nearly every such race leaves a store that nobody can open again."""
    uri = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    processes = [Forked("-c", OPEN, uri, cwd=tmp_path) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    connect(uri).search_experiments()


@pytest.mark.parametrize("content", [None, "no database"])
def test_what_can_be_no_sqlite_store_is_told_at_once(tmp_path, content):
    place = tmp_path / "place"
    place.mkdir() if content is None else place.write_text(content)
    started = time.monotonic()
    with pytest.raises((TrackingError, *STORE_ERRORS), match=r"must be a file|not a database"):
        connect(f"sqlite:///{place}").search_experiments()
    assert time.monotonic() - started < 10
    if content is None:
        assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_an_experiment_is_made_once_and_its_artifacts_lie_beside_the_store(client, store, tmp_path):
    made = ensure_experiment(client, "my shelf")
    assert ensure_experiment(client, "my shelf") == made
    location = unquote(client.get_experiment(made).artifact_location)
    assert location == f"file://{tmp_path}/store/mlruns/my-shelf"


def test_an_experiment_made_by_another_process_meanwhile_is_used(client, store, monkeypatch):
    made = client.create_experiment("shelf")
    answers = iter([None, client.get_experiment(made)])
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: next(answers))
    assert ensure_experiment(client, "shelf") == made


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(client, store):
    made = client.create_experiment("shelf")
    client.delete_experiment(made)
    with pytest.raises(TrackingError, match=f"restore --experiment-id {made}"):
        ensure_experiment(client, "shelf")


def test_a_store_whose_maker_was_killed_is_made_again(tmp_path):
    """Half a schema is broken for good, so it must never stand in the store's place."""
    path = tmp_path / "mlflow.db"
    code = (
        "import os, tracking.store as store\n"
        "from mlflow.store.db import utils\n"
        "def die(engine):\n"
        "    utils.InitialBase.metadata.create_all(engine)\n"
        "    os.kill(os.getpid(), 9)\n"
        "utils._initialize_tables = die\n"
        f"store.connect('sqlite:///{path}')\n"
    )
    killed = forked.run("-c", code, cwd=tmp_path)
    assert killed.returncode == -9 and not path.exists()
    assert connect(f"sqlite:///{path}").search_experiments()


def test_a_run_is_shown_where_it_is_and_in_the_view_for_training():
    view = "#/experiments/1/runs/abc?workflowType=machine_learning"
    there = how_to_look("https://ann:secret@host/mlflow/", "1", "abc")
    assert there == {"run page": f"https://host/mlflow/{view}"}
    here = how_to_look("sqlite:////tmp/mlflow.db", "1", "abc")
    assert here["MLflow UI"].endswith("mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db")
    assert here["run page"] == f"http://127.0.0.1:5000/{view}"
