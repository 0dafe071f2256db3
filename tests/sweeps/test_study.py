"""A study as many processes use it: limits, retries, seeds. No model is trained here."""

import numpy as np
import pytest
from optuna.trial import TrialState

from recsys.config import Config
from recsys.errors import ConfigError
from sweeps.record import DEFAULT, Constraint, Objective
from sweeps.settings import build_settings
from sweeps.storage import open_storage
from sweeps.study import (
    ENDED,
    ERROR,
    MOST_EARLY_FAILURES,
    MOST_RETRIES,
    load_kept,
    open_study,
)
from sweeps.trials import RETRY_OF, Notes

SPACE = {
    "x": {"float": [0.0, 1.0]},
    "kind": {"choice": ["a", "b"]},
    "y": {"int": [1, 9], "when": {"kind": "b"}},
}
NOTES = Notes({"m": 0.5}, epochs=2, planned_epochs=3, seconds=1.0, overhead_seconds=0.1)


def settings(**given):
    given = {"objectives": [Objective("m")], "n_trials": 8, "startup_trials": 4} | given
    return build_settings(space=SPACE, base={}, epoch_metrics=("m",), **given)


@pytest.fixture
def studies(tmp_path):
    """Opens the study of a place again, each time as another process would."""

    def build(limit=8, place="one", stage="search", **given):
        storage = open_storage(str(tmp_path / place / "journal.log"))
        base = Config(training={"num_epochs": 5})
        return open_study(storage, "s", stage, settings(**given), base, limit)

    return build


def begun(study):
    """The next trial, as a worker begins it."""
    trial = study.next_trial()
    study.begin(trial, {})
    return trial


def run_one(study, value=None, owner=None):
    """Runs the next trial as a worker does; None where there is none."""
    trial = study.next_trial()
    if trial is None:
        return None
    params = study.begin(trial, {"worker": "w", "owner": owner})
    study.end(trial, "complete", NOTES, [params["x"] if value is None else value])
    return params


def drawn(study):
    """What each configuration of the study drew, in the order of its first attempt."""
    return [study.values_of(t) for t in study.trials() if t.state == TrialState.COMPLETE]


def test_workers_together_run_as_many_trials_as_there_are_places(studies):
    first, second = studies(limit=5), studies(limit=5)
    done = [run_one(each) for _ in range(5) for each in (first, second)]
    assert sum(each is not None for each in done) == 5
    assert first.is_done() and second.is_done()


def test_a_trial_that_completed_without_all_that_it_drew_counts_as_failed(studies):
    study = studies()
    trial = study.next_trial()
    trial.suggest_float("x", 0.0, 1.0)
    study.end(trial, "complete", NOTES, [0.5])
    run_one(study)
    records = study.records()
    assert [record.state for record in records] == ["failed", "complete"]
    assert records[0].values is None


def test_a_running_trial_counts(studies):
    study = studies(limit=1)
    assert study.next_trial() is not None
    assert studies(limit=1).next_trial() is None
    assert not study.is_done()


def test_the_default_is_trial_0_and_draws_nothing(studies):
    study = studies()
    study.queue({"x": 0.25}, **{DEFAULT: ["x"]})
    trial = study.next_trial()
    assert trial.number == 0
    assert study.begin(trial, {}) == {"x": 0.25}  # 'kind' of the default cannot be drawn


def test_a_finalist_is_recorded_with_the_trial_and_seed_that_it_trains(studies):
    study = studies(stage="finalists")
    study.queue({}, trial=5, seed=2, settings={})
    begun(study)
    assert [record.origin for record in study.records()] == ["trial 5 seed 2"]


def run_all(study):
    """Runs what is left of a study; gives it."""
    while run_one(study) is not None:
        pass
    return study


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "nsgaii", "qmc"])
def test_one_seed_draws_the_same_also_where_the_study_is_opened_anew_for_every_trial(
    studies, sampler
):
    whole = drawn(run_all(studies(place="whole", sampler=sampler)))
    while run_one(studies(place="torn", sampler=sampler)) is not None:
        pass
    assert drawn(studies(place="torn")) == whole
    assert len({repr(each) for each in whole}) == 8


def test_another_seed_draws_otherwise(studies):
    one, two = studies(place="one", seed=1), studies(place="two", seed=2)
    assert run_one(one) != run_one(two)


def test_a_lost_trial_is_failed_and_queued_again_with_what_it_drew(studies):
    study = studies()
    trial = study.next_trial()
    params = study.begin(trial, {"worker": "w"})
    assert study.lose(trial.number)
    assert study.trials()[0].state == TrialState.FAIL
    retry = study.next_trial()
    assert retry.user_attrs[RETRY_OF] == 0
    assert study.begin(retry, {"worker": "v"}) == params


