"""The settings of a sweep: what is searched, how, and what a trial is judged by."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from recsys.config import Section, require
from recsys.errors import ConfigError, first_problem
from sweeps.findings import Direction
from sweeps.record import Constraint, Objective

SamplerName = Literal["tpe", "random", "grid", "gp", "qmc", "cmaes", "nsgaii"]
HUB = "optunahub:"
"""What the name of a sampler of OptunaHub begins with; its package, or its folder, follows."""
PrunerName = Literal["none", "median", "percentile", "asha", "hyperband", "patient"]
COSTS = ("train_seconds", "model_bytes", "model_parameters", "epochs")
"""Measures of what a trial costs; smaller is better."""
SMALLER_IS_BETTER = (*COSTS, "popularity_lift")
_COMPARISON = re.compile(r"\s*([\w@]+)\s*(<=|>=)\s*(\S+)\s*")
USUAL_TRIALS = 30
UNLIMITED = 2**31 - 1
"""Trials of a search that hours alone bound."""
FEWEST_DRAWS = 10
"""Values that a forecast of the gain in further trials rests on at least."""
LEARNERS: tuple[SamplerName, ...] = ("tpe", "gp", "cmaes", "nsgaii")
"""Samplers that draw at random first and learn then."""
MAY_CHANGE = (
    *("n_trials", "hours", "stop", "workers"),
    *("finalists", "finalist_seeds", "race", "baseline_trials", "final_run"),
)
"""What a later session of the same sweep may give otherwise."""


def _can_prune(objectives: Sequence[Objective], epoch_metrics: Sequence[str]) -> bool:
    return len(objectives) == 1 and objectives[0].metric in epoch_metrics


def _usual_trials(given: dict[str, Any]) -> int | None:
    return USUAL_TRIALS if given.get("hours") is None else None


def _usual_pruner(given: dict[str, Any]) -> PrunerName:
    can_prune = _can_prune(given.get("objectives", ()), given.get("epoch_metrics", ()))
    return "median" if can_prune else "none"


class SweepSettings(Section):
    """Everything that decides a sweep, beside the data."""

    space: dict[str, Any]
    """Dotted setting: its specification, as in the space's YAML."""
    base: dict[str, Any]
    """Nested differences from the defaults that every trial starts from."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """How long trials may run, over all sessions; finalists come after it."""
    n_trials: Annotated[int | None, Field(ge=1, default_factory=_usual_trials)]
    """Trials in all, over all workers and sessions, the default configuration among them: 30, or
    as many as the hours hold where these are given alone."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that run trials on this machine."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """What the search draws from; what a trial draws from is experiment.seed."""
    start: tuple[dict[str, Any], ...] = ()
    """Starting points: values of the space, run after the default; what one leaves out is drawn."""
    warm_from: tuple[str, ...] = ()
    """Directories of sweeps, or MLflow experiments with sweeps, whose best configurations are run
    first, after the default and the starting points."""
    sampler: str = "tpe"
    """How configurations are chosen: a SamplerName, or one of OptunaHub such as
    optunahub:samplers/auto_sampler."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """tpe, gp and cmaes: trials drawn at random before the sampler learns from them; nsgaii: those
    of a generation."""
    pruner_startup_trials: Annotated[int, Field(ge=0)] = 5
    """median and percentile: complete trials to wait for before any is pruned."""
    pruner_warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """No trial is pruned in its first so many epochs."""
    percentile: Annotated[float, Field(ge=0, le=100)] = 25.0
    """percentile: go on with the best so many per cent."""
    pruner_patience: Annotated[int, Field(ge=0)] = 2
    """patient: epochs without gain before the median decides."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """asha and hyperband: one in so many trials goes on at each rung."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]
    """What is searched for; finalists are judged by the first."""
    epoch_metrics: tuple[str, ...]
    """Metrics that every epoch has a value of."""
    pruner: Annotated[PrunerName, Field(default_factory=_usual_pruner)]
    """What ends hopeless trials early: median where there is one objective that each epoch has a
    value of, else none."""
    constraints: tuple[Constraint, ...] = ()
    """Bounds that a trial must keep to."""
    user_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Run all trials on this share of the users first, and the best of them on all."""
    promoted: Annotated[int, Field(ge=1)] | None = None
    """user_share: how many of the best are run on all users (a third where not given)."""
    stop: bool | None = None
    """End the search where the rest is noise to the finalists; null: where that can be told (one
    objective, all users from the start, finalists on at least two seeds) and it is no grid."""
    finalists: Annotated[int, Field(ge=0)] = 3
    """How many of the best are trained again on fresh seeds; 0 leaves that out."""
    finalist_seeds: Annotated[int, Field(ge=1)] = 3
    """On how many."""
    race: bool = True
    """Train finalists that have clearly lost after two seeds or more on no further one."""
    baseline_trials: Annotated[int, Field(ge=0)] | None = None
    """Trials of each baseline on validation; null: as many as the search had, at most 50, and with
    hours no longer than it took. 0 tunes none."""
    final_run: bool = True
    """Run the winner in full at the end."""

    @field_validator("sampler")
    @classmethod
    def _know_sampler(cls, given: str) -> str:
        names = ", ".join(get_args(SamplerName))
        require(
            given in get_args(SamplerName) or (len(given) > len(HUB) and given.startswith(HUB)),
            f"must be one of {names} or {HUB}PACKAGE",
        )
        return given

    @field_validator("promoted")
    @classmethod
    def _promote_some(cls, given: int | None, info: ValidationInfo) -> int | None:
        n_trials: int = info.data.get("n_trials") or USUAL_TRIALS
        if info.data.get("user_share") is None:
            require(given is None, "'promoted' has a meaning only with 'user_share'")
            return None
        return min(given or -(-n_trials // 3), n_trials)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [objective.metric for objective in self.objectives]
        require(len(set(names)) == len(names), f"'objective' must name a metric once, got {names}")
        require(
            self.pruner == "none" or _can_prune(self.objectives, self.epoch_metrics),
            f"'pruner' must be none with objectives {names}: pruning needs a single one that every "
            f"epoch has a value of, got '{self.pruner}'",
        )
        require(
            self.sampler != "grid" or not (self.warm_from or self.start),
            "'sampler' must be another than grid where a sweep starts from earlier ones or the "
            "space has starting points",
        )
        require(
            self.sampler != "cmaes" or len(names) == 1,
            f"'sampler' must be another than cmaes with several objectives, got {names}",
        )
        require(
            not self.stop or self._can_stop,
            "'stop' must be given with a single objective, without 'user_share' and with finalists "
            f"on at least two seeds, got {len(self.objectives)} objectives, user_share "
            f"{self.user_share}, {self.finalists} finalists on {self.finalist_seeds} seeds",
        )
        return self

    @property
    def _can_stop(self) -> bool:
        is_whole = len(self.objectives) == 1 and self.user_share is None
        return is_whole and self.finalists > 0 and self.finalist_seeds > 1

    @property
    def stops(self) -> bool:
        """Whether the search may end in noise; so few trials as a forecast needs are all run."""
        wanted = self._can_stop and self.sampler != "grid" if self.stop is None else self.stop
        fewest = 1 + self.n_startup + FEWEST_DRAWS
        return wanted and self.most_trials > fewest

    @property
    def n_startup(self) -> int:
        """Trials that the sampler draws before it learns."""
        return self.startup_trials if self.sampler in LEARNERS else 0

    @property
    def most_trials(self) -> int:
        """As many as the search may have."""
        return self.n_trials or UNLIMITED

    @property
    def draw_seed(self) -> int:
        """What the sampler draws from: not what a sweep that this one starts from drew from."""
        if not self.warm_from:
            return self.seed
        return zlib.crc32("\n".join([str(self.seed), *self.warm_from]).encode())

    @property
    def seconds(self) -> float | None:
        """In which trials may run; None where time does not bound them."""
        return None if self.hours is None else 3600 * self.hours

    @property
    def measures(self) -> tuple[str, ...]:
        """All metrics that objectives and constraints ask for."""
        names = [part.metric for part in self.objectives]
        return tuple(dict.fromkeys([*names, *(rule.metric for rule in self.constraints)]))

    @property
    def pruning_metric(self) -> str | None:
        """The metric that the pruner is told; None where nothing is pruned."""
        return None if self.pruner == "none" else self.objectives[0].metric

    def identity(self) -> dict[str, Any]:
        """What must stay the same for a sweep to be the same."""
        content = self.model_dump(mode="json")
        unused = [name for name in ("start", "warm_from") if not content[name]]
        return {name: content[name] for name in content if name not in (*MAY_CHANGE, *unused)}

    def digest(self, fingerprint: str) -> str:
        """Eight hexadecimal digits of what makes this sweep the same as another, data included."""
        text = json.dumps([self.identity(), fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_settings(**given: Any) -> SweepSettings:
    """Checked settings; those given as None keep their default.

    Raises:
        ConfigError: an impossible value, or settings at odds.
    """
    try:
        return SweepSettings.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise ConfigError(f"sweep: {first_problem(error)}") from None


def parse_objective(text: str) -> Objective:
    """``ndcg@10``, or with the direction, ``ndcg@10:maximize``.

    Raises:
        ConfigError: there is no such direction.
    """
    metric, _, direction = text.partition(":")
    match direction:
        case "":
            return Objective(metric, _usual_direction(metric))
        case "maximize" | "minimize":
            return Objective(metric, direction)
        case _:
            raise ConfigError(
                f"objective '{text}': the direction must be maximize or minimize, got '{direction}'"
            )


def parse_constraint(text: str) -> Constraint:
    """``train_seconds<=60`` or ``coverage@10>=0.2``.

    Raises:
        ConfigError: it is not of that form.
    """
    match = _COMPARISON.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        bound = float(match[3])
    except ValueError:
        raise ConfigError(
            f"a constraint must be such as 'train_seconds<=60' or 'coverage@10>=0.2', got '{text}'"
        ) from None
    if match[2] == "<=":
        return Constraint(match[1], maximum=bound)
    return Constraint(match[1], minimum=bound)


def _usual_direction(metric: str) -> Direction:
    smaller = metric.partition("@")[0] in SMALLER_IS_BETTER
    return "minimize" if smaller else "maximize"
