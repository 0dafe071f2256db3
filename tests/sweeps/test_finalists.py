import dataclasses

import numpy as np
import pandas as pd
from pytest import approx

from recsys.evaluation.significance import holm
from sweeps.finalists import ComparisonRules, Retraining, clear_losers, compare_finalists

METRIC = "ndcg@10"
N_USERS = 300


def candidate(trial, per_seed, search_value=0.5):
    per_user = [
        None if values is None else pd.Series(values, [f"u{i}" for i in range(len(values))])
        for values in per_seed
    ]
    return Retraining(trial, {"a": trial}, search_value, per_user)


def world(merits, rng, *, n_seeds=3, seed_noise=0.0, user_noise=0.02):
    """Candidates of the given true merits, for the same users, whose tastes they share."""
    taste = rng.normal(0, 0.1, N_USERS)
    taste -= taste.mean()
    return [
        candidate(
            trial,
            [
                merit + rng.normal(0, seed_noise) + taste + rng.normal(0, user_noise, N_USERS)
                for _ in range(n_seeds)
            ],
        )
        for trial, merit in merits.items()
    ]


def judge(candidates, *, seed=0, search_values=(0.5, 0.6), **rules):
    settings = ComparisonRules(METRIC, **{"n_samples": 200} | rules)
    n_seeds = len(candidates[0].per_user)
    return compare_finalists(
        candidates,
        settings,
        seeds=range(100, 100 + n_seeds),
        search_values=search_values,
        rng=np.random.default_rng(seed),
    )


def pair(found, first, second):
    return next(c for c in found.comparisons if (c.first, c.second) == (first, second))


def test_the_winner_has_the_best_mean_over_seeds_not_the_best_value():
    lucky = candidate(1, [[0.9, 0.9], [0.1, 0.1]], search_value=0.95)
    steady = candidate(2, [[0.6, 0.6], [0.6, 0.6]], search_value=0.6)
    found = judge([lucky, steady])
    assert found.winner == 2
    assert [row.mean for row in found.rows] == [approx(0.6), approx(0.5)]


def test_the_spread_between_seeds_divides_by_one_less():
    found = judge([candidate(1, [[0.1, 0.1], [0.3, 0.3]])])
    assert found.rows[0].std == approx(np.sqrt(0.02))


def test_the_lowest_mean_wins_where_less_is_better():
    found = judge(world({1: 0.3, 2: 0.5, 0: 0.6}, np.random.default_rng(0)), direction="minimize")
    assert (found.winner, found.runner_up) == (1, 2)
    assert pair(found, 1, 0).difference == approx(-0.3, abs=0.01)
    assert -pair(found, 1, 0).high > 0.29
    assert (
        f"better than the default by {-pair(found, 1, 0).difference:.4f}"
        in pair(found, 1, 0).verdict
    )


def test_the_default_is_not_the_runner_up():
    found = judge(world({1: 0.3, 2: 0.1, 0: 0.2}, np.random.default_rng(0)))
    assert (found.winner, found.runner_up) == (1, 2)


def test_the_default_can_win():
    found = judge(world({1: 0.3, 0: 0.5}, np.random.default_rng(0)))
    assert found.winner == 0
    assert found.verdict.startswith("The default configuration wins")
    assert found.comparisons[0].roles == "winner, the default against runner-up"


def test_a_real_difference_is_clear_and_said_so():
    found = judge(world({1: 0.30, 2: 0.29, 0: 0.20}, np.random.default_rng(0), seed_noise=0.002))
    against_default = pair(found, 1, 0)
    assert against_default.is_clear
    assert against_default.low < against_default.difference < against_default.high
    assert "better than the default by 0.1" in found.verdict
    assert "after Holm" in found.verdict


def test_two_seeds_of_one_configuration_are_rarely_told_apart():
    """Equal merits, noise between seeds: at the level of 5% above 9 of 60 has odds of 1:500."""
    rng = np.random.default_rng(0)
    by_users = clear = 0
    for _ in range(60):
        found = judge(world({1: 0.3, 0: 0.3}, rng, seed_noise=0.01), n_samples=100)
        by_users += found.comparisons[0].p_holm <= 0.05
        clear += found.comparisons[0].is_clear
    assert by_users > 30  # users alone would take every other pair for different
    assert clear <= 9


def test_a_difference_within_the_noise_between_seeds_is_not_claimed():
    rng = np.random.default_rng(3)
    found = judge(world({1: 0.31, 0: 0.3}, rng, seed_noise=0.02, user_noise=0.001))
    assert "not distinguishable from" in found.verdict
    assert "within what other seeds do" in found.verdict


def test_every_pair_is_corrected_for_all():
    found = judge(world({1: 0.31, 2: 0.30, 3: 0.305, 0: 0.3}, np.random.default_rng(1)))
    assert len(found.comparisons) == 6
    for plain, corrected in (("p", "p_holm"), ("p_seeds", "p_seeds_holm")):
        before = np.array([getattr(c, plain) for c in found.comparisons])
        after = [getattr(c, corrected) for c in found.comparisons]
        assert after == approx(holm(before))


