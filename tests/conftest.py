"""What tests of several packages share: tiny worlds with a known answer, on disk and prepared."""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

from recsys.config import Config
from recsys.data.checkerboard import checkerboard
from recsys.data.dataset import prepare

torch.set_num_threads(1)  # the worlds are tiny: handing work to a second thread costs more


def merged(base, changes):
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


@pytest.fixture(scope="session")
def board():
    """Even readers like even books; each reader's last book of the parity is withheld."""
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
            "features": {"title": False},
        },
        "model": {"embedding_dim": 8, "encoder": {"hidden_dims": [16]}},
        "training": {
            "num_epochs": 3,
            "batch_size": 32,
            "negatives_per_positive": 2,
            "learning_rate": 0.02,
            "early_stopping": {"patience": None},
        },
        "evaluation": {"candidate_samples": 5, "bootstrap_samples": 100},
    }


@pytest.fixture(scope="session")
def board_config(board_settings):
    """Gives the settings of the checkerboard with nested changes, checked."""

    def build(changes=None):
        return Config.model_validate(merged(board_settings, changes or {}))

    return build


@pytest.fixture(scope="session")
def board_prepared(board_config):
    """The checkerboard, prepared."""
    return prepare(board_config().data, 0)
