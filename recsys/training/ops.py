"""Operations of training that autograd alone would do in several passes or in too much memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from recsys.config import QueryScore
from recsys.models.bags import BagTensors, entry_products, sum_bags, transposed

BLOCK_BYTES = 8 * 2**20
"""Scores of a block of users against the whole catalogue: so many stay in the cache from one pass
to the next."""
MOST_BYTES = 64 * 2**20
"""Of a large catalogue, scores of more users are held at once, but no more than this, or those of
one user."""
QUERIES_WANTED = 128
"""Products of fewer vectors with the catalogue are slow: each reads the whole table."""
LEAST_SUM = 1e-30
"""Stands for the sum of exponentials of a row without any."""


@dataclass(frozen=True)
class Scoring:
    """How scores are made of vectors.

    Attributes:
        combine: how the scores of a user's K vectors become one.
        bfloat16: multiply blocks of users and items in bfloat16; sums and exponentials are in
            float32.
    """

    combine: QueryScore
    bfloat16: bool = False


def pair_scores(
    users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, combine: QueryScore = "max"
) -> Tensor:
    """The score of each user's row with each of its columns.

    Args:
        users: vectors, (R, D) or (R, K, D).
        items: vectors, (n, D).
        rows: row of ``users`` of each positive, (P,) int64.
        columns: rows of ``items``, (P, C) int64.
        combine: how the scores of a user's K vectors become one.

    Returns:
        (P, C).
    """
    if users.ndim == 2:
        scores: Tensor = _PairScores.apply(users, items, rows, columns)  # type: ignore[no-untyped-call]
        return scores
    several = torch.stack(
        [pair_scores(each, items, rows, columns) for each in users.unbind(dim=1)], dim=-1
    )
    return combined(several, combine)


def combined(scores: Tensor, combine: QueryScore) -> Tensor:
    """The scores of a user's K vectors as one, over the last dimension."""
    return scores.logsumexp(dim=-1) if combine == "logsumexp" else scores.amax(dim=-1)


def _by_bags(vectors: Tensor) -> bool:
    """Whether rows are read where they lie, which torch's operations do on the CPU alone."""
    return not vectors.is_cuda


class _PairScores(torch.autograd.Function):
    """Products of gathered rows; ``rows`` do not fall."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, users: Tensor, items: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        ctx.save_for_backward(users, items, rows, columns)
        if _by_bags(users):
            bags = BagTensors(_bag_ends(rows, len(users), columns.shape[1]), columns.reshape(-1))
            return entry_products(users, items, bags).view(columns.shape)
        gathered = items.index_select(0, columns.reshape(-1)).view(*columns.shape, items.shape[1])
        return torch.bmm(gathered, users.index_select(0, rows).unsqueeze(2)).squeeze(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items, rows, columns = ctx.saved_tensors
        if _by_bags(users):
            return (*_backward_by_bags(users, items, rows, columns, gradient), None, None)
        gathered = items.index_select(0, columns.reshape(-1)).view(*columns.shape, -1)
        own = users.index_select(0, rows)  # (P, D)
        to_users = torch.bmm(gradient.unsqueeze(1), gathered).squeeze(1)  # (P, D)
        to_items = gradient.unsqueeze(2) * own.unsqueeze(1)  # (P, C, D)
        return (
            torch.zeros_like(users).index_add_(0, rows, to_users),
            torch.zeros_like(items).index_add_(
                0, columns.reshape(-1), to_items.view(-1, items.shape[1])
            ),
            None,
            None,
        )


def _bag_ends(rows: Tensor, n: int, width: int) -> Tensor:
    """Where the entries of each of n rows begin, and the end, where a positive has so many."""
    return torch.searchsorted(rows, torch.arange(n + 1)) * width


def _backward_by_bags(
    users: Tensor, items: Tensor, rows: Tensor, columns: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of users and items as weighted sums of each other's rows, never written out."""
    weights, width = gradient.reshape(-1), columns.shape[1]
    of_users = BagTensors(_bag_ends(rows, len(users), width), columns.reshape(-1), weights)
    of_items = transposed(
        BagTensors(torch.arange(len(rows) + 1) * width, columns.reshape(-1), weights), len(items)
    )
    of_items = replace(of_items, columns=rows[of_items.columns])
    return sum_bags(items.detach(), of_users), sum_bags(users.detach(), of_items)