def test_a_trial_lost_before_it_drew_draws_what_it_would_have(studies):
    whole = studies(place="whole")
    run_one(whole), run_one(whole)
    study = studies()
    run_one(study)
    assert study.lose(study.next_trial().number)
    run_one(study)
    assert drawn(study) == drawn(whole)


def test_a_loss_takes_no_place_and_no_draw_from_the_others(studies):
    """The same configurations come out, whichever trial was lost and when it was noticed."""
    whole = run_all(studies(place="whole", sampler="random", limit=6))
    study = studies(sampler="random", limit=6)
    run_one(study)
    lost = begun(study)
    run_one(study)
    study.lose(lost.number)
    run_all(study)

    def key(params):
        return sorted(params.items())

    assert sorted(drawn(study), key=key) == sorted(drawn(whole), key=key)


def test_a_loss_that_was_not_queued_again_is_found_later(studies):
    study = studies()
    trial = begun(study)
    study.study.tell(trial.number, state=TrialState.FAIL)  # and then the power went
    study = studies()
    study.queue_lost()
    assert [t.user_attrs.get(RETRY_OF) for t in study.trials()] == [None, 0]
    study.queue_lost()
    assert len(study.trials()) == 2


def test_a_trial_that_ended_cannot_be_lost(studies):
    study = studies()
    run_one(study)
    assert not study.lose(0)
    assert len(study.trials()) == 1


def test_a_configuration_that_kills_its_workers_is_given_up(studies):
    study = studies(limit=1)
    for _ in range(MOST_RETRIES + 1):
        trial = begun(study)
        study.lose(trial.number)
    assert study.next_trial() is None
    assert study.is_done()
    study.queue_lost()
    assert len(study.trials()) == MOST_RETRIES + 1


def test_a_trial_that_failed_by_itself_counts(studies):
    study = studies(limit=2)
    trial = begun(study)
    study.end(trial, "failed", NOTES)
    run_one(study)
    assert study.next_trial() is None and study.is_done()
    assert [record.state for record in study.records()] == ["failed", "complete"]


def test_a_study_in_which_everything_fails_ends_early(studies):
    study = studies(limit=100)
    for _ in range(MOST_EARLY_FAILURES):
        trial = begun(study)
        study.end(trial, "failed", NOTES)
    assert study.next_trial() is None and study.is_done()


def test_two_workers_that_ask_for_the_last_place_get_it_once(studies, monkeypatch):
    """Without a common lock, as between machines: the later one gives its trial up."""
    first, second = studies(limit=1), studies(limit=1)
    trial = first.next_trial()
    monkeypatch.setattr(second, "n_free", lambda: 1)  # as it saw the study a moment before
    assert second.next_trial() is None
    first.begin(trial, {})
    first.end(trial, "complete", NOTES, [0.5])
    assert len(first.records()) == 1 and first.is_done()


def test_a_retry_that_was_queued_twice_is_run_once(studies):
    study = studies(limit=2)
    trial = begun(study)
    study.lose(trial.number)
    study.queue({}, **{RETRY_OF: 0})
    values = []
    while (params := run_one(studies(limit=2))) is not None or not studies(limit=2).is_done():
        values.append(params)
    assert len(studies(limit=2).records()) == 3  # the lost one, its retry, and another


def test_only_trials_whose_process_is_gone_are_lost(studies):
    study = studies()
    for owner in ("dead", "alive"):
        study.begin(study.next_trial(), {"owner": owner})
    found = study.end_lost(lambda trial: trial.user_attrs["begin"]["owner"] == "dead")
    assert [trial.number for trial in found] == [0]
    assert [trial.state.name for trial in study.trials()] == ["FAIL", "RUNNING", "WAITING"]


@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("name", ["median", "percentile", "asha", "hyperband"])
def test_a_hopeless_trial_is_pruned_right_after_its_warm_up_and_the_best_never(
    studies, name, warmup
):
    given = {"pruner_warmup_epochs": warmup, "pruner_startup_trials": 3}
    study = studies(pruner=name, limit=20, sampler="random", **given)
    for value in np.linspace(0.8, 0.9, 9):  # each the best so far
        trial = begun(study)
        assert not any(study.report(trial, epoch, float(value)) for epoch in range(1, 6))
        study.end(trial, "complete", NOTES, [float(value)])
    trial = begun(study)
    ends = [study.report(trial, epoch, 0.1) for epoch in range(1, warmup + 2)]
    assert ends == [False] * warmup + [True]
    study.end(trial, "pruned", NOTES)
    record = study.records()[-1]
    told = dict.fromkeys(range(1, warmup + 2), 0.1)
    assert (record.state, record.values, record.intermediate) == ("pruned", None, told)


