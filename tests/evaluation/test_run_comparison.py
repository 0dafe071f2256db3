import dataclasses
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from recsys.errors import DataError
from recsys.evaluation.bootstrap import bootstrap_intervals
from recsys.evaluation.run_comparison import (
    TAIL_ITEMS,
    Method,
    RunValues,
    compare_runs,
    paired_effect_size,
    same_users,
)
from recsys.evaluation.significance import compare

TESTED = ("ndcg@10", "recall@10")
METHOD = Method(tested=TESTED, n_samples=500)


def a_run(name, ndcg, *, recall=None, segment=None, n_train=None, fingerprint="sha256:a", ids=None):
    """A run with the given NDCG@10 of each user."""
    n = len(ndcg)
    frame = pd.DataFrame(
        {
            "user_id": [f"r{number:05d}" for number in range(n)] if ids is None else ids,
            "n_train": np.full(n, 10) if n_train is None else n_train,
            "segment": np.full(n, "tail") if segment is None else segment,
            "ndcg@10": np.asarray(ndcg, dtype=float),
            "recall@10": np.asarray(ndcg if recall is None else recall, dtype=float),
            "novelty@10": np.linspace(0, 1, n),
        }
    )
    return RunValues(name, fingerprint, frame)


@pytest.fixture
def reference():
    return a_run("reference", np.random.default_rng(0).uniform(0.2, 0.4, size=600))


def shifted(reference, by, name="other"):
    """The same run with its NDCG moved by ``by`` for each user."""
    values = reference.per_user
    return a_run(name, values["ndcg@10"] + by, recall=values["recall@10"])


def test_a_run_that_is_better_by_three_points_is_found_so(reference):
    noise = np.random.default_rng(1).normal(0, 0.05, size=600)
    other = shifted(reference, 0.03 + noise - noise.mean())
    (pair,) = compare_runs(reference, [other], METHOD)
    low, high = pair.headline.interval_points
    assert pair.headline.verdict == "better"
    assert pair.headline.points == pytest.approx(3.0)
    assert low < 3.0 < high
    # A mean of 600 normal differences: 3 ± 1.96 * 5 / sqrt(600) points.
    assert (low, high) == pytest.approx((3 - 0.4, 3 + 0.4), abs=0.06)
    assert pair.headline.effect_size == pytest.approx(0.03 / noise.std(ddof=1))


def test_the_same_run_turned_round_is_worse_by_as_much(reference):
    other = shifted(reference, 0.03 + np.random.default_rng(1).normal(0, 0.05, size=600))
    (forth,) = compare_runs(reference, [other], METHOD)
    (back,) = compare_runs(other, [reference], METHOD)
    assert (forth.headline.verdict, back.headline.verdict) == ("better", "worse")
    assert back.headline.points == pytest.approx(-forth.headline.points)
    assert (forth.headline.n_better, forth.headline.n_worse) == (
        back.headline.n_worse,
        back.headline.n_better,
    )


def test_a_run_against_its_equal_is_alike_and_not_tested_into_a_finding(reference):
    (pair,) = compare_runs(reference, [shifted(reference, 0.0)], METHOD)
    assert pair.headline.verdict == "alike"
    assert (pair.headline.points, pair.headline.p_corrected) == (0.0, 1.0)
    assert pair.headline.effect_size == 0.0


def test_where_nothing_differs_findings_are_as_rare_as_promised():
    """200 comparisons of 2 runs on 2 metrics each: any finding in at most 5% of them.

    P(more than 20 of 200 at 5%) is below 0.001 (binomial).
    """
    rng = np.random.default_rng(7)
    method = dataclasses.replace(METHOD, n_samples=10)
    found = 0
    for _ in range(200):
        reference, *others = (
            a_run(name, rng.normal(size=40), recall=rng.normal(size=40)) for name in "abc"
        )
        pairs = compare_runs(reference, others, method)
        verdicts = {each.verdict for pair in pairs for each in pair.tested}
        found += bool(verdicts & {"better", "worse"})
    assert found <= 20


def test_all_metrics_of_all_runs_are_one_family(reference):
    """Holm over p-values sorted up: the i-th of m is multiplied by m - i, never falling."""
    rng = np.random.default_rng(3)
    others = [
        shifted(reference, by + rng.normal(0, 0.1, size=600), name)
        for name, by in (("a", 0.004), ("b", 0.008))
    ]
    for other in others:
        other.per_user["recall@10"] += rng.normal(0.003, 0.1, size=600)
    pairs = compare_runs(reference, others, METHOD)
    tests = [each for pair in pairs for each in pair.tested]
    raw = sorted(each.comparison.p_value for each in tests)
    expected, highest = {}, 0.0
    for place, p_value in enumerate(raw):
        highest = max(highest, min(1.0, p_value * (4 - place)))
        expected[p_value] = highest
    assert len(tests) == 4
    assert [each.p_corrected for each in tests] == pytest.approx(
        [expected[each.comparison.p_value] for each in tests]
    )


