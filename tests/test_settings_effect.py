"""Every setting that is accepted has an effect: each one is changed alone, and something moves."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
import torch

from experiments.environment import configure_torch
from experiments.settings import flatten, merge
from recsys.config import Config, DataConfig
from recsys.config.section import nest
from recsys.data.dataset import prepare
from recsys.data.sample.bookshop import write_sample
from recsys.errors import ConfigError
from recsys.evaluation import ranking
from recsys.pipeline import build_trainer, evaluate_model
from recsys.training import device

BASE = {
    "data": {"min_user_interactions": 3, "min_item_interactions": 3},
    "model": {
        "user_encoder": {"id_embedding": {"type": "none", "params": {"embedding_dim": 8}}},
        "device": "cpu",
    },
    "training": {"num_epochs": 2, "batch_size": 64, "warmup_steps": 4},
    "evaluation": {"candidate_samples": 20, "bootstrap_samples": 100},
    "diagnostics": {"feature_corr_sample_size": 1000, "qualitative_users": 2},
}

PREPARED = {
    "data.books_limit": 200,
    "data.interactions_limit": 3000,
    "data.min_rating": 4,
    "data.min_user_interactions": 8,
    "data.min_item_interactions": 8,
    "data.feature_params.numeric_columns": ["price"],
    "data.split.strategy": "global_time",
    "data.split.validation_fraction": (0.3, {"data.split.strategy": "global_time"}),
    "data.split.n_test_items": (9, {"data.split.strategy": "cold_items"}),
    "data.split.n_validation_items": (9, {"data.split.strategy": "cold_items"}),
    "data.split.test_fraction": (0.3, {"data.split.strategy": "random"}),
    "data.feature_params.title": False,
    "data.feature_params.log_skewness": None,
    "data.feature_params.bag_kind": "hashed",
    "data.feature_params.series_top_k": 0,
    "data.feature_params.title_word_top_k": 20,
    "data.feature_params.title_ngram_top_k": 50,
    "data.feature_params.min_count": 4,
    "data.feature_params.idf": False,
    "data.feature_params.category_top_k": 5,
    "data.feature_params.author_top_k": 5,
    "data.feature_params.user_aggregation": "sum",
    "data.feature_params.half_life_days": (
        3.0,
        {"data.feature_params.user_aggregation": "time_decayed_mean"},
    ),
}
USER, ITEM = "model.user_encoder", "model.item_encoder"
# The item tower follows the user tower in what it does not say, so that it has to say what a
# setting of the user tower alone is held against.
ITEM_IDS = {
    f"{ITEM}.id_embedding.params.sparse": False,
    f"{ITEM}.id_embedding.params.max_norm": None,
    f"{ITEM}.id_embedding.params.dropout": 0.0,
    f"{ITEM}.id_embedding.params.initial_std": 0.1,
}
ITEM_METADATA = {
    f"{ITEM}.feature_encoder.type": "linear",
    f"{ITEM}.feature_encoder.hidden_dims": None,
    f"{ITEM}.feature_encoder.output_dim": None,
    f"{ITEM}.feature_encoder.dropout": None,
    f"{ITEM}.feature_encoder.bag_dim": None,
    f"{ITEM}.fusion": "sum",
}
USER_IDS = ITEM_IDS | {f"{USER}.id_embedding.type": "embedding"}
USER_METADATA = ITEM_METADATA | {
    f"{USER}.feature_encoder.type": "linear",
    f"{USER}.fusion": "sum",
}
USER_MLP = USER_METADATA | {f"{USER}.feature_encoder.type": "mlp"}
ITEM_MLP = {f"{ITEM}.feature_encoder.type": "mlp"}
SEQUENCE = {f"{USER}.history.pooling": "sequence"}
QUERIES = {f"{USER}.queries": 2}
NEXT = {"training.history_split.targets": "next"}
PAIRWISE = {"training.objective": "sampled_bce"}
POPULAR = PAIRWISE | {"training.negative_sampling": "popularity"}
CCL = {"training.objective": "ccl"}
BSL = {"training.objective": "bsl", "training.examples": "histories"}
STREAM = {
    f"{USER}.id_embedding.type": "embedding",
    f"{USER}.id_embedding.params.embedding_dim": 9,
    f"{USER}.id_embedding.params.sparse": (True, USER_IDS),
    f"{USER}.id_embedding.params.max_norm": (0.1, USER_IDS),
    f"{USER}.id_embedding.params.dropout": (0.5, USER_IDS),
    f"{USER}.id_embedding.params.initial_std": (0.5, USER_IDS),
    f"{USER}.feature_encoder.type": ("mlp", USER_METADATA),
    f"{USER}.feature_encoder.hidden_dims": ([8, 8], USER_MLP),
    f"{USER}.feature_encoder.output_dim": (5, USER_METADATA | {f"{USER}.fusion": "concat"}),
    f"{USER}.feature_encoder.dropout": (0.5, USER_MLP),
    f"{USER}.feature_encoder.bag_dim": (4, USER_METADATA),
    f"{USER}.fusion": ("concat", USER_METADATA),
    # Beside an id: by itself a sum is as long as it likes, since its cosine is taken.
    f"{USER}.history.pooling": ("mean", USER_IDS),
    f"{USER}.history.table": "own",
    f"{USER}.history.recency": "none",
    f"{USER}.history.ratings": False,
    f"{USER}.history.max_length": 3,
    f"{USER}.history.temperature_power": 0.25,
    f"{USER}.history.layers": (1, SEQUENCE),
    f"{USER}.history.heads": (1, SEQUENCE),
    f"{USER}.history.dropout": (0.5, SEQUENCE),
    f"{USER}.queries": 2,
    f"{USER}.query_score": ("max", QUERIES),
    f"{USER}.query_prior": (2.0, QUERIES),
    f"{ITEM}.id_embedding.type": "none",
    f"{ITEM}.id_embedding.params.sparse": True,
    f"{ITEM}.id_embedding.params.max_norm": 0.1,
    f"{ITEM}.id_embedding.params.dropout": 0.5,
    f"{ITEM}.id_embedding.params.initial_std": 0.5,
    f"{ITEM}.feature_encoder.type": "mlp",
    f"{ITEM}.feature_encoder.hidden_dims": ([8, 8], ITEM_MLP),
    f"{ITEM}.feature_encoder.output_dim": (5, {f"{ITEM}.fusion": "concat"}),
    f"{ITEM}.feature_encoder.dropout": (0.5, ITEM_MLP),
    f"{ITEM}.feature_encoder.bag_dim": 4,
    f"{ITEM}.fusion": "adaptive_mimic",
    "model.similarity": "dot",
    "model.temperature": 0.5,
    "model.learn_temperature": True,
    "model.popularity": False,
    "training.objective": "bpr",
    "training.examples": "pairs",
    "training.history_split.targets": "next",
    "training.history_split.input_share": [0.5, 0.6],
    "training.history_split.window": (3, NEXT),
    "training.history_split.after": (False, NEXT),
    "training.history_split.repeats": 2,
    "training.num_epochs": 1,
    "training.batch_size": 50,
    "training.negatives_per_positive": (2, PAIRWISE),
    "training.shared_negatives": (20, PAIRWISE),
    "training.negative_sampling": ("popularity", PAIRWISE),
    "training.popularity_alpha": (0.1, POPULAR),
    "training.softmax_max_items": 50,
    "training.log_q": (False, {"training.objective": "sampled_softmax"}),
    "training.calibration": (0.5, PAIRWISE),
    "training.margin": (0.1, CCL),
    "training.negative_weight": (2.0, CCL),
    "training.positive_temperature": (1.1, BSL),
    "training.optimizer": "sgd",
    "training.learning_rate": 0.1,
    "training.embedding_learning_rate": 0.1,
    "training.betas": [0.5, 0.9],
    "training.schedule": ("constant", {"training.warmup_steps": None}),
    "training.warmup_steps": 1,
    "training.weight_decay": 0.1,
    "training.mimic_weight": (1.0, {f"{ITEM}.fusion": "adaptive_mimic"}),
    "training.alignment_weight": 1.0,
    "training.early_stopping.patience": (
        1,
        {"training.num_epochs": 4, "training.early_stopping.min_delta": 1.0},
    ),
    "training.early_stopping.min_delta": (
        1.0,
        {
            "training.num_epochs": 4,
            "training.learning_rate": 0.001,  # slow enough to gain with every epoch
            "training.early_stopping.patience": 1,
        },
    ),
    "evaluation.metrics_k": [3, 10],
    "evaluation.validation_users": 50,
    "experiment.seed": 1,
}
OUTCOME = {
    "evaluation.candidate_samples": 0,
    "evaluation.baselines": ["popularity"],
    "evaluation.bootstrap_samples": 200,
    "evaluation.confidence": 0.5,
    "evaluation.segments.cold_max": 20,
    "evaluation.segments.head_share": 0.6,
    "diagnostics.qualitative_users": 1,
    "diagnostics.qualitative_k": 3,
    "diagnostics.item_sample_size": 20,
    "diagnostics.user_sample_size": 20,
    "diagnostics.neighbor_k": 3,
    "diagnostics.feature_corr_sample_size": 2000,
    "diagnostics.feature_corr_top_k": 3,
}
TESTED_APART = {
    "data.books_path",
    "data.interactions_path",
    "data.validation_path",
    "data.test_path",
    "data.cache_dir",
    "data.book_columns",
    "data.interaction_columns",
    "data.bad_rows",
    "data.split.order",
    f"{ITEM}.id_embedding.params.embedding_dim",
    "training.early_stopping.monitor",
    "training.refit",
    "training.sparse_optimizer",
    "model.device",
    "training.precision",
    "training.num_threads",
    "evaluation.baseline_memory_limit_mb",
    "evaluation.memory_limit_mb",
    "diagnostics.report_path",
    "experiment.name",
    "experiment.run_name",
    "experiment.runs_dir",
    "experiment.tags",
    "experiment.tracking",
    "experiment.tracking_uri",
    "experiment.system_metrics",
}
"""Below, or in the tests of what they decide."""


def test_every_setting_is_tried():
    tried = PREPARED.keys() | STREAM.keys() | OUTCOME.keys() | TESTED_APART
    assert tried == flatten(Config().model_dump(mode="json")).keys()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shop")
    write_sample(directory, 0, n_users=200, n_items=250)
    return directory


def build(shop, flat):
    paths = {
        "data.books_path": str(shop / "books.csv"),
        "data.interactions_path": str(shop / "users.csv"),
    }
    return Config.model_validate(merge(merge(BASE, nest(paths)), nest(flat)))


def with_and_without(shop, name, change):
    value, others = change if isinstance(change, tuple) else (change, {})
    return build(shop, others), build(shop, others | {name: value})


def digest(arrays):
    state = hashlib.sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array).tobytes())
        state.update(repr(array.shape).encode())
    return state.hexdigest()


def once_for_each_config(observe):
    """The base that a setting is held against is that of most others, and seen once."""
    seen = {}

    def look(config):
        key = config.model_dump_json()
        if key not in seen:
            seen[key] = observe(config)
        return seen[key]

    return look


@once_for_each_config
def observe_prepared(config):
    prepared = prepare(config.data, config.experiment.seed)
    parts = (prepared.train, prepared.validation, prepared.test)
    arrays = [array for part in parts for array in (part.users, part.items)]
    for features in (prepared.item_features, prepared.user_features):
        arrays.append(features.dense)
        arrays += [bags.indices for bags in features.bags.values()]
        arrays += [bags.weights for bags in features.bags.values() if bags.weights is not None]
    return digest(arrays)


@cache
def prepared_once(data, seed):
    """The data set of settings that are given as JSON."""
    return prepare(DataConfig.model_validate_json(data), seed)


def prepared_of(config):
    return prepared_once(config.data.model_dump_json(), config.experiment.seed)


@once_for_each_config
def observe_stream(config):
    return list(build_trainer(config, prepared_of(config)).epochs())


@once_for_each_config
def observe_outcome(config):
    prepared = prepared_of(config)
    trainer = build_trainer(config, prepared)
    list(trainer.epochs())
    outcome = evaluate_model(trainer.model, prepared, config, None)
    tables = [table.to_json() for table in outcome.tables]
    return json.dumps([tables, repr(outcome.evaluation.model)], sort_keys=True)


@pytest.mark.parametrize("name", PREPARED)
def test_a_setting_of_the_data_changes_what_is_prepared(shop, name):
    without, with_it = with_and_without(shop, name, PREPARED[name])
    assert observe_prepared(without) != observe_prepared(with_it)


@pytest.mark.parametrize("name", STREAM)
def test_a_setting_of_model_and_training_changes_the_epochs(shop, name):
    without, with_it = with_and_without(shop, name, STREAM[name])
    assert observe_stream(without) != observe_stream(with_it)


def test_both_towers_give_vectors_of_one_length(shop):
    changes = {f"{side}.id_embedding.params.embedding_dim": 9 for side in (USER, ITEM)}
    model = build_trainer(build(shop, changes), prepared_of(build(shop, {}))).model
    assert (model.user_tower.dim, model.item_tower.dim) == (9, 9)
    with pytest.raises(ValueError, match="8 in 'user_encoder' and 9 in 'item_encoder'"):
        build(shop, {f"{ITEM}.id_embedding.params.embedding_dim": 9})


@pytest.mark.parametrize("name", OUTCOME)
def test_a_setting_of_evaluation_and_diagnostics_changes_what_is_found(shop, name):
    without, with_it = with_and_without(shop, name, OUTCOME[name])
    assert observe_outcome(without) != observe_outcome(with_it)


def test_the_monitored_metric_decides_the_best_epoch(shop):
    best = {}
    for monitor in ("ndcg@10", "recall@20"):
        flat = {"training.num_epochs": 12, "training.early_stopping.patience": None}
        config = build(shop, flat | {"training.early_stopping.monitor": monitor})
        trainer = build_trainer(config, prepare(config.data, 0))
        history = list(trainer.epochs())
        values = [result.validation[monitor] for result in history]
        best[monitor] = (trainer.best_epoch, 1 + int(np.argmax(values)))
    assert all(kept == highest for kept, highest in best.values())


@pytest.mark.parametrize("monitor", [None, "ndcg@10"])
def test_new_items_held_out_are_watched_alone_unless_said_otherwise(shop, monitor):
    flat = {
        "data.split.strategy": "cold_items",
        "training.num_epochs": 6,
        "training.early_stopping.patience": None,
        "training.early_stopping.monitor": monitor,
    }
    config = build(shop, flat)
    trainer = build_trainer(config, prepare(config.data, 0))
    history = list(trainer.epochs())
    values = [result.validation[monitor or "new_ndcg@10"] for result in history]
    assert trainer.best_epoch == 1 + int(np.argmax(values))


def test_sparse_embeddings_are_stepped_by_sparse_adam(shop):
    sparse = {f"{ITEM}.id_embedding.params.sparse": True}
    config = build(shop, sparse | {"training.sparse_optimizer": "sparse_adam"})
    assert config == build(shop, sparse)
    trainer = build_trainer(config, prepared_of(config))
    assert set(trainer.state_dict()["optimizer"]) == {"dense", "sparse"}
    config = build(shop, {})
    trainer = build_trainer(config, prepared_of(config))
    assert set(trainer.state_dict()["optimizer"]) == {"dense"}


def test_the_number_of_threads_is_taken_over(shop):
    before = torch.get_num_threads()
    try:
        configure_torch(build(shop, {"training.num_threads": 2}))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_precision_changes_the_loss_by_its_rounding(shop):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = build(shop, {"training.precision": precision})
        losses[precision] = next(build_trainer(config, prepare(config.data, 0)).epochs()).train_loss
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.002)


@pytest.mark.parametrize(("is_fast", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_the_precision_that_the_processor_computes_in(monkeypatch, is_fast, precision):
    monkeypatch.setattr(device, "is_fast", lambda: is_fast)
    assert device.resolve_precision("auto", torch.device("cpu")) == precision
    assert device.resolve_precision("auto", torch.device("cuda")) == "float32"
    assert device.resolve_precision("float32", torch.device("cpu")) == "float32"
    assert device.resolve_precision("bfloat16", torch.device("cpu")) == "bfloat16"


def test_the_device_is_where_the_weights_are(shop):
    config = build(shop, {"model.device": "cpu"})
    trainer = build_trainer(config, prepare(config.data, 0))
    assert {parameter.device.type for parameter in trainer.model.parameters()} == {"cpu"}
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a CUDA device"):
            build_trainer(build(shop, {"model.device": "cuda"}), prepare(config.data, 0))


def test_the_memory_limit_reaches_the_ranking(shop, monkeypatch):
    limits = []
    rank = ranking.rank

    def listen(*arguments, memory_limit_mb, **options):
        limits.append(memory_limit_mb)
        return rank(*arguments, memory_limit_mb=memory_limit_mb, **options)

    monkeypatch.setattr("recsys.evaluation.evaluation.rank", listen)
    observe_stream(build(shop, {"evaluation.memory_limit_mb": 77, "training.num_epochs": 1}))
    assert limits == [77]
