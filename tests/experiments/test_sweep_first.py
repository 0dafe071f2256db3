"""Sweeps that run first what their space names, or what earlier ones found."""

import shutil

import pytest
from click.testing import CliRunner

from experiments.cli import main
from experiments.sweep.first import WARM_TRIALS
from recsys.errors import ConfigError
from recsys.models.build import usual_temperature
from sweeps.importances import correlation_name
from sweeps.tables import sweep_tables, trials_table

WARM = {"n_trials": 5, "seed": 7}
RATE, STEPS = "training.learning_rate", "training.warmup_steps"
POINTS = [{RATE: 0.03, STEPS: 1}, {STEPS: 4}]


@pytest.fixture
def earlier(open_sweep, work):
    """The directory of a sweep that ended, and what it ran, best first."""
    session = open_sweep(name="earlier", n_trials=6, sampler="random", pruner="none", tracking=True)
    work(session)
    record = session.record("finished")
    record.write(session.directory.path)
    return session.directory.path, [trial.params for trial in record.ranked()]


def run_by(session):
    return [trial.params for trial in session.main.records()]


def test_the_sampler_learns_what_the_default_draws_where_the_data_decide_it(open_sweep, work):
    """Samplers look at what all trials have: one that lacked a setting would hide it for good."""
    history = "model.user_encoder.history.recency"
    space = {
        RATE: {"float": [0.0001, 0.05], "log": True},
        "model.temperature": {"float": [0.05, 0.9], "log": True},
        history: {"choice": ["none", "position"]},
    }
    session = open_sweep(space=space, n_trials=2)
    assert session.base.model.temperature is None
    work(session)
    default, other = session.main.trials()
    assert default.distributions.keys() == other.distributions.keys() == space.keys()
    items = session.prepared.n_warm_items
    assert default.params["model.temperature"] == usual_temperature(items)
    assert session.main.records()[0].params == default.params
    given = [f"--model.temperature={usual_temperature(items)}"]
    as_given = open_sweep(*given, name="given", space=space, n_trials=1)
    work(as_given)
    assert as_given.main.trials()[0].values == default.values


def test_starting_points_are_run_after_the_default_and_once(open_sweep, work, space):
    session = open_sweep(name="points", space=space | {"start": POINTS}, n_trials=2)
    assert work(session) == 2
    again = open_sweep(name="points", n_trials=4)
    assert work(again) == 2
    record = again.record("running")
    assert trials_table(record).column("what") == ["default", "start 1", "start 2", None]
    assert record.trials[1].params == POINTS[0]
    third = record.trials[2].params
    assert third[STEPS] == 4 and RATE in third  # what is left out is drawn
    assert record.settings["start"] == POINTS


def test_the_best_of_an_earlier_sweep_follow_the_starting_points(open_sweep, work, space, earlier):
    directory, best = earlier
    points = [POINTS[0], best[0], POINTS[0]]  # each configuration is run once
    session = open_sweep(
        name="later", space=space | {"start": points}, warm_from=[str(directory)], n_trials=6
    )
    work(session)
    origins = [trial.origin for trial in session.main.records()]
    assert origins[1] == "start 1" and origins.count("start 1") == 1 and "start 3" not in origins
    assert "best of earlier" in origins[2:]
    assert len(set(map(str, run_by(session)))) == len(run_by(session))


def test_the_best_of_an_earlier_sweep_are_run_after_the_default(open_sweep, work, earlier):
    directory, best = earlier
    options = {"name": "warm", "warm_from": [str(directory)], **WARM}
    session = open_sweep(**options)
    shutil.rmtree(directory)  # it is asked for once
    again = open_sweep(**options)
    assert work(again) == 5
    run = run_by(session)
    wanted = [params for params in best[:WARM_TRIALS] if params != run[0]]
    assert len(wanted) >= 2 and run[1 : 1 + len(wanted)] == wanted
    assert run[1 + len(wanted)] not in best


def test_an_experiment_stands_for_its_sweeps(open_sweep, work, earlier):
    """Itself among them, as soon as it is tracked: the same command goes on all the same."""
    options = {"name": "warm", "tracking": True, "warm_from": ["bookends"], **WARM}
    session = open_sweep(**options)
    work(session)
    assert run_by(session)[2] in earlier[1][:WARM_TRIALS]
    assert work(open_sweep(**options | {"n_trials": 6})) == 1
    with pytest.raises(ConfigError, match="must keep 'warm_from"):
        open_sweep(name="warm", tracking=True, **WARM)
    shutil.rmtree(earlier[0])
    (session.directory.path / "study.json").unlink()
    with pytest.raises(ConfigError, match="an experiment with sweeps that completed a trial"):
        open_sweep(**options | {"name": "other"})


def test_what_the_space_does_not_hold_is_drawn(open_sweep, work, earlier):
    options = {"warm_from": [str(earlier[0])], **WARM}
    session = open_sweep(space={STEPS: {"int": [1, 4]}}, **options)
    work(session)
    steps = [params[STEPS] for params in earlier[1][:WARM_TRIALS]]
    found = [params[STEPS] for params in run_by(session)[1:]]
    assert set(found[: len(set(steps) - {2})]) == set(steps) - {2}  # 2 is the default's
    with pytest.raises(ConfigError, match="with settings of the space, but none of its"):
        open_sweep(space={RATE: {"float": [100, 200]}}, **options)


def test_a_sweep_does_not_repeat_the_draws_of_the_one_that_it_starts_from(
    open_sweep, work, earlier
):
    """Of the same seed, that is: its first trials are drawn at random as those were."""
    again, warm = {"sampler": "random", "n_trials": 6}, {"warm_from": [str(earlier[0])]}
    plain, started = open_sweep(name="plain", **again), open_sweep(name="warm", **again, **warm)
    for session in (plain, started):
        work(session)
    drawn = [trial.params for trial in started.main.records() if trial.origin is None]
    assert drawn and not [params for params in drawn if params in earlier[1]]
    assert sorted(map(str, run_by(plain))) == sorted(map(str, earlier[1]))


def test_a_name_of_nothing_is_one_line(sweep_shop):
    command = ["sweep", "--space", "space.yaml", "--config", "config.yaml", "--warm-from", "none"]
    done = CliRunner().invoke(main, command)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARN"))]
    assert done.exit_code == 2 and len(lines) == 1
    assert "experiment 'none': must be in" in lines[0]


def test_what_mattered_in_an_earlier_sweep_stands_beside_what_matters_now(
    open_sweep, work, earlier
):
    options = {"name": "warm", "warm_from": [str(earlier[0])], **WARM}
    session = open_sweep(**options)
    shutil.rmtree(earlier[0])  # it is as it was when the sweep began
    work(open_sweep(**options))
    record = session.record("finished")
    (found,) = record.earlier
    assert found.name == "earlier" and found.importances.n_trials == 6
    table = sweep_tables(record)["importances_ndcg_10"]
    told = {correlation_name(each): each.rho for each in found.importances.correlations}
    shown = dict(zip(table.column("setting"), table.column("in earlier"), strict=True))
    assert shown == {name: told[name] for name in shown} and shown
    assert "In earlier: NDCG@10, 6 trials." in table.note
