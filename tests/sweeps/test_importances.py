import dataclasses
import re

import numpy as np
import pytest
from scipy import stats

from recsys.reporting.markdown import render_markdown
from sweeps.findings import EarlierSweep
from sweeps.importances import importances_of
from sweeps.record import Objective, SweepRecord, TrialRecord
from sweeps.report import build_sweep_report
from sweeps.tables import sweep_tables
from tests.sweeps.trials import with_default, with_trials


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
    turned = dataclasses.replace(record, objectives=(Objective("ndcg@10", "minimize"),))
    mirrored = with_trials(turned, lambda trial: {"values": (-trial.values[0],)})
    assert importances_of(mirrored)[0].values == importances_of(record)[0].values


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (("failed",) * 12, "it takes 4 trials with a value, and there are 0"),
        (("complete",) * 2 + ("pruned", "failed"), "it takes 4 trials with a value, .* are 3"),
        ((), "it takes 4 trials"),
    ],
)
def test_where_there_are_none_the_reason_is_given(make_sweep, states, reason):
    (found,) = importances_of(make_sweep(states))
    assert found.values == {} and found.correlations == ()
    assert re.match(reason, found.reason)


def test_pruned_trials_count_by_the_last_value_that_they_reported(make_sweep):
    """The same as if each had been completed with it."""
    record = make_sweep(("complete", "pruned", "pruned") * 12)
    completed = with_trials(
        record, lambda trial: {"state": "complete", "values": (trial.last_value(),)}
    )
    (found,) = importances_of(record)
    assert found.n_trials == 36 and found.reason is None
    assert found.values == importances_of(completed)[0].values
    (pruned,) = importances_of(make_sweep(("pruned",) * 12))
    assert pruned.values and pruned.reason is None


def line(n, direction="maximize"):
    """``n`` trials whose value is the rate; a choice is the second of two in the better half."""
    trials = tuple(
        TrialRecord(
            number,
            "complete" if number % 2 else "pruned",
            params={"rate": number + 1, "kind": "b" if 2 * number >= n else "a", "one": 1},
            epochs=2,
            values=(float(number),) if number % 2 else None,
            intermediate={1: 99.0, 2: float(number)},
        )
        for number in range(n)
    )
    space = {"rate": {"int": [1, 99]}, "kind": {"choice": ["a", "b"]}}
    return SweepRecord(
        "line", "finished", "", {}, space, (Objective("m", direction),), n, trials=trials
    )


def test_few_trials_have_rank_correlations_with_intervals(make_sweep):
    (found,) = importances_of(line(9))
    assert found.values == {} and found.reason is None
    assert found.evaluator == "Spearman's rank correlation"
    rate, kind = found.correlations
    assert (rate.setting, rate.value, rate.rho, rate.n_trials) == ("rate", None, 1.0, 9)
    assert (kind.setting, kind.value) == ("kind", "b")
    ranks = stats.spearmanr([0] * 5 + [1] * 4, range(9)).statistic
    assert kind.rho == pytest.approx(ranks)
    half = 1.959964 * np.sqrt(1.06 / 6)
    ends = np.tanh([np.arctanh(ranks) - half, np.arctanh(ranks) + half])
    assert (kind.low, kind.high) == pytest.approx(tuple(ends), rel=1e-5)
    (less,) = importances_of(line(9, "minimize"))
    assert [each.rho for each in less.correlations] == pytest.approx([-1, -ranks])
    report = render_markdown(build_sweep_report(line(9)), "")
    assert "Rank correlations stand in for importances here" in report
    assert "shares of importance take 10 trials, and there are 9" in report
    assert "kind = b" in report


def test_of_a_choice_of_three_each_value_stands_against_the_others():
    record = with_trials(line(9), lambda trial: {"params": {"kind": "xyz"[trial.number // 3]}})
    (found,) = importances_of(record)
    rho = {each.value: each.rho for each in found.correlations}
    assert rho["x"] == pytest.approx(-rho["z"]) and rho["z"] > 0.8
    assert rho["y"] == pytest.approx(0, abs=1e-12)


def test_intervals_of_correlations_hold_none_where_there_is_none():
    """Of 300 settings without an effect, about 95% have an interval with 0 in it."""
    rng = np.random.default_rng(0)
    trials = tuple(
        TrialRecord(
            number,
            "complete",
            params={f"s{k}": float(rng.normal()) for k in range(300)},
            values=(float(rng.normal()),),
        )
        for number in range(9)
    )
    (found,) = importances_of(dataclasses.replace(line(9), trials=trials))
    held = np.mean([each.low <= 0 <= each.high for each in found.correlations])
    assert 0.91 <= held <= 0.99  # three standard errors and a little


def test_equal_values_say_nothing(make_sweep):
    (found,) = importances_of(with_trials(make_sweep(), lambda _: {"values": (0.1,)}))
    assert found.reason == "all trials have the same value"


def test_a_default_outside_the_space_is_no_obstacle(make_sweep):
    (found,) = importances_of(with_default(make_sweep(), **{"training.learning_rate": 0.5}))
    assert found.values


def test_shares_of_an_earlier_sweep_are_not_put_beside_correlations(make_sweep):
    shares, few = importances_of(make_sweep())[0], importances_of(make_sweep(("complete",) * 5))[0]
    assert shares.values and few.correlations
    for found, others in ((shares, few), (few, shares)):
        alike, unlike = EarlierSweep("same", found), EarlierSweep("other", others)
        record = make_sweep(importances=(found,), earlier=(alike, unlike))
        table = sweep_tables(record)["importances_ndcg_10"]
        first, second = table.columns[1], "in same"
        assert table.column(first) == table.column(second) and "in other" not in table.columns
        assert "other has none to compare" in table.note
