"""Two small recommenders, a store that holds versions of them, and applications over them."""

import contextlib
import logging
import os
import threading
import warnings

import pytest

with warnings.catch_warnings():  # Starlette would rather have httpx2, which hardly anyone has
    warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient`")
    from fastapi.testclient import TestClient

from experiments.serve import answers
from experiments.serve.app import Service, build_app
from experiments.serve.model import CurrentModel, ModelSource
from tracking.mirror import mirror  # noqa: F401  quiets what MLflow says while imported
from tracking.store import connect


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Undo what the command sets for a process of its own, in which it usually runs."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    loggers = [logging.getLogger(name) for name in ("bookends", "uvicorn")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def small_paths(tmp_path_factory, small_recommender):
    """Bundles of two models; users of the first like book-0 best, of the second book-1."""
    folder = tmp_path_factory.mktemp("small")
    for favourite in range(2):
        small_recommender([favourite] * 3).save(folder / str(favourite))
    return [folder / str(favourite) for favourite in range(2)]


@pytest.fixture(scope="session")
def load():
    """Gives what serves a model, with it loaded."""

    def build(uri, tracking_uri=None):
        current = CurrentModel(ModelSource(str(uri), tracking_uri))
        current.start()
        return current

    return build


@pytest.fixture(scope="session")
def registry_of_two(tmp_path_factory, copy_store, small_paths):
    """The address and client of a store with two versions of a model."""
    uri = copy_store(tmp_path_factory.mktemp("store"))
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
def champion(load, store):
    """What follows the alias, with version 1 loaded."""
    return load("models:/bookends@champion", store[0])


@pytest.fixture
def open_client(load):
    """Makes a client of an application over a model."""
    with contextlib.ExitStack() as clients:

        def build(uri, **settings):
            app = build_app(Service(load(uri), **settings))
            return clients.enter_context(TestClient(app, raise_server_exceptions=False))

        yield build


@pytest.fixture(scope="module")
def client(load, towers_path):
    """A client of an application over the recommender with towers."""
    app = build_app(Service(load(towers_path)))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def held_question(monkeypatch):
    """A question for recommendations is held up: set when it is in work, and to let it go on."""
    begun, may_end = threading.Event(), threading.Event()
    recommend = answers.recommend

    def slow(*asked):
        begun.set()
        assert may_end.wait(20)
        return (yield from recommend(*asked))

    monkeypatch.setattr(answers, "recommend", slow)
    yield begun, may_end
    may_end.set()


@pytest.fixture
def our_mistake(monkeypatch):
    """Questions for recommendations meet a mistake of ours."""

    def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(answers, "recommend", fail)
