import numpy as np
import pandas as pd
import pytest

from recsys.baselines.names import settings_text
from sweeps.baselines import (
    RECENCY,
    TUNED,
    best_trial,
    compare_with_baseline,
    suggest,
)
from sweeps.finalists import ComparisonRules
from sweeps.findings import BaselineTrial, Finalist, Finalists, TunedBaseline, best_baseline

OPTIONS = {"direction": "maximize", "has_order": True, "seed": 3}


def tried(name, n, value=lambda params: params.get("l2", 0.0), **options):
    trials = []
    for _ in range(n):
        params = suggest(name, trials, **OPTIONS | options)
        trials.append(BaselineTrial(params, value(params), 1.0))
    return trials


@pytest.mark.parametrize("name", TUNED)
def test_every_suggestion_is_a_baseline_and_none_comes_twice(name):
    trials = tried(name, 14)
    texts = [settings_text(name, each.params) for each in trials]
    assert len({str(each.params) for each in trials}) == 14 and all(texts)
    assert suggest(name, trials[:7], **OPTIONS) == trials[7].params  # of a resumed session too
    assert suggest(name, trials[:7], **OPTIONS | {"seed": 4}) != trials[7].params


def test_recency_is_tried_where_histories_have_an_order():
    scales = {each.params[RECENCY] for each in tried("ease", 14)}
    assert None in scales and len(scales) > 2
    assert "recency" in settings_text("ease", {"l2": 1.0, RECENCY: 8.0})
    assert RECENCY not in tried("ease", 2, has_order=False)[1].params
    assert RECENCY not in tried("ials", 2)[1].params


@pytest.mark.parametrize(("direction", "goal"), [("maximize", 500), ("minimize", 20)])
def test_the_search_finds_the_peak(direction, goal):
    sign = 1 if direction == "maximize" else -1

    def value(params):
        return -sign * abs(np.log(params["l2"] / goal))

    trials = tried("ease", 30, value, direction=direction, has_order=False)
    found = best_trial(trials, direction).params["l2"]
    assert found == pytest.approx(goal, rel=0.15)


def test_a_trial_that_failed_is_never_the_best():
    known = [BaselineTrial({}, None, 1.0), BaselineTrial({}, -1.0, 1.0)]
    assert best_trial(known, "maximize") is known[1] and best_trial(known[:1], "maximize") is None
    known = [TunedBaseline("ials", left_out="too large"), TunedBaseline("ease", value=0.1)]
    assert best_baseline(known, "minimize") == (known[1], 0.1)
    assert best_baseline(known[:1], "minimize") is None


def compared(shift, *, direction="maximize", seeds=(0.0, 0.01)):
    """A winner that is better by ``shift`` for every user, give or take."""
    rng = np.random.default_rng(0)
    users = np.arange(400)
    base = rng.uniform(size=400)
    frames = [pd.Series(base + shift + seed + rng.normal(0, 0.05, 400), users) for seed in seeds]
    means = tuple(float(frame.mean()) for frame in frames)
    row = Finalist(1, {}, False, None, means, float(np.mean(means)), None)
    finalists = Finalists("m", direction, tuple(range(len(seeds))), (row,), 1, None, (), "", None)
    rival = pd.Series(base, users).sample(frac=1, random_state=0)
    return compare_with_baseline(
        [*frames, None],
        finalists,
        TunedBaseline("ease", value=0.1),
        rival,
        ComparisonRules("m", direction),
        np.random.default_rng(1),
    )


def test_the_winner_is_better_worse_or_cannot_be_told_from_the_best_baseline():
    better, worse = compared(0.1), compared(-0.1)
    assert better.is_clear and better.verdict.startswith(
        "The winner is better than the best tuned baseline, EASE, by 0.10"
    )
    assert better.low < 0.105 < better.high and better.n_users == 400
    said = "The winner is worse than the best tuned baseline, EASE, by 0.09"
    assert worse.is_clear and worse.verdict.startswith(said) and "-" not in worse.verdict
    assert "is worse than" in compared(0.1, direction="minimize").verdict
    assert "is not distinguishable from" in compared(0.0, seeds=(-0.005, 0.005)).verdict


def test_a_difference_within_the_noise_between_seeds_is_not_clear():
    noisy = compared(0.1, seeds=(-0.3, 0.3))
    assert noisy.p < 0.001 < 0.5 < noisy.p_seeds and not noisy.is_clear
    single = compared(0.1, seeds=(0.0,))
    assert single.p_seeds is None and single.is_clear and "seeds" not in single.verdict
