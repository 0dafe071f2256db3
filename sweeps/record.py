"""What a sweep searched and found: the one value that its report and its tracker are made from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from recsys.errors import ArtifactError
from recsys.reporting.record import read_json, write_json

SweepStatus = Literal["running", "finished", "interrupted", "failed"]
TrialState = Literal["running", "complete", "pruned", "failed"]
Direction = Literal["maximize", "minimize"]
FORMAT = 1
RECORD_FILE = "study.json"


@dataclass(frozen=True)
class Objective:
    """What is searched for: a validation metric or a measure of cost, and which way is better."""

    metric: str
    direction: Direction = "maximize"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class TrialRecord:
    """One trial, judged on validation alone.

    Attributes:
        number: as the study counts, from 0; trial 0 is the default configuration.
        state: "complete", "pruned", "failed", or "running" while (or if for ever) unfinished.
        params: {dotted setting: value} as drawn from the space; for the default configuration the
            defaults. A setting that did not apply (``when``) is absent.
        values: one an objective, in the order of the sweep's objectives, of the best epoch; None
            unless complete.
        metrics: every validation metric and measure of cost of the best epoch, by name.
        constraints: {metric: measured value} of the constrained measures, not their violations.
        intermediate: {epoch, from 1: value of the first objective} as reported to the pruner.
        epochs: how many epochs were trained.
        planned_epochs: how many it could have trained at most; None where not known.
        seconds: wall time of the whole trial, with the overhead.
        overhead_seconds: of these, time in tracking and in the study's storage.
        worker: name of the worker process.
        started: ISO 8601, UTC; None where it never started.
        ended: ISO 8601, UTC; None while running.
        retry_of: number of the trial whose worker died and that this one repeats.
        stop_reason: why training ended, as the trainer says it; "pruned at epoch 3" and the like.
        error: one line, where it failed.
        share_of_users: of the train users that it was trained on; 1 is all of them.
        mlflow_run_id: its run in the tracker, where one is used.
    """

    number: int
    state: TrialState
    params: dict[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    constraints: dict[str, float | None] = field(default_factory=dict)
    intermediate: dict[int, float | None] = field(default_factory=dict)
    epochs: int = 0
    planned_epochs: int | None = None
    seconds: float = 0.0
    overhead_seconds: float = 0.0
    worker: str | None = None
    started: str | None = None
    ended: str | None = None
    retry_of: int | None = None
    stop_reason: str = ""
    error: str | None = None
    share_of_users: float = 1.0
    mlflow_run_id: str | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Finalist:
    """A configuration trained again on fresh seeds.

    Attributes:
        trial: number of its trial.
        params: as in its trial.
        is_default: whether it is the default configuration (trial 0).
        search_value: what its one trial in the search reached; None where that was not completed.
        values: validation metric on each seed, in the order of ``Finalists.seeds``; None where
            that training failed.
        mean: over the seeds.
        std: between the seeds, divisor one less than their number; None for a single seed.
    """

    trial: int
    params: dict[str, Any]
    is_default: bool
    search_value: float | None
    values: tuple[float | None, ...]
    mean: float | None
    std: float | None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Comparison:
    """Two finalists compared reader by reader, the reader's values averaged over seeds.

    ``low``, ``high``, ``p`` and ``p_holm`` speak of these trained models: would other readers see
    the same? ``seed_error``, ``p_seeds`` and ``p_seeds_holm`` ask besides whether the
    configurations would differ on other seeds.

    Attributes:
        first: trial number of the one that is better by the mean.
        second: trial number of the other.
        roles: such as "winner against default".
        difference: first minus second, mean over readers, in units of the metric.
        low: lower end of the bootstrap interval over readers.
        high: its upper end.
        confidence: of that interval, such as 0.95.
        p: of the paired randomisation test, two-sided.
        p_holm: the same after Holm's correction for the number of comparisons.
        seed_error: standard error of the difference from the noise between seeds, pooled over
            the finalists; None with one seed.
        p_seeds: of a t-test with the errors from readers and from seeds together, two-sided; None
            with one seed.
        p_seeds_holm: the same after Holm's correction.
        n_users: readers that both have a value for.
        is_clear: whether the first is better beyond chance, by every test there is.
        verdict: the finding in words.
    """

    first: int
    second: int
    roles: str
    difference: float | None
    low: float | None
    high: float | None
    confidence: float
    p: float | None
    p_holm: float | None
    seed_error: float | None
    p_seeds: float | None
    p_seeds_holm: float | None
    n_users: int
    is_clear: bool
    verdict: str

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Optimism:
    """By how much the best value of a search flatters its configuration, in units of the metric.

    Positive is too good, whichever way the objective points. See ``sweeps.optimism``.

    Attributes:
        n_trials: how many completed trials the best was chosen from.
        best_value: the best value of the search.
        seed_std: noise between seeds, pooled over the finalists; None with one seed.
        retrained: best value of the search minus the mean of the same configuration on fresh
            seeds; None where it was not trained again.
        retrained_error: standard error of ``retrained``, from the mean over fresh seeds alone.
        modelled: expected optimism of the best of ``n_trials`` under a model: true values with
            the spread that the trials show beyond noise, noise normal with ``seed_std``.
        bound: expected maximum of ``n_trials`` draws of noise alone: all trials equally good.
        second_round: the same for the winner's mean over seeds among the finalists: the most by
            which even that may flatter.
        note: what each estimate assumes, and how they may err.
    """

    n_trials: int
    best_value: float | None
    seed_std: float | None
    retrained: float | None
    retrained_error: float | None
    modelled: float | None
    bound: float | None
    second_round: float | None
    note: str

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Finalists:
    """The last round: a few configurations on fresh seeds, and what could be told apart.

    Attributes:
        metric: that of the first objective; everything here is on validation.
        direction: which way is better.
        seeds: one a training; each finalist was trained once on each.
        rows: best mean first.
        winner: trial number of the best mean; None where no training succeeded.
        runner_up: the best mean among the others that are not the default; None without one.
        comparisons: every two of them, Holm-corrected together, for the winner was chosen by
            looking at all; those of winner, runner-up and default first and with ``roles``.
        verdict: the outcome in one sentence.
        optimism: None where nothing can be estimated.
    """

    metric: str
    direction: Direction
    seeds: tuple[int, ...]
    rows: tuple[Finalist, ...]
    winner: int | None
    runner_up: int | None
    comparisons: tuple[Comparison, ...]
    verdict: str
    optimism: Optimism | None

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class TestLook:
    """One opening of the sealed test split.

    Attributes:
        opened: ISO 8601, UTC.
        purpose: such as "winner, re-run in full".
        trial: of the winner, named before; None for none.
        run_name: the run of the main job that did it, where there is one.
        metrics: {metric: mean} on test, of the winner.
        baselines: {recommender: {metric: mean}} on test of what stands beside it: "default",
            "popularity", other finalists.
    """

    __test__ = False  # pytest: not a test class

    opened: str
    purpose: str
    trial: int | None = None
    run_name: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class Importances:
    """Which settings the objective's value depended on.

    Attributes:
        evaluator: its name.
        caveat: what the numbers do not say.
        values: {dotted setting: share}, largest first, sum 1; empty where there are none.
        reason: why there are none; None where there are.
        metric: the objective.
        n_trials: how many completed trials they rest on.
    """

    evaluator: str
    caveat: str
    values: dict[str, float]
    reason: str | None
    metric: str
    n_trials: int

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class RankAgreement:
    """How alike two fidelities order the same configurations; see ``sweeps.agreement``."""

    low_fidelity: str
    high_fidelity: str
    n: int
    kendall_tau: float | None
    spearman: float | None
    verdict: str

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class SweepRecord:
    """Everything about a sweep, as plain JSON values.

    Whatever is given becomes what JSON gives back (paths and NumPy scalars text and numbers, NaN
    and infinities None), so that a record read again equals the one written.

    Attributes:
        name: of the study and of its directory.
        status: "running", "finished", "interrupted" or "failed".
        created: start of the first session, ISO 8601, UTC.
        seconds: wall time of all sessions together, finalists included.
        seed: from which all draws of the sweep come.
        base_config: the resolved settings that every trial starts from, nested.
        space: {dotted setting: its specification, as in the space's YAML}.
        sampler: settings of the sampler, with "name".
        pruner: settings of the pruner, with "name" ("none" for none).
        objectives: at least one; the first is the one that finalists are judged by.
        constraints: bounds that a trial must keep to.
        n_trials: how many trials were asked for.
        workers: how many worker processes this machine started.
        fingerprint: of the prepared data.
        dataset: as in a run's record; empty where not known.
        trials: by number.
        baselines: {recommender: {metric: value}} on validation.
        finalists: None before the last round.
        importances: one an objective; empty before they were computed.
        fidelity: agreement of a cheap first look at a share of the users with training on all.
        test_looks: each opening of the test split.
        best_run_name: the winner's run in full, where it was made.
        settings: all settings of the sweep, as in sweep.yaml.
        sessions: how often the sweep was started or resumed.
        environment: python, platform, cpu_count, packages, git_commit, command.
        error: one line, where the sweep failed.
    """

    name: str
    status: SweepStatus
    created: str
    base_config: dict[str, Any]
    space: dict[str, Any]
    objectives: tuple[Objective, ...]
    n_trials: int
    seed: int = 0
    seconds: float = 0.0
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    workers: int = 1
    fingerprint: str = ""
    dataset: dict[str, Any] = field(default_factory=dict)
    trials: tuple[TrialRecord, ...] = ()
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)
    finalists: Finalists | None = None
    importances: tuple[Importances, ...] = ()
    fidelity: RankAgreement | None = None
    test_looks: tuple[TestLook, ...] = ()
    best_run_name: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sessions: int = 1
    environment: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        assert self.objectives, "a sweep has at least one objective"
        _settle(self)
        ordered = tuple(sorted(self.trials, key=lambda trial: trial.number))
        object.__setattr__(self, "trials", ordered)

    def in_state(self, state: TrialState) -> tuple[TrialRecord, ...]:
        """The trials in a state, by number."""
        return tuple(trial for trial in self.trials if trial.state == state)

    def is_feasible(self, trial: TrialRecord) -> bool:
        """Whether a trial keeps to every constraint."""
        return all(rule.is_met(trial.constraints.get(rule.metric)) for rule in self.constraints)

    def ranked(self, objective: int = 0) -> tuple[TrialRecord, ...]:
        """Completed trials that keep to the constraints, best first; ties by number."""
        sign = -1 if self.objectives[objective].direction == "maximize" else 1
        kept = [
            (sign * trial.values[objective], trial.number, trial)
            for trial in self.in_state("complete")
            if trial.values is not None and self.is_feasible(trial)
        ]
        return tuple(trial for _, _, trial in sorted(kept, key=lambda row: row[:2]))

    def front(self) -> tuple[TrialRecord, ...]:
        """The Pareto front, best in the first objective first; equals stand side by side.

        Ranked trials that no other is as good as in everything and better than in something.
        """
        signs = [1 if objective.direction == "maximize" else -1 for objective in self.objectives]
        merits = {
            trial.number: tuple(s * v for s, v in zip(signs, trial.values or (), strict=True))
            for trial in self.ranked()
        }
        return tuple(
            trial
            for trial in self.ranked()
            if not any(
                other != merits[trial.number]
                and all(o >= m for o, m in zip(other, merits[trial.number], strict=True))
                for other in merits.values()
            )
        )

    def trial(self, number: int) -> TrialRecord | None:
        """The trial of a number."""
        return next((trial for trial in self.trials if trial.number == number), None)

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` can write: the fields, and the format's number."""
        content = cast("dict[str, Any]", _plain(dataclasses.asdict(self)))
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


_PARTS = (Objective, Constraint, TrialRecord, Finalists, Importances, RankAgreement, TestLook)


def _settle(record: Any) -> None:
    """Replace each field of a frozen record by what JSON would give back for it."""
    for part in dataclasses.fields(record):
        value = getattr(record, part.name)
        if isinstance(value, tuple):
            settled: Any = tuple(
                item if isinstance(item, _PARTS) else _plain(item) for item in value
            )
        else:
            settled = value if isinstance(value, _PARTS) else _plain(value)
        if part.name == "intermediate":
            settled = {int(epoch): _plain(item) for epoch, item in value.items()}
        object.__setattr__(record, part.name, settled)


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
