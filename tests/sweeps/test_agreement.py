import itertools

import numpy as np
import pytest
from pytest import approx

from sweeps.agreement import rank_agreement

NAMES = {"low_fidelity": "a tenth", "high_fidelity": "all"}


def agreement(low, high):
    return rank_agreement(dict(enumerate(low)), dict(enumerate(high)), **NAMES)


def test_the_same_order_agrees_fully():
    found = agreement([1, 2, 3, 4], [10, 20, 30, 400])
    assert (found.kendall_tau, found.spearman) == (approx(1), approx(1))
    assert "much alike" in found.verdict


def test_tau_counts_pairs_in_order_less_pairs_out_of_order():
    rng = np.random.default_rng(0)
    low, high = rng.normal(size=8), rng.normal(size=8)
    pairs = list(itertools.combinations(range(8), 2))
    signs = [np.sign((low[i] - low[j]) * (high[i] - high[j])) for i, j in pairs]
    assert agreement(low, high).kendall_tau == approx(sum(signs) / len(pairs))


def test_only_what_both_judged_is_compared():
    low = {0: 1.0, 1: 2.0, 2: 3.0, 4: 9.0}
    high = {0: 1.0, 1: 2.0, 2: 3.0, 7: 1.0}
    assert rank_agreement(low, high, **NAMES).n == 3


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [([1, 2], [1, 2], "too few"), ([1, 1, 1], [1, 2, 3], "the same value"), ([], [], "too few")],
)
def test_where_there_is_no_order_none_is_given(low, high, said):
    found = agreement(low, high)
    assert found.kendall_tau is None
    assert said in found.verdict
