import pytest

from recsys.errors import ConfigError
from sweeps.record import Constraint, Objective
from sweeps.settings import build_settings, parse_constraint, parse_objective

RATE = "training.learning_rate"
SPACE = {RATE: {"float": [0.001, 0.1]}}


def settings(**given):
    given = {"objectives": [Objective("ndcg@10")]} | given
    return build_settings(space=SPACE, base={}, epoch_metrics=("ndcg@10", "recall@10"), **given)


def test_costs_are_made_small_and_metrics_large_unless_said_otherwise():
    assert parse_objective("ndcg@10") == Objective("ndcg@10", "maximize")
    assert parse_objective("model_bytes") == Objective("model_bytes", "minimize")
    assert parse_objective("popularity_lift@10") == Objective("popularity_lift@10", "minimize")
    assert parse_objective("train_seconds:maximize") == Objective("train_seconds", "maximize")


def test_a_direction_must_be_one_of_two():
    with pytest.raises(ConfigError, match="must be maximize or minimize, got 'up'"):
        parse_objective("ndcg@10:up")


def test_constraints_are_bounds_from_above_or_below():
    assert parse_constraint("train_seconds<=60") == Constraint("train_seconds", maximum=60.0)
    assert parse_constraint(" coverage@10 >= 0.2") == Constraint("coverage@10", minimum=0.2)


@pytest.mark.parametrize("text", ["train_seconds<60", "60", "a<=b", "", "a<=1<=2"])
def test_a_constraint_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="a constraint must be such as"):
        parse_constraint(text)


def test_one_objective_that_every_epoch_has_is_pruned_by_the_median():
    assert settings().pruner == "median"
    assert settings().pruning_metric == "ndcg@10"


@pytest.mark.parametrize(
    "objectives",
    [
        [Objective("ndcg@10"), Objective("model_bytes", "minimize")],
        [Objective("cold_items_ndcg@10")],
    ],
)
def test_what_epochs_cannot_tell_is_not_pruned(objectives):
    assert settings(objectives=objectives).pruner == "none"
    with pytest.raises(ConfigError, match="'pruner' must be none with objectives"):
        settings(objectives=objectives, pruner="asha")


def test_an_objective_is_named_once():
    with pytest.raises(ConfigError, match="must name a metric once"):
        settings(objectives=[Objective("ndcg@10"), Objective("ndcg@10", "minimize")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "tpee"}, "'sampler': must be one of tpe, random, .*, got 'tpee'"),
        ({"sampler": "optunahub:"}, "'sampler': must be one of"),
        ({"n_trials": 0}, "'n_trials'"),
        ({"user_share": 1.5}, "'user_share'"),
        ({"hours": 0}, "'hours'"),
        ({"stop": True, "finalists": 0}, "'stop' must be given with a single objective"),
        ({"promoted": 3}, "'promoted' has a meaning only with 'user_share'"),
        ({"sampler": "grid", "start": ({RATE: 0.01},)}, "'sampler' must be another than grid"),
        ({"sampler": "grid", "warm_from": ("earlier",)}, "'sampler' must be another than grid"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        settings(**given)
    assert "\n" not in str(caught.value)


def test_a_third_is_promoted_unless_said_otherwise():
    assert settings(user_share=0.2, n_trials=10).promoted == 4
    assert settings(user_share=0.2, n_trials=10, promoted=99).promoted == 10


def test_more_trials_or_workers_are_the_same_sweep_and_another_seed_is_not():
    digest = settings().digest("data")
    assert settings(n_trials=99, workers=7, finalists=1).digest("data") == digest
    others = [{"seed": 1}, {"sampler": "random"}, {"start": ({RATE: 0.01},)}, {"warm_from": ("a",)}]
    assert digest not in [settings(**other).digest("data") for other in others]
    assert settings().digest("other data") != digest


def test_hours_alone_bound_the_trials_and_both_do_together():
    assert settings().n_trials == 30
    assert settings(hours=2.0).n_trials is None
    assert settings(hours=2.0).seconds == 7200
    assert settings(hours=2.0, n_trials=9).most_trials == 9
    assert settings(hours=2.0).digest("data") == settings(stop=False).digest("data")


@pytest.mark.parametrize(
    ("given", "stops"),
    [
        ({}, True),
        ({"stop": False}, False),
        ({"finalists": 0}, False),
        ({"finalist_seeds": 1}, False),
        ({"user_share": 0.5}, False),
        ({"sampler": "grid"}, False),
        ({"sampler": "grid", "stop": True}, True),
        ({"n_trials": 21}, False),  # a forecast takes as many
        ({"n_trials": 21, "sampler": "random"}, True),
    ],
)
def test_a_search_may_end_in_noise_where_that_can_be_told(given, stops):
    assert settings(**given).stops == stops
