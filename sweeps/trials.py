"""What a study keeps of its trials, and which of them count towards its limit.

Of each trial there are two notes: one from when it began (which process runs it) and one from when
it ended. One that ended without the second lost its process, or was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from optuna.trial import FrozenTrial, TrialState

from sweeps.findings import Numbers
from sweeps.journal import EXCESS
from sweeps.record import DEFAULT, LOST, TrialRecord

if TYPE_CHECKING:
    from sweeps.study import SweepStudy

BEGIN, END = "begin", "end"
RETRY_OF, ORIGIN = "retry_of", "origin"
STATES: dict[TrialState, Literal["complete", "pruned", "failed", "running"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
_COUNTED_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass
class Notes:
    """What is known of a trial when it ends, as in its :class:`TrialRecord`."""

    metrics: Numbers = field(default_factory=dict)
    epochs: int = 0
    planned_epochs: int | None = None
    seconds: float = 0.0
    overhead_seconds: float = 0.0
    stop_reason: str = ""
    error: str | None = None


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: not those queued, repeated by another, or in excess."""
    repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [
        trial
        for trial in trials
        if trial.state in _COUNTED_STATES
        or (
            trial.state == TrialState.FAIL
            and trial.number not in repeated
            and EXCESS not in trial.user_attrs
        )
    ]


def is_lost(trial: FrozenTrial) -> bool:
    """Whether its process was lost, or it was interrupted."""
    marks = trial.user_attrs
    return trial.state == TrialState.FAIL and END not in marks and EXCESS not in marks


def is_excess(trials: Sequence[FrozenTrial], number: int, limit: int) -> bool:
    """Whether it is one too many: beyond the limit, or a retry that was queued twice."""
    if len([trial for trial in counted(trials) if trial.number < number]) >= limit:
        return True
    original = trials[number].user_attrs.get(RETRY_OF)
    return original is not None and any(
        trial.user_attrs.get(RETRY_OF) == original for trial in trials[:number]
    )


def n_retries(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """How often the trial's configuration has been queued again."""
    count, original = 0, trial.user_attrs.get(RETRY_OF)
    while original is not None:
        count, original = count + 1, trials[original].user_attrs.get(RETRY_OF)
    return count


def config_index(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """The index of a trial's configuration in the study: a retry has that of the original.

    Trials beyond ``trial`` do not count, so that it is the same whenever it is asked for.
    """
    number = trial.number
    while (original := trials[number].user_attrs.get(RETRY_OF)) is not None:
        number = original
    return sum(not is_extra(each) for each in trials[:number])


def is_extra(trial: FrozenTrial) -> bool:
    """Whether it is no configuration of its own."""
    return RETRY_OF in trial.user_attrs or EXCESS in trial.user_attrs


def trial_record(study: SweepStudy, trial: FrozenTrial) -> TrialRecord:
    """The record of a trial that began."""
    begin = trial.user_attrs.get(BEGIN, {})
    notes = {"epochs": len(trial.intermediate_values)} | trial.user_attrs.get(END, {})
    state, values = STATES[trial.state], trial.values
    drawn, only = study.values_of(trial), trial.user_attrs.get(DEFAULT)
    if is_lost(trial):
        notes["error"] = LOST
    if state == "complete" and not study.space.is_whole(drawn, only):
        state = "failed"
        notes["error"] = "the storage lost a part of what it drew"
    metrics = notes.get("metrics", {})
    return TrialRecord(
        number=trial.number,
        state=state,
        params=drawn if only is None else study.defaults | drawn,
        values=tuple(values) if values is not None and state == "complete" else None,
        constraints={rule.metric: metrics.get(rule.metric) for rule in study.settings.constraints},
        intermediate=dict(trial.intermediate_values),
        worker=begin.get("worker"),
        started=_iso(trial.datetime_start),
        ended=_iso(trial.datetime_complete),
        retry_of=trial.user_attrs.get(RETRY_OF),
        origin=_origin(trial),
        mlflow_run_id=begin.get("run_id"),
        **notes,
    )


def _origin(trial: FrozenTrial) -> str | None:
    """Where the settings of a trial are from; None where they were drawn."""
    notes = trial.user_attrs
    if {"trial", "seed"} <= notes.keys():  # a finalist
        return f"trial {notes['trial']} seed {notes['seed']}"
    return DEFAULT if DEFAULT in notes else notes.get(ORIGIN)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
