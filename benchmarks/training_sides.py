"""The product and the plain loop, each set up to train on the same positives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain_loop import PlainLoop, PlainNegatives, PlainTwoTower, copy_weights
from benchmarks.worlds import load_training_world, sample_positives, training_config
from experiments.environment import keep_memory
from recsys.config import Config
from recsys.data.arrays import Interactions
from recsys.data.dataset import Prepared
from recsys.data.histories import Histories
from recsys.models.build import build_two_tower
from recsys.models.two_tower import TwoTower
from recsys.training.batches import Negatives
from recsys.training.device import resolve_precision
from recsys.training.examples import PairExamples
from recsys.training.objectives.objective import build_objective
from recsys.training.ops import Scoring
from recsys.training.optimizers import build_optimizer
from recsys.training.sampling import NegativeSampler
from recsys.training.trainer import Plan, Trainer

Run = Callable[[], dict[str, float]]
MATRIX_SIDE = 2048


def settings(
    folder: Path, *, batch_size: int, fusion: str, device: str, precision: str = "auto"
) -> Config:
    """The classic model, but for what the bar varies."""
    tower = {"fusion": fusion}
    return training_config(
        folder,
        {
            "model": {"user_encoder": tower, "item_encoder": tower, "device": device},
            "training": {"batch_size": batch_size, "precision": precision},
        },
    )


def fresh_model(config: Config, prepared: Prepared) -> TwoTower:
    """The product's model; every side starts from the same weights."""
    torch.manual_seed(0)
    return build_two_tower(config.model, prepared)


def examples_of(config: Config, prepared: Prepared, positives: Interactions) -> PairExamples:
    """The positives as examples, negatives refused by all of train."""
    training, n_items = config.training, prepared.n_warm_items
    assert training.batch_size is not None and training.negative_sampling is not None
    sampler = NegativeSampler(prepared.train.by_user, n_items, kind=training.negative_sampling)
    return PairExamples(
        Histories.of(positives),
        n_items,
        Negatives(sampler, training.negatives_per_positive),
        batch_size=training.batch_size,
        max_history=None,
    )


def trainer_of(
    config: Config, prepared: Prepared, positives: Interactions, model: TwoTower
) -> Trainer:
    """A trainer that validates nothing; an epoch is a pass over the positives."""
    precision = resolve_precision(config.training.precision, model.device)
    return Trainer(
        model,
        examples_of(config, prepared, positives),
        build_objective(
            config.training, prepared.n_warm_items, Scoring(model.matching.query_score)
        ),
        build_optimizer(model, config.training),
        lambda model: {"ndcg@10": 0.0},  # only the first epoch, a warm-up, copies the weights
        Plan(num_epochs=10**6, monitor="ndcg@10", seed=0, bfloat16=precision == "bfloat16"),
    )


def start_product(
    folder: str,
    batch_size: int,
    n_positives: int,
    fusion: str,
    device: str = "cpu",
    precision: str = "auto",
) -> Run:
    """The product's trainer; a run is one epoch over the sampled positives."""
    keep_memory()
    config = settings(
        Path(folder), batch_size=batch_size, fusion=fusion, device=device, precision=precision
    )
    prepared = load_training_world(Path(folder))
    positives = sample_positives(prepared.train, n_positives)
    trainer = trainer_of(config, prepared, positives, fresh_model(config, prepared).to(device))
    work = count_rows(examples_of(config, prepared, positives))
    epochs = trainer.epochs()

    def run() -> dict[str, float]:
        loss = next(epochs).train_loss
        wait(device)
        return {"positives": len(positives), "loss": loss, **work}

    return run


def start_plain(
    folder: str, batch_size: int, n_positives: int, fusion: str, device: str = "cpu"
) -> Run:
    """The plain loop over the same positives."""
    keep_memory()
    assert fusion == "adaptive_mimic"
    config = settings(Path(folder), batch_size=batch_size, fusion=fusion, device=device)
    prepared = load_training_world(Path(folder))
    positives = sample_positives(prepared.train, n_positives)
    plain = PlainTwoTower(config, prepared)
    copy_weights(fresh_model(config, prepared), plain)
    loop = PlainLoop(plain.to(device), config)
    negatives = PlainNegatives(prepared.train, prepared.n_warm_items)
    rng = np.random.default_rng(0)
    n, k = len(positives), config.training.negatives_per_positive or 0

    def run() -> dict[str, float]:
        loss = loop.epoch(positives, negatives, rng)
        wait(device)
        return {"positives": n, "loss": loss, "user_rows": n, "item_rows": n * (1 + k)}

    return run


def count_rows(examples: PairExamples) -> dict[str, float]:
    """Tower rows of an epoch: each distinct user and item of a batch once."""
    users = items = 0
    for batch in examples.epoch(np.random.default_rng(1)):
        assert isinstance(batch.items, torch.Tensor)
        users += len(batch.users)
        items += len(batch.items)
    return {"user_rows": users, "item_rows": items}


def start_matrix_product(device: str = "cpu") -> Run:
    """A square float32 product: what the machine can do at best."""
    left, right = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device) for _ in range(2))
    out = torch.empty_like(left)

    def run() -> dict[str, float]:
        for _ in itertools.repeat(None, 10):
            torch.mm(left, right, out=out)
        wait(device)
        return {"gflop": 10 * 2 * MATRIX_SIDE**3 / 1e9}

    return run


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def flops_a_row(config: Config, prepared: Prepared) -> dict[str, Any]:
    """Floating point operations of a forward and backward pass of one tower row, by side.

    A layer counts once forward and twice backward, the first only once backward, since features
    take no gradient. Features count by their entries: a zero needs no work.
    """
    assert config.model.user_encoder.feature_encoder.hidden_dims is not None
    hidden, dim = (
        config.model.user_encoder.feature_encoder.hidden_dims[0],
        config.model.user_encoder.id_embedding.params.embedding_dim,
    )
    deep = 6 * (hidden * dim + 2 * dim * dim)
    flops = {}
    for name in ("user", "item"):
        features = getattr(prepared, f"{name}_features")
        entries = sum(len(bags.indices) for bags in features.bags.values()) / len(features)
        flops[name] = 4 * (features.dense.shape[1] + entries) * hidden + deep
    flops["pair"] = 6 * dim
    return flops


def start_flops(folder: str) -> Run:
    """Counts operations a row of the classic model."""
    config = training_config(Path(folder))
    prepared = load_training_world(Path(folder))
    return lambda: flops_a_row(config, prepared)
