"""Settings that follow from others: filled in where not given, refused where without effect."""

from __future__ import annotations

from typing import Any

from recsys.config.data import DataConfig
from recsys.config.model import ModelConfig
from recsys.config.section import require
from recsys.config.training import HistorySplitConfig, ObjectiveName, TrainingConfig

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
    fill = object.__setattr__  # frozen for users; derived settings are filled in here
    name = training.objective
    if name is None:
        name = "softmax" if training.negatives_per_positive is None else "sampled_bce"
        fill(training, "objective", name)
    for setting, (objectives, default) in _MEANINGS.items():
        given = getattr(training, setting)
        if name in objectives:
            fill(training, setting, default if given is None else given)
        else:
            require(
                given is None,
                f"'training.{setting}' has a meaning only with objective "
                f"{' or '.join(objectives)}, got '{name}'",
            )
    _fill_negatives(training, name)
    _fill_examples(model, training, name)
    _fill_temperature(model, name)


def _fill_negatives(training: TrainingConfig, name: ObjectiveName) -> None:
    fill, sampling = object.__setattr__, training.negative_sampling
    in_batch = sampling == "in_batch"
    require(
        not in_batch or name == "sampled_softmax",
        f"'training.negative_sampling: in_batch' needs objective 'sampled_softmax', got '{name}'",
    )
    require(
        training.shared_negatives is None or (name in _SHARES and not in_batch),
        "'training.shared_negatives' has a meaning only with objective "
        f"{' or '.join(_SHARES)} and negatives that are drawn, got '{name}'"
        + (" in_batch" if in_batch else ""),
    )
    draws = name in _DRAWS and not in_batch and training.shared_negatives is None
    if draws:
        fill(training, "negatives_per_positive", training.negatives_per_positive or 5)
    else:
        why = "in_batch" if in_batch else f"'{name}'"
        if training.shared_negatives is not None:
            why = "'training.shared_negatives'"
        require(
            training.negatives_per_positive is None,
            "'training.negatives_per_positive' has a meaning only where negatives are drawn for "
            f"each positive, got {why}",
        )
    if sampling == "popularity":
        alpha = training.popularity_alpha
        fill(training, "popularity_alpha", 0.75 if alpha is None else alpha)
    else:
        require(
            training.popularity_alpha is None,
            "'training.popularity_alpha' has a meaning only with negative_sampling "
            f"'popularity', got '{sampling or 'none'}'",
        )


def check_recency(data: DataConfig, model: ModelConfig) -> None:
    """Refuse recency in days where the data's order says nothing of days."""
    require(
        model.user_encoder.history.recency != "time" or data.split.order == "timestamp",
        "'model.user_encoder.history.recency: time' needs 'data.split.order: timestamp', "
        "got 'rows', which says nothing of days",
    )


def _fill_examples(model: ModelConfig, training: TrainingConfig, name: ObjectiveName) -> None:
    fill = object.__setattr__
    has_history = model.user_encoder.history.pooling != "none"
    if training.examples is None:
        as_histories = has_history and name == "softmax"
        fill(training, "examples", "histories" if as_histories else "pairs")
    ids = model.user_encoder.id_embedding
    if ids.type is None:
        fill(ids, "type", "none" if training.examples == "histories" else "embedding")
    if training.examples == "histories":
        require(
            has_history,
            "'training.examples: histories' needs 'model.user_encoder.history.pooling' other than "
            "'none'",
        )
        fill(training, "history_split", training.history_split or HistorySplitConfig())
        _fill_after(model, training)
    else:
        require(
            training.history_split is None,
            "'training.history_split' has a meaning only with examples 'histories', got 'pairs'",
        )
    default_size = 256 if training.examples == "histories" else 1024
    fill(training, "batch_size", training.batch_size or default_size)


def _fill_after(model: ModelConfig, training: TrainingConfig) -> None:
    """A sequence has one end, so that nothing can be input on both sides of the targets."""
    split = training.history_split
    if split is None or model.user_encoder.history.pooling != "sequence" or not split.after:
        return
    require(
        "after" not in split.model_fields_set,
        "'training.history_split.after' must be false with 'model.user_encoder.history.pooling: "
        "sequence', whose last item is the most recent, got true",
    )
    object.__setattr__(split, "after", False)


def _fill_temperature(model: ModelConfig, name: ObjectiveName) -> None:
    fill = object.__setattr__
    if model.similarity != "cosine":
        require(name != "ccl", "'training.objective: ccl' needs similarity 'cosine', got 'dot'")
        return
    if name == "ccl":  # its margin is a cosine's
        for setting, only in (("temperature", 1.0), ("learn_temperature", False)):
            given = getattr(model, setting)
            require(
                given in (None, only),
                f"'model.{setting}' has no meaning with objective 'ccl', got {given}",
            )
        fill(model, "temperature", 1.0)
    learns, said = name in ("sampled_bce", "bpr"), model.learn_temperature
    fill(model, "temperature", model.temperature or 0.12)
    fill(model, "learn_temperature", learns if said is None else said)


def fill_optimizer(model: ModelConfig, training: TrainingConfig) -> None:
    """Fill in what depends on the optimizers, and refuse what they give no meaning."""
    fill = object.__setattr__
    user, item = model.user_encoder, model.item_encoder
    towers = (user, item)
    tables = [tower for tower in towers if tower.id_embedding.type == "embedding"]
    tables += [tower for tower in towers if tower.fusion == "dual_augmented"]
    if user.history.pooling != "none" and user.history.table == "own":
        tables.append(item)  # its settings are those of the history's own table
    is_sparse = any(tower.id_embedding.params.sparse for tower in tables)
    if is_sparse:
        fill(training, "sparse_optimizer", "sparse_adam")
    else:
        require(
            training.sparse_optimizer is None,
            "'training.sparse_optimizer: sparse_adam' needs 'sparse: true' in an id embedding, "
            "got false",
        )
    if training.learning_rate is None:
        fill(training, "learning_rate", 0.01 if training.objective == "softmax" else 0.002)
    if training.embedding_learning_rate is None:
        fill(training, "embedding_learning_rate", training.learning_rate)
    if training.optimizer == "sgd":
        require(training.betas is None, "'training.betas' has no meaning with optimizer 'sgd'")
    else:
        fill(training, "betas", training.betas or (0.9, 0.99))
    if training.schedule == "linear":
        steps = training.warmup_steps
        fill(training, "warmup_steps", 20 if steps is None else steps)
    else:
        require(
            training.warmup_steps is None,
            "'training.warmup_steps' has a meaning only with schedule 'linear', got 'constant'",
        )
