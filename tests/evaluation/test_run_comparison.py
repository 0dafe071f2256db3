import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.bootstrap import bootstrap_intervals
from recsys.evaluation.run_comparison import TAIL_ITEMS, Method, PairedValues, compare_runs
from recsys.evaluation.significance import compare

METHOD = Method(tested=("ndcg@10", "recall@10"), n_samples=500)


def values_of(ndcg, *, recall=None, segment="tail", n_train=10):
    """A run with the given NDCG@10 of each user."""
    return pd.DataFrame(
        {
            "n_train": n_train,
            "segment": segment,
            "ndcg@10": np.asarray(ndcg, dtype=float),
            "recall@10": np.asarray(ndcg if recall is None else recall, dtype=float),
            "novelty@10": np.linspace(0, 1, len(ndcg)),
        }
    )


@pytest.fixture
def reference():
    return values_of(np.random.default_rng(0).uniform(0.2, 0.4, size=600))


def shifted(reference, by):
    """The same run with its NDCG moved by ``by`` for each user."""
    return values_of(reference["ndcg@10"] + by, recall=reference["recall@10"])


def against(reference, *others, method=METHOD):
    pairs = [PairedValues(f"run {n}", other, reference) for n, other in enumerate(others)]
    return compare_runs(pairs, method)


def test_a_run_that_is_better_by_three_points_is_found_so(reference):
    noise = np.random.default_rng(1).normal(0, 0.05, size=600)
    other = shifted(reference, 0.03 + noise - noise.mean())
    (pair,) = against(reference, other)
    low, high = pair.headline.interval_points
    assert pair.headline.verdict == "better"
    assert pair.headline.points == pytest.approx(3.0)
    assert low < 3.0 < high
    # A mean of 600 normal differences: 3 ± 1.96 * 5 / sqrt(600) points.
    assert (low, high) == pytest.approx((3 - 0.4, 3 + 0.4), abs=0.06)
    assert pair.headline.comparison.effect_size == pytest.approx(0.03 / noise.std(ddof=1))


def test_the_same_run_turned_round_is_worse_by_as_much(reference):
    other = shifted(reference, 0.03 + np.random.default_rng(1).normal(0, 0.05, size=600))
    (forth,) = against(reference, other)
    (back,) = against(other, reference)
    assert (forth.headline.verdict, back.headline.verdict) == ("better", "worse")
    assert back.headline.points == pytest.approx(-forth.headline.points)
    first, second = forth.headline.comparison, back.headline.comparison
    assert (first.n_better, first.n_worse) == (second.n_worse, second.n_better)


def test_a_run_against_its_equal_is_alike_and_not_tested_into_a_finding(reference):
    (pair,) = against(reference, shifted(reference, 0.0))
    assert (pair.name, pair.headline.verdict) == ("run 0", "alike")
    assert (pair.headline.points, pair.headline.p_corrected) == (0.0, 1.0)
    assert pair.headline.comparison.effect_size == 0.0


def test_where_nothing_differs_findings_are_as_rare_as_promised():
    """200 comparisons of 2 runs on 2 metrics each: any finding in at most 5% of them.

    P(more than 20 of 200 at 5%) is below 0.001 (binomial).
    """
    rng = np.random.default_rng(7)
    method = dataclasses.replace(METHOD, n_samples=10)
    found = 0
    for _ in range(200):
        reference, *others = (
            values_of(rng.normal(size=40), recall=rng.normal(size=40)) for _ in range(3)
        )
        pairs = against(reference, *others, method=method)
        verdicts = {each.verdict for pair in pairs for each in pair.tested}
        found += bool(verdicts & {"better", "worse"})
    assert found <= 20


def test_all_metrics_of_all_runs_are_one_family(reference):
    """Holm over p-values sorted up: the i-th of m is multiplied by m - i, never falling."""
    rng = np.random.default_rng(3)
    others = [shifted(reference, by + rng.normal(0, 0.1, size=600)) for by in (0.004, 0.008)]
    for other in others:
        other["recall@10"] += rng.normal(0.003, 0.1, size=600)
    pairs = against(reference, *others)
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
    rng = np.random.default_rng(2)
    first, second = (shifted(reference, rng.normal(size=600)) for _ in range(2))
    alone = against(reference, second)[0].headline
    beside = against(reference, first, second)[1].headline
    assert alone.comparison == beside.comparison


