"""An Optuna study in memory with the trials of a sweep's record.

Whatever Optuna computes or draws from a study can so be had from the record alone: later, without
the storage of the study, and with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from recsys.errors import ConfigError
from sweeps.record import SweepRecord, TrialRecord
from sweeps.space import Dimension, Space, label

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def memory_study(record: SweepRecord, objective: int | None = None) -> optuna.Study:
    """A study with the record's trials under their numbers.

    Args:
        record: of the sweep.
        objective: keep this one alone, by its place; None keeps all.

    Returns:
        A study whose choices are labels: lists as their JSON text. Values that lie outside the
        space (of the default configuration) widen its ranges. A number that the record leaves out
        is held by a trial that never began.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = range(len(record.objectives)) if objective is None else [objective]
    study = optuna.create_study(directions=[record.objectives[place].direction for place in kept])
    distributions = _distributions(record)
    known = {trial.number: trial for trial in record.trials}
    for number in range(max(known, default=-1) + 1):
        if number in known:
            study.add_trial(_frozen(record, known[number], distributions, kept))
        else:
            study.add_trial(create_trial(state=TrialState.WAITING))
    return study


def _frozen(
    record: SweepRecord,
    trial: TrialRecord,
    distributions: dict[str, BaseDistribution],
    objectives: Sequence[int],
) -> FrozenTrial:
    values = trial.values
    frozen = create_trial(
        state=_STATES[trial.state],
        values=None if values is None else [values[place] for place in objectives],
        params={name: label(value) for name, value in trial.params.items()},
        distributions={name: distributions[name] for name in trial.params},
        intermediate_values={
            epoch: value for epoch, value in trial.intermediate.items() if value is not None
        },
        constraints={  # above 0 where the trial breaks it
            rule.metric: 0.0 if rule.is_met(trial.constraints.get(rule.metric)) else 1.0
            for rule in record.constraints
        },
    )
    if trial.started is not None:
        frozen.datetime_start = datetime.fromisoformat(trial.started)
    if trial.ended is not None:
        frozen.datetime_complete = datetime.fromisoformat(trial.ended)
    return frozen


def _distributions(record: SweepRecord) -> dict[str, BaseDistribution]:
    drawn: dict[str, list[Any]] = {}
    for trial in record.trials:
        for name, value in trial.params.items():
            drawn.setdefault(name, []).append(value)
    try:
        declared = {each.name: each for each in Space.of(record.space).dimensions}
    except ConfigError:  # a record without a space, or of a language that is no more
        declared = {}
    return {name: _distribution(declared.get(name), values) for name, values in drawn.items()}


def _distribution(dimension: Dimension | None, values: Sequence[Any]) -> BaseDistribution:
    """What the values were drawn from, widened such that it holds every one of them."""
    declared = None if dimension is None else dimension.distribution
    if dimension is not None and all(dimension.contains(value) for value in values):
        return dimension.distribution
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if isinstance(declared, CategoricalDistribution) or not is_number:
        choices = () if not isinstance(declared, CategoricalDistribution) else declared.choices
        added = [label(value) for value in values if label(value) not in choices]
        return CategoricalDistribution([*choices, *dict.fromkeys(added)])
    low, high, log = min(values), max(values), False
    if isinstance(declared, IntDistribution | FloatDistribution):
        low, high, log = min(low, declared.low), max(high, declared.high), declared.log
    if isinstance(declared, FloatDistribution) or not all(isinstance(v, int) for v in values):
        return FloatDistribution(low, high, log=log)
    return IntDistribution(low, high, log=log)
