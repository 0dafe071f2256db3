import dataclasses

import pytest

from sweeps.importances import importances_of


def test_the_setting_that_decides_comes_first(make_sweep):
    (found,) = importances_of(make_sweep(("complete",) * 60))
    assert next(iter(found.values)) == "training.learning_rate"
    assert sum(found.values.values()) == pytest.approx(1)
    assert found.reason is None


def test_a_setting_with_a_condition_is_among_them(make_sweep):
    (found,) = importances_of(make_sweep(("complete",) * 60))
    assert "training.weight_decay" in found.values


def test_each_objective_has_its_own(two_objectives):
    value, size = importances_of(two_objectives)
    assert (value.metric, size.metric) == ("ndcg@10", "model_bytes")
    assert value.values != size.values


def test_less_is_better_where_the_objective_says_so(make_sweep):
    record = make_sweep(("complete",) * 40)
    turned = tuple(
        dataclasses.replace(trial, values=(-trial.values[0],)) for trial in record.trials
    )
    objectives = (dataclasses.replace(record.objectives[0], direction="minimize"),)
    mirrored = dataclasses.replace(record, trials=turned, objectives=objectives)
    assert importances_of(mirrored)[0].values == importances_of(record)[0].values


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (("pruned",) * 12, "every trial was pruned"),
        (("failed",) * 3, "no trial was completed"),
        (("complete",) * 9, "it takes 10 completed trials, and there are 9"),
        ((), "no trial was completed"),
    ],
)
def test_where_there_are_none_the_reason_is_given(make_sweep, states, reason):
    (found,) = importances_of(make_sweep(states))
    assert found.values == {}
    assert reason in found.reason


def test_equal_values_say_nothing(make_sweep):
    record = make_sweep()
    equal = tuple(dataclasses.replace(trial, values=(0.1,)) for trial in record.trials)
    (found,) = importances_of(dataclasses.replace(record, trials=equal))
    assert found.reason == "all completed trials have the same value"


def test_a_default_outside_the_space_is_no_obstacle(make_sweep):
    record = make_sweep()
    outside = record.trials[0].params | {"training.learning_rate": 0.5}
    trials = (dataclasses.replace(record.trials[0], params=outside), *record.trials[1:])
    (found,) = importances_of(dataclasses.replace(record, trials=trials))
    assert found.values