def test_a_difference_in_one_segment_is_found_there_alone():
    rng = np.random.default_rng(5)
    segment = np.repeat(["cold", "tail", "head"], 200)
    reference = values_of(rng.uniform(size=600), segment=segment)
    by = np.where(segment == "cold", -0.05, 0.0) + rng.normal(0, 0.05, size=600)
    other = shifted(reference, by)
    (pair,) = against(reference, other)
    assert {each.segment: each.verdict for each in pair.segments} == {
        "cold": "worse",
        "tail": "undecided",
        "head": "undecided",
    }
    assert [each.comparison.n for each in pair.segments] == [200, 200, 200]


def test_the_unseen_stand_apart_where_they_are_a_part_of_the_cold():
    n_train = np.array([0, 1, 1, 9])
    segment = np.array(["cold", "cold", "cold", "tail"])
    reference = values_of([0.0, 0, 0, 0], segment=segment, n_train=n_train)
    other = values_of([1.0, 0, 0, 0], segment=segment, n_train=n_train)
    (pair,) = against(reference, other)
    assert [(each.segment, each.comparison.n) for each in pair.segments] == [
        *(("cold", 3), ("unseen", 1), ("tail", 1))
    ]


@pytest.mark.parametrize(
    ("prefix", "segment"),
    [
        ("tail_items_", TAIL_ITEMS),
        ("known_", "known to it"),
        ("new_users_", "new users"),
        ("new_items_", "new items"),
    ],
)
def test_what_is_found_of_some_items_alone_is_a_segment(prefix, segment):
    """Two of three users have such an item; the second run finds one more of them."""
    reference, other = values_of([0.5] * 3), values_of([0.5] * 3)
    for values, found in ((reference, [0.0, 0.0, np.nan]), (other, [0.0, 1.0, np.nan])):
        values["tail_items_ndcg@10"] = np.nan
        values[f"{prefix}ndcg@10"] = found
    method = dataclasses.replace(METHOD, has_tail_items=True)
    (pair,) = against(reference, other, method=method)
    whole, found = pair.segments
    assert (whole.segment, whole.comparison.n, whole.points) == ("tail", 3, 0.0)
    assert (found.segment, found.metric) == (segment, "ndcg@10")
    assert (found.comparison.n, found.points) == (2, 50.0)


def test_metrics_that_are_only_shown_are_no_part_of_the_family(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    method = dataclasses.replace(METHOD, shown=("novelty@10",))
    (pair,) = against(reference, other, method=method)
    assert math.isnan(pair.shown[0].p_corrected)
    assert against(reference, other)[0].tested == pair.tested


def test_a_metric_that_is_shown_has_its_means_and_interval_over_users_with_both_values():
    reference, other = values_of(np.zeros(5)), values_of(np.zeros(5))
    mine, theirs = [0.1, 0.2, np.nan, 0.4, 0.5], [0.3, 0.1, 0.7, np.nan, 0.9]
    reference["novelty@10"], other["novelty@10"] = mine, theirs
    reference["empty"] = other["empty"] = np.nan
    method = dataclasses.replace(METHOD, shown=("novelty@10", "empty"), confidence=0.8, seed=3)
    (pair,) = against(reference, other, method=method)
    found, empty = pair.shown
    differences = np.subtract(theirs, mine)
    intervals = bootstrap_intervals(
        {"d": differences}, n_samples=500, confidence=0.8, rng=np.random.default_rng(3)
    )
    assert (found.metric, found.segment, found.confidence) == ("novelty@10", None, 0.8)
    assert found.comparison.n == 3 and found.comparison.interval == pytest.approx(intervals["d"])
    means = (found.comparison.first, found.comparison.second)
    assert means == pytest.approx((1.3 / 3, 0.8 / 3))
    assert (found.comparison.n_better, found.comparison.n_worse) == (2, 1)
    assert empty.metric == "empty" and empty.comparison.n == 0
    assert np.isnan(empty.comparison.interval).tolist() == [True, True]


def test_a_test_takes_its_level_and_its_resamples_from_the_method(reference):
    other = shifted(reference, np.random.default_rng(2).normal(0, 0.1, size=600))
    method = dataclasses.replace(METHOD, confidence=0.5, n_samples=70)
    (pair,) = against(reference, other, method=method)
    sides = (run["ndcg@10"].to_numpy() for run in (other, reference))
    wanted = compare(*sides, rng=np.random.default_rng(0), n_samples=70, confidence=0.5)
    assert pair.headline.metric == "ndcg@10" and pair.headline.confidence == 0.5
    assert pair.headline.comparison.interval == pytest.approx(wanted.interval)
    assert pair.headline.interval_points == pytest.approx([100 * end for end in wanted.interval])


def test_a_metric_that_no_user_has_gives_no_verdict():
    reference, other = values_of([np.nan] * 3), values_of([1.0, 2.0, 3.0])
    (pair,) = against(reference, other)
    assert pair.headline.verdict == "no users"
