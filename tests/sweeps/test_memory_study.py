import dataclasses

from optuna.trial import TrialState

from sweeps.memory_study import memory_study
from sweeps.record import Constraint


def test_trials_keep_their_numbers_though_one_is_missing(make_sweep):
    record = make_sweep()
    record = dataclasses.replace(record, trials=(*record.trials[:3], *record.trials[4:]))
    trials = memory_study(record).get_trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert trials[3].state == TrialState.WAITING
    assert trials[4].value == record.trials[3].values[0]


def test_the_best_trial_of_the_study_is_that_of_the_record(make_sweep):
    record = make_sweep()
    assert memory_study(record).best_trial.number == record.ranked()[0].number


def test_a_list_goes_by_its_json_text(make_sweep):
    drawn = {
        trial.params["model.user_encoder.feature_encoder.hidden_dims"]
        for trial in memory_study(make_sweep()).trials
    }
    assert drawn == {"[64]", "[192, 96]"}


def test_one_objective_can_be_kept_alone(two_objectives):
    study = memory_study(two_objectives, 1)
    assert [t.value for t in study.trials] == [t.values[1] for t in two_objectives.trials]
    assert study.direction.name == "MINIMIZE"


def test_broken_constraints_are_above_zero(two_objectives):
    violations = [
        trial.constraints["train_seconds"] for trial in memory_study(two_objectives).trials
    ]
    assert violations == [0.0] * 7 + [1.0] * 5


def test_a_space_that_is_unknown_is_guessed_from_the_values(make_sweep):
    record = make_sweep(space={})
    trials = memory_study(record).trials
    assert [trial.params["training.learning_rate"] for trial in trials] == [
        trial.params["training.learning_rate"] for trial in record.trials
    ]


def test_a_constraint_never_measured_counts_as_broken(make_sweep):
    record = make_sweep(constraints=(Constraint("model_bytes", maximum=1.0),))
    assert memory_study(record).trials[0].constraints["model_bytes"] == 1.0
