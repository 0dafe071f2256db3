"""Sweeps whose space names starting points."""

from sweeps.tables import trials_table

RATE, STEPS = "training.learning_rate", "training.warmup_steps"
POINTS = [{RATE: 0.03, STEPS: 1}, {STEPS: 4}]


def run_by(session):
    return session.main.records()


def test_starting_points_are_run_after_the_default_and_once(open_sweep, work, space):
    session = open_sweep(name="points", space=space | {"start": POINTS}, n_trials=2)
    assert work(session) == 2
    again = open_sweep(name="points", n_trials=4)
    assert work(again) == 2
    trials = run_by(again)
    assert [trial.origin for trial in trials] == ["default", "start 1", "start 2", None]
    assert trials[1].params == POINTS[0]
    assert trials[2].params[STEPS] == 4 and RATE in trials[2].params  # what is left out is drawn
    record = again.record("running")
    assert trials_table(record).column("what") == ["default", "start 1", "start 2", None]
    assert record.settings["start"] == POINTS


def test_the_best_of_an_earlier_sweep_follow_the_starting_points(open_sweep, work, space):
    earlier = open_sweep(name="earlier", n_trials=3)
    work(earlier)
    earlier.record("finished").write(earlier.directory.path)
    best = earlier.record("finished").ranked()[0].params
    points = [POINTS[0], best, POINTS[0]]  # each configuration is run once
    session = open_sweep(
        name="later",
        space=space | {"start": points},
        warm_from=[str(earlier.directory.path)],
        n_trials=6,
    )
    work(session)
    origins = [trial.origin for trial in run_by(session)]
    assert origins[1] == "start 1" and origins.count("start 1") == 1 and "start 3" not in origins
    assert "best of earlier" in origins[2:]
    drawn = [str(trial.params) for trial in run_by(session)]
    assert len(set(drawn)) == len(drawn)
