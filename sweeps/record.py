"""What a sweep searched and found: the one value that its report and its tracker are made from.

Whatever a record is given becomes what JSON gives back (paths and NumPy scalars text and numbers,
NaN and infinities None), so that one read again equals the one written.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from recsys.errors import ArtifactError, first_problem
from recsys.reporting.formatting import metric_label
from recsys.reporting.record import read_json, write_json
from sweeps.findings import (
    STRICT,
    BaselineComparison,
    Direction,
    EarlierSweep,
    Finalists,
    Importances,
    Number,
    Numbers,
    RankAgreement,
    SearchEnd,
    TestLook,
    Tree,
    TunedBaseline,
    sign_of,
)

SweepStatus = Literal["running", "finished", "interrupted", "failed"]
TrialState = Literal["running", "complete", "pruned", "failed"]
FORMAT = 1
DEFAULT = "default"
"""The origin of the default configuration."""
LOST = "its process was lost"
"""The error of a trial that was interrupted."""
RECORD_FILE = "study.json"


@dataclass(frozen=True, config=STRICT)
class Objective:
    """What is searched for: a validation metric or a measure of cost, and which way is better."""

    metric: str
    direction: Direction = "maximize"

    @property
    def sign(self) -> int:
        """What makes more better: 1, or -1 where less is."""
        return sign_of(self.direction)

    @property
    def label(self) -> str:
        """How reports name the metric."""
        return metric_label(self.metric)


@dataclass(frozen=True, config=STRICT)
class Constraint:
    """What a trial must keep to; a bound of None does not bind."""

    metric: str
    maximum: float | None = None
    minimum: float | None = None

    def is_met(self, value: float | None) -> bool:
        """Whether a measured value keeps to both bounds; a value never measured does not."""
        if value is None:
            return False
        above = self.maximum is not None and value > self.maximum
        below = self.minimum is not None and value < self.minimum
        return not (above or below)


@dataclass(frozen=True, config=STRICT)
class TrialRecord:
    """One trial, evaluated on validation alone."""

    number: int  # as the study counts; trial 0 is the default configuration
    state: TrialState  # running: while unfinished, or for ever
    params: Tree = field(default_factory=dict)  # as drawn, or of the default its defaults
    values: tuple[float, ...] | None = None  # of the objectives at the best epoch, where complete
    metrics: Numbers = field(default_factory=dict)  # on validation at the best epoch, and costs
    constraints: Numbers = field(default_factory=dict)  # measured values, not by how much broken
    intermediate: dict[int, Number] = field(default_factory=dict)  # by epoch, as reported
    epochs: int = 0
    planned_epochs: int | None = None  # how many it could have trained at most
    seconds: float = 0.0  # wall time, with the overhead
    overhead_seconds: float = 0.0  # time in tracking and in the study's storage
    worker: str | None = None
    started: str | None = None  # ISO 8601, UTC
    ended: str | None = None
    retry_of: int | None = None  # the trial whose worker was lost and that this one repeats
    origin: str | None = None  # where it is from that was not drawn, such as "start 1"
    stop_reason: str = ""
    error: str | None = None  # one line, where it failed
    share_of_users: float = 1.0  # of the train users; trials on a share are in no record
    mlflow_run_id: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether it is of the default configuration."""
        return self.origin == DEFAULT

    @property
    def is_lost(self) -> bool:
        """Whether it was interrupted and is run again, if it may."""
        return self.error == LOST

    def last_value(self, objective: int = 0) -> float | None:
        """Its value, or the last that it reported before it was pruned; None without."""
        if self.values is not None:
            return self.values[objective]
        reported = [value for _, value in sorted(self.intermediate.items()) if value is not None]
        return reported[-1] if reported and objective == 0 else None


def _by_number(trials: tuple[TrialRecord, ...]) -> tuple[TrialRecord, ...]:
    return tuple(sorted(trials, key=lambda trial: trial.number))


