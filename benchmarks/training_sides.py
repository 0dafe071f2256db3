"""The product and the plain loop, each set up to train on the same positives."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain_loop import PlainLoop, PlainNegatives, PlainTwoTower, copy_weights
from benchmarks.worlds import load_training_world, sample_positives, training_config
from recsys.config import Config
from recsys.data.arrays import Interactions
from recsys.data.dataset import Prepared
from recsys.models.two_tower import TwoTower, build_two_tower
from recsys.training.batches import BatchStream
from recsys.training.device import resolve_precision
from recsys.training.optimizers import build_optimizer
from recsys.training.sampling import NegativeSampler
from recsys.training.trainer import Plan, Trainer

Run = Callable[[], dict[str, float]]
MATRIX_SIDE = 2048


def settings(
    folder: Path, *, batch_size: int, fusion: str, device: str, precision: str = "auto"
) -> Config:
    """The default model at default negatives, but for what the bar varies."""
    tower = {"fusion": fusion}
    return training_config(
        folder,
        {
            "model": {"user_tower": tower, "item_tower": tower},
            "training": {"batch_size": batch_size, "device": device, "precision": precision},
        },
    )


def fresh_model(config: Config, prepared: Prepared) -> TwoTower:
    """The product's model; every side starts from the same weights."""
    torch.manual_seed(0)
    return build_two_tower(config.model, prepared)


def stream(config: Config, prepared: Prepared, positives: Interactions) -> BatchStream:
    """Batches of the positives, negatives refused by all of train."""
    training = config.training
    sampler = NegativeSampler(
        prepared.train, prepared.n_warm_items, kind=training.negative_sampling
    )
    return BatchStream(
        positives,
        sampler,
        batch_size=training.batch_size,
        negatives_per_positive=training.negatives_per_positive,
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
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = settings(
        Path(folder), batch_size=batch_size, fusion=fusion, device=device, precision=precision
    )
    prepared = load_training_world(Path(folder))
    positives = sample_positives(prepared.train, n_positives)
    model = fresh_model(config, prepared).to(device)
    batches = stream(config, prepared, positives)
    work = count_rows(batches)
    trainer = Trainer(
        model,
        batches,
        build_optimizer(model, config.training),
        lambda model: {"ndcg@10": 0.0},  # only the first epoch, a warm-up, copies the weights
        Plan(
            num_epochs=10**6,
            monitor="ndcg@10",
            seed=0,
            bfloat16=resolve_precision(config.training.precision, torch.device(device))
            == "bfloat16",
        ),
    )
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
    assert fusion == "adaptive_mimic"
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = settings(Path(folder), batch_size=batch_size, fusion=fusion, device=device)
    prepared = load_training_world(Path(folder))
    positives = sample_positives(prepared.train, n_positives)
    plain = PlainTwoTower(config, prepared)
    copy_weights(fresh_model(config, prepared), plain)
    loop = PlainLoop(plain.to(device), config)
    negatives = PlainNegatives(prepared.train, prepared.n_warm_items)
    rng = np.random.default_rng(0)
    n, k = len(positives), config.training.negatives_per_positive

    def run() -> dict[str, float]:
        loss = loop.epoch(positives, negatives, rng)
        wait(device)
        return {"positives": n, "loss": loss, "user_rows": n, "item_rows": n * (1 + k)}

    return run


def count_rows(batches: BatchStream) -> dict[str, float]:
    """Tower rows of an epoch: each distinct user and item of a batch once."""
    rng = np.random.default_rng(1)
    lengths = [(len(batch.users), len(batch.items)) for batch in batches.epoch(rng)]
    users, items = (sum(column) for column in zip(*lengths, strict=True))
    return {"user_rows": users, "item_rows": items}


def start_matrix_product(device: str = "cpu") -> Run:
    """A square float32 product: what the machine can do at best."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
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
    assert config.model.encoder.hidden_dims is not None
    hidden, dim = config.model.encoder.hidden_dims[0], config.model.embedding_dim
    deep = 6 * (hidden * dim + 2 * dim * dim)
    flops = {}
    for name in ("user", "item"):
        features = getattr(prepared, f"{name}_features")
        entries = sum(len(bags.indices) for bags in features.bags.values()) / len(features)
        flops[name] = 4 * (features.dense.shape[1] + entries) * hidden + deep
    flops["pair"] = 6 * dim
    return flops


def start_flops(folder: str) -> Run:
    """Counts operations a row of the default model."""
    config = training_config(Path(folder))
    prepared = load_training_world(Path(folder))
    return lambda: flops_a_row(config, prepared)
