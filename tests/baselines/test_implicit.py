"""iALS and BPR of the package implicit."""

from functools import partial

import numpy as np
import pytest

from recsys.baselines.implicit_factors import fit_bpr, fit_ials


def blocks():
    """Even users have even items, odd ones odd items; each lacks one of its own."""
    users, items = np.arange(40)[:, None], np.arange(12)
    matrix = ((users % 2) == (items % 2)).astype(int)
    lacking = (2 * (np.arange(40) // 2)) % 12 + np.arange(40) % 2
    matrix[np.arange(40), lacking] = 0
    return matrix, lacking


ials = partial(fit_ials, l2=0.1, alpha=5.0, iterations=15, seed=0)
bpr = partial(fit_bpr, learning_rate=0.05, l2=0.01, epochs=100, seed=0)


@pytest.mark.parametrize("fit", [ials, bpr])
def test_the_withheld_item_of_the_users_kind_ranks_first(fit, histories):
    matrix, lacking = blocks()
    known = histories(matrix)
    scorer = fit(known, factors=2)(known, None)
    scores = np.where(matrix, -np.inf, scorer.users @ scorer.items.T)
    assert (scores.argmax(axis=1) == lacking).mean() > 0.9


def test_users_of_ials_solve_the_normal_equations_of_a_new_history(histories):
    matrix, _ = blocks()
    later = np.roll(matrix, 1, axis=0)
    scorer = ials(histories(matrix), factors=4)(histories(later), None)
    items = scorer.items.astype(float)
    for user in (0, 7):
        weights = np.where(later[user], 5.0, 1.0)
        system = (items * weights[:, None]).T @ items + 0.1 * np.eye(items.shape[1])
        expected = np.linalg.solve(system, items.T @ (weights * later[user]))
        assert scorer.users[user] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("fit", [ials, bpr])
def test_a_seed_gives_the_same_factors(fit, histories):
    known = histories(blocks()[0])
    first, second = (fit(known, factors=4)(known, None) for _ in range(2))
    assert (first.items == second.items).all()
