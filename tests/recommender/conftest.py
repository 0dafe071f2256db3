"""The sample bookshop, and recommenders of models of every kind on it."""

from pathlib import Path

import pytest

from experiments.settings import load_config
from recsys.data.dataset import prepare
from recsys.pipeline import build_trainer, model_vectors
from recsys.recommender import Recommender

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def sample_config(*overrides):
    files = [
        f"--data.books_path={SAMPLE}/books.csv",
        f"--data.interactions_path={SAMPLE}/users.csv",
        "--model.user_encoder.id_embedding.params.embedding_dim=16",
    ]
    return load_config(None, [*files, *overrides])


@pytest.fixture(scope="session")
def shop_prepared():
    """The sample bookshop, prepared."""
    return prepare(sample_config().data, 0)


@pytest.fixture(scope="session")
def shop_recommender(shop_prepared):
    """Gives (model, recommender) for settings; fresh weights, since nothing here is learned."""
    made = {}

    def build(*overrides):
        if overrides not in made:
            config = sample_config(*overrides)
            model = build_trainer(config, shop_prepared).model
            vectors = model_vectors(model, shop_prepared)
            recommender = Recommender.of(
                vectors, shop_prepared, {"run_name": "shop"}, model=model, config=config
            )
            made[overrides] = model, recommender
        return made[overrides]

    return build


@pytest.fixture(scope="session")
def shop(shop_recommender):
    """The recommender of a model with ids, histories and metadata on the sample bookshop."""
    return shop_recommender(
        "--model.user_encoder.id_embedding.type=embedding",
        "--model.user_encoder.feature_encoder.type=linear",
        "--model.user_encoder.fusion=adaptive_mimic",
    )[1]
