"""What the model must be able to learn, where the right answer is known."""

from pathlib import Path

import numpy as np
import pytest

from experiments.settings import load_config, merge
from recsys.data.dataset import prepare
from recsys.pipeline import build_trainer, evaluate_model, model_vectors
from recsys.recommender import Recommender

ROOT = Path(__file__).parents[1]
FUSIONS = ("identity", "sum", "concat", "adaptive_mimic", "dual_augmented")
OBJECTIVES = ("sampled_bce", "bpr", "sampled_softmax", "softmax", "ccl", "bsl")


def both(fusion):
    """Ids in both towers, fused with metadata."""
    encoder = {"type": "none" if fusion == "identity" else "linear"}
    return {"model": {"user_encoder": {"feature_encoder": encoder, "fusion": fusion}}}


def trained(config, prepared):
    trainer = build_trainer(config, prepared)
    for _ in trainer.epochs():
        pass
    vectors = model_vectors(trainer.model, prepared)
    return Recommender.of(vectors, prepared, {}, model=trainer.model, config=config)


def share_of_right(recommender, board):
    """Of users, to whom the one withheld item of their parity is shown first."""
    top = recommender.recommend(list(board.withheld), k=1)
    right = [board.withheld[row.user_id] == row.item_id for row in top.itertuples()]
    assert len(right) == 40
    return np.mean(right)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_of_the_classic_model_learns_the_checkerboard(
    board, board_config, board_prepared, classic, fusion, similarity
):
    """Even users like even items: the one withheld item must rank first."""
    # Few epochs: the withheld item is among the user's negatives, and ids can in the end learn by
    # heart what metadata cannot; a hidden layer over both takes longer to learn either.
    towers = {"user_encoder": {"fusion": fusion}, "item_encoder": {"fusion": fusion}}
    changes = {
        "model": towers | {"similarity": similarity},
        "training": {
            "num_epochs": 24 if fusion == "dual_augmented" else 12,
            "batch_size": 128,
            "learning_rate": 0.05,
        },
    }
    changes = merge(classic, changes)
    assert share_of_right(trained(board_config(changes), board_prepared), board) > 0.9


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_the_checkerboard_from_histories(
    board, board_config, board_prepared, fusion
):
    changes = merge(both(fusion), {"training": {"num_epochs": 10}})
    assert share_of_right(trained(board_config(changes), board_prepared), board) > 0.9


@pytest.mark.parametrize("examples", ["pairs", "histories"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_the_checkerboard(
    board, board_config, board_prepared, objective, examples
):
    training = {"objective": objective, "examples": examples, "num_epochs": 10}
    training |= {"batch_size": 4 if examples == "histories" else 64}
    config = board_config({"training": training})
    assert share_of_right(trained(config, board_prepared), board) > 0.9


HISTORIES = {
    "mean": {"history": {"pooling": "mean"}},
    "sqrt": {"history": {"pooling": "sqrt"}},
    "attention": {"history": {"pooling": "attention"}},
    "sequence": {"history": {"pooling": "sequence", "layers": 1}},
    "own table": {"history": {"table": "own"}},
    "several queries": {"queries": 2},
    "the best of several queries": {"queries": 2, "query_score": "max"},
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_user_whom_training_never_saw_is_placed_by_its_history(
    board_config, board_prepared, name
):
    """Whoever has some even items is shown even ones, with no retraining."""
    unknown = {"id_embedding": {"type": "none", "params": {"embedding_dim": 8}}}
    changes = {"model": {"user_encoder": unknown | HISTORIES[name]}}
    config = board_config(merge(changes, {"training": {"num_epochs": 10}}))
    recommender = trained(config, board_prepared)
    rng = np.random.default_rng(0)
    liked = [
        [f"b{2 * place + user % 2:04d}" for place in rng.permutation(30)[: rng.integers(3, 12)]]
        for user in range(20)
    ]
    shown = recommender.recommend_for_liked(liked, k=5)
    assert set(shown["source"]) == {"fold_in"}
    parity = shown["item_id"].str[1:].astype(int) % 2
    assert (parity == shown["position"] % 2).mean() > 0.9


def test_the_metadata_of_its_items_places_a_user_without_ids_and_history(
    board, board_config, board_prepared
):
    tower = {
        "id_embedding": {"type": "none", "params": {"embedding_dim": 8}},
        "history": {"pooling": "none"},
        "feature_encoder": {"type": "linear"},
        "fusion": "sum",
    }
    training = {"num_epochs": 10, "batch_size": 64}
    config = board_config({"model": {"user_encoder": tower}, "training": training})
    recommender = trained(config, board_prepared)
    top = recommender.recommend(list(board.withheld), k=1)
    parity = {user: int(item[1:]) % 2 for user, item in board.withheld.items()}
    right = [parity[row.user_id] == int(row.item_id[1:]) % 2 for row in top.itertuples()]
    assert np.mean(right) == 1


@pytest.mark.slow
def test_adaptive_mimic_beats_identity_on_the_cold_items_of_the_sample():
    """Ids of items that hardly anyone has say nothing; their metadata says what the generator's
    users choose by."""
    recall = {}
    for fusion in ("identity", "adaptive_mimic"):
        words = [
            f"--data.books_path={ROOT}/data/sample/books.csv",
            f"--data.interactions_path={ROOT}/data/sample/users.csv",
            f"--model.user_encoder.fusion={fusion}",
            f"--model.item_encoder.fusion={fusion}",
            "--evaluation.baselines=[]",
            "--evaluation.bootstrap_samples=100",
        ]
        config = load_config(ROOT / "experiments" / "configs" / "classic.yaml", words)
        prepared = prepare(config.data, 0)
        trainer = build_trainer(config, prepared)
        for _ in trainer.epochs():
            pass
        trainer.restore_best()
        outcome = evaluate_model(trainer.model, prepared, config, None)
        segments = outcome.evaluation.tables["segments"].to_frame().set_index(["kind", "segment"])
        recall[fusion] = segments.loc[("items", "cold"), "recall@10"]
    # About 440 held-out cold items: the standard error of either share is below 0.02.
    assert recall["adaptive_mimic"] > recall["identity"] + 0.04, recall
