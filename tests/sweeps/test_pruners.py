"""Each pruner is Optuna's, with the settings that it uses and no others."""

import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

from recsys.errors import ConfigError
from sweeps.pruners import build_pruner, check_pruner, describe_pruner
from sweeps.record import Objective
from sweeps.settings import build_settings

GIVEN = {
    "percentile": 30.0,
    "pruner_startup_trials": 4,
    "pruner_warmup_epochs": 2,
    "reduction_factor": 5,
    "pruner_patience": 7,
}
MEDIAN = {"n_startup_trials": 4, "n_warmup_steps": 3}  # epochs count from 1


def told(pruner):
    """Its class and all that it holds."""
    held = vars(pruner)
    return type(pruner), {
        name: told(value) if hasattr(value, "prune") else value for name, value in held.items()
    }


def settings_of(name):
    given = {"objectives": [Objective("m")], "n_trials": 9, "epoch_metrics": ("m",)}
    given |= {"space": {"x": {"float": [0.0, 1.0]}}, "base": {}, "pruner": name}
    used = describe_pruner(build_settings(**given))
    return build_settings(**given, **{key: GIVEN[key] for key in used if key != "name"})


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("none", NopPruner),
        ("median", lambda: MedianPruner(**MEDIAN)),
        ("percentile", lambda: PercentilePruner(30.0, **MEDIAN)),
        ("asha", lambda: SuccessiveHalvingPruner(min_resource=3, reduction_factor=5)),
        ("hyperband", lambda: HyperbandPruner(3, 20, 5)),
        ("patient", lambda: PatientPruner(MedianPruner(**MEDIAN), 7)),
    ],
)
def test_a_pruner_is_made_of_its_settings(name, wanted):
    assert told(build_pruner(settings_of(name), 20)) == told(wanted())


def test_no_bracket_of_hyperband_ends_before_the_warm_up():
    assert told(build_pruner(settings_of("hyperband"), 1)) == told(HyperbandPruner(3, 3, 5))


def test_patience_does_not_warn_that_it_is_experimental(recwarn):
    build_pruner(settings_of("patient"), 20)
    assert not [warning for warning in recwarn if warning.category is ExperimentalWarning]


def test_a_description_tells_the_settings_that_are_used():
    described = describe_pruner(settings_of("asha"))
    assert described == {"name": "asha", "pruner_warmup_epochs": 2, "reduction_factor": 5}
    assert describe_pruner(settings_of("none")) == {"name": "none"}


def test_a_setting_that_the_pruner_does_not_use_is_refused():
    asha = settings_of("asha")
    check_pruner(asha, ["pruner", "pruner_warmup_epochs", "reduction_factor", "seed"])
    with pytest.raises(ConfigError, match="'percentile' has an effect only with pruner percentile"):
        check_pruner(asha, ["percentile"])
    with pytest.raises(ConfigError, match="pruner asha or hyperband, got 'none'"):
        check_pruner(settings_of("none"), ["reduction_factor"])
