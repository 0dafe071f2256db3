"""A softmax over the whole catalogue with several vectors a user: ours against autograd alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.sides import Side, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, faster
from experiments.environment import keep_memory
from recsys.training.device import resolve_precision
from recsys.training.ops import Catalogue, Scoring, catalogue_nll

USERS, DIM = 256, 129  # a batch of the default; 128 and a coordinate for the prior
POSITIVES, MASKED = 12, 24  # of each user
VECTORS = (1, 8, 32)
NOT_SLOWER = Target(">=", 1.0)


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Users a second of the loss and its gradients, and the memory of both sides."""
    rows = []
    for n_vectors in VECTORS:
        settings = {"n_items": sizes.training.items, "n_vectors": n_vectors}
        timings = alternate(
            {
                name: Side(start, settings | {"is_plain": name != "product"})
                for name in ("product", "plain PyTorch")
            },
            rounds=sizes.rounds,
        )
        ours, plain = timings["product"], timings["plain PyTorch"]
        rows.append(
            faster(
                f"softmax over {sizes.training.items:,} items, vectors a user {n_vectors}",
                "users",
                ours,
                "plain PyTorch",
                plain,
                bar=NOT_SLOWER,
                note=f"Loss and gradients of {USERS} users with {POSITIVES} positives each. Plain: "
                "all scores as one tensor, logsumexp, log_softmax, backward; products of both in "
                "the default precision.",
                counted={
                    "last loss, ours": ours.counted[-1]["loss"],
                    "plain": plain.counted[-1]["loss"],
                    "MB of the process, ours": max(ours.peak_mb),
                    "plain's": max(plain.peak_mb),
                },
            )
        )
    return rows


def start(n_items: int, n_vectors: int, is_plain: bool) -> Callable[[], dict[str, float]]:
    """A run is so many steps that each number of vectors takes about as long."""
    keep_memory()
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(USERS, n_vectors, DIM, generator=generator).requires_grad_()
    items = (0.1 * torch.randn(n_items, DIM, generator=generator)).requires_grad_()
    in_bfloat16 = resolve_precision("auto", torch.device("cpu")) == "bfloat16"
    pairs = Catalogue(
        *_drawn(torch.arange(0, n_items, 2), POSITIVES, generator),
        *_drawn(torch.arange(1, n_items, 2), MASKED, generator),
        Scoring("logsumexp", in_bfloat16),
    )
    nll = plain_nll if is_plain else catalogue_nll
    n_steps = max(1, 32 // n_vectors)

    def run() -> dict[str, float]:
        for _ in range(n_steps):
            users.grad = items.grad = None
            loss = nll(users, items, pairs)
            loss.backward()  # type: ignore[no-untyped-call]
        return {"users": n_steps * USERS, "loss": float(loss.detach())}

    return run


def plain_nll(users: Tensor, items: Tensor, pairs: Catalogue) -> Tensor:
    """The same by autograd, with every score in memory."""
    with torch.autocast("cpu", torch.bfloat16, enabled=pairs.scoring.bfloat16):
        products = users.flatten(0, 1) @ items.T
    scores = products.float().view(*users.shape[:2], -1).logsumexp(dim=1)  # (R, n)
    masked = torch.zeros_like(scores, dtype=torch.bool)
    masked[pairs.masked_rows, pairs.masked_items] = True
    log_chances = scores.masked_fill(masked, -torch.inf).log_softmax(dim=1)
    return -log_chances[pairs.rows, pairs.targets].mean()


def _drawn(items: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Users and items of n pairs of each user, drawn from the given items."""
    at = torch.randint(len(items), (USERS * n,), generator=generator)
    return torch.arange(USERS).repeat_interleave(n), items[at]
