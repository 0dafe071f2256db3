"""Records with other trials."""

import dataclasses


def with_trials(record, change):
    """The record with the fields of each trial that ``change`` gives for it replaced."""
    trials = tuple(dataclasses.replace(trial, **change(trial)) for trial in record.trials)
    return dataclasses.replace(record, trials=trials)


def with_default(record, **params):
    """The record with other settings of the default configuration."""
    return with_trials(
        record, lambda trial: {"params": trial.params | (params if trial.number == 0 else {})}
    )
