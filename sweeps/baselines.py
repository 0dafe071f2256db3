"""Baselines with the budget of a sweep: what is tried of each, and the winner against the best.

Each is searched by TPE on validation, as the trials of a sweep are, from the settings that a run
would choose or that are usual for it. The value of the best is chosen as one of many, that of the
winner is a mean over fresh seeds: where the winner is told to be better, that is in spite of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState, create_trial

from recsys.baselines import content_knn, item_knn
from recsys.baselines.build import BETWEEN_ITEMS, RECENCY_SCALES
from recsys.baselines.names import baseline_label
from recsys.config import BaselineName
from recsys.reporting.formatting import chance, interval, number
from sweeps.finalists import ComparisonRules, PerUser, mean_over_seeds, paired
from sweeps.findings import (
    BaselineComparison,
    BaselineTrial,
    Direction,
    Finalists,
    TunedBaseline,
    sign_of,
)
from sweeps.optimism import pooled_std
from sweeps.space import Params, Space

TUNED: tuple[BaselineName, ...] = ("item_knn", "ease", "ials", "bpr", "content_knn")
RECENCY = "recency"
STARTUP_TRIALS = 10
"""Drawn at random before TPE learns, as in a sweep."""
_FACTORS = {"int": [16, 128], "log": True}
_SPACES: dict[BaselineName, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {
        "neighbours": {"int": [5, item_knn.MOST_NEIGHBOURS], "log": True},
        "shrinkage": {"float": [0.0, 100.0]},
    },
    "ease": {"l2": {"float": [1.0, 10_000.0], "log": True}},
    "ials": {
        "factors": _FACTORS,
        "l2": {"float": [1.0, 300.0], "log": True},
        "alpha": {"float": [1.0, 100.0], "log": True},
        "iterations": {"int": [3, 30]},
    },
    "bpr": {
        "factors": _FACTORS,
        "learning_rate": {"float": [0.003, 0.1], "log": True},
        "l2": {"float": [0.0001, 0.1], "log": True},
        "epochs": {"int": [20, 150], "log": True},
    },
    "content_knn": {"neighbours": {"int": [1, content_knn.MOST_NEIGHBOURS], "log": True}},
}
"""What is tried of each, in the language of a sweep's space; recency beside it."""
_STARTS: dict[BaselineName, Params] = {
    "popularity": {},
    "item_knn": {"neighbours": 50, "shrinkage": 5.0},
    "ease": {"l2": 100.0},
    "ials": {"factors": 64, "l2": 30.0, "alpha": 10.0, "iterations": 15},
    "bpr": {"factors": 64, "learning_rate": 0.05, "l2": 0.01, "epochs": 100},
    "content_knn": {"neighbours": 10},
}


def suggest(
    name: BaselineName,
    tried: Sequence[BaselineTrial],
    *,
    direction: Direction,
    has_order: bool,
    seed: int,
) -> Params:
    """What to try next; it depends on the arguments alone, whatever session asks.

    Args:
        name: the baseline.
        tried: what is known, in order.
        direction: which values are better.
        has_order: whether histories have one, so that recent items may weigh more.
        seed: of the draws.
    """
    tree, start = dict(_SPACES[name]), dict(_STARTS[name])
    if has_order and name in BETWEEN_ITEMS:
        tree[RECENCY], start[RECENCY] = {"choice": [None, *RECENCY_SCALES]}, None
    if not tried:
        return start
    space = Space.of(tree)
    draws = np.random.SeedSequence([seed, 40, TUNED.index(name), len(tried)])
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP_TRIALS, seed=int(draws.generate_state(1)[0])
    )
    study = optuna.create_study(direction=direction, sampler=sampler)
    distributions = {each.name: each.distribution for each in space.dimensions}
    for trial in tried:
        failed = trial.value is None
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                value=trial.value,
                params=trial.params,
                distributions=distributions,
            )
        )
    return space.suggest(study.ask())


def best_trial(tried: Sequence[BaselineTrial], direction: Direction) -> BaselineTrial | None:
    """The best, the first of equals; None where none has a value."""
    sign = sign_of(direction)
    known = [trial for trial in tried if trial.value is not None]
    return max(known, key=lambda trial: sign * (trial.value or 0.0), default=None)


def compare_with_baseline(
    winner: PerUser,
    finalists: Finalists,
    rival: TunedBaseline,
    rival_values: pd.Series[float],
    rules: ComparisonRules,
    rng: np.random.Generator,
) -> BaselineComparison:
    """Compare the winner with the best baseline, paired over validation users.

    Args:
        winner: values of each user.
        finalists: whose pooled spread is the noise between seeds.
        rival: the baseline.
        rival_values: its value of each user, by user id.
        rules: how they are compared.
        rng: for resamples and flips.
    """
    noise, degrees = pooled_std(finalists.rows)
    n_seeds = sum(values is not None for values in winner)
    error = None if noise is None else noise / math.sqrt(n_seeds)
    found = paired(mean_over_seeds(winner), rival_values, error, degrees, rules, rng)
    level = 1 - rules.confidence
    is_clear = found["p"] <= level and not found["p_seeds"] > level
    comparison = BaselineComparison(baseline=rival.name, is_clear=is_clear, verdict="", **found)
    return replace(comparison, verdict=_verdict(comparison, rules.direction))


def _verdict(found: BaselineComparison, direction: Direction) -> str:
    if found.difference is None or found.p is None:
        return "The winner cannot be compared with the baselines: no user has a value under both."
    sign = sign_of(direction)
    is_better = sign * found.difference > 0
    if found.is_clear and not is_better:
        sign = -sign  # by how much it is worse
    low, high = sorted(sign * end for end in (found.low or 0.0, found.high or 0.0))
    name = f"the best tuned baseline, {baseline_label(found.baseline)}"
    by = f"{number(sign * found.difference)} {interval(low, high)}, {chance(found.p)}"
    if found.p_seeds is not None:
        by += f"; counting the noise between seeds too, {chance(found.p_seeds)}"
    way = "better" if is_better else "worse"
    unclear = f"not distinguishable from {name}: difference"
    said = f"{way} than {name}, by" if found.is_clear else unclear
    return f"The winner is {said} {by}."
