"""The last round: the best configurations on fresh seeds, and which of them can be told apart.

A configuration that led the search did so by chance as well as by merit. Trained again on several
seeds its mean is a fair value, and two sources of chance are left, tested apart and together:

- *users*: other users might prefer another model. Each user's values are averaged over the seeds
  and compared in pairs, by a bootstrap interval and a randomisation test.
- *seeds*: the same configuration might turn out otherwise. The error of a mean over seeds comes
  from the spread within finalists, pooled; with the error from users it makes a t-test
  (Satterthwaite's degrees of freedom).

Finalists race: after two seeds, and after each further one, those that the leader is clearly ahead
of are trained on no further seed. They keep the mean that they have, and rank behind the others.

With many users the first test alone calls two seeds of one configuration different, so a finding is
clear only where both agree. All pairs are tested and corrected together (Holm), since the
winner was chosen by looking at all of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from recsys.data.arrays import FloatArray
from recsys.evaluation.significance import compare, holm
from recsys.reporting.formatting import chance, interval, number
from sweeps.findings import Comparison, Direction, Finalist, Finalists, sign_of
from sweeps.optimism import estimate_optimism, pooled_std

PerUser = Sequence["pd.Series[float] | None"]
"""Validation values by user id, NaN for a user with nothing to find; one a seed, None where there
is no training."""
DEFAULT_TRIAL = 0


@dataclass(frozen=True, eq=False)
class Retraining:
    """One configuration, trained once on each seed of the last round."""

    trial: int  # in the search; 0 is the default configuration
    params: Mapping[str, Any]
    search_value: float | None  # what that trial reached, where it was completed
    per_user: PerUser
    dropped_after: int | None = None  # seeds, after which it had clearly lost


@dataclass(frozen=True)
class ComparisonRules:
    """How finalists are compared."""

    metric: str
    direction: Direction = "maximize"
    confidence: float = 0.95  # of intervals; one less it is the level of the tests
    n_samples: int = 2000  # bootstrap resamples, and sign flips of the randomisation test


def compare_finalists(
    candidates: Sequence[Retraining],
    rules: ComparisonRules,
    *,
    seeds: Sequence[int],
    search_values: Sequence[float],
    rng: np.random.Generator,
) -> Finalists:
    """Name the winner by its mean over seeds, and say what it can be told from.

    Args:
        candidates: the finalists and the default configuration, each trial once, in any order.
        rules: how they are compared.
        seeds: of the last round, other than that of the search, or the estimate of optimism is
            worth nothing.
        search_values: first objective of every completed trial of the search.
        rng: for resamples and flips.
    """
    values = {each.trial: mean_over_seeds(each.per_user) for each in candidates}
    sign = sign_of(rules.direction)
    rows = [_row(each) for each in candidates]
    rows.sort(
        key=lambda row: (
            row.dropped_after is not None,
            math.inf if row.mean is None else -sign * row.mean,
            row.trial,
        )
    )
    ranked = [row for row in rows if row.mean is not None]
    winner = ranked[0] if ranked else None
    runner_up = next((row for row in ranked[1:] if not row.is_default), None)
    roles = _roles(winner, runner_up, ranked)
    comparisons = _comparisons(ranked, values, roles, rules, rng)
    comparisons.sort(key=lambda found: not found.roles)  # stable: better pairs first among equals
    return Finalists(
        metric=rules.metric,
        direction=rules.direction,
        seeds=tuple(int(seed) for seed in seeds),
        rows=tuple(rows),
        winner=None if winner is None else winner.trial,
        runner_up=None if runner_up is None else runner_up.trial,
        comparisons=tuple(comparisons),
        verdict=_verdict(winner, comparisons),
        optimism=estimate_optimism(search_values, rows, direction=rules.direction, rng=rng),
        n_spared=sum(len(seeds) - row.dropped_after for row in rows if row.dropped_after),
    )


def clear_losers(
    candidates: Sequence[Retraining],
    rules: ComparisonRules,
    *,
    n_looks: int,
    rng: np.random.Generator,
) -> set[int]:
    """Finalists that need no further seed: the leader so far is clearly better.

    The same tests as in the end, over users and with the noise between seeds, corrected for all
    pairs, at a level that is divided by the number of looks: one that is as good as the leader is
    dropped with a chance of at most one less the confidence, whatever the number of seeds.

    Args:
        candidates: with the trainings so far, on at least two seeds.
        rules: how they are compared.
        n_looks: how often that is asked before all seeds are done.
        rng: for resamples and flips.
    """
    level = (1 - rules.confidence) / n_looks
    strict = dataclasses.replace(rules, confidence=1 - level)
    n_seeds = max(len(each.per_user) for each in candidates)
    found = compare_finalists(candidates, strict, seeds=range(n_seeds), search_values=(), rng=rng)
    return {
        each.second for each in found.comparisons if each.first == found.winner and each.is_clear
    }


def _row(candidate: Retraining) -> Finalist:
    means = [
        None if values is None or values.isna().all() else float(values.mean())
        for values in candidate.per_user
    ]
    kept = np.array([mean for mean in means if mean is not None])
    return Finalist(
        trial=candidate.trial,
        params=dict(candidate.params),
        is_default=candidate.trial == DEFAULT_TRIAL,
        search_value=candidate.search_value,
        values=tuple(means),
        mean=float(kept.mean()) if len(kept) else None,
        std=float(kept.std(ddof=1)) if len(kept) > 1 else None,
        dropped_after=candidate.dropped_after,
    )


def mean_over_seeds(per_user: PerUser) -> pd.Series[float]:
    """Each user's value, averaged over the seeds; by user id."""
    known = [values for values in per_user if values is not None]
    if not known:
        return pd.Series(dtype="float64")
    averaged: pd.Series[float] = pd.concat(known, axis=1).mean(axis=1, skipna=False)
    return averaged


