"""Means with their intervals, for diagnostics with many independent values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys.data.arrays import FloatArray


class MeanInterval(NamedTuple):
    """A mean and where it may lie; all NaN without values."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: FloatArray) -> MeanInterval:
    """The mean of the values that are not NaN, with its 95% interval.

    The interval is the mean plus and minus 1.96 standard errors (central limit theorem), NaN below
    two values.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return MeanInterval(np.nan, np.nan, np.nan, 0)
    mean = float(kept.mean())
    if len(kept) == 1:
        return MeanInterval(mean, np.nan, np.nan, 1)
    margin = 1.96 * float(kept.std(ddof=1)) / np.sqrt(len(kept))
    return MeanInterval(mean, mean - margin, mean + margin, len(kept))
