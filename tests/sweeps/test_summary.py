import dataclasses

import pytest

from sweeps.findings import Finalist, Finalists, TestLook
from sweeps.summary import key_table
from tests.sweeps.trials import with_trials


@pytest.fixture
def sweep(make_sweep):
    """Three trials, the last the best."""
    values = (0.1, 0.2, 0.3)
    return with_trials(
        make_sweep(("complete",) * 3), lambda trial: {"values": (values[trial.number],)}
    )


def finalists(winner, *means):
    """A last round with the given means by trial."""
    rows = tuple(
        Finalist(trial, {}, trial == 0, None, (mean,), mean, None) for trial, mean in means
    )
    return Finalists("ndcg@10", "maximize", (1,), rows, winner, None, (), "", None)


def test_before_there_is_a_winner_the_best_trial_stands_beside_default_and_popularity(sweep):
    table = key_table(sweep)
    assert table.columns == ("metric", "best so far", "default", "popularity")
    assert table.rows == (("ndcg@10 on validation", 0.3, 0.1, 0.05),)


def test_a_sweep_without_a_trial_yet_shows_popularity_alone(make_sweep):
    (row,) = key_table(make_sweep(())).rows
    assert row == ("ndcg@10 on validation", None, None, 0.05)


def test_the_winners_values_are_those_of_the_last_round(sweep):
    look = TestLook(
        "2026-01-02T04:00:00+00:00",
        "finalists",
        trial=1,
        metrics={"ndcg@10": 0.15},
        baselines={"default": {"ndcg@10": 0.08}, "popularity": {"ndcg@10": 0.04}},
    )
    ended = dataclasses.replace(
        sweep, finalists=finalists(1, (1, 0.25), (2, 0.22), (0, 0.12)), test_looks=(look,)
    )
    table = key_table(ended)
    assert table.columns[1] == "winner"
    assert table.rows == (
        ("ndcg@10 on validation", 0.25, 0.12, 0.05),
        ("ndcg@10 on test, one fresh seed", 0.15, 0.08, 0.04),
    )


def test_a_default_that_wins_has_the_winners_value_on_test(sweep):
    look = TestLook("2026-01-02T04:00:00+00:00", "finalists", trial=0, metrics={"ndcg@10": 0.15})
    ended = dataclasses.replace(sweep, finalists=finalists(0, (0, 0.12)), test_looks=(look,))
    assert key_table(ended).rows[1] == ("ndcg@10 on test, one fresh seed", 0.15, 0.15, None)
