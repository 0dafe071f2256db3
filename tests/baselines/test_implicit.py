"""iALS and BPR, where the package is installed; and one clear line where it is not."""

import sys

import numpy as np
import pytest

from recsys.baselines.implicit_factors import ImplicitALS, ImplicitBPR
from recsys.errors import ConfigError


def blocks():
    """Even users have even items, odd ones odd items; each lacks one of its own."""
    users, items = np.arange(40)[:, None], np.arange(12)
    matrix = ((users % 2) == (items % 2)).astype(int)
    lacking = (2 * (np.arange(40) // 2)) % 12 + np.arange(40) % 2
    matrix[np.arange(40), lacking] = 0
    return matrix, lacking


@pytest.mark.parametrize("baseline", [ImplicitALS(2, 0.1, 5.0), ImplicitBPR(2, 0.05, 0.01)])
def test_the_withheld_item_of_the_users_kind_ranks_first(baseline, histories):
    pytest.importorskip("implicit")
    matrix, lacking = blocks()
    known = histories(matrix)
    scorer = baseline.fit(known).scorer(known, None)
    scores = np.where(matrix, -np.inf, scorer.users @ scorer.items.T)
    assert (scores.argmax(axis=1) == lacking).mean() > 0.9


def test_users_of_ials_solve_the_normal_equations_of_a_new_history(histories):
    pytest.importorskip("implicit")
    matrix, _ = blocks()
    later = np.roll(matrix, 1, axis=0)
    l2, alpha = 0.1, 5.0
    scorer = ImplicitALS(4, l2, alpha).fit(histories(matrix)).scorer(histories(later), None)
    items = scorer.items.astype(float)
    for user in (0, 7):
        weights = np.where(later[user], alpha, 1.0)
        system = (items * weights[:, None]).T @ items + l2 * np.eye(items.shape[1])
        expected = np.linalg.solve(system, items.T @ (weights * later[user]))
        assert scorer.users[user] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("baseline", [ImplicitALS(4, 1.0, 1.0), ImplicitBPR(4, 0.05, 0.01)])
def test_a_seed_gives_the_same_factors(baseline, histories):
    pytest.importorskip("implicit")
    known = histories(blocks()[0])
    first, second = (baseline.fit(known).scorer(known, None) for _ in range(2))
    assert (first.items == second.items).all()


@pytest.mark.parametrize(
    ("baseline", "name"), [(ImplicitALS(4, 1.0, 1.0), "ials"), (ImplicitBPR(4, 0.1, 0.1), "bpr")]
)
def test_a_missing_package_is_one_clear_line(monkeypatch, baseline, name, histories):
    for module in ("implicit", "implicit.als", "implicit.bpr"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"names '{name}', which needs the package 'implicit'"):
        baseline.fit(histories(blocks()[0]))
