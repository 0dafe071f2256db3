"""How configurations are chosen, such that the n-th one depends on the seed, n and the past."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.settings import LEARNERS, SweepSettings

SearchSpace = dict[str, BaseDistribution]


class SeededSampler(BaseSampler):
    """A sampler that is seeded anew for every trial.

    A seeded sampler that is made again, as in another worker or a resumed study, would repeat its
    first draws. Here the draws of a trial depend on its place in the study alone, whichever process
    makes it, so that no draw comes twice and a resumed study goes on as if never stopped.

    Args:
        build: gives the sampler to use for a seed.
        seed: of the study.
        place_of: a trial's place among the configurations of the study.
    """

    def __init__(
        self, build: Callable[[int], BaseSampler], seed: int, place_of: Callable[[FrozenTrial], int]
    ) -> None:
        self._build = build
        self._seed = seed
        self._place_of = place_of
        self._sampler = build(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed for the trial."""
        sequence = np.random.SeedSequence([self._seed, self._place_of(trial)])
        self._sampler = self._build(int(sequence.generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> SearchSpace:
        """As the sampler."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: SearchSpace
    ) -> dict[str, Any]:
        """As the sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As the sampler."""
        self._sampler.after_trial(study, trial, state, values)


def build_sampler(settings: SweepSettings, place_of: Callable[[FrozenTrial], int]) -> BaseSampler:
    """The sampler of a study.

    ``grid`` draws nothing: the cells of the grid are queued when the study is made.

    Args:
        settings: say which.
        place_of: a trial's place among the configurations of the study.
    """
    seed, startup = settings.seed, settings.startup_trials
    match settings.sampler:
        case "tpe":
            return SeededSampler(
                lambda each: TPESampler(seed=each, n_startup_trials=startup), seed, place_of
            )
        case "gp":
            return SeededSampler(
                lambda each: GPSampler(seed=each, n_startup_trials=startup), seed, place_of
            )
        case "random" | "grid":
            return SeededSampler(lambda each: RandomSampler(seed=each), seed, place_of)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # One sequence for all workers, numbered in the study's storage.
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        case _:
            assert_never(settings.sampler)


def describe_sampler(settings: SweepSettings) -> dict[str, Any]:
    """What a record says of the sampler."""
    used = {"startup_trials": settings.startup_trials} if settings.sampler in LEARNERS else {}
    return {"name": settings.sampler, "seed": settings.seed} | used
