"""The checkerboard and the sample bookshop, and recommenders of models of every kind on these."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from experiments.settings import load_config
from recsys.data.dataset import prepare
from recsys.evaluation.ranking import Vectors
from recsys.pipeline import build_trainer, evaluate_model
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
def trained(board_config, board_prepared):
    """(model, its evaluation, recommender) after training on the checkerboard."""
    config = board_config()
    trainer = build_trainer(config, board_prepared)
    for _ in trainer.epochs():
        pass
    judged = evaluate_model(trainer.model, board_prepared, config, None)
    recommender = Recommender.of(
        judged.vectors, board_prepared, {}, model=trainer.model, config=config
    )
    return trainer.model, judged.evaluation, recommender


@pytest.fixture(scope="session")
def shop_prepared():
    """The sample bookshop, prepared."""
    return prepare(sample_config().data, 0)


@pytest.fixture(scope="session")
def shop_recommender(untrained, shop_prepared):
    """Gives (model, recommender) for settings, of the sample."""
    return cache(lambda *overrides: untrained(sample_config(*overrides), shop_prepared))


@pytest.fixture(scope="session")
def shop(shop_recommender):
    """The recommender of a model with ids, histories and metadata on the sample bookshop."""
    return shop_recommender(
        "--model.user_encoder.id_embedding.type=embedding",
        "--model.user_encoder.feature_encoder.type=linear",
        "--model.user_encoder.fusion=adaptive_mimic",
    )[1]


@pytest.fixture(params=["max", "logsumexp"])
def several(request, shop):
    """The shop, where each user has four vectors drawn at random."""
    rng = np.random.default_rng(0)
    shape = (len(shop.users), 4, shop.vectors.items.shape[1])
    users = rng.standard_normal(shape, dtype=np.float32)
    return dataclasses.replace(shop, vectors=Vectors(users, shop.vectors.items, request.param))
