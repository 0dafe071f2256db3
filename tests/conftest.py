"""What tests of several packages share: tiny worlds with a known answer, on disk and prepared."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import deque
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["OMP_NUM_THREADS"] = "1"  # the worlds are tiny: a second thread costs more than it does
os.environ["OMP_WAIT_POLICY"] = "passive"  # as experiments does, before PyTorch is imported
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
)

import numpy as np
import pyarrow as pa
import pytest
import requests
import torch
from hypothesis import Phase, settings

from recsys.config import Config, merge
from recsys.data.dataset import prepare
from tests.checkerboard import checkerboard
from tests.forked import Forked
from tests.waiting import wait_until

# The first example may compile loops or import a library.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# For `make mutants`: a failure is enough, the smallest example of it is not asked for.
settings.register_profile(
    "first failure", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
torch.set_num_threads(1)
for _name in list(os.environ):  # settings of whoever runs the tests are none of theirs
    if _name.startswith("MLFLOW_") and _name != "MLFLOW_DISABLE_TELEMETRY":
        del os.environ[_name]
for _name in ("BOOKENDS_STORAGE", "BOOKENDS_TOKEN"):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(config, items):
    """Have each process that shares the suite begin with its share of the files of slow tests.

    They would come last by their names, and end minutes apart. Files stay whole: what their tests
    share is made once.
    """
    given = getattr(config, "workerinput", None)  # by pytest-xdist
    if given is None:
        return
    slow = list(dict.fromkeys(item.path for item in items if item.get_closest_marker("slow")))
    others = deque(item for item in items if item.path not in slow)
    n_processes, in_order = given["workercount"], []
    for process in range(n_processes):  # each takes the next of as many equal parts
        mine = set(slow[process::n_processes])
        in_order += [item for item in items if item.path in mine]
        n_missing = len(items) * (process + 1) // n_processes - len(in_order)
        in_order += [others.popleft() for _ in range(min(n_missing, len(others)))]
    items[:] = [*in_order, *others]


@pytest.fixture(scope="session")
def template_store(tmp_path_factory):
    """A tracking store that tests copy: making its schema takes a second."""
    from tracking.store import connect

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def copy_store(template_store):
    """Puts an empty tracking store into a directory and gives its address."""

    from tracking.store import sqlite_uri

    def copy(directory):
        shutil.copy(template_store, directory / "mlflow.db")
        return sqlite_uri(directory / "mlflow.db")

    return copy


@pytest.fixture(scope="session")
def board():
    """Even users like even items; each user's last item of the parity is withheld."""
    return checkerboard(40, 60)


@pytest.fixture(scope="session")
def board_settings(board, tmp_path_factory):
    """Settings of a small model on the checkerboard, to be changed by a test."""
    directory = tmp_path_factory.mktemp("board")
    books_path, interactions_path = board.write(directory)
    return {
        "data": {
            "books_path": str(books_path),
            "interactions_path": str(interactions_path),
            "cache_dir": str(directory / "cache"),
            "min_user_interactions": 1,
            "min_item_interactions": 1,
            "feature_params": {"title": False},
        },
        "model": {"user_encoder": {"id_embedding": {"params": {"embedding_dim": 8}}}},
        "training": {
            "num_epochs": 3,
            "batch_size": 4,
            "learning_rate": 0.02,
            "early_stopping": {"patience": None},
        },
        "evaluation": {"candidate_samples": 5, "bootstrap_samples": 100},
    }


@pytest.fixture(scope="session")
def classic():
    """Changes that make the model of a configuration the classic one: ids and metadata in both
    towers, without histories, on sampled negatives."""
    ids = {"type": "embedding", "params": {"embedding_dim": 8, "sparse": True, "dropout": 0.1}}
    encoder = {"type": "mlp", "hidden_dims": [16], "dropout": 0.1}
    return {
        "model": {
            "user_encoder": {
                "id_embedding": ids,
                "feature_encoder": encoder,
                "fusion": "adaptive_mimic",
                "history": {"pooling": "none"},
            }
        },
        "training": {
            "objective": "sampled_bce",
            "batch_size": 32,
            "negatives_per_positive": 2,
            "optimizer": "adam",
            "schedule": "constant",
            "refit": False,
        },
    }


@pytest.fixture(scope="session")
def board_config(board_settings):
    """Gives the settings of the checkerboard with nested changes, checked."""

    def build(changes=None):
        return Config.model_validate(merge(board_settings, changes or {}))

    return build


@pytest.fixture(scope="session")
def board_prepared(board_config):
    """The checkerboard, prepared."""
    return prepare(board_config().data, 0)