def _comparisons(
    ranked: Sequence[Finalist],
    values: Mapping[int, pd.Series[float]],
    roles: Mapping[int, str],
    rules: ComparisonRules,
    rng: np.random.Generator,
) -> list[Comparison]:
    """Every two finalists, the better first, corrected together."""
    noise, degrees = pooled_std(ranked)
    pairs, tests = list(itertools.combinations(ranked, 2)), list[dict[str, Any]]()
    for first, second in pairs:
        error = None
        if noise is not None:
            error = noise * math.sqrt(1 / len(first.known) + 1 / len(second.known))
        one, other = values[first.trial], values[second.trial]
        tests.append(paired(one, other, error, degrees, rules, rng) | {"seed_error": error})
    for name in ("p", "p_seeds"):
        corrected = holm(np.array([each[name] for each in tests], dtype=np.float64))
        for each, p in zip(tests, corrected, strict=True):
            each[f"{name}_holm"] = p
    return [_comparison(*pair, each, roles, rules) for pair, each in zip(pairs, tests, strict=True)]


def paired(
    one: pd.Series[float],
    other: pd.Series[float],
    seed_error: float | None,
    degrees: int,
    rules: ComparisonRules,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What users and seeds say of a difference: the fields that all comparisons have.

    Args:
        one: values by user id.
        other: of the same users, in any order.
        seed_error: of the difference, from the noise between seeds; None where it is not known.
        degrees: of freedom of that noise.
        rules: how they are compared.
        rng: for resamples and flips.
    """
    values = pd.concat([one, other], axis=1).to_numpy(dtype=np.float64).T
    found = compare(*values, rng=rng, n_samples=rules.n_samples, confidence=rules.confidence)
    return {
        "difference": found.difference,
        "low": found.interval[0],
        "high": found.interval[1],
        "confidence": rules.confidence,
        "p": found.p_value,
        "p_seeds": _p_with_seeds(values[0] - values[1], seed_error, degrees),
        "n_users": found.n,
    }


def _p_with_seeds(differences: FloatArray, seed_error: float | None, degrees: int) -> float:
    """Two-sided p of the mean difference against its errors from users and seeds; NaN unknown."""
    kept = differences[~np.isnan(differences)]
    if seed_error is None or len(kept) < 2:
        return math.nan
    user_variance = float(kept.var(ddof=1)) / len(kept)
    seed_variance = seed_error**2
    total = user_variance + seed_variance
    if total == 0:
        return 1.0 if kept.mean() == 0 else 0.0
    freedom = total**2 / (user_variance**2 / (len(kept) - 1) + seed_variance**2 / degrees)
    return float(2 * stdtr(freedom, -abs(kept.mean()) / math.sqrt(total)))


def _roles(
    winner: Finalist | None, runner_up: Finalist | None, ranked: Sequence[Finalist]
) -> dict[int, str]:
    names = {row.trial: "default" for row in ranked if row.is_default}
    if runner_up is not None:
        names[runner_up.trial] = "runner-up"
    if winner is not None:
        names[winner.trial] = "winner, the default" if winner.is_default else "winner"
    return names


def _comparison(
    first: Finalist,
    second: Finalist,
    tests: Mapping[str, Any],
    roles: Mapping[int, str],
    rules: ComparisonRules,
) -> Comparison:
    level = 1 - rules.confidence
    is_ahead = sign_of(rules.direction) * tests["difference"] > 0
    # a p that is not known (NaN: one seed) cannot speak against a finding, and the verdict says so
    is_clear = is_ahead and tests["p_holm"] <= level and not tests["p_seeds_holm"] > level
    role, other_role = roles.get(first.trial), roles.get(second.trial)
    found = Comparison(
        first=first.trial,
        second=second.trial,
        roles=f"{role} against {other_role}" if role and other_role else "",
        is_clear=bool(is_clear),
        verdict="",
        **tests,
    )
    other = f"the {other_role}" if other_role else f"trial {second.trial}"
    return dataclasses.replace(found, verdict=_words(found, other, rules))


def _words(found: Comparison, other: str, rules: ComparisonRules) -> str:
    """The finding in words, about the first."""
    if found.difference is None or found.p_holm is None:
        return f"cannot be compared with {other}: no user has a value under both"
    sign = sign_of(rules.direction)
    ends = sorted(sign * end for end in (found.low, found.high) if end is not None)
    low, high = ends if len(ends) == 2 else (None, None)
    by = f"{number(sign * found.difference)} {interval(low, high)}, {chance(found.p_holm)}"
    seeds = (
        "with one seed each, the noise between seeds is unknown"
        if found.p_seeds_holm is None
        else f"counting the noise between seeds too, {chance(found.p_seeds_holm)}"
    )
    if found.is_clear:
        return f"better than {other} by {by} after Holm; {seeds}"
    if found.p_holm <= 1 - found.confidence:
        return (
            f"not distinguishable from {other}: its models are better by {by} after Holm, but that "
            f"is within what other seeds do ({seeds})"
        )
    return f"not distinguishable from {other}: difference {by} after Holm; {seeds}"


def _verdict(winner: Finalist | None, comparisons: Sequence[Comparison]) -> str:
    if winner is None:
        return "No finalist could be trained again, so there is no winner."
    name = "The default configuration" if winner.is_default else f"Trial {winner.trial}"
    said = [found.verdict for found in comparisons if found.first == winner.trial and found.roles]
    # against the default first: that is what a sweep is for
    said.sort(key=lambda text: "the default" not in text)
    if not said:
        return f"{name} wins by the mean over seeds; there is nothing to compare it with."
    return f"{name} wins by the mean over seeds. It is {'. It is '.join(said)}."
