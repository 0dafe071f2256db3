"""The one path from settings and prepared data to an evaluated model.

A run takes all of it; a trial of a sweep stops after the epochs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys.baselines.tuning import tuned_baselines
from recsys.config import TIMED_SPLITS, Config, TrainingConfig
from recsys.data.arrays import FloatArray, IntArray, Interactions
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.data.sample.world import World
from recsys.errors import DataError, shown
from recsys.evaluation.correlations import correlation_table
from recsys.evaluation.diagnostics import Embeddings, diagnose
from recsys.evaluation.evaluation import ORACLE, Evaluation, evaluate, validation_metrics
from recsys.evaluation.qualitative import (
    ItemTexts,
    category_bags,
    example_tables,
    hit_ratio_table,
)
from recsys.evaluation.ranking import Vectors
from recsys.evaluation.tables import Table
from recsys.models.build import build_two_tower
from recsys.models.tower import TowerParts
from recsys.models.two_tower import Side, TwoTower
from recsys.training.auxiliary import build_auxiliary
from recsys.training.batches import Examples, Negatives
from recsys.training.device import resolve_device, resolve_precision
from recsys.training.examples import HistoryExamples, PairExamples
from recsys.training.objectives.objective import build_objective
from recsys.training.ops import Scoring
from recsys.training.optimizers import build_optimizer
from recsys.training.processes import ALONE, Processes
from recsys.training.sampling import NegativeSampler
from recsys.training.trainer import Plan, Trainer, Validate

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seeds:
    """Independent seeds for the parts of a run, all drawn from the one in the settings."""

    weights: int
    training: int
    evaluation: int

    @classmethod
    def of(cls, seed: int) -> Seeds:
        """The seeds that a run with the given seed uses."""
        return cls(*(int(part) for part in np.random.SeedSequence(seed).generate_state(3)))


def build_trainer(config: Config, prepared: Prepared, processes: Processes = ALONE) -> Trainer:
    """A trainer at its start: fresh weights, no epoch done.

    The same settings, data and seed give the same stream of epochs, bit for bit; on several
    processes, each of which builds it, the same to rounding.
    """
    users = validation_users(
        prepared, config.evaluation.validation_users, Seeds.of(config.experiment.seed).evaluation
    )

    def validate(model: TwoTower) -> dict[str, float]:
        if not len(users):
            return {}
        vectors = model_vectors(model, prepared, known=(prepared.train,))
        return validation_metrics(vectors, prepared, config=config.evaluation, users=users)

    histories = Histories.of(prepared.train)
    return _trainer(config, prepared, histories, validate, processes=processes, last_epoch=None)


def build_refit_trainer(
    config: Config, prepared: Prepared, best_epoch: int, processes: Processes = ALONE
) -> Trainer:
    """A trainer on train and validation together, for as many epochs as were best.

    The schedule of the step size is that of the first training, cut off at the best epoch. Users
    that validation alone has are learned as well; such items are where the split does not hold out
    what comes last. Else validation has only their first interactions, and their ids would be
    taught by all earlier ones that nobody wants them: they stay unknown, told by metadata.
    """
    held_out, n_items = prepared.validation, prepared.n_known_items
    if config.data.split.strategy in TIMED_SPLITS:
        n_items = prepared.n_warm_items
        held_out = held_out.select(held_out.items < n_items)
    histories = Histories.of(prepared.train, held_out)
    prepared = replace(prepared, n_warm_users=prepared.n_known_users, n_warm_items=n_items)
    return _trainer(
        config, prepared, histories, lambda _: {}, processes=processes, last_epoch=best_epoch
    )


def _trainer(
    config: Config,
    prepared: Prepared,
    histories: Histories,
    validate: Validate,
    *,
    processes: Processes,
    last_epoch: int | None,
) -> Trainer:
    seeds, training = Seeds.of(config.experiment.seed), config.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.weights)
        model = build_two_tower(config.model, prepared)
    device = resolve_device(config.model.device)
    model.to(device)
    n_items = prepared.n_warm_items
    assert training.objective is not None
    plan = Plan(
        num_epochs=training.num_epochs,
        last_epoch=last_epoch,
        monitor=config.monitor,
        patience=None if last_epoch else training.early_stopping.patience,
        min_delta=training.early_stopping.min_delta,
        schedule=training.schedule,
        warmup_steps=training.warmup_steps or 0,
        seed=seeds.training,
        bfloat16=resolve_precision(training.precision, device) == "bfloat16",
        processes=processes,
    )
    return Trainer(
        model,
        build_examples(config, _with_unknown_items(histories, config, prepared), n_items),
        build_objective(training, n_items, Scoring(model.matching.query_score, plan.bfloat16)),
        build_optimizer(model, training),
        validate,
        plan,
        build_auxiliary(training, model, prepared),
    )


def _with_unknown_items(histories: Histories, config: Config, prepared: Prepared) -> Histories:
    """The histories; where negatives are drawn, none of users who know all that may be drawn.

    Raises:
        DataError: no other user has a history.
    """
    knows_all = histories.lengths >= prepared.n_warm_items
    if not knows_all.any() or not _draws_negatives(config.training, prepared.n_warm_items):
        return histories
    users = np.flatnonzero(knows_all)
    said = (
        f"{len(users)} users have interacted with all {prepared.n_warm_items} train items, the "
        f"first is {shown(prepared.users.id_of(users[:1])[0])}"
    )
    left = histories.without(knows_all)
    if not len(left.items):
        raise DataError(f"a user must have an item left that is not known, but {said}")
    _log.warning("%s; nothing is learned from them, since no negative is left to draw", said)
    return left


def build_examples(config: Config, histories: Histories, n_items: int) -> Examples:
    """The configured examples of the given histories.

    Args:
        config: of examples and negatives.
        histories: of every user.
        n_items: items that histories can hold, the catalogue of training.
    """
    training, history = config.training, config.model.user_encoder.history
    negatives = _negatives(config, histories, n_items)
    assert training.batch_size is not None
    if training.examples == "histories":
        assert training.history_split is not None
        return HistoryExamples(
            histories,
            n_items,
            negatives,
            split=training.history_split,
            batch_size=training.batch_size,
            max_history=history.max_length,
        )
    return PairExamples(
        histories,
        n_items,
        negatives,
        batch_size=training.batch_size,
        max_history=None if history.pooling == "none" else history.max_length,
    )


def _negatives(config: Config, histories: Histories, n_items: int) -> Negatives:
    """What is drawn beside the positives."""
    training = config.training
    if not _draws_negatives(training, n_items):
        return Negatives()
    is_softmax = training.objective == "softmax"
    shared = training.softmax_max_items if is_softmax else training.shared_negatives
    sampler = NegativeSampler(
        histories.bags,
        n_items,
        kind=training.negative_sampling or "uniform",
        alpha=training.popularity_alpha or 0.0,
    )
    return Negatives(sampler, training.negatives_per_positive, shared)


def _draws_negatives(training: TrainingConfig, n_items: int) -> bool:
    """Whether some of the items are drawn as negatives, rather than all taken."""
    return training.objective != "softmax" or n_items > training.softmax_max_items


def validation_users(prepared: Prepared, limit: int | None, seed: int) -> IntArray:
    """Users with a held-out validation item, ascending: all, or a fixed random sample of them."""
    users = np.unique(prepared.validation.users)
    if limit is not None and limit < len(users):
        users = np.sort(np.random.default_rng(seed).choice(users, size=limit, replace=False))
    return users


def model_vectors(
    model: TwoTower, prepared: Prepared, known: Sequence[Interactions] | None = None
) -> Vectors:
    """All users' and items' vectors; their product is the model's logit.

    Args:
        model: of the users and items of ``prepared``.
        prepared: what it was trained on.
        known: what users' histories hold; None for all that is known before test, train and
            validation.
    """
    parts = (prepared.train, prepared.validation) if known is None else known
    return Vectors(
        users=model.user_vectors(Histories.of(*parts)),
        items=model.item_vectors(len(prepared.items)),
        combine=model.matching.query_score,
    )


@dataclass(frozen=True, eq=False)
class ModelEvaluation:
    """What a trained model is worth on test.

    Attributes:
        vectors: all users' and items' vectors.
        evaluation: rankings on the test split.
        tables: segments and diagnostics, in the order of the report.
        oracle: expected metrics of the best possible ranking; None where the world is not known.
    """

    vectors: Vectors
    evaluation: Evaluation
    tables: tuple[Table, ...]
    oracle: dict[str, float] | None


def evaluate_model(
    model: TwoTower,
    prepared: Prepared,
    config: Config,
    world: World | None,
    *,
    refit: bool = False,
) -> ModelEvaluation:
    """Evaluate a trained model on the test split and look into what it learned.

    Args:
        model: with the weights to evaluate.
        prepared: what it was trained on.
        config: the settings it was trained with.
        world: the model behind generated data, where that is what the data is.
        refit: whether the model has learned from train and validation; the baselines do alike.
    """
    seed = Seeds.of(config.experiment.seed).evaluation
    vectors = model_vectors(model, prepared)
    tuned = tuned_baselines(prepared, config, split="test", refit=refit)
    oracle_scorer = {} if world is None else {ORACLE: Vectors(*world.oracle(prepared))}
    evaluation = evaluate(
        vectors,
        prepared,
        split="test",
        config=config.evaluation,
        seed=seed,
        baselines={**tuned.scorers, **oracle_scorer},
        among_new=tuned.among_new,
        headline=config.monitor,
    )
    oracle = None
    if world is not None and evaluation.skipped is None:
        oracle = world.expected_ndcg(prepared, config.evaluation.metrics_k)
    tables = (
        *evaluation.tables.values(),
        *(() if evaluation.skipped else (tuned.table,)),
        *_inspect_embeddings(model, vectors, prepared, config, np.random.default_rng(seed)),
        *(() if evaluation.skipped else _show_examples(evaluation, prepared, config, seed)),
    )
    return ModelEvaluation(vectors, evaluation, tables, oracle)


def _inspect_embeddings(
    model: TwoTower,
    vectors: Vectors,
    prepared: Prepared,
    config: Config,
    rng: np.random.Generator,
) -> tuple[Table, ...]:
    """Embedding diagnostics, and what scores correlate with."""
    return (
        *diagnose(
            _tower_embeddings(model, "user", prepared),
            _tower_embeddings(model, "item", prepared),
            train=prepared.train,
            categories=category_bags(prepared.books),
            config=config.diagnostics,
            rng=rng,
        ),
        correlation_table(
            vectors,
            prepared.item_features,
            n_pairs=config.diagnostics.feature_corr_sample_size,
            top=config.diagnostics.feature_corr_top_k,
            rng=rng,
        ),
    )


def _tower_embeddings(model: TwoTower, side: Side, prepared: Prepared) -> Embeddings:
    """All vectors of one tower and what they are made of, as arrays.

    Of a user with several queries they are the means over the queries.
    """
    tower = model.tower(side)
    histories = Histories.of(prepared.train, prepared.validation)
    table = None if side == "item" else model.item_table(len(prepared.items))

    def collect(part: Callable[[TowerParts], Tensor | None]) -> FloatArray:
        if side == "item":
            return model.collect_items(len(prepared.items), lambda parts, _: part(parts))
        users = np.arange(len(prepared.users))
        found = model.collect_users(users, histories, lambda parts, _: part(parts), table)
        return found.mean(axis=1) if found.ndim == 3 else found

    ids = metadata = gates = None
    if tower.id_embedding is not None:
        ids = collect(lambda parts: parts.ids)[: tower.id_embedding.n_warm]
    if tower.encoder is not None:
        metadata = collect(lambda parts: parts.metadata)
    if tower.has_gates:
        gates = collect(tower.gates)
    vectors = collect(lambda parts: parts.vectors)
    return Embeddings(vectors=vectors, ids=ids, metadata=metadata, gates=gates)


def _show_examples(
    evaluation: Evaluation, prepared: Prepared, config: Config, seed: int
) -> tuple[Table, ...]:
    """Some users' histories beside their recommendations, and how alike both are."""
    texts = ItemTexts.of(prepared.books)
    examples = example_tables(
        evaluation.rankings["model"],
        train=prepared.train,
        held_out=prepared.test,
        texts=texts,
        user_ids=prepared.users.ids.to_pylist(),
        config=config.diagnostics,
        rng=np.random.default_rng(seed),
    )
    ratios = hit_ratio_table(
        evaluation.rankings,
        train=prepared.train,
        texts=texts,
        k=config.diagnostics.qualitative_k,
    )
    return (ratios, *examples)
