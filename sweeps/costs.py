"""What a sweep cost and gained, counted from its record."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sweeps.charts import best_so_far
from sweeps.record import SweepRecord, TrialRecord

POINT = 0.01
"""One point of a metric that lies between 0 and 1."""


@dataclass(frozen=True)
class Savings:
    """Epochs that pruning spared."""

    n_pruned: int
    trained: int  # epochs of all trials
    usual: float | None  # mean epochs of a completed trial; None without one
    spared: float | None  # of the pruned trials, had each been as long as ``usual``
    at_most: int | None  # had they trained all that they could; None where that is not known


@dataclass(frozen=True)
class TimeUse:
    """Where the wall time of the ended trials went, in seconds; means are None without trials."""

    n_trials: int
    seconds: float  # of all trials, added up over workers
    overhead: float  # of these, time in tracking and storage
    mean: float | None
    median_overhead: float | None
    mean_overhead: float | None
    largest_overhead: float | None

    @property
    def share(self) -> float | None:
        """Overhead over wall time; None without time."""
        return self.overhead / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True)
class Gain:
    """One improvement of the best value of the first objective."""

    trial: int
    value: float
    gained: float | None  # over the default, better is positive; None without a default value
    spent: float  # seconds of all trials up to it by number, itself included

    @property
    def seconds_a_point(self) -> float | None:
        """Seconds spent for each ``POINT`` gained; None where nothing was gained."""
        return self.spent / (self.gained / POINT) if self.gained and self.gained > 0 else None


def savings(record: SweepRecord) -> Savings:
    """What pruning spared."""
    complete, pruned = record.in_state("complete"), record.in_state("pruned")
    usual = statistics.fmean(trial.epochs for trial in complete) if complete else None
    planned = [trial.planned_epochs - trial.epochs for trial in pruned if trial.planned_epochs]
    return Savings(
        n_pruned=len(pruned),
        trained=sum(trial.epochs for trial in record.trials),
        usual=usual,
        spared=None if usual is None else sum(max(0.0, usual - t.epochs) for t in pruned),
        at_most=sum(planned) if len(planned) == len(pruned) else None,
    )


def time_use(record: SweepRecord) -> TimeUse:
    """Where the time of trials went."""
    ended = [t for t in record.trials if t.state in ("complete", "pruned") and t.seconds > 0]
    seconds = [trial.seconds for trial in ended]
    overheads = [trial.overhead_seconds for trial in ended]
    return TimeUse(
        n_trials=len(ended),
        seconds=sum(seconds),
        overhead=sum(overheads),
        mean=statistics.fmean(seconds) if ended else None,
        median_overhead=statistics.median(overheads) if ended else None,
        mean_overhead=statistics.fmean(overheads) if ended else None,
        largest_overhead=max(overheads, default=None),
    )


def gains(record: SweepRecord) -> tuple[Gain, ...]:
    """Each improvement of the best value, in the order of trials; the first value is the first."""
    sign, default = record.objectives[0].sign, default_value(record)
    found: list[Gain] = []
    for number, value in best_so_far(record):
        if found and value == found[-1].value:
            continue
        spent = sum(trial.seconds for trial in record.trials if trial.number <= number)
        gained = None if default is None else sign * (value - default)
        found.append(Gain(number, value, gained, spent))
    return tuple(found)


def default_trial(record: SweepRecord) -> TrialRecord | None:
    """The trial of the default configuration, or the one that repeated it when it was lost."""
    number, found = 0, record.trial(0)
    for trial in record.trials:
        if trial.retry_of == number:
            number, found = trial.number, trial
    return found


def default_value(record: SweepRecord) -> float | None:
    """What the default configuration reached; None where it was not completed."""
    trial = default_trial(record)
    return None if trial is None or trial.values is None else trial.values[0]
