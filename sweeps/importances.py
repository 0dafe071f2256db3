"""Which settings the value of a trial depended on.

Pruned trials count as well, by the last value that they reported: they are most of a search, and it
is their settings that they were pruned for. Shares of importance take ten trials; with fewer, or
where they tell nothing, each setting's rank correlation with the value is given, with its interval.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import scipy
from optuna.exceptions import ExperimentalWarning

from sweeps.memory_study import memory_study
from sweeps.record import Importances, RankCorrelation, SweepRecord, TrialRecord
from sweeps.space import label

EVALUATOR = "PED-ANOVA"
CORRELATION = "Spearman's rank correlation"
FEWEST_TRIALS = 10
FEWEST_PAIRS = 4  # trials that a correlation rests on at least, so that it has an interval
TOP_TRIALS = 5  # what the evaluator's authors ask for at least
CAVEAT = (
    "PED-ANOVA (Watanabe, Bansal and Hutter 2023) compares where the best trials lie with where "
    "all do, one setting at a time; pruned trials count by the last value that they reported. It "
    "says which settings told good trials from others in this search, not how much the metric "
    "would change; it misses settings that matter only together, and with few trials much of it is "
    "chance. A setting that applies only under a condition is judged among the trials that had it."
)
CORRELATION_CAVEAT = (
    "Above 0: more of the setting, or this value of it, went along with better trials; pruned "
    "trials count by the last value that they reported. Interval: 95%, by Fisher's z with the "
    "error of Fieller, Hartley and Pearson (1957). An effect that rises and falls again, as that "
    "of most learning rates, shows as none, and of many intervals some miss 0 by chance."
)


def importances_of(record: SweepRecord) -> tuple[Importances, ...]:
    """The importances for each objective; where there are none, the reason."""
    return tuple(_importances(record, place) for place in range(len(record.objectives)))


def _importances(record: SweepRecord, objective: int) -> Importances:
    trials = [
        dataclasses.replace(trial, state="complete", values=_values(trial, objective))
        for trial in (*record.in_state("complete"), *record.in_state("pruned"))
        if trial.last_value(objective) is not None
    ]
    counted = dataclasses.replace(record, trials=tuple(trials))
    n_trials, reason = len(trials), _obstacle(counted, objective)
    values: dict[str, float] = {}
    if reason is None and n_trials >= FEWEST_TRIALS:
        values = _evaluate(counted, objective, n_trials)
    correlations = [] if reason or any(values.values()) else _correlations(counted, objective)
    if not reason and not any(values.values()):
        values = {}
        reason = None if correlations else "no setting took two values in four trials"
    return Importances(
        evaluator=CORRELATION if correlations else EVALUATOR,
        caveat=CORRELATION_CAVEAT if correlations else CAVEAT,
        values=values,
        reason=reason,
        metric=record.objectives[objective].metric,
        n_trials=n_trials,
        correlations=tuple(correlations),
    )


def _values(trial: TrialRecord, objective: int) -> tuple[float, ...]:
    """Those of a completed trial; of a pruned one its last, which is of a single objective."""
    last = trial.last_value(objective)
    assert last is not None  # asked before
    return trial.values or (last,)


def _obstacle(record: SweepRecord, objective: int) -> str | None:
    """Why nothing can be had of completed trials; None where it can."""
    trials = record.trials
    if len(trials) < FEWEST_PAIRS:
        return f"it takes {FEWEST_PAIRS} trials with a value, and there are {len(trials)}"
    if not any(trial.params for trial in trials):
        return "no trial drew a setting"
    if len({trial.last_value(objective) for trial in trials}) == 1:
        return "all trials have the same value"
    return None


def _correlations(record: SweepRecord, objective: int) -> list[RankCorrelation]:
    """Of each setting, or each value of a choice, that differs between trials; strongest first."""
    sign, found = record.objectives[objective].sign, []
    for name in dict.fromkeys(name for trial in record.trials for name in trial.params):
        trials = [trial for trial in record.trials if name in trial.params]
        drawn = [trial.params[name] for trial in trials]
        values = [sign * (trial.last_value(objective) or 0.0) for trial in trials]
        for shown, numbers in _as_numbers(drawn):
            pair = _correlation(numbers, values)
            if pair is not None:
                found.append(RankCorrelation(name, shown, *pair, len(trials)))
    return sorted(found, key=lambda each: -abs(each.rho))


def _as_numbers(drawn: Sequence[Any]) -> list[tuple[str | None, list[float]]]:
    """Numbers as they are; a choice as whether each of its values was drawn, of two the second."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in drawn):
        return [(None, [float(value) for value in drawn])]
    labels = [str(label(value)) for value in drawn]
    names = sorted(set(labels))
    return [(n, [float(each == n) for each in labels]) for n in names[len(names) == 2 :]]


def _correlation(
    numbers: Sequence[float], values: Sequence[float]
) -> tuple[float, float, float] | None:
    """(rho, low, high); None where one of both never changes, or too few are known."""
    n = len(values)
    if n < FEWEST_PAIRS or len(set(numbers)) == 1 or len(set(values)) == 1:
        return None
    rho = float(scipy.stats.spearmanr(numbers, values).statistic)
    z = math.atanh(min(max(rho, -0.999999), 0.999999))
    half = scipy.special.ndtri(0.975) * math.sqrt(1.06 / (n - 3))
    return rho, float(np.tanh(z - half)), float(np.tanh(z + half))


def _evaluate(record: SweepRecord, objective: int, n_trials: int) -> dict[str, float]:
    """Shares of one, largest first, ties by name."""
    quantile = min(0.5, max(0.1, TOP_TRIALS / n_trials))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Then all values are alike, and the report says that no setting told.
        warnings.filterwarnings("ignore", message="Target and region quantiles")
        study = memory_study(record, objective)
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile),
            normalize=False,
        )
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {name: value / total if total > 0 else 0.0 for name, value in ordered}
