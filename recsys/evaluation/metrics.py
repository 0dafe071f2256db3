"""How well lists hold what their users went on to choose.

All metrics follow from the places (from 0) at which relevant items stand in the lists, so the
places are found once. Definitions, for a user with ``relevant`` items, ``hits`` of them among the
first ``k``:

- ``recall@k``: hits / relevant. With more than ``k`` relevant items 1 cannot be reached.
- ``precision@k``: hits / k, also for a list shorter than ``k``.
- ``hit_rate@k``: 1 if there is a hit, else 0.
- ``ndcg@k``: the sum over hits of 1 / log2(place + 2), divided by that of a list that begins with
  ``min(k, relevant)`` hits (Järvelin and Kekäläinen 2002, binary gains).
- ``map@k``: the sum over hits of precision at the hit, divided by ``min(k, relevant)``.
- ``mrr@k``: 1 / (place + 1) of the first hit, 0 without one.

A user without relevant items has no value (NaN), and means leave such users out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.config import RANKING_METRICS
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.ranking import Ranking

_COMPARISONS = 2**22  # (pair, place) comparisons at once
_ROWS_AT_ONCE = 2**15


@dataclass(frozen=True, eq=False)
class Places:
    """Where the relevant (user, item) pairs of a ranking stand.

    Attributes:
        rows: row of the ranking, (P,), not falling.
        items: the relevant item, (P,).
        places: its place in the row's list from 0, -1 where it is not in the list; (P,).
        n_rows: rows of the ranking, those without relevant items included.
    """

    rows: IntArray
    items: IntArray
    places: IntArray
    n_rows: int

    def select(self, chosen: BoolArray) -> Places:
        """Those of some pairs, (P,), as if nothing else were to be found."""
        return Places(self.rows[chosen], self.items[chosen], self.places[chosen], self.n_rows)


def find_places(ranking: Ranking, relevant: Bags) -> Places:
    """Where each relevant item stands in its user's list.

    Args:
        ranking: lists of n users.
        relevant: items to be found, one bag a user of the vocabulary, no item twice in a bag.
    """
    rows, items = relevant.entries(ranking.users)
    places = np.full(len(rows), -1, dtype=np.int64)
    chunk = max(1, _COMPARISONS // ranking.items.shape[1])
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        pairs, found = np.nonzero(ranking.items[rows[part]] == items[part, None])
        places[start + pairs] = found
    return Places(rows, items, places, len(ranking.users))


def ranking_metrics(ranking: Ranking, relevant: Bags, ks: Sequence[int]) -> dict[str, FloatArray]:
    """Each metric at each k of each user; see the module for definitions.

    Args:
        ranking: lists of n users, at least as long as the largest k.
        relevant: items to be found, one bag a user of the vocabulary, no item twice in a bag.
        ks: list lengths.

    Returns:
        Keys such as ``"ndcg@10"``; values (n,) float64, NaN for a user with nothing to find.
    """
    assert max(ks) <= ranking.items.shape[1], "the lists are shorter than the largest k"
    return metrics_of_places(find_places(ranking, relevant), ks)


def metrics_of_places(found: Places, ks: Sequence[int]) -> dict[str, FloatArray]:
    """Each metric at each k of each row, from places alone; as :func:`ranking_metrics`."""
    values: dict[str, FloatArray] = {
        f"{metric}@{k}": np.empty(found.n_rows) for metric in RANKING_METRICS for k in ks
    }
    n_relevant = np.bincount(found.rows, minlength=found.n_rows).astype(np.float64)
    n_relevant[n_relevant == 0] = np.nan  # every metric of such a user becomes NaN
    for start in range(0, found.n_rows, _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, found.n_rows))
        running = _Running.of(_hits(found, part, max(ks)))
        for metric in RANKING_METRICS:
            for k in ks:
                values[f"{metric}@{k}"][part] = _metric(metric, running, n_relevant[part], k)
    return values


def _hits(found: Places, part: slice, k: int) -> BoolArray:
    """Whether each place of the given rows holds a relevant item, (rows, k)."""
    pairs = slice(*np.searchsorted(found.rows, [part.start, part.stop]))
    rows, places = found.rows[pairs] - part.start, found.places[pairs]
    inside = (places >= 0) & (places < k)
    hits = np.zeros((part.stop - part.start, k), dtype=bool)
    hits[rows[inside], places[inside]] = True
    return hits


def discounts(k: int) -> FloatArray:
    """What a hit at each place is worth: 1 / log2(place + 2), (k,)."""
    values: FloatArray = 1.0 / np.log2(np.arange(k) + 2.0)
    return values


def means(values: Mapping[str, FloatArray]) -> dict[str, float]:
    """The mean of each metric over the users that have a value; NaN where none has."""
    return {name: mean(column) for name, column in values.items()}


def mean(values: FloatArray) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


@dataclass(frozen=True, eq=False)
class _Running:
    """Sums over the first so many places: column j is the value of the first j + 1; (n, k)."""

    hits: FloatArray
    gain: FloatArray
    precision_at_hits: FloatArray
    first: FloatArray  # place of the first hit, infinity without one; (n,)

    @classmethod
    def of(cls, hits: BoolArray) -> _Running:
        """The sums of lists whose hits are given, (n, k)."""
        length = hits.shape[1]
        running = np.cumsum(hits, axis=1, dtype=np.float64)
        precision = np.where(hits, running / np.arange(1, length + 1), 0.0)
        return cls(
            hits=running,
            gain=np.cumsum(hits * discounts(length), axis=1),
            precision_at_hits=np.cumsum(precision, axis=1),
            first=np.where(hits.any(axis=1), hits.argmax(axis=1), np.inf),
        )


def _metric(name: str, running: _Running, n_relevant: FloatArray, k: int) -> FloatArray:
    """One metric at one k, (n,); NaN where ``n_relevant`` is."""
    hits, reachable = running.hits[:, k - 1], np.minimum(n_relevant, k)
    values: FloatArray
    match name:
        case "recall":
            values = hits / n_relevant
        case "precision":
            values = np.where(np.isnan(n_relevant), np.nan, hits / k)
        case "hit_rate":
            values = np.where(np.isnan(n_relevant), np.nan, hits > 0)
        case "ndcg":
            values = running.gain[:, k - 1] / ideal_gains(reachable, k)
        case "map":
            values = running.precision_at_hits[:, k - 1] / reachable
        case "mrr":
            reciprocal = np.where(running.first < k, 1.0 / (running.first + 1), 0.0)
            values = np.where(np.isnan(n_relevant), np.nan, reciprocal)
        case _:
            raise AssertionError(f"no metric is called '{name}'")
    return values


def ideal_gains(n_relevant: FloatArray, k: int) -> FloatArray:
    """The gain of a list of ``k`` that begins with all relevant items; NaN where NaN is given."""
    table = np.concatenate([[np.nan], np.cumsum(discounts(k))])
    reachable = np.nan_to_num(np.minimum(n_relevant, k)).astype(np.int64)
    gains: FloatArray = table[reachable]
    return gains
