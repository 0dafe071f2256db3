"""What a sweep searched and found: the one value that its report and its tracker are made from.

Whatever a record is given becomes what JSON gives back (paths and NumPy scalars text and numbers,
NaN and infinities None), so that one read again equals the one written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from recsys.config import BaselineName
from recsys.errors import ArtifactError
from recsys.reporting.record import read_json, write_json

SweepStatus = Literal["running", "finished", "interrupted", "failed"]
TrialState = Literal["running", "complete", "pruned", "failed"]
EndReason = Literal["trials", "hours", "noise", "asked"]
"""What ends a search; asked: the user, by Ctrl-C."""
Direction = Literal["maximize", "minimize"]
FORMAT = 1
DEFAULT = "default"
"""The origin of the default configuration."""
LOST = "its process was lost"
"""The error of a trial that was interrupted."""
RECORD_FILE = "study.json"
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _plain(value: object) -> Any:
    """The value that JSON would give back."""
    match value:
        case np.generic():
            return _plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return str(value)


Number = Annotated[float | None, BeforeValidator(_plain)]
Numbers = dict[str, Number]
Tree = Annotated[dict[str, Any], BeforeValidator(_plain)]


@dataclass(frozen=True, config=_STRICT)
class Objective:
    """What is searched for: a validation metric or a measure of cost, and which way is better."""

    metric: str
    direction: Direction = "maximize"

    @property
    def sign(self) -> int:
        """What makes more better: 1, or -1 where less is."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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
    share_of_users: float = 1.0  # of the train users that it was trained on
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


@dataclass(frozen=True, config=_STRICT)
class Finalist:
    """A configuration trained again on fresh seeds."""

    trial: int
    params: Tree
    is_default: bool
    search_value: Number  # of its one trial in the search, where that was completed
    values: tuple[Number, ...]  # on each seed; None where that training failed
    mean: Number
    std: Number  # divisor one less than the number of seeds; None for a single one
    dropped_after: int | None = None  # seeds, after which it had clearly lost

    @property
    def known(self) -> tuple[float, ...]:
        """The values of the trainings that succeeded."""
        return tuple(value for value in self.values if value is not None)


@dataclass(frozen=True, config=_STRICT)
class Comparison:
    """Two finalists compared user by user, a user's values averaged over seeds.

    ``low``, ``high``, ``p`` and ``p_holm`` speak of these trained models: would other users see
    the same? ``seed_error``, ``p_seeds`` and ``p_seeds_holm`` ask besides whether the
    configurations would differ on other seeds; they are None with one seed.
    """

    first: int  # the trial that is better by the mean
    second: int
    roles: str  # such as "winner against default"
    difference: Number  # first minus second, mean over users
    low: Number  # bootstrap interval over users
    high: Number
    confidence: float  # of that interval, such as 0.95
    p: Number  # paired randomisation test, two-sided
    p_holm: Number  # the same after Holm's correction for all comparisons
    seed_error: Number  # of the difference, from the noise between seeds, pooled over finalists
    p_seeds: Number  # t-test with the errors from users and from seeds together, two-sided
    p_seeds_holm: Number
    n_users: int  # those that both have a value for
    is_clear: bool  # better beyond chance, by every test there is
    verdict: str  # in words


@dataclass(frozen=True, config=_STRICT)
class Optimism:
    """By how much the best value of a search flatters its configuration, in units of the metric.

    Positive is too good, whichever way the objective points. See ``sweeps.optimism``.
    """

    n_trials: int  # completed ones, which the best was chosen from
    best_value: Number
    seed_std: Number  # noise between seeds, pooled over the finalists; None with one seed
    retrained: Number  # best value minus the mean of the same configuration on fresh seeds
    retrained_error: Number  # its standard error, from the mean over fresh seeds alone
    modelled: Number  # expected of the best of n_trials, noise normal with seed_std
    bound: Number  # expected maximum of n_trials draws of noise: all trials equally good
    second_round: Number  # the most by which the winner's mean over seeds may flatter
    note: str  # what each estimate assumes, and how they may err


@dataclass(frozen=True, config=_STRICT)
class Finalists:
    """The last round: a few configurations on fresh seeds, and what could be told apart."""

    metric: str  # that of the first objective, on validation
    direction: Direction
    seeds: tuple[int, ...]
    rows: tuple[Finalist, ...]  # best mean first
    winner: int | None  # trial of the best mean; None where no training succeeded
    runner_up: int | None  # the best mean among the others that are not the default
    comparisons: tuple[Comparison, ...]  # every two; winner, runner-up and default first
    verdict: str
    optimism: Optimism | None
    n_spared: int = 0  # trainings of those that were dropped

    @property
    def winning_row(self) -> Finalist | None:
        """That of the winner."""
        return next((row for row in self.rows if row.trial == self.winner), None)

    @property
    def default_row(self) -> Finalist | None:
        """That of the default configuration."""
        return next((row for row in self.rows if row.is_default), None)


@dataclass(frozen=True, config=_STRICT)
class BaselineTrial:
    """Settings of a baseline that were tried on validation."""

    params: Tree
    value: Number  # of the first objective; None where it failed
    seconds: float


