"""An Optuna study in memory with the trials of a sweep's record.

Whatever Optuna computes or draws from a study can so be had from the record alone: later, without
the storage of the study, and with the same outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from sweeps.space import Space

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def replica(record: SweepRecord, objective: int | None = None) -> optuna.Study:
    """A study with the record's trials under their numbers.

    Args:
        record: of the sweep.
        objective: keep this one alone, by its place; None keeps all.

    Returns:
        A study whose choices are labels: lists as their JSON text. Values that lie outside the
        space (of the default configuration) widen its ranges. A number that the record leaves out
        is held by a trial that never began.
    """
    kept = record.objectives if objective is None else (record.objectives[objective],)
    with _quiet():
        study = optuna.create_study(directions=[part.direction for part in kept])
    distributions = _distributions(record)
    known = {trial.number: trial for trial in record.trials}
    for number in range(max(known, default=-1) + 1):
        if number in known:
            study.add_trial(_frozen(record, known[number], distributions, objective))
        else:
            study.add_trial(create_trial(state=TrialState.WAITING))
    return study


def label(value: Any) -> Any:
    """A value as Optuna keeps it: lists and mappings as their JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _frozen(
    record: SweepRecord,
    trial: TrialRecord,
    distributions: dict[str, BaseDistribution],
    objective: int | None,
) -> FrozenTrial:
    values = trial.values
    if values is not None and objective is not None:
        values = (values[objective],)
    params = {name: label(value) for name, value in trial.params.items()}
    frozen = create_trial(
        state=_STATES[trial.state],
        values=None if values is None else list(values),
        params=params,
        distributions={name: distributions[name] for name in params},
        intermediate_values={
            epoch: value for epoch, value in trial.intermediate.items() if value is not None
        },
        constraints=_violations(record, trial),
    )
    if trial.started is not None:
        frozen.datetime_start = datetime.fromisoformat(trial.started)
    if trial.ended is not None:
        frozen.datetime_complete = datetime.fromisoformat(trial.ended)
    return frozen


def _violations(record: SweepRecord, trial: TrialRecord) -> dict[str, float]:
    """By rule, above 0 where the trial breaks it."""
    return {
        rule.metric: 0.0 if rule.is_met(trial.constraints.get(rule.metric)) else 1.0
        for rule in record.constraints
    }


def _distributions(record: SweepRecord) -> dict[str, BaseDistribution]:
    drawn: dict[str, list[Any]] = {}
    for trial in record.trials:
        for name, value in trial.params.items():
            drawn.setdefault(name, []).append(label(value))
    declared = _declared(record)
    return {
        name: _widened(declared[name], values) if name in declared else _guessed(values)
        for name, values in drawn.items()
    }


def _declared(record: SweepRecord) -> dict[str, BaseDistribution]:
    try:
        dimensions = Space.of(record.space).dimensions
    except ConfigError:  # a record without a space, or of a language that is no more
        return {}
    return {dimension.name: dimension.distribution for dimension in dimensions}


def _widened(distribution: BaseDistribution, values: Sequence[Any]) -> BaseDistribution:
    """The distribution, or one of its kind that holds every value."""
    match distribution:
        case CategoricalDistribution():
            added = [value for value in values if value not in distribution.choices]
            return CategoricalDistribution([*distribution.choices, *dict.fromkeys(added)])
        case FloatDistribution() | IntDistribution():
            if all(distribution._contains(value) for value in values):
                return distribution
            low, high = min(distribution.low, *values), max(distribution.high, *values)
            if isinstance(distribution, IntDistribution):
                return IntDistribution(low, high, log=distribution.log)
            return FloatDistribution(low, high, log=distribution.log)
        case _:
            return distribution


def _guessed(values: Sequence[Any]) -> BaseDistribution:
    """A distribution that holds every value, where the space says nothing."""
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return IntDistribution(min(values), max(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(list(dict.fromkeys(values)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's log held down to warnings meanwhile."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