@dataclass(frozen=True, config=STRICT)
class SweepRecord:
    """Everything about a sweep."""

    name: str  # of the study and of its directory
    status: SweepStatus
    created: str  # start of the first session, ISO 8601, UTC
    base_config: Tree  # the resolved settings that every trial starts from
    space: Tree  # as in the space's YAML
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]  # finalists go by the first
    n_trials: int | None  # asked for; None where hours alone bound them
    seed: int = 0
    seconds: float = 0.0  # wall time of all sessions together, finalists included
    sampler: Tree = field(default_factory=dict)  # its "name" and settings
    pruner: Tree = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    workers: int = 1  # processes on this machine
    fingerprint: str = ""  # of the prepared data
    dataset: Tree = field(default_factory=dict)  # as in a run's record
    trials: Annotated[tuple[TrialRecord, ...], AfterValidator(_by_number)] = ()
    baselines: dict[str, Numbers] = field(default_factory=dict)  # on validation
    tuned_baselines: tuple[TunedBaseline, ...] = ()
    versus_baseline: BaselineComparison | None = None
    search_end: SearchEnd | None = None  # None while it goes on
    finalists: Finalists | None = None
    importances: tuple[Importances, ...] = ()  # one an objective, once they were computed
    earlier: tuple[EarlierSweep, ...] = ()  # as named by --warm-from
    fidelity: RankAgreement | None = None  # of a share of the users with all of them
    test_looks: tuple[TestLook, ...] = ()
    best_run_name: str | None = None  # the winner's run in full
    settings: Tree = field(default_factory=dict)  # as in sweep.yaml
    parts: dict[str, float] = field(default_factory=dict)  # of the seconds, by what they went to
    sessions: int = 1  # how often the sweep was started or resumed
    environment: Tree = field(default_factory=dict)
    error: str | None = None  # one line, where the sweep failed

    def in_state(self, state: TrialState) -> tuple[TrialRecord, ...]:
        """The trials in a state, by number."""
        return tuple(trial for trial in self.trials if trial.state == state)

    def completed(self) -> list[tuple[TrialRecord, tuple[float, ...]]]:
        """Completed trials with their values, by number."""
        known = ((trial, trial.values) for trial in self.in_state("complete"))
        return [(trial, values) for trial, values in known if values is not None]

    def is_feasible(self, trial: TrialRecord) -> bool:
        """Whether a trial keeps to every constraint."""
        return all(rule.is_met(trial.constraints.get(rule.metric)) for rule in self.constraints)

    def ranked(self, objective: int = 0) -> tuple[TrialRecord, ...]:
        """Completed trials that keep to the constraints, best first; ties by number."""
        sign = self.objectives[objective].sign
        kept = [pair for pair in self.completed() if self.is_feasible(pair[0])]
        kept.sort(key=lambda pair: -sign * pair[1][objective])  # stable: by number among equals
        return tuple(trial for trial, _ in kept)

    def front(self) -> tuple[TrialRecord, ...]:
        """The Pareto front, best in the first objective first; equals stand side by side.

        Ranked trials that no other is as good as in everything and better than in something.
        """
        ranked, merits = self.ranked(), {t.number: self._merits(t) for t in self.ranked()}
        return tuple(
            trial
            for trial in ranked
            if not any(
                other != merits[trial.number]
                and all(o >= m for o, m in zip(other, merits[trial.number], strict=True))
                for other in merits.values()
            )
        )

    def _merits(self, trial: TrialRecord) -> tuple[float, ...]:
        """The trial's values, each such that more is better."""
        pairs = zip(self.objectives, trial.values or (), strict=True)
        return tuple(part.sign * value for part, value in pairs)

    def best_so_far(self, objective: int = 0) -> list[tuple[int, float]]:
        """(trial, best value until then) for every completed trial within the constraints."""
        better = max if self.objectives[objective].sign > 0 else min
        steps: list[tuple[int, float]] = []
        for trial, values in self.completed():
            if self.is_feasible(trial):
                value = values[objective]
                steps.append((trial.number, better(steps[-1][1], value) if steps else value))
        return steps

    @property
    def default(self) -> TrialRecord | None:
        """The trial of the default configuration; of those that repeated a lost one the last."""
        tried = [trial for trial in self.trials if trial.is_default]
        return tried[-1] if tried else None

    @property
    def default_value(self) -> float | None:
        """What it reached in the first objective; None where it was not completed."""
        default = self.default
        return None if default is None or default.values is None else default.values[0]

    def trial(self, number: int) -> TrialRecord | None:
        """The trial of a number."""
        return next((trial for trial in self.trials if trial.number == number), None)

    def write(self, sweep_dir: Path) -> Path:
        """Put the record into a sweep directory, whole or not at all; gives the file's path."""
        content = TypeAdapter(SweepRecord).dump_python(self, mode="json")
        return write_json(sweep_dir / RECORD_FILE, {"format": FORMAT} | content)

    @classmethod
    def read(cls, sweep_dir: Path) -> Self:
        """The record of a sweep directory.

        Raises:
            ArtifactError: no readable file, another format, or fields that a record must have or
                does not know.
        """
        path = sweep_dir / RECORD_FILE
        content = read_json(path)
        given = content.pop("format", None)
        if given != FORMAT:
            raise ArtifactError(
                f"{path}: a sweep's record must have 'format' {FORMAT}, got {given!r}"
            )
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            raise ArtifactError(
                f"{path}: a sweep's record must have the fields of its format: "
                f"{first_problem(error)}"
            ) from error