def test_a_broken_constraint_leaves_a_trial_infeasible(studies):
    rules = (Constraint("cost", maximum=2.0), Constraint("cover", minimum=0.5))
    study = studies(constraints=rules, limit=3)
    for x, cost in ((0.9, 3.0), (0.4, 1.0), (0.3, 1.0)):
        trial = begun(study)
        study.constrain(trial, {"cost": cost, "cover": 0.7})
        study.end(trial, "complete", NOTES, [x])
    assert study.study.best_trial.value == 0.4
    assert study.study.best_trial.constraints == pytest.approx({"cost<=": -1.0, "cover>=": -0.2})


def test_joining_a_study_that_is_not_there_names_those_that_are(studies):
    study = studies()
    with pytest.raises(ConfigError, match="has no study 'other'; it has s"):
        load_kept(study.storage, "other")
    with pytest.raises(ConfigError, match="was not made by a sweep"):
        load_kept(study.storage, "s")


def test_a_record_says_what_is_known_of_a_trial(studies):
    study = studies(constraints=[Constraint("m", minimum=0.1)])
    trial = study.next_trial()
    study.begin(trial, {"worker": "worker-3", "run_id": "abc"})
    study.end(trial, "complete", NOTES, [0.25])
    (record,) = study.records()
    assert (record.worker, record.mlflow_run_id) == ("worker-3", "abc")
    assert (record.values, record.metrics, record.constraints) == ((0.25,), {"m": 0.5}, {"m": 0.5})
    assert (record.epochs, record.planned_epochs) == (2, 3)
    assert record.started is not None and record.started.endswith("+00:00")


def test_multiple_objectives_are_kept_in_their_order(studies):
    pair = [Objective("m"), Objective("model_bytes", "minimize")]
    study = studies(objectives=pair, limit=3)
    for values in ([0.1, 5.0], [0.2, 9.0], [0.1, 7.0]):
        trial = begun(study)
        study.end(trial, "complete", NOTES, values)
    front = {trial.number for trial in study.study.best_trials}
    assert front == {0, 1}


def test_the_gaussian_process_draws_within_the_space(studies):
    study = run_all(studies(sampler="gp", limit=7, startup_trials=3))
    assert all(0 <= params["x"] <= 1 for params in drawn(study))
    assert np.unique([params["x"] for params in drawn(study)]).size >= 3


# Ending below the limit ---------------------------------------------------------------------------


def run_until_none(study, values):
    done = 0
    for value in values:
        if run_one(study, value) is None:
            break
        done += 1
    return done


def test_a_search_ends_where_what_is_left_is_below_the_error(studies):
    """Values without a trend in 0 to 1: the best of 15 has little to gain in 15 more."""
    values = np.random.default_rng(3).uniform(size=30)
    ends = {}
    for error in (0.0, 0.3):
        study = studies(place=str(error), limit=30, n_trials=30, sampler="random")
        study.keep(ERROR, error)
        ends[error] = run_until_none(study, values)
    assert ends[0.0] == 30
    assert 11 <= ends[0.3] < 30
    end = study.search_end()
    assert (end.why, end.n_trials, end.spared) == ("noise", ends[0.3], 30 - ends[0.3])
    assert end.gain < end.error == 0.3
    assert study.is_done() and study.n_free() == 0


def test_with_the_same_limits_it_stays_ended_and_with_others_it_goes_on(studies):
    values = np.random.default_rng(3).uniform(size=60)
    place = {"place": "here", "sampler": "random"}
    study = studies(limit=30, n_trials=30, **place)
    study.keep(ERROR, 0.3)
    assert run_until_none(study, values) < 30
    study.go_on()
    assert run_one(study) is None
    for changes in ({"limit": 60, "n_trials": 60}, {"limit": 30, "n_trials": 30, "stop": False}):
        again = studies(**place, **changes)
        kept = again.kept()[ENDED]
        again.go_on()
        assert again.kept()[ENDED] is None and not again.is_done()
        again.keep(ENDED, kept)
    again.go_on()
    assert run_until_none(again, values) > 0  # --no-stop runs all
    assert again.search_end().why == "trials"


def test_what_the_user_ended_goes_on(studies):
    study = studies()
    run_one(study)
    study.keep_end(asked=True)
    assert run_one(study) is None and study.search_end().why == "asked"
    again = studies()
    again.go_on()
    assert run_one(again) is not None


def test_hours_end_a_search_and_more_hours_go_on(studies):
    study = studies(hours=1e-9)
    assert run_one(study) is not None
    assert run_one(study) is None
    end = study.search_end()
    assert (end.why, end.n_trials, end.hours) == ("hours", 1, pytest.approx(1e-9))
    assert study.is_done() and study.n_left() == 0
    assert run_one(studies(hours=1.0)) is not None
