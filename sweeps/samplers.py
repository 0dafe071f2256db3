"""How configurations are chosen, such that the n-th one depends on the seed, n and the past."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, assert_never, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from recsys.errors import ConfigError
from sweeps.settings import HUB, LEARNERS, SamplerName, SweepSettings

SearchSpace = dict[str, BaseDistribution]


class SeededSampler(BaseSampler):
    """A sampler that is seeded anew for every trial.

    A seeded sampler that is made again, as in another worker or a resumed study, would repeat its
    first draws. Here the draws of a trial depend on its index in the study alone, whichever process
    makes it, so that no draw comes twice and a resumed study goes on as if never stopped.

    Args:
        build: gives the sampler to use for a ``seed``.
        seed: of the study.
        config_index: gives the index of a trial's configuration in the study.
    """

    def __init__(
        self,
        build: Callable[..., BaseSampler],
        seed: int,
        config_index: Callable[[FrozenTrial], int],
    ) -> None:
        self._build = build
        self._seed = seed
        self._config_index = config_index
        self._sampler = build(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed for the trial."""
        sequence = np.random.SeedSequence([self._seed, self._config_index(trial)])
        self._sampler = self._build(seed=int(sequence.generate_state(1)[0]))
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


def build_sampler(
    settings: SweepSettings, config_index: Callable[[FrozenTrial], int]
) -> BaseSampler:
    """The sampler of a study.

    ``grid`` draws nothing: the cells of the grid are queued when the study is made.

    Args:
        settings: say which.
        config_index: gives the index of a trial's configuration in the study.
    """
    seed, startup = settings.draw_seed, settings.startup_trials
    build: Callable[..., BaseSampler]
    if settings.sampler.startswith(HUB):
        return SeededSampler(hub_sampler(settings.sampler.removeprefix(HUB)), seed, config_index)
    name = cast("SamplerName", settings.sampler)
    match name:
        case "tpe":
            build = partial(TPESampler, n_startup_trials=startup)
        case "gp":
            build = partial(GPSampler, n_startup_trials=startup)
        case "cmaes":
            if importlib.util.find_spec("cmaes") is None:
                raise ConfigError("the sampler 'cmaes' needs the extra 'samplers' (package cmaes)")
            build = partial(_build_cmaes, startup)
        case "nsgaii":
            build = partial(NSGAIISampler, population_size=max(2, startup))  # two parents
        case "random" | "grid":
            build = RandomSampler
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # One sequence for all workers, numbered in the study's storage. It has no place for
                # settings under a condition.
                return QMCSampler(
                    seed=seed,
                    scramble=True,
                    independent_sampler=SeededSampler(RandomSampler, seed, config_index),
                    warn_independent_sampling=False,
                )
        case _:
            assert_never(name)
    return SeededSampler(build, seed, config_index)


def _build_cmaes(n_startup: int, seed: int) -> BaseSampler:
    """With pruned trials, which most are, by their last value; choices are drawn at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(
            seed=seed,
            n_startup_trials=n_startup,
            warn_independent_sampling=False,
            consider_pruned_trials=True,
            with_margin=True,  # else steps of ints and rounded floats are lost once it narrows
        )


def hub_sampler(package: str) -> Callable[..., BaseSampler]:
    """What builds a sampler of OptunaHub for a ``seed``.

    Args:
        package: such as ``samplers/auto_sampler``, which optunahub downloads unless it did before,
            or the folder of one on this machine, from which nothing is downloaded.

    Raises:
        ConfigError: optunahub is not installed, or the package cannot be had or holds no sampler.
    """
    try:
        import optunahub
    except ImportError:
        raise ConfigError(
            f"the sampler '{HUB}{package}' needs the extra 'samplers' (package optunahub)"
        ) from None
    folder = Path(package)
    try:
        if folder.is_dir():
            module = optunahub.load_local_module(
                folder.name, registry_root=str(folder.absolute().parent)
            )
        else:
            module = optunahub.load_module(package)
        (sampler,) = (
            each
            for each in (getattr(module, name) for name in module.__all__)
            if isinstance(each, type) and issubclass(each, BaseSampler)
        )
    except Exception as error:  # code of others, fetched by git or over the network
        head = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the sampler '{HUB}{package}' must be a package of OptunaHub or a folder that exports "
            f"one sampler ({head:.200})"
        ) from error
    build: Callable[..., BaseSampler] = sampler
    takes_seed = "seed" in inspect.signature(build).parameters
    return lambda seed: build(seed=seed) if takes_seed else build()


def describe_sampler(settings: SweepSettings) -> dict[str, Any]:
    """What a record says of the sampler."""
    used = {"startup_trials": settings.startup_trials} if settings.sampler in LEARNERS else {}
    return {"name": settings.sampler, "seed": settings.seed} | used