def test_what_is_measured_of_a_pair_does_not_depend_on_the_other_runs(reference):
    first, second = shifted(reference, 0.01, "a"), shifted(reference, 0.02, "b")
    alone = compare_runs(reference, [second], METHOD)[0].headline
    beside = compare_runs(reference, [first, second], METHOD)[1].headline
    assert alone.comparison == beside.comparison


def test_the_same_input_gives_the_same_numbers(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    assert compare_runs(reference, [other], METHOD) == compare_runs(reference, [other], METHOD)


def test_the_order_of_rows_does_not_matter(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    turned = dataclasses.replace(other, per_user=other.per_user.iloc[::-1])
    assert compare_runs(reference, [other], METHOD) == compare_runs(reference, [turned], METHOD)


def test_readers_are_paired_by_their_id():
    """Each user is better by one: wrongly paired, half of them would be worse."""
    reference = a_run("reference", [0, 10, 20, 30])
    other = a_run("other", [31, 21, 11, 1], ids=["r00003", "r00002", "r00001", "r00000"])
    (pair,) = compare_runs(reference, [other], METHOD)
    assert (pair.headline.n_better, pair.headline.n_worse) == (4, 0)
    assert pair.headline.points == 100.0


def test_a_difference_in_one_segment_is_found_there_alone():
    rng = np.random.default_rng(5)
    segment = np.repeat(["cold", "tail", "head"], 200)
    reference = a_run("reference", rng.uniform(size=600), segment=segment)
    by = np.where(segment == "cold", -0.05, 0.0) + rng.normal(0, 0.05, size=600)
    other = shifted(reference, by)
    (pair,) = compare_runs(reference, [other], METHOD)
    assert {each.segment: each.verdict for each in pair.segments} == {
        "cold": "worse",
        "tail": "undecided",
        "head": "undecided",
    }
    assert [each.comparison.n for each in pair.segments] == [200, 200, 200]


def test_the_unseen_stand_apart_where_they_are_a_part_of_the_cold():
    n_train = np.array([0, 1, 1, 9])
    segment = np.array(["cold", "cold", "cold", "tail"])
    reference = a_run("reference", [0.0, 0, 0, 0], segment=segment, n_train=n_train)
    other = a_run("other", [1.0, 0, 0, 0], segment=segment, n_train=n_train)
    (pair,) = compare_runs(reference, [other], METHOD)
    assert [(each.segment, each.comparison.n) for each in pair.segments] == [
        *(("cold", 3), ("unseen", 1), ("tail", 1))
    ]


def test_what_is_found_of_books_outside_the_head_is_a_segment():
    """Two of three users have such an item; the second run finds one more of them."""
    reference, other = a_run("reference", [0.5] * 3), a_run("other", [0.5] * 3)
    reference.per_user["tail_items_ndcg@10"] = [0.0, 0.0, np.nan]
    other.per_user["tail_items_ndcg@10"] = [0.0, 1.0, np.nan]
    method = dataclasses.replace(METHOD, has_tail_items=True)
    (pair,) = compare_runs(reference, [other], method)
    found = pair.segments[-1]
    assert (found.segment, found.metric) == (TAIL_ITEMS, "ndcg@10")
    assert (found.comparison.n, found.points) == (2, 50.0)


def test_metrics_that_are_only_shown_are_no_part_of_the_family(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    method = dataclasses.replace(METHOD, shown=("novelty@10",))
    (pair,) = compare_runs(reference, [other], method)
    assert math.isnan(pair.shown[0].p_corrected)
    assert compare_runs(reference, [other], METHOD)[0].tested == pair.tested


def test_a_metric_that_is_shown_has_its_means_and_interval_over_users_with_both_values():
    reference, other = a_run("reference", np.zeros(5)), a_run("other", np.zeros(5))
    mine, theirs = [0.1, 0.2, np.nan, 0.4, 0.5], [0.3, 0.1, 0.7, np.nan, 0.9]
    reference.per_user["novelty@10"], other.per_user["novelty@10"] = mine, theirs
    reference.per_user["empty"] = other.per_user["empty"] = np.nan
    method = dataclasses.replace(METHOD, shown=("novelty@10", "empty"), confidence=0.8, seed=3)
    (pair,) = compare_runs(reference, [other], method)
    found, empty = pair.shown
    differences = np.subtract(theirs, mine)
    intervals = bootstrap_intervals(
        {"d": differences}, n_samples=500, confidence=0.8, rng=np.random.default_rng(3)
    )
    assert (found.metric, found.segment, found.confidence) == ("novelty@10", None, 0.8)
    assert found.comparison.n == 3 and found.comparison.interval == pytest.approx(intervals["d"])
    means = (found.comparison.first, found.comparison.second)
    assert means == pytest.approx((1.3 / 3, 0.8 / 3))
    assert (found.n_better, found.n_worse) == (2, 1)
    assert empty.metric == "empty" and empty.comparison.n == 0
    assert np.isnan(empty.comparison.interval).tolist() == [True, True]


def test_a_test_takes_its_level_and_its_resamples_from_the_method(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    method = dataclasses.replace(METHOD, confidence=0.5, n_samples=70)
    (pair,) = compare_runs(reference, [other], method)
    sides = (run.per_user["ndcg@10"].to_numpy() for run in (other, reference))
    wanted = compare(*sides, rng=np.random.default_rng(0), n_samples=70, confidence=0.5)
    assert pair.headline.metric == "ndcg@10" and pair.headline.confidence == 0.5
    assert pair.headline.comparison.interval == pytest.approx(wanted.interval)


def test_a_reader_without_a_value_is_left_out():
    reference, other = a_run("reference", [0.0, 0.0, np.nan]), a_run("other", [1.0, 3.0, 5.0])
    (pair,) = compare_runs(reference, [other], METHOD)
    assert (pair.headline.comparison.n, pair.headline.points) == (2, 200.0)


def test_a_metric_that_no_reader_has_gives_no_verdict():
    reference, other = a_run("reference", [np.nan] * 3), a_run("other", [1.0, 2.0, 3.0])
    (pair,) = compare_runs(reference, [other], METHOD)
    assert pair.headline.verdict == "no users"


def test_other_data_are_refused_with_both_fingerprints(reference):
    other = dataclasses.replace(reference, name="other", fingerprint="sha256:b")
    with pytest.raises(DataError, match="'reference' has sha256:a, 'other' has sha256:b"):
        compare_runs(reference, [other], METHOD)


def test_other_test_users_are_refused_with_their_number(reference):
    frame = reference.per_user.iloc[:590].copy()
    frame.loc[:2, "user_id"] = ["x", "y", "z"]
    other = dataclasses.replace(reference, name="other", per_user=frame)
    with pytest.raises(DataError, match=r"13 of the 600 of 'reference'.* which has 3 others"):
        same_users(reference, other)


def test_a_user_named_twice_is_refused(reference):
    frame = pd.concat([reference.per_user, reference.per_user.iloc[:1]])
    with pytest.raises(DataError, match="'other': its per-user metrics must name every user once"):
        same_users(reference, dataclasses.replace(reference, name="other", per_user=frame))


def test_a_metric_that_a_run_lacks_is_named(reference):
    other = dataclasses.replace(
        reference, name="other", per_user=reference.per_user.drop(columns="recall@10")
    )
    with pytest.raises(DataError, match="'other': must have the metric 'recall@10'"):
        compare_runs(reference, [other], METHOD)


def test_the_effect_size_is_mean_over_spread():
    """Differences 1, 3: mean 2, standard deviation sqrt(((1-2)^2 + (3-2)^2) / 1)."""
    assert paired_effect_size(np.array([1.0, 3.0])) == pytest.approx(2 / math.sqrt(2))


@pytest.mark.parametrize(("given", "size"), [([0.0, 0.0], 0.0), ([1.0, 1.0], None), ([1.0], None)])
def test_an_effect_size_without_spread_is_zero_or_unknown(given, size):
    found = paired_effect_size(np.array(given))
    assert found == size if size is not None else math.isnan(found)


def test_p_values_of_few_users_are_those_of_all_sign_patterns():
    """Five differences: as far from zero as the sum seen are so many of the 32 patterns."""
    differences = [1.0, 2.0, -0.5, 3.0, 1.5]
    (pair,) = compare_runs(a_run("reference", [0.0] * 5), [a_run("other", differences)], METHOD)
    sums = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in product((-1, 1), repeat=5)
    ]
    expected = sum(abs(total) >= sum(differences) for total in sums) / 32
    assert pair.headline.comparison.p_value == expected
