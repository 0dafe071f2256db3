"""Which settings the value of a trial depended on."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from sweeps.memory_study import memory_study
from sweeps.record import Importances, SweepRecord

EVALUATOR = "PED-ANOVA"
FEWEST_TRIALS = 10
TOP_TRIALS = 5  # what the evaluator's authors ask for at least
CAVEAT = (
    "PED-ANOVA (Watanabe, Bansal and Hutter 2023) compares where the best trials lie with where "
    "all completed ones do, one setting at a time. It says which settings told good trials from "
    "others in this search, not how much the metric would change; it misses settings that matter "
    "only together, leaves pruned trials out, and with few trials much of it is chance. A setting "
    "that applies only under a condition is judged among the trials that had it."
)


def importances_of(record: SweepRecord) -> tuple[Importances, ...]:
    """The importances for each objective; where there are none, the reason."""
    return tuple(_importances(record, place) for place in range(len(record.objectives)))


def _importances(record: SweepRecord, objective: int) -> Importances:
    n_trials = len(record.in_state("complete"))
    reason = _obstacle(record, objective)
    values = {} if reason else _evaluate(record, objective, n_trials)
    if not reason and not any(values.values()):
        values, reason = {}, "no setting told the best trials from the others"
    return Importances(
        evaluator=EVALUATOR,
        caveat=CAVEAT,
        values=values,
        reason=reason,
        metric=record.objectives[objective].metric,
        n_trials=n_trials,
    )


def _obstacle(record: SweepRecord, objective: int) -> str | None:
    """Why importances cannot be had; None where they can."""
    complete = record.in_state("complete")
    if not complete:
        ended = "every trial was pruned" if record.in_state("pruned") else "no trial was completed"
        return f"{ended}, and only completed trials count"
    if len(complete) < FEWEST_TRIALS:
        return f"it takes {FEWEST_TRIALS} completed trials, and there are {len(complete)}"
    if not any(trial.params for trial in complete):
        return "no trial drew a setting"
    if len({trial.values[objective] for trial in complete if trial.values is not None}) == 1:
        return "all completed trials have the same value"
    return None


def _evaluate(record: SweepRecord, objective: int, n_trials: int) -> dict[str, float]:
    """Shares of one, largest first, ties by name."""
    quantile = min(0.5, max(0.1, TOP_TRIALS / n_trials))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Then all values are alike, and the report says that no setting told.
        warnings.filterwarnings("ignore", message="Target and region quantiles")
        study = memory_study(record, objective)
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
            normalize=False,
        )
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {name: value / total if total > 0 else 0.0 for name, value in ordered}
