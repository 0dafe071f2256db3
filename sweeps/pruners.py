"""What ends trials early that their first epochs show to be hopeless."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any, assert_never

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

from recsys.errors import ConfigError
from sweeps.settings import SweepSettings

_USES: dict[str, tuple[str, ...]] = {
    "none": (),
    "median": ("pruner_startup_trials", "pruner_warmup_epochs"),
    "percentile": ("percentile", "pruner_startup_trials", "pruner_warmup_epochs"),
    "asha": ("pruner_warmup_epochs", "reduction_factor"),
    "hyperband": ("pruner_warmup_epochs", "reduction_factor"),
    "patient": ("pruner_patience", "pruner_startup_trials", "pruner_warmup_epochs"),
}


def build_pruner(settings: SweepSettings, num_epochs: int) -> BasePruner:
    """The pruner of a study; its steps are epochs, counted from 1.

    Args:
        settings: say which.
        num_epochs: most epochs of a trial.
    """
    first = settings.pruner_warmup_epochs + 1
    startup, factor = settings.pruner_startup_trials, settings.reduction_factor
    median = MedianPruner(n_startup_trials=startup, n_warmup_steps=first)
    match settings.pruner:
        case "none":
            return NopPruner()
        case "median":
            return median
        case "percentile":
            return PercentilePruner(
                settings.percentile, n_startup_trials=startup, n_warmup_steps=first
            )
        case "asha":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
        case "hyperband":
            return HyperbandPruner(
                min_resource=first, max_resource=max(num_epochs, first), reduction_factor=factor
            )
        case "patient":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return PatientPruner(median, patience=settings.pruner_patience)
        case _:
            assert_never(settings.pruner)


def check_pruner(settings: SweepSettings, given: Collection[str]) -> None:
    """Refuse settings of pruners that the chosen one does not use.

    Args:
        settings: say which it is.
        given: names of the settings that the user gave.

    Raises:
        ConfigError: one of them has no effect.
    """
    used = _USES[settings.pruner]
    for name in sorted({name for names in _USES.values() for name in names} - set(used)):
        if name in given:
            pruners = " or ".join(pruner for pruner, names in _USES.items() if name in names)
            raise ConfigError(
                f"sweep: '{name}' has an effect only with pruner {pruners}, got '{settings.pruner}'"
            )


def describe_pruner(settings: SweepSettings) -> dict[str, Any]:
    """What a record says of the pruner: its name and the settings that it uses."""
    used = {name: getattr(settings, name) for name in _USES[settings.pruner]}
    return {"name": settings.pruner} | used
