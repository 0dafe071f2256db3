"""Which baselines there are, and what is tried of each: smaller grids where items are many."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import assert_never

from recsys.baselines.baseline import Baseline
from recsys.baselines.ease import Ease
from recsys.baselines.implicit_factors import ImplicitALS, ImplicitBPR
from recsys.baselines.item_knn import ItemKNN
from recsys.baselines.popularity import Popularity
from recsys.config import BaselineName

CHEAP: tuple[BaselineName, ...] = ("popularity", "item_knn", "ease")
RECENCY_SCALES = (1.0, 2.0, 4.0, 8.0, 32.0)
"""Positions, tried beside equal weights of a history's items where they have an order."""
_MANY_ITEMS = 4000  # from here on a fit takes seconds
_ALS_WEIGHTS = (
    (10.0, 1.0, 15),
    (30.0, 1.0, 15),
    (30.0, 10.0, 3),
    (100.0, 40.0, 3),
    (100.0, 40.0, 15),
)
"""l2, alpha and sweeps of iALS."""


@dataclass(frozen=True)
class Grid:
    """Settings to try, one at least.

    Attributes:
        candidates: the settings; neighbours in the list are alike where ``start`` is given.
        start: where to begin to climb towards better neighbours; None tries all.
        most: at most so many are tried when climbing.
    """

    candidates: tuple[Baseline, ...]
    start: int | None = None
    most: int = 8


def grid_of(name: BaselineName, n_items: int, seed: int) -> Grid:
    """What is tried of a baseline.

    Args:
        name: the baseline.
        n_items: the more, the fewer are tried.
        seed: of what is drawn while fitting.
    """
    is_large = n_items > _MANY_ITEMS
    match name:
        case "popularity":
            return Grid((Popularity(),))
        case "item_knn":
            shrinkages = (0.0,) if is_large else (0.0, 5.0, 20.0)
            return Grid(tuple(ItemKNN(*each) for each in product((10, 20, 50, 200), shrinkages)))
        case "ease":
            steps = range(-4, 6)
            candidates = tuple(Ease(round(100 * 2.5**step, 1)) for step in steps)
            return Grid(candidates, start=steps.index(0), most=3 if is_large else 8)
        case "ials":
            tried = product((32, 96), _ALS_WEIGHTS)
            return Grid(tuple(ImplicitALS(factors, *rest, seed) for factors, rest in tried))
        case "bpr":
            rates = product((32, 96), (0.01, 0.05))
            return Grid(tuple(ImplicitBPR(*each, 0.01, seed=seed) for each in rates))
        case _:
            assert_never(name)