def test_winner_runner_up_and_default_come_first():
    found = judge(world({1: 0.31, 2: 0.30, 3: 0.29, 0: 0.28}, np.random.default_rng(1)))
    roles = [c.roles for c in found.comparisons]
    expected = ["winner against runner-up", "winner against default", "runner-up against default"]
    assert roles == [*expected, "", "", ""]


def test_users_are_matched_by_id_not_by_row():
    rng = np.random.default_rng(0)
    one, other = world({1: 0.31, 0: 0.3}, rng)
    shuffled = [values.iloc[rng.permutation(N_USERS)] for values in other.per_user]
    mixed = Retraining(0, other.params, other.search_value, shuffled)
    straight, crossed = judge([one, other]), judge([one, mixed])
    assert crossed.comparisons[0].low == approx(straight.comparisons[0].low)
    assert crossed.comparisons[0].p == approx(straight.comparisons[0].p)


def test_a_user_counts_by_the_mean_over_seeds():
    """The users' means are 0.3 and 0.5 under the first, 0.2 and 0.2 under the second."""
    found = judge([candidate(1, [[0.1, 0.4], [0.5, 0.6]]), candidate(0, [[0.2, 0.2]] * 2)])
    assert found.comparisons[0].difference == approx((0.1 + 0.3) / 2)


def test_users_with_nothing_to_find_do_not_count():
    values = np.linspace(0.2, 0.4, 10)
    gaps = values.copy()
    gaps[:4] = np.nan
    found = judge([candidate(1, [gaps + 0.1] * 2), candidate(0, [gaps] * 2)])
    assert found.comparisons[0].n_users == 6
    assert found.rows[1].mean == approx(values[4:].mean())


def test_a_failed_training_leaves_the_other_seeds():
    found = judge([candidate(1, [[0.5, 0.6], None]), candidate(0, [[0.4, 0.4], [0.4, 0.4]])])
    assert found.rows[0].values == (approx(0.55), None)
    assert found.rows[0].mean == approx(0.55)


def test_nobody_wins_where_every_training_failed():
    found = judge([candidate(1, [None, None]), candidate(0, [None, None])])
    assert found.winner is None
    assert found.comparisons == ()
    assert "no winner" in found.verdict


def test_with_one_seed_the_verdict_says_what_is_unknown():
    found = judge(world({1: 0.4, 0: 0.3}, np.random.default_rng(0), n_seeds=1))
    assert found.comparisons[0].p_seeds is None
    assert "the noise between seeds is unknown" in found.verdict


def first_seeds(candidate, n):
    return dataclasses.replace(candidate, per_user=candidate.per_user[:n])


def race(candidates, *, seed=0):
    """The candidates as a race leaves them, with the seeds that each was trained on."""
    n_seeds, dropped = len(candidates[0].per_user), {}
    rng = np.random.default_rng(seed)
    for done in range(2, n_seeds):
        running = [first_seeds(c, done) for c in candidates if c.trial not in dropped]
        rules = ComparisonRules(METRIC, n_samples=200)
        lost = clear_losers(running, rules, n_looks=n_seeds - 2, rng=rng)
        dropped |= dict.fromkeys(lost, done)
    return [
        dataclasses.replace(
            first_seeds(c, dropped.get(c.trial)), dropped_after=dropped.get(c.trial)
        )
        for c in candidates
    ]


def test_a_race_gives_the_same_verdict_for_less_training():
    """Two good ones, of which one leads, and two that are far behind: 20 trainings or 14."""
    merits = {1: 0.30, 2: 0.295, 3: 0.20, 0: 0.15}
    candidates = world(merits, np.random.default_rng(0), n_seeds=5, seed_noise=0.005)
    whole, raced = judge(candidates), race(candidates)
    found = compare_finalists(
        raced,
        ComparisonRules(METRIC, n_samples=200),
        seeds=range(100, 105),
        search_values=(0.5, 0.6),
        rng=np.random.default_rng(0),
    )
    assert sum(len(each.per_user) for each in raced) == 14 and found.n_spared == 6
    assert {row.trial: row.dropped_after for row in found.rows} == {1: None, 2: None, 3: 2, 0: 2}
    assert [row.trial for row in found.rows] == [row.trial for row in whole.rows]
    assert found.winner == whole.winner
    clear = [
        [(c.first, c.second) for c in each.comparisons if c.is_clear] for each in (found, whole)
    ]
    assert set(clear[0]) == set(clear[1])


def test_equals_are_rarely_dropped():
    """At 5% over all looks together, 8 of 60 races that drop one has odds of 1:100."""
    rng = np.random.default_rng(0)
    dropped = 0
    for _ in range(60):
        raced = race(world({1: 0.3, 0: 0.3}, rng, n_seeds=4, seed_noise=0.01))
        dropped += any(each.dropped_after for each in raced)
    assert dropped < 8


def test_one_that_was_dropped_cannot_win():
    """Its mean over two seeds is above that of the leader over three."""
    steady = candidate(1, [[0.6, 0.6], [0.6, 0.6], [0.0, 0.0]])
    gone = dataclasses.replace(candidate(2, [[0.5, 0.5], [0.5, 0.5]]), dropped_after=2)
    found = judge([steady, gone])
    assert (found.winner, [row.mean for row in found.rows]) == (1, [approx(0.4), approx(0.5)])
    assert not found.comparisons[0].is_clear
    assert found.n_spared == 1
