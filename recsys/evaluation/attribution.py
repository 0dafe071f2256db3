"""How much of the difference between two runs each of several factors made.

The two runs are corners of a full factorial: a cell for each choice of the factors that are as in
the new run, the others as in the old one. A factor's share is its Shapley value (Shapley 1953): the
mean, over all orders in which the factors can be changed one after another, of what the metric
gains when this one is changed. Shares add up to the whole difference, whatever the interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
import pandas as pd

from recsys.data.arrays import FloatArray
from recsys.evaluation.bootstrap import Interval, bootstrap_means, percentile_interval

N_SAMPLES = 2000
"""Bootstrap resamples."""


@dataclass(frozen=True)
class Share:
    """What one factor, or all of them, changed in the mean of a metric.

    Attributes:
        value: new minus old, in the unit of the metric.
        interval: by bootstrap over users.
        alone: the change where this factor alone is as in the new run.
        last: the change where all others are already as in the new run.
    """

    value: float
    interval: Interval
    alone: float
    last: float


def shapley_weights(n_factors: int) -> FloatArray:
    """Weight of each cell in each factor's share, (n_factors, 2**n_factors).

    Cell ``c`` has factor ``i`` as in the new run where bit ``i`` of ``c`` is set.
    """
    weights = np.zeros((n_factors, 2**n_factors))
    for cell in range(2**n_factors):
        for factor in range(n_factors):
            if not cell >> factor & 1:
                before = cell.bit_count()
                weight = factorial(before) * factorial(n_factors - before - 1)
                weights[factor, cell] -= weight / factorial(n_factors)
                weights[factor, cell | 1 << factor] += weight / factorial(n_factors)
    return weights


def attribute(cells: Sequence[pd.Series], confidence: float) -> tuple[list[Share], Share]:
    """Each factor's share of the difference between the last cell and the first, and the whole.

    Users are resampled by id, in all cells at once: cells of the same test users are compared
    paired, those of other users unpaired, and those that share some users are in between.

    Args:
        cells: 2**n of them, numbered as in :func:`shapley_weights`; values of a metric by user id,
            NaN where a user has none.
        confidence: level of the intervals.
    """
    n_factors = len(cells).bit_length() - 1
    every = len(cells) - 1
    values = pd.concat(cells, axis=1).to_numpy(np.float64)
    means = np.nanmean(values, axis=0)
    rng = np.random.default_rng(0)  # the same cells give the same intervals
    resampled = bootstrap_means(values, n_samples=N_SAMPLES, rng=rng)
    shares = [
        Share(
            value=float(weights @ means),
            interval=percentile_interval(resampled @ weights, confidence),
            alone=float(means[1 << factor] - means[0]),
            last=float(means[every] - means[every ^ 1 << factor]),
        )
        for factor, weights in enumerate(shapley_weights(n_factors))
    ]
    whole = float(means[every] - means[0])
    interval = percentile_interval(resampled[:, every] - resampled[:, 0], confidence)
    return shares, Share(whole, interval, whole, whole)
