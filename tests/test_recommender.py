import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recsys.errors import ArtifactError, ConfigError
from recsys.pipeline import build_trainer, judge, model_vectors
from recsys.recommender import Recommender


@pytest.fixture(scope="module")
def trained(board_config, board_prepared):
    config = board_config()
    trainer = build_trainer(config, board_prepared)
    for _ in trainer.epochs():
        pass
    return trainer.model, config


@pytest.fixture(scope="module")
def recommender(trained, board_prepared):
    vectors = model_vectors(trained[0], board_prepared)
    return Recommender.of(vectors, board_prepared, {"run_name": "board"})


@pytest.fixture
def saved(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    return tmp_path / "model"


def test_saved_and_loaded_give_equal_lists(recommender, saved, board):
    readers = [*board.withheld, "stranger"]
    before, after = (
        each.recommend(readers, k=5) for each in (recommender, Recommender.load(saved))
    )
    assert before.equals(after)
    assert Recommender.load(saved).provenance == {"run_name": "board"}


def test_the_lists_are_those_that_evaluation_saw(trained, recommender, board_prepared):
    outcome = judge(*[trained[0], board_prepared, trained[1]], None)
    ranking = outcome.evaluation.ranking
    readers = board_prepared.users.id_of(ranking.users)
    served = recommender.recommend(readers, k=ranking.items.shape[1])
    evaluated = [
        (reader, item)
        for reader, row in zip(readers, ranking.items, strict=True)
        for item in board_prepared.items.id_of(row[row >= 0])
    ]
    assert list(zip(served["user_id"], served["item_id"], strict=True)) == evaluated


def test_no_seen_item_is_recommended_unless_asked_for(recommender, board_prepared, board):
    readers = list(board.withheld)
    everything = recommender.recommend(readers, k=60)
    seen = set()
    for part in (board_prepared.train, board_prepared.validation):
        ids = board_prepared.users.id_of(part.users), board_prepared.items.id_of(part.items)
        seen |= set(zip(*ids, strict=True))
    listed = set(zip(everything["user_id"], everything["item_id"], strict=True))
    assert not listed & seen
    assert len(listed) + len(seen) == 40 * 60
    assert len(recommender.recommend(readers, k=60, exclude_seen=False)) == 40 * 60


def test_each_list_is_ranked_by_falling_score_and_answers_come_in_the_order_asked(recommender):
    answer = recommender.recommend(["r0003", "nobody", "r0001", "r0003"], k=4)
    assert list(answer["user_id"]) == ["r0003"] * 4 + ["nobody"] * 4 + ["r0001"] * 4 + ["r0003"] * 4
    assert list(answer["rank"]) == [1, 2, 3, 4] * 4
    for start in range(0, 16, 4):
        assert (np.diff(answer["score"][start : start + 4]) <= 0).all()


def test_a_reader_the_model_does_not_know_gets_popular_books_and_is_told(recommender):
    answer = recommender.recommend(["nobody", "r0000"], k=3)
    assert list(answer["source"]) == ["popularity"] * 3 + ["model"] * 3
    counts = dict(
        zip(recommender.items.ids.to_pylist(), recommender.popularity.tolist(), strict=True)
    )
    most = sorted(counts.values(), reverse=True)[:3]
    assert [counts[item] for item in answer["item_id"][:3]] == most


@pytest.mark.parametrize("k", [0, 61])
def test_an_impossible_list_length_is_refused(recommender, k):
    with pytest.raises(ConfigError, match=f"'k' must be from 1 to 60, the catalogue, got {k}"):
        recommender.recommend(["r0000"], k=k)


def test_nothing_in_the_bundle_is_a_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "items.arrow",
        "recommender.json",
        "users.arrow",
        "vectors.safetensors",
    ]


@pytest.mark.parametrize("name", ["items.arrow", "recommender.json", "vectors.safetensors"])
def test_a_damaged_or_missing_part_is_refused(saved, name):
    path = saved / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="must hold a whole recommender"):
        Recommender.load(saved)
    path.unlink()
    with pytest.raises(ArtifactError, match="must hold a whole recommender"):
        Recommender.load(saved)


def test_tensors_that_do_not_fit_the_ids_are_refused(saved):
    path = saved / "vectors.safetensors"
    tensors = load_file(path)
    tensors["user_vectors"] = tensors["user_vectors"][:-1]
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="'user_vectors' must have 40 rows, got 39"):
        Recommender.load(saved)


def test_another_format_is_refused(saved):
    path = saved / "recommender.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ArtifactError, match="must be of format 1, got 99"):
        Recommender.load(saved)


def test_saving_again_replaces_the_bundle(recommender, saved):
    (saved / "stale").write_text("old")
    recommender.save(saved)
    assert not (saved / "stale").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
