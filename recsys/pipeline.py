"""The one path from settings and prepared data to an evaluated model.

A run takes all of it; a trial of a sweep stops after the epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recsys.config import Config
from recsys.data.arrays import IntArray
from recsys.data.dataset import Prepared
from recsys.data.world import World
from recsys.evaluation.correlations import correlation_table
from recsys.evaluation.diagnostics import Embeddings, diagnose
from recsys.evaluation.evaluation import Evaluation, evaluate, validation_metrics
from recsys.evaluation.qualitative import (
    Shelf,
    category_bags,
    example_tables,
    hit_ratio_table,
)
from recsys.evaluation.ranking import Vectors
from recsys.evaluation.tables import Table
from recsys.models.two_tower import Side, TwoTower, build_two_tower
from recsys.training.batches import BatchStream
from recsys.training.device import resolve_device, resolve_precision
from recsys.training.optimizers import build_optimizer
from recsys.training.sampling import NegativeSampler
from recsys.training.trainer import Plan, Trainer


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


def build_trainer(config: Config, prepared: Prepared) -> Trainer:
    """A trainer at its start: fresh weights, no epoch done.

    The same settings, data and seed give the same stream of epochs, bit for bit.
    """
    seeds, training = Seeds.of(config.experiment.seed), config.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.weights)
        model = build_two_tower(config.model, prepared)
    device = resolve_device(training.device)
    model.to(device)
    sampler = NegativeSampler(
        prepared.train,
        prepared.n_warm_items,
        kind=training.negative_sampling,
        alpha=0.0 if training.popularity_alpha is None else training.popularity_alpha,
    )
    batches = BatchStream(
        prepared.train,
        sampler,
        batch_size=training.batch_size,
        negatives_per_positive=training.negatives_per_positive,
    )
    users = validation_users(prepared, config.evaluation.validation_users, seeds.evaluation)

    def validate(model: TwoTower) -> dict[str, float]:
        if not len(users):
            return {}
        return validation_metrics(
            model_vectors(model, prepared), prepared, config=config.evaluation, users=users
        )

    plan = Plan(
        num_epochs=training.num_epochs,
        monitor=training.early_stopping.monitor,
        patience=training.early_stopping.patience,
        min_delta=training.early_stopping.min_delta,
        mimic_weight=training.mimic_weight,
        seed=seeds.training,
        bfloat16=resolve_precision(training.precision, device) == "bfloat16",
    )
    return Trainer(model, batches, build_optimizer(model, training), validate, plan)


def validation_users(prepared: Prepared, limit: int | None, seed: int) -> IntArray:
    """Users with a held-out validation item, ascending: all, or a fixed random sample of them."""
    users = np.unique(prepared.validation.users)
    if limit is not None and limit < len(users):
        users = np.sort(np.random.default_rng(seed).choice(users, size=limit, replace=False))
    return users


def model_vectors(model: TwoTower, prepared: Prepared) -> Vectors:
    """All users' and items' vectors; their product is the model's logit."""
    return Vectors(
        users=model.user_vectors(len(prepared.users)),
        items=model.item_vectors(len(prepared.items)),
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a trained model came to.

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


def judge(model: TwoTower, prepared: Prepared, config: Config, world: World | None) -> Outcome:
    """Evaluate a trained model on the test split and look into what it learned.

    Args:
        model: with the weights to judge.
        prepared: what it was trained on.
        config: the settings it was trained with.
        world: the model behind generated data, where that is what the data is.
    """
    seed = Seeds.of(config.experiment.seed).evaluation
    vectors = model_vectors(model, prepared)
    baselines = {} if world is None else {"oracle": Vectors(*world.oracle(prepared))}
    evaluation = evaluate(
        vectors,
        prepared,
        split="test",
        config=config.evaluation,
        seed=seed,
        baselines=baselines,
    )
    oracle = None
    if world is not None and evaluation.skipped is None:
        oracle = world.expected_ndcg(prepared, config.evaluation.ks, "test")
    tables = (
        *evaluation.tables,
        *inspect_embeddings(model, vectors, prepared, config, seed=seed),
        *show_examples(evaluation, prepared, config, seed=seed),
    )
    return Outcome(vectors, evaluation, tables, oracle)


def inspect_embeddings(
    model: TwoTower, vectors: Vectors, prepared: Prepared, config: Config, *, seed: int
) -> tuple[Table, ...]:
    """Embedding diagnostics, and what scores correlate with."""
    rng = np.random.default_rng(seed)
    return (
        *diagnose(
            tower_embeddings(model, "user", prepared),
            tower_embeddings(model, "item", prepared),
            train=prepared.train,
            categories=category_bags(prepared.books),
            config=config.diagnostics,
            rng=rng,
        ),
        correlation_table(
            vectors,
            prepared.item_features,
            n_pairs=config.diagnostics.correlation_pairs,
            top=config.diagnostics.top_features,
            rng=rng,
        ),
    )


def tower_embeddings(model: TwoTower, side: Side, prepared: Prepared) -> Embeddings:
    """All vectors of one tower and what they are made of, as arrays."""
    tower = model.tower(side)
    n = len(prepared.users if side == "user" else prepared.items)
    n_warm = prepared.n_warm_users if side == "user" else prepared.n_warm_items
    metadata = gates = None
    if tower.encoder is not None:
        metadata = model.collect(side, n, lambda parts: parts.metadata)
    if tower.has_gates:
        gates = model.collect(side, n, tower.gates)
    vectors = model.collect(side, n, lambda parts: parts.vectors)
    ids = model.collect(side, n_warm, lambda parts: parts.ids)
    return Embeddings(vectors=vectors, ids=ids, metadata=metadata, gates=gates)


def show_examples(
    evaluation: Evaluation, prepared: Prepared, config: Config, *, seed: int
) -> tuple[Table, ...]:
    """Some readers' histories beside their recommendations, and how alike both are."""
    if evaluation.skipped is not None:
        return ()
    shelf = Shelf.of(prepared.books)
    examples = example_tables(
        evaluation.ranking,
        train=prepared.train,
        held_out=prepared.test,
        shelf=shelf,
        user_ids=prepared.users.ids.to_pylist(),
        config=config.diagnostics,
        rng=np.random.default_rng(seed),
    )
    ratios = hit_ratio_table(
        {"model": evaluation.ranking, **evaluation.baseline_rankings},
        train=prepared.train,
        shelf=shelf,
        k=config.diagnostics.qualitative_k,
    )
    return (ratios, *examples)
