"""Which baselines there are, and what a run tries of each: smaller grids where items are many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, assert_never

from recsys.baselines.baseline import Fitted
from recsys.baselines.content_knn import fit_content_knn
from recsys.baselines.ease import fit_ease
from recsys.baselines.implicit_factors import fit_bpr, fit_ials
from recsys.baselines.item_knn import fit_item_knn
from recsys.baselines.popularity import fit_popularity
from recsys.config import BaselineName
from recsys.data.features import Features
from recsys.data.histories import Histories

CHEAP: tuple[BaselineName, ...] = ("popularity", "item_knn", "ease", "content_knn")
BETWEEN_ITEMS: tuple[BaselineName, ...] = ("item_knn", "ease", "content_knn")
"""Those with a weight for each two items; recent items of a history can weigh more."""
RECENCY_SCALES = (1.0, 2.0, 4.0, 8.0, 32.0)
"""Positions, tried beside equal weights of a history's items where they have an order."""
_MANY_ITEMS = 4000  # from here on a fit takes seconds
_ALS_WEIGHTS = (
    {"l2": 10.0, "alpha": 1.0, "iterations": 15},
    {"l2": 30.0, "alpha": 1.0, "iterations": 15},
    {"l2": 30.0, "alpha": 10.0, "iterations": 3},
    {"l2": 100.0, "alpha": 40.0, "iterations": 3},
    {"l2": 100.0, "alpha": 40.0, "iterations": 15},
)


@dataclass(frozen=True)
class Grid:
    """Settings to try, one at least.

    Attributes:
        candidates: the settings; neighbours in the list are alike where ``start`` is given.
        start: where to begin to climb towards better neighbours; None tries all.
        most: at most so many are tried when climbing.
    """

    candidates: tuple[dict[str, Any], ...]
    start: int | None = None
    most: int = 8


def fit_baseline(
    name: BaselineName,
    settings: Mapping[str, Any],
    histories: Histories,
    items: Features,
    seed: int,
) -> Fitted:
    """The named baseline, fitted.

    Args:
        name: the baseline.
        settings: its own, by name.
        histories: what it learns from.
        items: what is known of the items.
        seed: of what is drawn while fitting.
    """
    match name:
        case "popularity":
            return fit_popularity(histories)
        case "item_knn":
            return fit_item_knn(histories, **settings)
        case "ease":
            return fit_ease(histories, **settings)
        case "content_knn":
            return fit_content_knn(items, **settings)
        case "ials":
            return fit_ials(histories, **settings, seed=seed)
        case "bpr":
            return fit_bpr(histories, **settings, seed=seed)
        case _:
            assert_never(name)


def grid_of(name: BaselineName, n_items: int) -> Grid:
    """What a run tries of a baseline.

    Args:
        name: the baseline.
        n_items: the more, the fewer are tried.
    """
    is_large = n_items > _MANY_ITEMS
    match name:
        case "popularity":
            return Grid(({},))
        case "item_knn":
            shrinkages = (0.0, 20.0) if is_large else (0.0, 5.0, 20.0)
            return _all_of(neighbours=(5, 10, 20, 50, 200), shrinkage=shrinkages)
        case "ease":
            steps = range(-4, 6)
            candidates = tuple({"l2": round(100 * 2.5**step, 1)} for step in steps)
            return Grid(candidates, start=steps.index(0), most=3 if is_large else 8)
        case "content_knn":
            return _all_of(neighbours=(2, 5, 10, 20, 50, 200))
        case "ials":
            tried = product((32, 96), _ALS_WEIGHTS)
            return Grid(tuple({"factors": factors} | weights for factors, weights in tried))
        case "bpr":
            return _all_of(factors=(32, 96), learning_rate=(0.01, 0.05), l2=(0.01,), epochs=(100,))
        case _:
            assert_never(name)


def _all_of(**values: tuple[float, ...]) -> Grid:
    """All combinations of the values."""
    return Grid(tuple(dict(zip(values, each, strict=True)) for each in product(*values.values())))
