"""What the model must be able to learn, where the right answer is known."""

from pathlib import Path

import numpy as np
import pytest

from experiments.settings import load_config
from recsys.data.dataset import prepare
from recsys.pipeline import build_trainer, judge, model_vectors
from recsys.recommender import Recommender

ROOT = Path(__file__).parents[1]
FUSIONS = ("identity", "sum", "concat", "adaptive_mimic")


def both(fusion):
    return {"user_tower": {"fusion": fusion}, "item_tower": {"fusion": fusion}}


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_the_checkerboard(
    board, board_config, board_prepared, fusion, similarity
):
    """Even readers like even books: the one withheld book must rank first."""
    config = board_config(
        {
            "model": {**both(fusion), "similarity": similarity},
            # Few epochs: the withheld book is among the reader's negatives, and ids can in the
            # end learn by heart what metadata cannot.
            "training": {"num_epochs": 6},
        }
    )
    trainer = build_trainer(config, board_prepared)
    for _ in trainer.epochs():
        pass
    vectors = model_vectors(trainer.model, board_prepared)
    recommender = Recommender.of(vectors, board_prepared, {}, model=trainer.model, config=config)
    top = recommender.recommend(list(board.withheld), k=1)
    right = [board.withheld[row.user_id] == row.item_id for row in top.itertuples()]
    assert len(right) == 40 and np.mean(right) > 0.9


@pytest.mark.slow
def test_adaptive_mimic_beats_identity_on_the_cold_books_of_the_sample():
    """Ids of books that hardly anyone has read say nothing; their metadata says what the
    generator's readers choose by."""
    recall = {}
    for fusion in ("identity", "adaptive_mimic"):
        config = load_config(
            None,
            [
                f"--data.books_path={ROOT}/data/sample/books.csv",
                f"--data.interactions_path={ROOT}/data/sample/users.csv",
                f"--model.user_tower.fusion={fusion}",
                f"--model.item_tower.fusion={fusion}",
            ],
        )
        prepared = prepare(config.data, 0)
        trainer = build_trainer(config, prepared)
        for _ in trainer.epochs():
            pass
        trainer.restore_best()
        outcome = judge(trainer.model, prepared, config, None)
        segments = outcome.evaluation.segments.to_frame().set_index(["kind", "segment"])
        recall[fusion] = segments.loc[("items", "cold"), "recall@10"]
    # About 440 held-out cold books: the standard error of either share is below 0.02.
    assert recall["adaptive_mimic"] > recall["identity"] + 0.04, recall
