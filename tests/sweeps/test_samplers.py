"""Samplers that a space of two numbers shows at work, and those of OptunaHub from a folder."""

import sys

import numpy as np
import optuna
import optunahub
import pytest

from recsys.errors import ConfigError
from sweeps.record import Objective
from sweeps.samplers import build_sampler, describe_sampler
from sweeps.settings import build_settings


def settings(**given):
    given = {"objectives": [Objective("m")], "startup_trials": 8} | given
    return build_settings(space={}, base={}, epoch_metrics=("m",), **given)


def values_of(n_trials, **given):
    """The best is 1, at (0.8, 0.2); a study that is opened anew for every trial."""
    study = optuna.create_study(direction="maximize")
    for _ in range(n_trials):
        study.sampler = build_sampler(settings(**given), lambda trial: trial.number)
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        study.tell(trial, 1 - (x - 0.8) ** 2 - (y - 0.2) ** 2)
    return np.array([trial.value for trial in study.trials])


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii"])
def test_a_sampler_that_learns_draws_better_in_the_end(sampler):
    late, drawn = values_of(80, sampler=sampler)[-20:], values_of(80, sampler="random")
    assert late.mean() > drawn.mean() + 3 * drawn.std() / np.sqrt(len(late))


def test_nsgaii_has_as_many_in_a_generation_as_it_starts_with():
    """One generation of all is drawn at random, as if it never learned."""
    small, large = (values_of(60, sampler="nsgaii", startup_trials=n) for n in (8, 60))
    assert small[-20:].mean() > large[-20:].mean()
    assert describe_sampler(settings(sampler="nsgaii"))["startup_trials"] == 8


def test_cmaes_is_for_one_objective():
    with pytest.raises(ConfigError, match="another than cmaes with several objectives"):
        settings(sampler="cmaes", objectives=[Objective("m"), Objective("epochs", "minimize")])


def test_without_its_package_cmaes_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the extra 'samplers'"):
        build_sampler(settings(sampler="cmaes"), lambda trial: trial.number)


HUB_PACKAGE = """
import optuna

class Corner(optuna.samplers.RandomSampler):
    def __init__(self, seed=None):
        super().__init__(seed=seed)
    def sample_independent(self, study, trial, name, distribution):
        return distribution.high if name == "x" else super().sample_independent(
            study, trial, name, distribution)

__all__ = ["Corner"]
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of OptunaHub in a folder; the network is out of reach."""
    folder = tmp_path / "corner"
    folder.mkdir()
    (folder / "__init__.py").write_text(HUB_PACKAGE)

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(optunahub, "load_module", refuse)
    yield folder
    for name in [name for name in sys.modules if name.endswith("corner")]:
        del sys.modules[name]


def test_a_sampler_of_optunahub_is_taken_from_a_folder_and_seeded(package):
    study = optuna.create_study()
    wanted = settings(sampler=f"optunahub:{package}", seed=3)
    for _ in range(2):
        study.sampler = build_sampler(wanted, lambda trial: 5)
        trial = study.ask()
        assert trial.suggest_float("x", 0, 1) == 1
        trial.suggest_float("y", 0, 1)
    one, other = (trial.params["y"] for trial in study.trials)
    assert one == other  # of one index in one study


def test_what_cannot_be_had_of_optunahub_is_one_line(package):
    (package / "__init__.py").write_text("__all__ = []")
    for name, reason in ((str(package), "expected 1"), ("samplers/none", "no network")):
        with pytest.raises(ConfigError, match=reason) as caught:
            build_sampler(settings(sampler=f"optunahub:{name}"), lambda trial: trial.number)
        assert "\n" not in str(caught.value)