@dataclass(frozen=True, config=_STRICT)
class TunedBaseline:
    """A baseline with the best of its trials; see ``sweeps.baselines``."""

    name: BaselineName
    left_out: str | None = None  # why it was not tuned
    settings: str = ""  # in words
    params: Tree = field(default_factory=dict)
    value: Number = None  # of the first objective, on validation
    n_trials: int = 0
    seconds: float = 0.0  # of all of them


def best_baseline(
    tuned: Sequence[TunedBaseline], direction: Direction
) -> tuple[TunedBaseline, float] | None:
    """The one with the best value, and that value; None where none was tuned."""
    sign = 1 if direction == "maximize" else -1
    known = [(each, each.value) for each in tuned if each.value is not None]
    return max(known, key=lambda pair: sign * pair[1], default=None)


@dataclass(frozen=True, config=_STRICT)
class BaselineComparison:
    """The winner against the best tuned baseline, user by user, as in :class:`Comparison`."""

    baseline: BaselineName
    difference: Number  # winner minus baseline
    low: Number
    high: Number
    confidence: float
    p: Number
    p_seeds: Number  # counts the noise of the winner's mean over seeds too; None with one seed
    n_users: int
    is_clear: bool
    verdict: str  # a sentence


@dataclass(frozen=True, config=_STRICT)
class TestLook:
    """One opening of the sealed test split."""

    __test__ = False  # pytest: not a test class

    opened: str  # ISO 8601, UTC
    purpose: str
    trial: int | None = None  # of the winner, named before
    run_name: str | None = None  # of the run that did it
    metrics: Numbers = field(default_factory=dict)  # means of the winner
    baselines: dict[str, Numbers] = field(default_factory=dict)  # means of what stands beside it


@dataclass(frozen=True, config=_STRICT)
class RankCorrelation:
    """How a setting's value goes along with an objective, by ranks (Spearman)."""

    setting: str  # dotted
    value: str | None  # against all others, where the setting is a choice
    rho: float  # above 0: more of it, or this value, goes along with better trials
    low: float  # 95% interval
    high: float
    n_trials: int  # that had the setting


@dataclass(frozen=True, config=_STRICT)
class Importances:
    """Which settings the objective's value depended on."""

    evaluator: str
    caveat: str  # what the numbers do not say
    values: dict[str, float]  # shares by dotted setting, largest first, sum 1
    reason: str | None  # why there are none
    metric: str
    n_trials: int  # completed and pruned ones, which they rest on
    correlations: tuple[RankCorrelation, ...] = ()  # strongest first, where there are no shares


@dataclass(frozen=True, config=_STRICT)
class EarlierSweep:
    """A sweep whose best configurations this one starts from."""

    name: str
    importances: Importances  # of its first objective


@dataclass(frozen=True, config=_STRICT)
class RankAgreement:
    """How alike two fidelities order the same configurations; see ``sweeps.agreement``."""

    low_fidelity: str
    high_fidelity: str
    n: int
    kendall_tau: Number
    spearman: Number
    verdict: str


@dataclass(frozen=True, config=_STRICT)
class SearchEnd:
    """Why a search ended; see ``sweeps.ending``."""

    why: EndReason
    n_trials: int  # that had ended
    limit: int | None  # trials that it might have had
    hours: float | None = None  # that trials might run
    spared: int | None = None  # trials that were not run; with hours, estimated
    gain: float | None = None  # by which they were expected to improve the best value
    error: float | None = None  # of a difference between two finalists


@dataclass(frozen=True, config=_STRICT)
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

    def is_feasible(self, trial: TrialRecord) -> bool:
        """Whether a trial keeps to every constraint."""
        return all(rule.is_met(trial.constraints.get(rule.metric)) for rule in self.constraints)

    def ranked(self, objective: int = 0) -> tuple[TrialRecord, ...]:
        """Completed trials that keep to the constraints, best first; ties by number."""
        kept = [
            (-self._merits(trial)[objective], trial.number, trial)
            for trial in self.in_state("complete")
            if trial.values is not None and self.is_feasible(trial)
        ]
        return tuple(trial for _, _, trial in sorted(kept, key=lambda row: row[:2]))

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
        for trial in self.in_state("complete"):
            if trial.values is not None and self.is_feasible(trial):
                value = trial.values[objective]
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

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` can write: the fields, and the format's number."""
        content: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {"format": FORMAT} | content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The record that ``to_json`` gave.

        Raises:
            ArtifactError: another format, or fields that a record must have or does not know.
        """
        content = dict(value)
        given = content.pop("format", None)
        if given != FORMAT:
            raise ArtifactError(f"a sweep's record must have 'format' {FORMAT}, got {given!r}")
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            problem = first["msg"][:1].lower() + first["msg"][1:]
            message = f"a sweep's record must have the fields of its format: '{where}', {problem}"
            raise ArtifactError(message) from error

    def write(self, sweep_dir: Path) -> Path:
        """Put the record into a sweep directory, whole or not at all; gives the file's path."""
        return write_json(sweep_dir / RECORD_FILE, self.to_json())

    @classmethod
    def read(cls, sweep_dir: Path) -> Self:
        """The record of a sweep directory."""
        path = sweep_dir / RECORD_FILE
        content = read_json(path)
        try:
            return cls.from_json(content)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
