"""Two small recommenders, a store that holds versions of them, and applications over them."""

import contextlib
import warnings

import numpy as np
import pyarrow as pa
import pytest

with warnings.catch_warnings():  # Starlette would rather have httpx2, which hardly anyone has
    warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient`")
    from fastapi.testclient import TestClient

from experiments.serve.app import build_app
from experiments.serve.meters import Meters
from experiments.serve.model import CurrentModel, ModelSource
from recsys.data.arrays import Bags
from recsys.data.vocabulary import Vocabulary
from recsys.evaluation.ranking import Vectors
from recsys.recommender import Recommender
from recsys.recommender.books import Books
from tracking.mirror import mirror  # noqa: F401  quiets what MLflow says while imported
from tracking.store import connect


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def small(favourite):
    """Three users, four books; every user likes one book best, has read it, and it is named."""
    items = np.eye(4, dtype=np.float32)
    books = {
        "item_id": [f"book-{number}" for number in range(4)],
        "title": ["One", "Two", "Three", "Four"],
        "categories": ["Odd", "Even", "Odd|Prime", "Even"],
    }
    return Recommender(
        users=Vocabulary(pa.array([f"user-{number}" for number in range(3)])),
        books=Books.of(pa.table(books)),
        vectors=Vectors(users=np.tile(items[favourite], (3, 1)), items=items),
        seen=Bags(np.array([0, 1, 2, 3]), np.array([favourite] * 3), 4),
        popularity=np.array([1, 2, 3, 4]),
        provenance={"favourite": favourite},
    )


@pytest.fixture(scope="session")
def small_paths(tmp_path_factory):
    """Bundles of two models; users of the first like book-0 best, of the second book-1."""
    folder = tmp_path_factory.mktemp("small")
    for favourite in range(2):
        small(favourite).save(folder / str(favourite))
    return [folder / str(favourite) for favourite in range(2)]


@pytest.fixture(scope="session")
def registry_of_two(tmp_path_factory, small_paths):
    """The address and client of a store with two versions of a model."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    client = connect(uri)
    client.create_registered_model("bookends")
    for path in small_paths:
        client.create_model_version("bookends", path.as_uri())
    return uri, client


@pytest.fixture
def store(registry_of_two):
    """The same; the alias points to version 1."""
    uri, client = registry_of_two
    client.set_registered_model_alias("bookends", "champion", "1")
    return uri, client


@pytest.fixture
def champion(store):
    """What follows the alias, with version 1 loaded, and its counters."""
    meters = Meters()
    current = CurrentModel(ModelSource("models:/bookends@champion", store[0]), meters)
    current.start()
    return current, meters


@pytest.fixture
def open_client():
    """Makes a client of an application over a model."""
    with contextlib.ExitStack() as clients:

        def build(uri, **settings):
            meters = Meters()
            current = CurrentModel(ModelSource(str(uri)), meters)
            current.start()
            app = build_app(current, meters, **settings)
            return clients.enter_context(TestClient(app, raise_server_exceptions=False))

        yield build


@pytest.fixture(scope="module")
def client(towers_path):
    """A client of an application over the recommender with towers."""
    meters = Meters()
    current = CurrentModel(ModelSource(str(towers_path)), meters)
    current.start()
    with TestClient(build_app(current, meters), raise_server_exceptions=False) as client:
        yield client
