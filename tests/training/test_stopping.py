import math

from recsys.training.stopping import EarlyStopping


def updates(stopping, values):
    return [stopping.update(number, value) for number, value in enumerate(values, start=1)]


def test_patience_counts_epochs_since_the_best():
    stopping = EarlyStopping(patience=2)
    assert updates(stopping, [0.1, 0.3, 0.2]) == [True, True, False]
    assert not stopping.should_stop
    assert updates(stopping, [0.3]) == [False]
    assert stopping.should_stop and stopping.best_epoch == 2


def test_a_gain_up_to_min_delta_does_not_count():
    stopping = EarlyStopping(patience=1, min_delta=0.25)
    assert updates(stopping, [1.0, 1.25, 1.5]) == [True, False, True]


def test_without_patience_it_never_stops():
    stopping = EarlyStopping(patience=None)
    updates(stopping, [1.0] + [0.0] * 100)
    assert not stopping.should_stop


def test_without_a_metric_the_latest_epoch_is_the_best():
    stopping = EarlyStopping(patience=1)
    assert updates(stopping, [None, None, None]) == [True, True, True]
    assert stopping.best_epoch == 3 and not stopping.should_stop


def test_nan_is_never_better_and_any_number_is_better_than_nan():
    stopping = EarlyStopping(patience=3)
    assert updates(stopping, [math.nan, math.nan, 0.0, math.nan]) == [True, False, True, False]
    assert stopping.best_epoch == 3 and stopping.best == 0.0
