"""Every setting that is accepted has an effect: each one is changed alone, and something moves."""

import hashlib
import json

import numpy as np
import pytest
import torch

from experiments.console import RunConsole
from experiments.runner import configure_torch, run
from experiments.settings import flatten, merge
from recsys.config import Config
from recsys.data.dataset import prepare, prepare_cached
from recsys.data.synthetic import write_sample
from recsys.errors import ConfigError, DataError
from recsys.evaluation import ranking
from recsys.pipeline import build_trainer, judge
from recsys.training import device

BASE = {
    "data": {"min_user_interactions": 3, "min_item_interactions": 3},
    "model": {"embedding_dim": 8, "encoder": {"hidden_dims": [16]}},
    "training": {"num_epochs": 2, "batch_size": 256, "learning_rate": 0.01, "device": "cpu"},
    "evaluation": {"candidate_samples": 20, "bootstrap_samples": 100},
    "diagnostics": {"correlation_pairs": 1000, "qualitative_users": 2},
}

PREPARED = {
    "data.books_limit": 200,
    "data.interactions_limit": 3000,
    "data.min_rating": 4,
    "data.min_user_interactions": 8,
    "data.min_item_interactions": 8,
    "data.numeric_columns": ["price"],
    "data.split.strategy": "global_time",
    "data.split.validation_fraction": (0.3, {"data.split.strategy": "global_time"}),
    "data.split.test_fraction": (0.3, {"data.split.strategy": "random"}),
    "data.features.title": False,
    "data.features.log_skewness": None,
    "data.features.categories.kind": "hashed",
    "data.features.categories.size": 5,
    "data.features.authors.kind": "hashed",
    "data.features.authors.size": 5,
    "data.features.user_aggregate": "sum",
    "data.features.half_life_days": (
        3.0,
        {"data.features.user_aggregate": "time_decayed_mean"},
    ),
}
DENSE = {"model.sparse": False}
POPULAR = {"training.negative_sampling": "popularity"}
STREAM = {
    "model.embedding_dim": 9,
    "model.sparse": False,
    "model.max_norm": (0.1, DENSE),
    "model.id_dropout": 0.5,
    "model.user_tower.fusion": "sum",
    "model.item_tower.fusion": "identity",
    "model.encoder.kind": ("linear", {"model.encoder.hidden_dims": None}),
    "model.encoder.hidden_dims": [8, 8],
    "model.encoder.dropout": 0.5,
    "model.encoder.categories.encoding": "embedding",
    "model.encoder.categories.dim": (4, {"model.encoder.categories.encoding": "embedding"}),
    "model.encoder.authors.encoding": "embedding",
    "model.encoder.authors.dim": (4, {"model.encoder.authors.encoding": "embedding"}),
    "model.similarity": "dot",
    "model.temperature": 0.5,
    "model.learn_temperature": False,
    "training.num_epochs": 1,
    "training.batch_size": 100,
    "training.negatives_per_positive": 2,
    "training.negative_sampling": "popularity",
    "training.popularity_alpha": (0.1, POPULAR),
    "training.optimizer": "sgd",
    "training.learning_rate": 0.1,
    "training.embedding_learning_rate": 0.1,
    "training.weight_decay": 0.1,
    "training.mimic_weight": 1.0,
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
    "evaluation.ks": [3, 10],
    "evaluation.validation_users": 50,
    "experiment.seed": 1,
}
OUTCOME = {
    "evaluation.candidate_samples": 0,
    "evaluation.bootstrap_samples": 200,
    "evaluation.confidence": 0.5,
    "evaluation.segments.cold_max": 20,
    "evaluation.segments.head_share": 0.6,
    "diagnostics.qualitative_users": 1,
    "diagnostics.qualitative_k": 3,
    "diagnostics.neighbours": 3,
    "diagnostics.top_features": 3,
    "diagnostics.correlation_pairs": 2000,
}
TESTED_BELOW = {
    "data.books_path",
    "data.interactions_path",
    "data.cache_dir",
    "data.book_columns",
    "data.interaction_columns",
    "data.bad_rows",
    "data.split.order",
    "training.early_stopping.monitor",
    "training.sparse_optimizer",
    "training.device",
    "training.precision",
    "training.num_threads",
    "evaluation.memory_limit_mb",
    "diagnostics.report_path",
    "experiment.name",
    "experiment.run_name",
    "experiment.runs_dir",
    "experiment.tracking",
    "experiment.tracking_uri",
}


def test_every_setting_is_tried():
    tried = PREPARED.keys() | STREAM.keys() | OUTCOME.keys() | TESTED_BELOW
    assert tried == flatten(Config().model_dump(mode="json")).keys()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shop")
    write_sample(directory, 0, n_users=200, n_items=250)
    return directory


def nested(flat):
    tree = {}
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def build(shop, flat):
    paths = {
        "data.books_path": str(shop / "books.csv"),
        "data.interactions_path": str(shop / "users.csv"),
    }
    return Config.model_validate(merge(merge(BASE, nested(paths)), nested(flat)))


def with_and_without(shop, name, change):
    value, others = change if isinstance(change, tuple) else (change, {})
    return build(shop, others), build(shop, others | {name: value})


def digest(arrays):
    state = hashlib.sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array).tobytes())
        state.update(repr(array.shape).encode())
    return state.hexdigest()


