"""What was found in a sweep, part by part: finalists, baselines, looks at test, what mattered.

Whatever a part is given becomes what JSON gives back (paths and NumPy scalars text and numbers, NaN
and infinities None), so that one read again equals the one written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from recsys.config import BaselineName
from recsys.reporting.record import plain

Direction = Literal["maximize", "minimize"]
EndReason = Literal["trials", "hours", "noise", "asked"]
"""What ends a search; asked: the user, by Ctrl-C."""
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Number = Annotated[float | None, BeforeValidator(plain)]
Numbers = dict[str, Number]
Tree = Annotated[dict[str, Any], BeforeValidator(plain)]


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class BaselineTrial:
    """Settings of a baseline that were tried on validation."""

    params: Tree
    value: Number  # of the first objective; None where it failed
    seconds: float


@dataclass(frozen=True, config=STRICT)
class TunedBaseline:
    """A baseline with the best of its trials; see ``sweeps.baselines``."""

    name: BaselineName
    left_out: str | None = None  # why it was not tuned
    settings: str = ""  # in words
    params: Tree = field(default_factory=dict)
    value: Number = None  # of the first objective, on validation
    n_trials: int = 0
    seconds: float = 0.0  # of all of them


def sign_of(direction: Direction) -> int:
    """What makes more better: 1, or -1 where less is."""
    return 1 if direction == "maximize" else -1


def best_baseline(
    tuned: Sequence[TunedBaseline], direction: Direction
) -> tuple[TunedBaseline, float] | None:
    """The one with the best value, and that value; None where none was tuned."""
    sign = sign_of(direction)
    known = [(each, each.value) for each in tuned if each.value is not None]
    return max(known, key=lambda pair: sign * pair[1], default=None)


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class TestLook:
    """One opening of the sealed test split."""

    __test__ = False  # pytest: not a test class

    opened: str  # ISO 8601, UTC
    purpose: str
    trial: int | None = None  # of the winner, named before
    run_name: str | None = None  # of the run that did it
    metrics: Numbers = field(default_factory=dict)  # means of the winner
    baselines: dict[str, Numbers] = field(default_factory=dict)  # means of what stands beside it


@dataclass(frozen=True, config=STRICT)
class RankCorrelation:
    """How a setting's value goes along with an objective, by ranks (Spearman)."""

    setting: str  # dotted
    value: str | None  # against all others, where the setting is a choice
    rho: float  # above 0: more of it, or this value, goes along with better trials
    low: float  # 95% interval
    high: float
    n_trials: int  # that had the setting


@dataclass(frozen=True, config=STRICT)
class Importances:
    """Which settings the objective's value depended on."""

    evaluator: str
    caveat: str  # what the numbers do not say
    values: dict[str, float]  # shares by dotted setting, largest first, sum 1
    reason: str | None  # why there are none
    metric: str
    n_trials: int  # completed and pruned ones, which they rest on
    correlations: tuple[RankCorrelation, ...] = ()  # strongest first, where there are no shares


@dataclass(frozen=True, config=STRICT)
class EarlierSweep:
    """A sweep whose best configurations this one starts from."""

    name: str
    importances: Importances  # of its first objective


@dataclass(frozen=True, config=STRICT)
class RankAgreement:
    """How alike two fidelities order the same configurations; see ``sweeps.agreement``."""

    low_fidelity: str
    high_fidelity: str
    n: int
    kendall_tau: Number
    spearman: Number
    verdict: str


@dataclass(frozen=True, config=STRICT)
class SearchEnd:
    """Why a search ended; see ``sweeps.ending``."""

    why: EndReason
    n_trials: int  # that had ended
    limit: int | None  # trials that it might have had
    hours: float | None = None  # that trials might run
    spared: int | None = None  # trials that were not run; with hours, estimated
    gain: float | None = None  # by which they were expected to improve the best value
    error: float | None = None  # of a difference between two finalists
