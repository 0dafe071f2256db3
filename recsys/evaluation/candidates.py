"""The sampled-candidate view: held-out items among a few random others, not the whole catalogue.

Each user's held-out items are ranked together with ``n_samples`` distinct items drawn uniformly
from those that are neither known nor held out. Values are much higher than over the catalogue and
are **not comparable** with them, nor with values at another number of samples; sampling can even
turn round which of two models is better (Krichene and Rendle 2020, "On Sampled Metrics for Item
Recommendation"). The view is given under names of its own, ``sampled_ndcg@10`` and so on, because
much published work reports it.

A user's candidates depend on the seed and on the user's index alone: not on who else is judged,
nor on block sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.lists import NO_ITEM, pack, places_in, tie_order
from recsys.evaluation.metrics import Places, metrics_of_places
from recsys.evaluation.ranking import Scorer, Task
from recsys.workers import worker_map

_USERS_PER_DRAW = 256  # users with neighbouring indices share a stream; changing it changes draws
_USERS_PER_BLOCK = 16


def sampled_metrics(
    systems: Mapping[str, Scorer],
    task: Task,
    *,
    n_samples: int,
    ks: Sequence[int],
    seed: int,
    memory_limit_mb: int = 512,
) -> dict[str, dict[str, FloatArray]]:
    """Ranking metrics of several systems among the same sampled candidates.

    Ties are broken as in the full ranking. Definitions are those of
    :mod:`recsys.evaluation.metrics`.

    Args:
        systems: what to judge, by name; all over the same users and items.
        task: users and their held-out items; known items are never drawn.
        n_samples: negatives a user; all there are where fewer are left.
        ks: list lengths.
        seed: of the draws.
        memory_limit_mb: bound on working memory, in MB of 2**20 bytes.

    Returns:
        For each system, keys such as ``"sampled_ndcg@10"``; values (n,) float64 in the order of
        the task's users, NaN for a user with nothing to find.
    """
    rows, items = task.relevant.entries(task.users)
    n_held_out = task.relevant.lengths[task.users]
    places = {name: np.empty(len(rows), dtype=np.int64) for name in systems}
    budget = memory_limit_mb * 2**20 // (2 * torch.get_num_threads())
    ties = places_in(tie_order(task.relevant.n_columns))

    def work(group: slice) -> None:
        users = task.users[group]
        drawn = draw_candidates(users, task.relevant, task.known, n_samples, seed)
        for name, scorer in systems.items():
            size = _users_at_once(scorer, int(n_held_out[group].max()), n_samples, budget)
            for start in range(0, len(users), size):
                block = slice(start, min(start + size, len(users)))
                first = group.start + start
                pairs = slice(*np.searchsorted(rows, [first, group.start + block.stop]))
                places[name][pairs] = _places(
                    scorer, ties, users[block], rows[pairs] - first, items[pairs], drawn[block]
                )

    with worker_map() as run:
        for scorer in systems.values():
            scorer.check_finite(task.users)
        for _ in run(work, _draw_groups(task.users)):
            pass  # raises what a worker raised
    metrics: dict[str, dict[str, FloatArray]] = {}
    for name, found in places.items():
        values = metrics_of_places(Places(rows, items, found, len(task.users)), ks)
        metrics[name] = {f"sampled_{metric}": column for metric, column in values.items()}
    return metrics


def _draw_groups(users: IntArray) -> Iterator[slice]:
    """The users, cut where the stream of draws changes."""
    cuts = np.flatnonzero(np.diff(users // _USERS_PER_DRAW)) + 1
    bounds = [0, *cuts.tolist(), len(users)]
    return (slice(start, stop) for start, stop in pairwise(bounds) if stop > start)


def draw_candidates(
    users: IntArray, relevant: Bags, known: Sequence[Bags], n_samples: int, seed: int
) -> IntArray:
    """The items drawn for users that share a stream: equal ``index // 256``.

    Half as many items again as needed are drawn with replacement; the first distinct, allowed ones
    are kept. Where they do not suffice (small catalogues, long histories), the user's are drawn
    from the list of allowed items.

    Returns:
        (m, n_samples); -1 where too few are left to draw.
    """
    n_items = relevant.n_columns
    rng = np.random.default_rng([seed, int(users[0]) // _USERS_PER_DRAW])
    width = n_samples + n_samples // 2 + 32
    draws = rng.integers(n_items, size=(_USERS_PER_DRAW, width))[users % _USERS_PER_DRAW]
    forbidden = [bag.entries(users) for bag in (relevant, *known)]
    usable = _first_and_allowed(draws, n_items, forbidden)
    usable &= np.cumsum(usable, axis=1) <= n_samples
    negatives = np.full((len(users), n_samples), -1, dtype=np.int64)
    enough = usable.sum(axis=1) == n_samples
    negatives[enough] = draws[enough][usable[enough]].reshape(-1, n_samples)
    for row in np.flatnonzero(~enough):
        allowed = np.ones(n_items, dtype=bool)
        for bag in (relevant, *known):
            allowed[bag.row(users[row])] = False
        own = np.random.default_rng([seed, 1, int(users[row])])
        chosen = own.permutation(np.flatnonzero(allowed))[:n_samples]
        negatives[row, : len(chosen)] = chosen
    return negatives


def _first_and_allowed(
    draws: IntArray, n_items: int, forbidden: Sequence[tuple[IntArray, IntArray]]
) -> BoolArray:
    """Which draws are the first of their item in their row, and not forbidden; (m, width) bool."""
    m, width = draws.shape
    # One sorted list of (row, item, draw): equal items of a row are neighbours, the first first.
    numbers = (np.arange(m)[:, None] * n_items + draws) * width + np.arange(width)
    numbers = np.sort(numbers, axis=1).ravel()
    cells = numbers // width
    usable = np.ones(len(cells), dtype=bool)
    usable[1:] = cells[1:] != cells[:-1]
    for rows, items in forbidden:
        wanted = rows * n_items + items
        found = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        usable[found[cells[found] == wanted]] = False
    by_draw = np.empty((m, width), dtype=bool)
    by_draw[cells // n_items, numbers % width] = usable
    return by_draw


def _users_at_once(scorer: Scorer, n_held_out: int, n_samples: int, budget: int) -> int:
    """How many users with at most so many held-out items fit in the budget, in bytes."""
    user_bytes = (n_held_out + n_samples) * (scorer.listed_bytes + 64 + 9 * n_held_out)
    return min(max(1, budget // max(1, user_bytes)), _USERS_PER_BLOCK)


def _places(
    scorer: Scorer,
    ties: IntArray,
    users: IntArray,
    rows: IntArray,
    positives: IntArray,
    negatives: IntArray,
) -> IntArray:
    """Place of each held-out item among its user's candidates, (P,).

    Args:
        scorer: whose scores order them.
        ties: place of each item where scores are equal, (I,).
        users: m of them.
        rows: position among them of the user of each held-out pair, (P,), not falling.
        positives: held-out item of each pair, (P,).
        negatives: drawn items of each user, (m, n_samples); -1 for none.
    """
    counts = np.bincount(rows, minlength=len(users))
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.full((len(users), counts.max()), -1, dtype=np.int64)
    held[rows, columns] = positives
    listed = np.concatenate([held, negatives], axis=1)
    present = np.maximum(listed, 0)
    packed = pack(scorer.score_listed(users, present), ties[present])
    keys = np.where(listed < 0, NO_ITEM, packed)
    places: IntArray = (keys[rows] > keys[rows, columns][:, None]).sum(axis=1)
    return places