def observe_prepared(config):
    prepared = prepare(config.data, config.experiment.seed)
    parts = (prepared.train, prepared.validation, prepared.test)
    arrays = [array for part in parts for array in (part.users, part.items)]
    for features in (prepared.item_features, prepared.user_features):
        arrays.append(features.dense)
        arrays += [bags.indices for bags in features.bags.values()]
        arrays += [bags.weights for bags in features.bags.values() if bags.weights is not None]
    return digest(arrays)


def observe_stream(config):
    trainer = build_trainer(config, prepare(config.data, config.experiment.seed))
    return list(trainer.epochs())


def observe_outcome(config):
    prepared = prepare(config.data, config.experiment.seed)
    trainer = build_trainer(config, prepared)
    list(trainer.epochs())
    outcome = judge(trainer.model, prepared, config, None)
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


@pytest.mark.parametrize("name", OUTCOME)
def test_a_setting_of_evaluation_and_diagnostics_changes_what_is_found(shop, name):
    without, with_it = with_and_without(shop, name, OUTCOME[name])
    assert observe_outcome(without) != observe_outcome(with_it)


def test_columns_are_mapped(shop, tmp_path):
    for file, old, new in (("books", "item_id", "asin"), ("users", "user_id", "reader")):
        text = (shop / f"{file}.csv").read_text().replace(old, new, 1)
        (tmp_path / f"{file}.csv").write_text(text)
    mapping = {
        "data.book_columns": {"item_id": "asin"},
        "data.interaction_columns": {"user_id": "reader"},
    }
    mapped = build(tmp_path, mapping)
    assert observe_prepared(mapped) == observe_prepared(build(shop, {}))


def test_the_order_of_rows_decides_where_it_is_asked_to(shop, tmp_path):
    header, *rows = (shop / "users.csv").read_text().splitlines()
    (tmp_path / "books.csv").write_text((shop / "books.csv").read_text())
    (tmp_path / "users.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    turned = {"data.split.order": "rows"}
    assert observe_prepared(build(tmp_path, {})) == observe_prepared(build(shop, {}))
    assert observe_prepared(build(tmp_path, turned)) != observe_prepared(build(shop, turned))


def test_bad_rows_are_dropped_where_asked_for(shop, tmp_path):
    for name in ("books.csv", "users.csv"):
        (tmp_path / name).write_text((shop / name).read_text())
    with (tmp_path / "users.csv").open("a") as file:
        file.write("u1,b1,excellent,1\n")
    dropping = build(tmp_path, {"data.bad_rows": "drop"})
    assert observe_prepared(dropping) == observe_prepared(build(shop, {}))
    with pytest.raises(DataError, match="excellent"):
        prepare(build(tmp_path, {}).data, 0)


def test_the_cache_lies_where_it_is_asked_for(shop, tmp_path):
    prepare_cached(build(shop, {"data.cache_dir": str(tmp_path / "kept")}).data, 0)
    assert any((tmp_path / "kept").iterdir())


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


def test_sparse_embeddings_are_stepped_by_sparse_adam(shop):
    config = build(shop, {"training.sparse_optimizer": "sparse_adam"})
    trainer = build_trainer(config, prepare(config.data, 0))
    assert set(trainer.state_dict()["optimizer"]) == {"dense", "sparse"}
    config = build(shop, {"model.sparse": False})
    trainer = build_trainer(config, prepare(config.data, 0))
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
    config = build(shop, {"training.device": "cpu"})
    trainer = build_trainer(config, prepare(config.data, 0))
    assert {parameter.device.type for parameter in trainer.model.parameters()} == {"cpu"}
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a CUDA device"):
            build_trainer(build(shop, {"training.device": "cuda"}), prepare(config.data, 0))


def test_the_memory_limit_reaches_the_ranking(shop, monkeypatch):
    limits = []
    rank = ranking.rank

    def listen(*arguments, memory_limit_mb, **options):
        limits.append(memory_limit_mb)
        return rank(*arguments, memory_limit_mb=memory_limit_mb, **options)

    monkeypatch.setattr("recsys.evaluation.evaluation.rank", listen)
    observe_stream(build(shop, {"evaluation.memory_limit_mb": 77, "training.num_epochs": 1}))
    assert limits == [77]


def test_names_and_places_are_where_the_run_is_found(shop, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    flat = {
        "data.cache_dir": str(tmp_path / "cache"),
        "experiment.name": "shelf",
        "experiment.run_name": "first",
        "experiment.runs_dir": str(tmp_path / "elsewhere"),
        "experiment.tracking_uri": f"sqlite:///{tmp_path}/own.db",
        "diagnostics.report_path": str(tmp_path / "own" / "report.md"),
    }
    run(build(shop, flat), RunConsole())
    assert (tmp_path / "elsewhere" / "first" / "record.json").exists()
    assert (tmp_path / "own" / "report.html").exists()
    client = MlflowClient(f"sqlite:///{tmp_path}/own.db")
    experiment = client.get_experiment_by_name("shelf")
    assert [r.info.run_name for r in client.search_runs([experiment.experiment_id])] == ["first"]
    run(
        build(shop, flat | {"experiment.tracking": False, "experiment.run_name": "second"}),
        RunConsole(),
    )
    assert len(client.search_runs([experiment.experiment_id])) == 1
