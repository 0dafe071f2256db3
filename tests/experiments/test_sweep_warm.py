"""Sweeps that start from what earlier ones found."""

import pytest
from click.testing import CliRunner

from experiments.cli import main
from experiments.sweep.opening import WARM_TRIALS, read_request
from recsys.errors import ConfigError


@pytest.fixture
def earlier(open_sweep, work):
    """The directory of a sweep that ended, and what it ran, best first."""
    session = open_sweep(name="earlier", n_trials=6, sampler="random", pruner="none")
    work(session)
    record = session.record("finished")
    record.write(session.directory.path)
    return session.directory.path, [t.params for t in record.ranked() if t.number]


def request(shop, directory, space="space.yaml", **options):
    return read_request(
        shop / space,
        shop / "config.yaml",
        [],
        {"n_trials": 6, "finalists": 0, "final_run": False, "warm_from": [directory]} | options,
    )


def test_the_best_of_an_earlier_sweep_are_run_after_the_default(
    open_sweep, sweep_shop, work, earlier
):
    directory, best = earlier
    wanted = request(sweep_shop, directory).settings.warm_start
    assert 2 <= len(wanted) <= WARM_TRIALS
    assert all(params in best[:WARM_TRIALS] for params in wanted)
    options = {"n_trials": 5, "seed": 7, "warm_from": [directory]}
    session = open_sweep(name="warm", **options)
    again = open_sweep(name="warm", **options)  # queued once
    assert work(again) == 5
    run = [trial.params for trial in session.trials(session.main)]
    assert run[1 : 1 + len(wanted)] == list(wanted)
    assert run[1 + len(wanted)] not in best


def test_what_the_space_does_not_hold_is_drawn(sweep_shop, earlier):
    (sweep_shop / "part.yaml").write_text("training.warmup_steps: {int: [1, 4]}")
    wanted = request(sweep_shop, earlier[0], "part.yaml").settings.warm_start
    assert wanted and all(list(params) == ["training.warmup_steps"] for params in wanted)
    (sweep_shop / "none.yaml").write_text("training.learning_rate: {float: [100, 200]}")
    with pytest.raises(ConfigError, match="with settings of the space, but none of its"):
        request(sweep_shop, earlier[0], "none.yaml")


def test_a_warm_start_is_part_of_what_a_sweep_is_and_no_grid_has_one(sweep_shop, earlier):
    warm = request(sweep_shop, earlier[0]).settings
    cold = warm.model_copy(update={"warm_start": ()})
    assert warm.digest("data") != cold.digest("data")
    with pytest.raises(ConfigError, match="another than grid"):
        request(sweep_shop, earlier[0], sampler="grid")


def test_a_directory_without_a_sweep_is_one_line(sweep_shop):
    command = ["sweep", "--space", "space.yaml", "--config", "config.yaml", "--warm-from", "none"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "none" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
