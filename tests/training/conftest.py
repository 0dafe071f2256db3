"""A tiny generated shop, and the forms of the model that training must do right by."""

import pytest

from experiments.settings import load_config, merge
from recsys.config import Config
from recsys.data.dataset import prepare
from recsys.data.sample.bookshop import write_sample

FORMS = {
    "softmax": {},
    "classic": {},  # over the fixture of that name
    "classic with history": {
        "model": {"user_encoder": {"history": {"pooling": "mean"}}},
    },
    "in_batch": {
        "training": {
            "objective": "sampled_softmax",
            "negative_sampling": "in_batch",
            "batch_size": 256,
        }
    },
    "sequence": {
        "model": {"user_encoder": {"history": {"pooling": "sequence", "layers": 1}}},
        "training": {"history_split": {"targets": "next"}},
    },
    "queries": {"model": {"user_encoder": {"queries": 3, "history": {"table": "own"}}}},
}


@pytest.fixture
def model_form(request, classic):
    """The changes that make a model of the named form; the classic ones on larger batches."""
    changes = FORMS[request.param]
    if request.param.startswith("classic"):
        changes = merge(merge(classic, changes), {"training": {"batch_size": 256}})
    return changes


def pytest_generate_tests(metafunc):
    if "model_form" in metafunc.fixturenames:
        metafunc.parametrize("model_form", FORMS, indirect=True)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Directory of a generated shop of 120 users and 250 items."""
    directory = tmp_path_factory.mktemp("shop")
    write_sample(directory, 0, n_users=120, n_items=250)
    return directory


@pytest.fixture(scope="session")
def shop_words(shop):
    """Overrides of a configuration that make it one of the shop, and small."""
    return [
        f"--data.books_path={shop}/books.csv",
        f"--data.interactions_path={shop}/users.csv",
        f"--data.cache_dir={shop}/cache",
        "--data.min_user_interactions=3",
        "--data.min_item_interactions=3",
        "--training.num_epochs=1",
        "--evaluation.candidate_samples=0",
        "--evaluation.bootstrap_samples=100",
    ]


@pytest.fixture(scope="session")
def shop_config(shop, shop_words):
    """Gives a small configuration of the shop with nested changes, checked."""
    base = load_config(None, shop_words).model_dump(mode="json", exclude_unset=True)
    ids = {"type": "none", "params": {"embedding_dim": 8}}
    base["model"] = {"user_encoder": {"id_embedding": ids}}
    base["training"]["batch_size"] = 32

    def build(changes=None):
        return Config.model_validate(merge(base, changes or {}))

    return build


@pytest.fixture(scope="session")
def shop_prepared(shop_config):
    """The shop, prepared."""
    return prepare(shop_config().data, 0)