def log_sums(
    scores: Tensor, log_chance: Tensor | None, masked: tuple[Tensor, Tensor] | None
) -> Tensor:
    """The logarithm of the sum of exponentials of each row, without the masked ones.

    Args:
        scores: (R, M).
        log_chance: subtracted from the scores, broadcast to them.
        masked: row and column of each score that is left out, two (m,) int64.

    Returns:
        (R,); about the least float where a row has none left.
    """
    sums: Tensor = _LogSums.apply(scores, log_chance, masked)  # type: ignore[no-untyped-call]
    return sums


class _LogSums(torch.autograd.Function):
    """The exponentials are kept, and turned into the gradient where they lie."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        scores: Tensor,
        log_chance: Tensor | None,
        masked: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        kept = scores.clone() if log_chance is None else scores - log_chance
        if masked is not None:
            kept[masked] = -torch.inf
        highest = kept.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(kept.dtype).min)
        kept.sub_(highest).exp_()
        sums = kept.sum(dim=1, keepdim=True).clamp_(min=LEAST_SUM)
        ctx.save_for_backward(kept, sums)
        return (sums.log() + highest).squeeze(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        kept, sums = ctx.saved_tensors
        return kept.mul_(gradient.unsqueeze(1) / sums), None, None


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What a softmax over the whole catalogue is taken of.

    Attributes:
        rows: row of users of each positive, not falling, (P,) int64.
        targets: row of items of each positive, (P,) int64.
        masked_rows: row of users of each pair that is left out, not falling, (M,) int64.
        masked_items: its row of items, (M,) int64.
        scoring: how scores are made.
    """

    rows: Tensor
    targets: Tensor
    masked_rows: Tensor
    masked_items: Tensor
    scoring: Scoring


def catalogue_nll(users: Tensor, items: Tensor, pairs: Catalogue) -> Tensor:
    """Mean negative log-likelihood of the positives under a softmax over all items.

    The scores of a block of users, of one at least, are made, turned into their own gradient and
    forgotten, so that memory is that of a block whatever the size of the batch. As in Mnih and
    Hinton's log-bilinear model with the full softmax; a user's positives share one denominator
    (multinomial likelihood, Liang et al. 2018, eq. 2).

    Args:
        users: vectors, (R, D) or (R, K, D).
        items: vectors, (n, D).
        pairs: positives, and what is left out of the denominator.

    Returns:
        Scalar, in nats.
    """
    loss: Tensor = _CatalogueNll.apply(users, items, pairs)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, users: Tensor, items: Tensor, pairs: Catalogue) -> Tensor:
        queries = users.contiguous().view(len(users), -1, users.shape[-1])  # (R, K, D)
        to_queries, to_items = torch.empty_like(queries), torch.zeros_like(items)
        table = items.to(torch.bfloat16 if pairs.scoring.bfloat16 else items.dtype)  # (n, D)
        block = _users_at_once(queries.shape[1], table)
        total = users.new_zeros(())
        for start in range(0, len(queries), block):
            part = queries[start : start + block]
            inside = _within(pairs, start, len(part))
            rows = part.reshape(-1, items.shape[1])  # (r K, D)
            scores = (rows.to(table.dtype) @ table.T).view(*part.shape[:2], -1)
            counts = torch.bincount(inside.rows, minlength=len(part)).to(items.dtype)
            loss, slopes = _block_slopes(scores, inside, counts)
            total += loss
            flat = slopes.view(-1, len(items))  # (r K, n)
            counts = counts.repeat_interleave(part.shape[1]).unsqueeze(1)  # (r K, 1)
            to_queries[start : start + block] = ((flat @ table) * counts).view(part.shape)
            weighted = (rows * counts).to(table.dtype)
            if table.dtype == to_items.dtype:
                to_items.addmm_(flat.T, weighted)
            else:
                to_items.add_(flat.T @ weighted)
        ctx.n = max(len(pairs.rows), 1)  # type: ignore[attr-defined]
        ctx.save_for_backward(to_queries.view(users.shape), to_items)
        mean: Tensor = total / ctx.n  # type: ignore[attr-defined]
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        to_users, to_items = ctx.saved_tensors
        share = gradient / ctx.n
        # The loss is passed back once, so its gradients may be scaled where they lie.
        scaled: tuple[Tensor, Tensor, None] = (to_users.mul_(share), to_items.mul_(share), None)
        return scaled


