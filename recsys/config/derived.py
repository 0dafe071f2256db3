"""Settings that follow from others: filled in where not given, refused where without effect."""

from __future__ import annotations

from typing import Any

from recsys.config.data import DataConfig
from recsys.config.evaluation import AMONG_NEW, EvaluationConfig
from recsys.config.model import ModelConfig
from recsys.config.section import fill, require, settle
from recsys.config.training import HistorySplitConfig, TrainingConfig

_DRAWS = ("sampled_bce", "bpr", "sampled_softmax", "ccl", "bsl")
_SHARES = ("sampled_bce", "sampled_softmax", "ccl", "bsl")
_MEANINGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "negative_sampling": (_DRAWS, "uniform"),
    "log_q": (("sampled_softmax",), True),
    "calibration": (("sampled_bce",), 0.0),
    "margin": (("ccl",), 0.4),
    "negative_weight": (("ccl",), 20.0),
    "positive_temperature": (("bsl",), 2.0),
}
"""Settings that only some objectives give a meaning, and what they are where not given."""


def fill_objective(model: ModelConfig, training: TrainingConfig) -> None:
    """Fill in what depends on the objective, and refuse what it gives no meaning."""
    draws = training.negatives_per_positive is not None
    fill(training, objective="sampled_bce" if draws else "softmax")
    name = training.objective
    for setting, (objectives, default) in _MEANINGS.items():
        where = f"with objective {' or '.join(objectives)}, got '{name}'"
        settle(training, name in objectives, where, {setting: default}, prefix="training.")
    _fill_negatives(training)
    _fill_examples(model, training)
    _fill_temperature(model, training)


def fill_by_split(
    data: DataConfig, model: ModelConfig, training: TrainingConfig, evaluation: EvaluationConfig
) -> None:
    """Fill in what depends on the split."""
    holds_items_out = data.split.strategy == "cold_items"
    fill(model, popularity=not holds_items_out)
    k = 10 if 10 in evaluation.metrics_k else max(evaluation.metrics_k)
    fill(training.early_stopping, monitor=f"{AMONG_NEW if holds_items_out else ''}ndcg@{k}")


def _fill_negatives(training: TrainingConfig) -> None:
    name, sampling = training.objective, training.negative_sampling
    in_batch = sampling == "in_batch"
    require(
        not in_batch or name == "sampled_softmax",
        f"'training.negative_sampling: in_batch' needs objective 'sampled_softmax', got '{name}'",
    )
    settle(
        training,
        name in _SHARES and not in_batch,
        f"with objective {' or '.join(_SHARES)} and negatives that are drawn, got '{name}'"
        + (" in_batch" if in_batch else ""),
        {"shared_negatives": None},
        prefix="training.",
    )
    is_shared = training.shared_negatives is not None
    why = "'training.shared_negatives'" if is_shared else "in_batch" if in_batch else f"'{name}'"
    settle(
        training,
        name in _DRAWS and not in_batch and not is_shared,
        f"where negatives are drawn for each positive, got {why}",
        {"negatives_per_positive": 5},
        prefix="training.",
    )
    settle(
        training,
        sampling == "popularity",
        f"with negative_sampling 'popularity', got '{sampling or 'none'}'",
        {"popularity_alpha": 0.75},
        prefix="training.",
    )


def _fill_examples(model: ModelConfig, training: TrainingConfig) -> None:
    user = model.user_encoder
    has_history = user.history.pooling != "none"
    as_histories = has_history and training.objective == "softmax"
    fill(training, examples="histories" if as_histories else "pairs")
    are_histories = training.examples == "histories"
    fill(user.id_embedding, type="none" if are_histories else "embedding")
    require(
        has_history or not are_histories,
        "'training.examples: histories' needs 'model.user_encoder.history.pooling' other than "
        "'none'",
    )
    settle(
        training,
        are_histories,
        "with examples 'histories', got 'pairs'",
        {"history_split": HistorySplitConfig() if are_histories else None},
        prefix="training.",
    )
    fill(training, batch_size=256 if are_histories else 1024)
    split = training.history_split
    if split is not None and split.after and user.history.pooling == "sequence":
        # A sequence has one end, so that nothing can be input on both sides of the targets.
        require(
            "after" not in split.model_fields_set,
            "'training.history_split.after' must be false with 'model.user_encoder.history.pooling:"
            " sequence', whose last item is the most recent, got true",
        )
        object.__setattr__(split, "after", False)


def _fill_temperature(model: ModelConfig, training: TrainingConfig) -> None:
    is_ccl = training.objective == "ccl"  # its margin is a cosine's
    if model.similarity != "cosine":
        require(not is_ccl, "'training.objective: ccl' needs similarity 'cosine', got 'dot'")
        return
    for setting, only in {"temperature": 1.0, "learn_temperature": False}.items() if is_ccl else ():
        given = getattr(model, setting)
        require(
            given in (None, only),
            f"'model.{setting}' has no meaning with objective 'ccl', got {given}",
        )
    learns = training.objective in ("sampled_bce", "bpr")
    fill(model, learn_temperature=learns)
    if training.objective != "softmax" or model.learn_temperature:  # else by the number of items
        fill(model, temperature=1.0 if is_ccl else 0.12)


def fill_optimizer(model: ModelConfig, training: TrainingConfig) -> None:
    """Fill in what depends on the optimizers, and refuse what they give no meaning."""
    user, item = model.user_encoder, model.item_encoder
    towers = (user, item)
    tables = [tower for tower in towers if tower.id_embedding.type == "embedding"]
    tables += [tower for tower in towers if tower.fusion == "dual_augmented"]
    if user.history.pooling != "none" and user.history.table == "own":
        tables.append(item)  # its settings are those of the history's own table
    is_sparse = any(tower.id_embedding.params.sparse for tower in tables)
    require(
        is_sparse or training.sparse_optimizer is None,
        "'training.sparse_optimizer: sparse_adam' needs 'sparse: true' in an id embedding, "
        "got false",
    )
    fill(training, sparse_optimizer="sparse_adam" if is_sparse else None)
    fill(training, learning_rate=0.01 if training.objective == "softmax" else 0.002)
    fill(training, embedding_learning_rate=training.learning_rate)
    adam, linear = training.optimizer != "sgd", training.schedule == "linear"
    where = "with optimizer 'adam' or 'adamw', got 'sgd'"
    settle(training, adam, where, {"betas": (0.9, 0.99)}, prefix="training.")
    where = "with schedule 'linear', got 'constant'"
    settle(training, linear, where, {"warmup_steps": 20}, prefix="training.")


def check_recency(data: DataConfig, model: ModelConfig) -> None:
    """Refuse recency in days where the data's order says nothing of days."""
    require(
        model.user_encoder.history.recency != "time" or data.split.order == "timestamp",
        "'model.user_encoder.history.recency: time' needs 'data.split.order: timestamp', "
        "got 'rows', which says nothing of days",
    )
