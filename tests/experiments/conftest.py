"""Runs and sweeps on the checkerboard: in this process, or with processes of their own."""

import pytest
import yaml

from experiments.settings import dump_yaml
from experiments.sweep import delivery
from experiments.sweep.console import SweepConsole
from experiments.sweep.opening import begin
from experiments.sweep.request import SweepRequest, read_settings
from experiments.sweep.state import Assignment
from experiments.sweep.worker import join
from tests import forked
from tests.experiments.shop import Shop

SPACE = {
    "training.learning_rate": {"float": [0.0001, 0.05], "log": True},
    "training.warmup_steps": {"int": [1, 4]},
}


@pytest.fixture
def space():
    """What varies."""
    return SPACE


@pytest.fixture
def shop(tmp_path, copy_store, board_config):
    """A directory to run in, with a configuration and a tracker of its own."""
    config = board_config({"experiment": {"tracking_uri": copy_store(tmp_path)}})
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    return Shop(tmp_path)


@pytest.fixture
def sweep_shop(tmp_path, copy_store, board_settings, monkeypatch):
    """A directory to run in, with a base configuration, a space and a tracker of its own."""
    monkeypatch.chdir(tmp_path)
    settings = dict(board_settings) | {
        # a few large steps: these tests are about sweeps, not about what a model learns
        "training": board_settings["training"] | {"batch_size": 16, "warmup_steps": 2},
        "experiment": {"tracking_uri": copy_store(tmp_path)},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def run_here(session, stage, changes=None):
    return join(Assignment(session.directory.name, session.storage.url, stage), changes or {})


@pytest.fixture
def open_sweep(sweep_shop, monkeypatch):
    """Begins a sweep without tracker and tuned baselines, in this process, as the command would.

    Its finalists are trained in this process too.
    """
    sessions = []
    run_stage = "experiments.sweep.finish.run_stage"
    monkeypatch.setattr(run_stage, lambda session, stage, _title: run_here(session, stage))

    def build(
        *overrides,
        tracking=False,
        space=None,
        name=None,
        storage=None,
        upload_data=False,
        **options,
    ):
        if space is not None:
            (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
        quick = {"n_trials": 6, "startup_trials": 3, "finalists": 0, "final_run": False}
        options = quick | {"baseline_trials": 0} | options
        settings = read_settings(
            sweep_shop / "space.yaml",
            sweep_shop / "config.yaml",
            ["--experiment.tracking", str(tracking).lower(), *overrides],
            options,
        )
        request = SweepRequest(settings, "space", name, storage, sweep_shop / "sweeps", upload_data)
        sessions.append(begin(request, SweepConsole()))
        if upload_data:
            delivery.upload_data(sessions[-1])
        return sessions[-1]

    yield build
    for session in sessions:
        session.storage.close()


@pytest.fixture
def work():
    """Runs all trials of a sweep's stage that are left, in this process."""

    return lambda session, stage="search", changes=None: run_here(session, stage, changes)


@pytest.fixture
def bookends(sweep_shop):
    """Runs a command to its end, in a process of its own."""

    def run(*arguments, **options):
        words = ("-m", "experiments", *arguments)
        return forked.run(*words, cwd=sweep_shop, **options)

    return run


@pytest.fixture
def outcome():
    """What must be the same of a sweep's trials when it is the same sweep."""

    def of(session):
        return [
            (trial.number, trial.state, trial.params, trial.values, trial.intermediate)
            for trial in session.main.records()
        ]

    return of
