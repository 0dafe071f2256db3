"""Which settings the value of a trial depended on, and the tables that show it.

Pruned trials count as well, by the last value that they reported: they are most of a search, and it
is their settings that they were pruned for. Shares of importance take ten trials; with fewer, or
where they tell nothing, each setting's rank correlation with the value is given, with its interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import scipy
from optuna.trial import create_trial

from recsys.evaluation.tables import Cell, Table
from recsys.reporting.formatting import metric_label, setting_text
from sweeps.findings import Direction, EarlierSweep, Importances, RankCorrelation
from sweeps.record import SweepRecord, TrialRecord
from sweeps.space import Space, label

Valued = Sequence[tuple[TrialRecord, float]]
"""Trials, each with its value of an objective."""
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
    """Those of the record for each objective, else anew; where there are none, the reason."""
    anew = (_importances(record, index) for index in range(len(record.objectives)))
    return record.importances or tuple(anew)


def _importances(record: SweepRecord, objective: int) -> Importances:
    part = record.objectives[objective]
    trials = [
        (trial, value)
        for trial in record.trials
        if trial.state in ("complete", "pruned")
        and (value := trial.last_value(objective)) is not None
    ]
    reason = _obstacle(trials)
    shares: dict[str, float] = {}
    if reason is None and len(trials) >= FEWEST_TRIALS:
        shares = _shares(trials, Space.of(record.space), part.direction)
    correlations = [] if reason or shares else _correlations(trials, part.sign)
    if not (reason or shares or correlations):
        reason = "no setting took two values in four trials"
    return Importances(
        evaluator=CORRELATION if correlations else EVALUATOR,
        caveat=CORRELATION_CAVEAT if correlations else CAVEAT,
        values=shares,
        reason=reason,
        metric=part.metric,
        n_trials=len(trials),
        correlations=tuple(correlations),
    )


def _obstacle(trials: Valued) -> str | None:
    """Why nothing can be had of trials; None where it can."""
    if len(trials) < FEWEST_PAIRS:
        return f"it takes {FEWEST_PAIRS} trials with a value, and there are {len(trials)}"
    if not any(trial.params for trial, _ in trials):
        return "no trial drew a setting"
    if len({value for _, value in trials}) == 1:
        return "all trials have the same value"
    return None


def _correlations(trials: Valued, sign: int) -> list[RankCorrelation]:
    """Of each setting, or each value of a choice, that differs between trials; strongest first."""
    found = []
    for name in dict.fromkeys(name for trial, _ in trials for name in trial.params):
        had = [(trial.params[name], value) for trial, value in trials if name in trial.params]
        drawn, values = zip(*had, strict=True)
        for shown, numbers in _as_numbers(drawn):
            pair = _correlation(numbers, [sign * value for value in values])
            if pair is not None:
                found.append(RankCorrelation(name, shown, *pair, len(had)))
    return sorted(found, key=lambda each: -abs(each.rho))


def _as_numbers(drawn: Sequence[Any]) -> list[tuple[str | None, list[float]]]:
    """Numbers as they are; a choice as whether each of its values was drawn, of two the second."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in drawn):
        return [(None, [float(value) for value in drawn])]
    texts = [setting_text(value) for value in drawn]
    names = sorted(set(texts))
    return [(n, [float(each == n) for each in texts]) for n in names[len(names) == 2 :]]


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


def _shares(trials: Valued, space: Space, direction: Direction) -> dict[str, float]:
    """Shares of one, largest first, ties by name; none where the evaluator tells nothing.

    A value that lies outside the space, as the default's may, counts as if it were not there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction)
    for trial, value in trials:
        drawn = [
            (each, trial.params[each.name])
            for each in space.dimensions
            if each.name in trial.params and each.contains(trial.params[each.name])
        ]
        study.add_trial(
            create_trial(
                value=value,
                params={each.name: label(setting) for each, setting in drawn},
                distributions={each.name: each.distribution for each, _ in drawn},
            )
        )
    quantile = min(0.5, max(0.1, TOP_TRIALS / len(trials)))
    with warnings.catch_warnings():
        # It is experimental; and where few trials tell little, report and caveat say so.
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile),
            normalize=False,
        )
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return {name: value / total for name, value in ordered} if total > 0 else {}


def importance_tables(record: SweepRecord) -> list[Table]:
    """One an objective; the caveat stands with the last, earlier sweeps beside the first."""
    found = importances_of(record)
    last = len(found) - 1
    return [
        _importance_table(each, () if index else record.earlier, with_caveat=index == last)
        for index, each in enumerate(found)
    ]


def _importance_table(
    found: Importances, earlier: Sequence[EarlierSweep], *, with_caveat: bool
) -> Table:
    safe = "".join(letter if letter.isalnum() else "_" for letter in found.metric).lower()
    title = f"What {metric_label(found.metric)} depended on"
    what = "correlation" if found.correlations else "share"
    beside = {each.name: _values(each.importances) for each in earlier if _are_alike(each, found)}
    rows = list[dict[str, Cell]]()
    for setting, value in _values(found).items():
        rows.append({"setting": setting, what: value})
        rows[-1] |= {f"in {name}": told.get(setting) for name, told in beside.items()}
    for row, each in zip(rows, found.correlations, strict=False):
        row |= {"interval": f"[{each.low:.2f}, {each.high:.2f}]", "trials": each.n_trials}
    by = f"{found.evaluator} with {metric_label(found.metric)}"
    by = by if found.correlations else f"Share of importance by {found.evaluator}"
    said = [f"{by}, {found.n_trials} trials.", *(_earlier_note(each, found) for each in earlier)]
    note = " ".join([*said, *([found.caveat] if with_caveat else [])])
    return Table.from_records(f"importances_{safe}", title, note, rows).without_gaps()


def _values(found: Importances) -> dict[str, float]:
    """{setting: share}, or {setting, of a choice with its value: correlation}."""
    return found.values or {correlation_name(each): each.rho for each in found.correlations}


def _are_alike(earlier: EarlierSweep, found: Importances) -> bool:
    """Whether both are shares, or both correlations."""
    return earlier.importances.evaluator == found.evaluator and bool(_values(earlier.importances))


def _earlier_note(earlier: EarlierSweep, found: Importances) -> str:
    told = earlier.importances
    if _are_alike(earlier, found):
        return f"In {earlier.name}: {metric_label(told.metric)}, {told.n_trials} trials."
    return f"{earlier.name} has none to compare ({told.reason or told.evaluator})."


def correlation_name(found: RankCorrelation) -> str:
    """The setting, with the value that stands against all others."""
    return found.setting if found.value is None else f"{found.setting} = {found.value}"