@pytest.fixture(scope="session")
def untrained():
    """Gives (model, recommender) for settings and data; fresh weights: nothing here is learned."""
    from recsys.pipeline import build_trainer, model_vectors
    from recsys.recommender import Recommender

    def build(config, prepared):
        model = build_trainer(config, prepared).model
        vectors = model_vectors(model, prepared)
        return model, Recommender.of(vectors, prepared, {"run": "test"}, model=model, config=config)

    return build


@pytest.fixture(scope="session")
def small_recommender():
    """Makes one of three users and four books: what each user likes best and has read is given."""
    from recsys.data.arrays import Bags
    from recsys.data.vocabulary import Vocabulary
    from recsys.evaluation.ranking import Vectors
    from recsys.recommender import Recommender
    from recsys.recommender.books import Books

    def build(favourites):
        items = np.eye(4, dtype=np.float32)
        books = {
            "item_id": [f"book-{number}" for number in range(4)],
            "title": ["One", "Two", "Three", "Four"],
            "author": [""] * 4,
            "categories": ["Odd", "Even", "Odd|Prime", "Even"],
        }
        return Recommender(
            users=Vocabulary(pa.array([f"user-{number}" for number in range(3)])),
            books=Books(pa.table(books)),
            vectors=Vectors(users=items[favourites], items=items),
            seen=Bags(np.array([0, 1, 2, 3]), np.array(favourites), 4),
            popularity=np.array([1, 2, 3, 4]),
            provenance={"run": "test"},
        )

    return build


@pytest.fixture(scope="session")
def towers(untrained, board_config, board_prepared):
    """A recommender with towers on the checkerboard, that can place new users and books."""
    return untrained(board_config(), board_prepared)[1]


@pytest.fixture(scope="session")
def towers_path(towers, tmp_path_factory):
    """The bundle of the recommender with towers."""
    path = tmp_path_factory.mktemp("bundles") / "towers"
    towers.save(path)
    return path


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _answers(address):
    try:
        return requests.get(address, timeout=1).status_code == 200
    except requests.RequestException:
        return False


@contextlib.contextmanager
def _running(command, address, directory, environ=()):
    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | dict(environ)
    process = Forked("-m", *command, cwd=directory, env=environ)
    try:
        wait_until(lambda: _answers(address), 120, process=process, said=process.said)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _tracking_server(store, directory, port=None):
    port = port or _free_port()
    command = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    uri = f"http://127.0.0.1:{port}"
    with _running(command, f"{uri}/health", directory):
        yield uri


@pytest.fixture(scope="session")
def free_port():
    """Gives a port that nobody listens at."""
    return _free_port


@pytest.fixture(scope="session")
def running():
    """Runs a server until the block ends: a module's name and words, from when an address answers.

    It has a process group of its own, that is ended with it.
    """
    return _running


@pytest.fixture(scope="session")
def tracking_server():
    """Runs a tracking server over a store until the block ends, at a port of the test's choice."""
    return _tracking_server


POSTGRES_PASSWORD = "hush-5f3a"


def _postgres_programs():
    """Directory of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL that asks for a password: gives the address of a database, made by name."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL, psycopg, is not installed")
    binaries = _postgres_programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # PostgreSQL refuses to run as root, so that root runs it as the user of its package.
    runuser = shutil.which("runuser", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    user = [runuser, "-u", "postgres", "--"] if os.geteuid() == 0 else []
    directory = Path(tempfile.mkdtemp(prefix="bookends-postgres-"))
    (directory / "password").write_text(POSTGRES_PASSWORD)
    if user:
        for path in (directory, directory / "password"):
            shutil.chown(path, "postgres", "postgres")
    port = _free_port()
    data, made = str(directory / "data"), set()

    def run(program, *arguments):
        command = [*user, str(binaries / program), *arguments]
        environ = os.environ | {"PGPASSWORD": POSTGRES_PASSWORD}
        subprocess.run(
            command, check=True, capture_output=True, cwd=directory, env=environ, timeout=120
        )

    def address(name):
        if name not in made:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", name)
            made.add(name)
        return f"postgresql+psycopg://postgres:{POSTGRES_PASSWORD}@127.0.0.1:{port}/{name}"

    try:
        file = f"--pwfile={directory / 'password'}"
        run("initdb", "-D", data, "-U", "postgres", "-A", "password", file, "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", str(directory / "log"), "-o", options, "start")
        yield address
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def nearly_full_disk(n_bytes):
    """No file grows beyond so many bytes: the last write is short and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(name="nearly_full_disk")
def give_nearly_full_disk():
    """A context in which files cannot grow beyond so many bytes."""
    return nearly_full_disk
