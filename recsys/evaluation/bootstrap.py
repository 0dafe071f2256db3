"""How far a mean over users could move if other users of the same kind had been asked.

Percentile bootstrap over users (Efron and Tibshirani 1993): users are drawn with replacement, all
metrics of a user together, and the interval holds the middle share of the resampled means. It
speaks of the sampling of users alone, not of another split, seed or training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recsys.data.arrays import FloatArray

_WEIGHTS_AT_ONCE = 2**22  # (resample, user) weights
Interval = tuple[float, float]


def bootstrap_means(values: FloatArray, *, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Means of the columns over resampled users, (n_samples, m).

    Args:
        values: (n, m), NaN where a user has no value; means leave these out.
        n_samples: resamplings.
        rng: where users are drawn from. The result depends on it, ``n`` and the values alone.

    Returns:
        NaN where a resample holds no value of the column, and for no users.
    """
    n = len(values)
    means = np.full((n_samples, values.shape[1]), np.nan)
    if not n:
        return means
    gaps = np.isnan(values)
    with_gaps = gaps.any(axis=0)
    present = (~gaps[:, with_gaps]).astype(np.float64)
    filled = np.where(gaps, 0.0, values)
    chunk = max(1, _WEIGHTS_AT_ONCE // n)
    for start in range(0, n_samples, chunk):
        size = min(chunk, n_samples - start)
        weights = np.empty((size, n))
        for row in weights:  # one resample at a time: counting stays in the cache
            row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        counts = weights @ present
        counts[counts == 0] = np.nan
        sums = weights @ filled
        sums[:, with_gaps] /= counts
        sums[:, ~with_gaps] /= n
        means[start : start + size] = sums
    return means


def bootstrap_intervals(
    values: Mapping[str, FloatArray],
    *,
    n_samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """The interval of each metric's mean; metrics without any value are left out.

    Args:
        values: for each metric one value a user, NaN where a user has none; equally long.
        n_samples: resamplings of users.
        confidence: share of the resampled means inside, such as 0.95.
        rng: where users are drawn from.
    """
    kept = {name: column for name, column in values.items() if not np.isnan(column).all()}
    if not kept:
        return {}
    means = bootstrap_means(np.column_stack(list(kept.values())), n_samples=n_samples, rng=rng)
    return {name: percentile_interval(means[:, i], confidence) for i, name in enumerate(kept)}


def percentile_interval(means: FloatArray, confidence: float) -> Interval:
    """The middle share of resampled means; NaN where there is none."""
    kept = means[~np.isnan(means)]
    if not len(kept):
        return (float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return (float(low), float(high))
