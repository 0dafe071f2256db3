"""When a search ends before its trials are used up: its hours are over, or the rest is noise.

The forecast says by how much the best value is expected to rise in what remains. Let ``E(k)`` be
the expected best of ``k`` of the ``n`` values drawn so far (exact, from their order: Dodge et al.
2019, "Show your work"). ``m`` further trials multiply the draws by ``(n + m) / n``, and the
best is expected to rise by as much as it did over the last stretch of that ratio::

    E(n) - E(n * n / (n + m))

That is exact where the upper tail is exponential and too high where it is shorter, as that of a
bounded metric is: the forecast errs towards going on. It takes draws for exchangeable, which those
of a sampler that still improves are not: so what the best gained over that stretch in the order of
trials counts where it is more.

A search ends where that gain is below the error that a difference between two finalists will have,
from other seeds and other users: finalists could not tell it from chance. The error is measured on
the default configuration, trained on the seeds of the finalists, to whom these trainings belong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.special import gammaln

from recsys.data.arrays import FloatArray
from sweeps.record import Constraint, Objective, TrialRecord
from sweeps.settings import FEWEST_DRAWS, SweepSettings

Interval = tuple[float, float]


def trials_left(n_ended: int, limit: int, spent: float, seconds: float | None) -> int:
    """Trials that remain up to the limit, or fewer where time will not be enough for them.

    Args:
        n_ended: trials that ended.
        limit: how many there may be.
        spent: seconds in which they ran.
        seconds: in which trials may run; None where time does not bound them.
    """
    n_left = max(0, limit - n_ended)
    if seconds is None or not n_ended or spent <= 0:
        return n_left
    return min(n_left, int(n_ended * max(0.0, seconds - spent) / spent))


def forecast(
    settings: SweepSettings, trials: Sequence[TrialRecord], n_left: int, *, learned: bool = False
) -> float | None:
    """By how much the best value is expected to improve; None where too few values are known.

    Args:
        settings: of the sweep.
        trials: of the search, by number.
        n_left: that remain.
        learned: take no draws from before the sampler learned, or none at all.
    """
    draws = merits(trials, settings.objectives[0], settings.constraints)[1:]  # 0 is the default
    late = draws[settings.n_startup :]
    if len(late) >= FEWEST_DRAWS or learned:
        draws = late
    return expected_gain(np.array(draws), n_left) if len(draws) >= FEWEST_DRAWS else None


def merits(
    trials: Iterable[TrialRecord], objective: Objective, constraints: Sequence[Constraint]
) -> list[float]:
    """What the ended trials reached, by number, such that more is better.

    A pruned trial counts by the last value that it reported. One that failed or breaks a constraint
    cannot win and counts as the worst. Interrupted ones are left out: they are run again.
    """
    found: list[float | None] = []
    for trial in trials:
        if trial.state == "running" or trial.is_lost:
            continue
        is_kept = trial.state == "pruned" or all(
            rule.is_met(trial.constraints.get(rule.metric)) for rule in constraints
        )
        value = trial.last_value() if is_kept and trial.state != "failed" else None
        found.append(None if value is None else objective.sign * value)
    known = [value for value in found if value is not None]
    worst = min(known, default=0.0)
    return [worst if value is None else value for value in found] if known else []


def expected_best(values: FloatArray, k: float) -> float:
    """Expected largest of ``k`` of the values, without repetition; linear between whole ``k``.

    Args:
        values: (n,).
        k: from 1 to n.
    """
    ordered, n = np.sort(values), len(values)

    def whole(size: int) -> float:
        # the i-th smallest is the largest of C(i - 1, k - 1) of all C(n, k) choices
        i = np.arange(size, n + 1)
        log_choices = gammaln(i) - gammaln(size) - gammaln(i - size + 1)
        log_all = gammaln(n + 1) - gammaln(size + 1) - gammaln(n - size + 1)
        return float(np.exp(log_choices - log_all) @ ordered[size - 1 :])

    low = math.floor(k)
    share = k - low
    return whole(low) if share == 0 else (1 - share) * whole(low) + share * whole(low + 1)


def expected_gain(draws: FloatArray, n_left: int) -> float:
    """By how much the best of the draws is expected to rise in ``n_left`` further ones.

    Args:
        draws: more is better, in the order in which they were made, (n,) with n at least 2.
        n_left: further draws.
    """
    n = len(draws)
    if n_left <= 0:
        return 0.0
    best, size = float(draws.max()), n * n / (n + n_left)
    # so many that no stretch so far has their ratio: the rise is taken on, evenly in the logarithm
    scale = max(1.0, math.log((n + n_left) / n) / math.log(n))
    size = max(1.0, size)
    by_order = best - expected_best(draws, size)
    in_time = best - float(draws[: math.floor(size)].max())
    return scale * max(by_order, in_time)


def difference_error(per_user: Sequence[pd.Series[float]], n_seeds: int) -> float | None:
    """Standard error of a difference between two finalists, from other seeds and other users.

    Args:
        per_user: values of each user by user id, for trainings of one configuration that differ in
            the seed.
        n_seeds: of a finalist.

    Returns:
        None with fewer than two trainings.
    """
    if len(per_user) < 2:
        return None
    seed_variance = float(np.var([values.mean() for values in per_user], ddof=1))
    pairs = [(a - b).dropna() for a, b in itertools.combinations(per_user, 2)]
    user_variance = float(np.mean([pair.var(ddof=1) / len(pair) for pair in pairs]))
    return math.sqrt((2 * seed_variance + user_variance) / n_seeds)


def busy_seconds(intervals: Iterable[Interval]) -> float:
    """Seconds in which at least one of the intervals (start, end) was under way."""
    total, until = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
