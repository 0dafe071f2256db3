"""Whether one ranking is better than another, from their values for the same users.

The difference is judged in two ways that share no assumption about the shape of the values:

- its interval, by the percentile bootstrap over users;
- a sign-flip randomisation test: were both rankings equally good, each user's difference would be
  as likely with either sign (Fisher 1935; for retrieval Smucker, Allan and Carterette 2007).

Where several metrics are looked at, p-values are corrected by the step-down rule of Holm (1979),
which bounds the chance of any false finding whatever the dependence of the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import FloatArray, IntArray
from recsys.evaluation.bootstrap import Interval, bootstrap_means, percentile_interval
from recsys.evaluation.metrics import mean

_EXACT_UP_TO = 14  # differing users; 2**14 sign patterns are looked at one by one
_DRAWS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Comparison:
    """How much one ranking beats another on one metric.

    Attributes:
        n: users with a value under both.
        first: mean of the first over these users; NaN without users, as all that follow.
        second: the same of the second.
        interval: bootstrap interval of the difference of means, first minus second.
        p_value: two-sided, of the sign-flip test; 1 where no user differs, NaN without users, or
            where there was no test.
        effect_size: as :func:`paired_effect_size`.
        n_better: users whom the first serves better.
        n_worse: users whom it serves worse.
    """

    n: int
    first: float
    second: float
    interval: Interval
    p_value: float
    effect_size: float
    n_better: int
    n_worse: int

    @property
    def difference(self) -> float:
        """Mean of the first minus mean of the second."""
        return self.first - self.second


def compare(
    first: FloatArray,
    second: FloatArray,
    *,
    rng: np.random.Generator,
    n_samples: int = 1000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two rankings on one metric, paired; see :func:`compare_metrics`."""
    found = compare_metrics(
        {"metric": first}, {"metric": second}, rng=rng, n_samples=n_samples, confidence=confidence
    )
    return found["metric"]


def compare_metrics(
    first: Mapping[str, FloatArray],
    second: Mapping[str, FloatArray],
    *,
    rng: np.random.Generator,
    n_samples: int = 1000,
    confidence: float = 0.95,
    n_flips: int = 9999,
) -> dict[str, Comparison]:
    """Compare two rankings on every metric that both hold, paired.

    Args:
        first: for each metric one value a user, (n,), NaN where a user has none.
        second: the same for the other ranking and the same users. A user without both values of
            a metric is left out of it.
        rng: for resamples and flips; all metrics are resampled together.
        n_samples: bootstrap resamples.
        confidence: level of the intervals.
        n_flips: random sign patterns of a test; 0 for no test.
    """
    names = [name for name in first if name in second]
    if not names:
        return {}
    differences = np.column_stack([first[name] - second[name] for name in names])
    resampled = bootstrap_means(differences, n_samples=n_samples, rng=rng)
    compared = {}
    for column, name in enumerate(names):
        both = ~np.isnan(differences[:, column])
        known = differences[both, column]
        p_value = sign_flip_p_value(known, rng=rng, n_flips=n_flips) if n_flips else float("nan")
        compared[name] = Comparison(
            n=len(known),
            first=mean(first[name][both]),
            second=mean(second[name][both]),
            interval=percentile_interval(resampled[:, column], confidence),
            p_value=p_value,
            effect_size=paired_effect_size(known),
            n_better=int((known > 0).sum()),
            n_worse=int((known < 0).sum()),
        )
    return compared


def paired_effect_size(differences: FloatArray) -> float:
    """Cohen's d_z (Cohen 1988; Lakens 2013): mean over standard deviation (divisor n - 1).

    Args:
        differences: (n,), without NaN.

    Returns:
        0 where all are 0; NaN below two of them, and where they are all alike.
    """
    if len(differences) < 2:
        return float("nan")
    spread, middle = float(differences.std(ddof=1)), float(differences.mean())
    if spread <= 1e-12 * abs(middle) or spread == 0:  # alike but for rounding
        return 0.0 if middle == 0 else float("nan")
    return middle / spread


def sign_flip_p_value(
    differences: FloatArray, *, rng: np.random.Generator, n_flips: int = 9999
) -> float:
    """Two-sided p-value of the mean difference under random signs.

    Users whose difference is 0 have no say. Exact up to 14 others: the share of all sign patterns
    whose sum is as far from 0 as the one seen. Beyond, of ``n_flips`` random patterns,
    ``(as far + 1) / (n_flips + 1)`` (Phipson and Smyth 2010), hence never 0.

    Args:
        differences: (n,), without NaN; for nobody the p-value is NaN.
        rng: for random patterns.
        n_flips: how many of them.
    """
    if not len(differences):
        return float("nan")
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    # Sums that are equal on paper may differ by rounding; they must count as equally far.
    seen = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if len(differences) <= _EXACT_UP_TO:
        patterns = np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1
        return float((np.abs((2.0 * patterns - 1) @ differences) >= seen).mean())
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    chunk = max(1, _DRAWS_AT_ONCE // len(sizes))
    as_far = 0
    for start in range(0, n_flips, chunk):
        sums = _flipped_sums(sizes, counts, min(chunk, n_flips - start), rng)
        as_far += int((np.abs(sums) >= seen).sum())
    return (as_far + 1) / (n_flips + 1)


def _flipped_sums(
    sizes: FloatArray, counts: IntArray, n: int, rng: np.random.Generator
) -> FloatArray:
    """Sums of differences under ``n`` random sign patterns, equal sizes drawn together; (n,)."""
    single = counts == 1
    signs = rng.integers(2, size=(n, int(single.sum())), dtype=np.int8) * np.int8(2) - np.int8(1)
    several = counts[~single]
    positive = rng.binomial(several, 0.5, size=(n, len(several)))
    sums: FloatArray = signs @ sizes[single] + (2.0 * positive - several) @ sizes[~single]
    return sums


def holm(p_values: FloatArray) -> FloatArray:
    """P-values corrected for their number by Holm's step-down rule; NaN stays NaN, uncounted.

    The i-th smallest of m (from 0) is multiplied by m - i, made not smaller than those before it,
    and cut at 1.
    """
    corrected = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return corrected
