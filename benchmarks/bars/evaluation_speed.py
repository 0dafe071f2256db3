"""Full-catalogue evaluation against implicit, and against the matrix product alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.sides import Side, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, faster, number
from benchmarks.worlds import load_training_world, training_world
from experiments.environment import keep_memory
from recsys.evaluation.metrics import means, ranking_metrics
from recsys.evaluation.ranking import Vectors, rank

DIM, K = 96, 20
KS = (5, 10, 20)
USERS_A_BLOCK = 512


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Users a second with masking and all metrics, on equal random factors."""
    folder = training_world(sizes)
    factors = str(folder / f"factors-{DIM}.npz")
    sides = {
        "product": Side(start, {"folder": str(folder), "factors": factors}),
        "matrix product": Side(start_product_alone, {"factors": factors}),
    }
    peer = Side(
        "benchmarks.peers:start_implicit_ranking",
        {"path": str(folder / "arrays.npz"), "factors": factors, "k": K},
        is_peer=True,
        environment={"OPENBLAS_NUM_THREADS": "1"},  # its best: it shares users out by itself
    )
    _write_factors(folder, Path(factors))
    what = f"evaluation, full catalogue, k = {K}"
    timings = alternate(sides | {"implicit": peer}, rounds=sizes.rounds)
    ours, theirs = timings["product"], timings["implicit"]
    alone = timings["matrix product"]
    return [
        faster(
            what,
            "users",
            ours,
            "implicit",
            theirs,
            bar=Target(">=", 2.0),
            note=f"Ours computes 6 metrics at {len(KS)} lengths for every user; theirs 4 means at "
            "one. With one held-out item a user, recall and their precision are one number.",
            counted={
                "recall@20, ours": ours.count("recall"),
                "theirs": theirs.count("recall"),
            },
        ),
        Row(
            f"{what}, in matrix products",
            ours.median / alone.median,
            unit="products",
            ours=f"{number(ours.median)} s",
            against=f"product alone {number(alone.median)} s",
            note="How many times the time of multiplying the factors, in blocks, and nothing else.",
            timings={"product": ours, "matrix product": alone},
        ),
    ]


def _write_factors(folder: Path, path: Path) -> None:
    with np.load(folder / "arrays.npz") as arrays:
        n_users, n_items = arrays["shape"]
    rng = np.random.default_rng(0)
    np.savez(
        path,
        users=rng.standard_normal((n_users, DIM), dtype=np.float32),
        items=rng.standard_normal((n_items, DIM), dtype=np.float32),
    )


def start(folder: str, factors: str) -> Callable[[], dict[str, float]]:
    """A run ranks for every test user and computes every metric at every length."""
    keep_memory()  # as every command does
    prepared = load_training_world(Path(folder))
    with np.load(factors) as arrays:
        vectors = Vectors(arrays["users"], arrays["items"])
    users = np.unique(prepared.test.users)
    known, relevant = prepared.train.by_user, prepared.test.by_user

    def run() -> dict[str, float]:
        ranking = rank(vectors, users, masked=[known], k=K)
        found = means(ranking_metrics(ranking, relevant, KS))
        return {"users": len(users), "recall": found[f"recall@{K}"]}

    return run


def start_product_alone(factors: str) -> Callable[[], dict[str, float]]:
    """A run multiplies the factors, a block of users at a time."""
    with np.load(factors) as arrays:
        users, items = torch.from_numpy(arrays["users"]), torch.from_numpy(arrays["items"])
    out = torch.empty(USERS_A_BLOCK, len(items))

    def run() -> dict[str, float]:
        for start in range(0, len(users), USERS_A_BLOCK):
            block = users[start : start + USERS_A_BLOCK]
            torch.mm(block, items.T, out=out[: len(block)])
        return {"users": len(users)}

    return run