def _users_at_once(n_queries: int, table: Tensor) -> int:
    """Users whose scores fit in the cache, or as many as products need to be fast."""
    per_query = table.element_size() * len(table)
    # BLOCK_BYTES was measured on CPUs; a GPU takes as many as fit.
    in_cache = (MOST_BYTES if table.is_cuda else BLOCK_BYTES) // per_query
    queries = max(in_cache, min(MOST_BYTES // per_query, QUERIES_WANTED))
    return max(queries // n_queries, 1)


def _within(pairs: Catalogue, start: int, size: int) -> Catalogue:
    """The pairs of a block of users, their rows counted from its start."""
    bounds = torch.tensor([start, start + size], device=pairs.rows.device)
    low, high = torch.searchsorted(pairs.rows, bounds).tolist()
    mask_low, mask_high = torch.searchsorted(pairs.masked_rows, bounds).tolist()
    return Catalogue(
        pairs.rows[low:high] - start,
        pairs.targets[low:high],
        pairs.masked_rows[mask_low:mask_high] - start,
        pairs.masked_items[mask_low:mask_high],
        pairs.scoring,
    )


def _block_slopes(scores: Tensor, pairs: Catalogue, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss of a block of users, and the slope of each user's mean loss in every score.

    Args:
        scores: (r, K, n); masked where they lie.
        pairs: of these users.
        counts: positives of each user, (r,).

    Returns:
        Scalar, and of the form and type of ``scores``.
    """
    scores[pairs.masked_rows, :, pairs.masked_items] = -torch.inf
    own = scores[pairs.rows, :, pairs.targets].to(counts.dtype)  # (p, K)
    if scores.shape[1] > 1 and pairs.scoring.combine == "max":
        candidates, which = scores.max(dim=1, keepdim=True)  # (r, 1, n)
        chances = candidates.softmax(dim=2)
        slopes = torch.zeros_like(scores).scatter_(1, which, chances)
        shares = torch.zeros_like(own).scatter_(1, own.argmax(dim=1, keepdim=True), 1.0)
    else:
        candidates = scores
        slopes = scores.view(len(scores), -1).softmax(dim=1).view(scores.shape)
        shares = own.softmax(dim=1)
    chance = slopes[pairs.rows, :, pairs.targets].to(counts.dtype).sum(dim=1)  # (p,)
    losses = chance.log().neg_()
    if bool((chance == 0).any()):  # too small for a number
        normaliser = candidates.flatten(1).to(counts.dtype).logsumexp(dim=1)[pairs.rows]
        exact = normaliser - combined(own, pairs.scoring.combine)
        losses = torch.where(chance == 0, exact, losses)
    shares.div_(counts[pairs.rows].unsqueeze(1)).neg_()
    _add_at(slopes, pairs, shares.to(slopes.dtype))
    return losses.sum(), slopes


def _add_at(scores: Tensor, pairs: Catalogue, shares: Tensor) -> None:
    """Add each positive's (p, K) to the scores (r, K, n) of its user and item."""
    _, k, n = scores.shape
    places = (pairs.rows.unsqueeze(1) * k + torch.arange(k, device=scores.device)) * n
    places = places + pairs.targets.unsqueeze(1)
    scores.view(-1).index_add_(0, places.view(-1), shares.reshape(-1))
