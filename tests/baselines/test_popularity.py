"""Popularity: one list for everyone."""

import numpy as np

from recsys.baselines.popularity import fit_popularity


def test_popularity_counts_the_users_of_an_item_in_what_it_learned_from(histories):
    train, later = np.array([[0, 1, 1], [0, 0, 1]]), np.array([[1, 1, 1], [1, 0, 1]])
    scorer = fit_popularity(histories(train))(histories(later), None)
    assert (scorer.users @ scorer.items.T).tolist() == [[0, 1, 2]] * 2
