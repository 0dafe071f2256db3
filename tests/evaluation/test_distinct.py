"""Metrics that are one number under several names are told once."""

import numpy as np
import pytest

from recsys.evaluation.distinct import distinct_metrics
from recsys.evaluation.metrics import Places, metrics_of_places

KS = (1, 5, 10)


def values_of(most):
    """Metrics of 40 users with 1 to ``most`` held-out items each, at random places."""
    rng = np.random.default_rng(0)
    counts = 1 + np.arange(40) % most
    rows = np.repeat(np.arange(40), counts)
    places = np.concatenate([rng.choice(15, count, replace=False) for count in counts])
    found = Places(rows, np.arange(len(rows)), np.where(places < 10, places, -1), 40)
    return metrics_of_places(found, KS)


@pytest.mark.parametrize(("most", "n_kept"), [(1, 7), (4, 14)])
def test_what_is_left_out_is_a_fixed_part_of_what_stays_and_nothing_that_stays_is(most, n_kept):
    values = values_of(most)
    kept = distinct_metrics(values, one_held_out=most == 1)

    def others_like(name):
        column = values[name] / values[name].sum()
        return [k for k in kept if k != name and np.allclose(values[k] / values[k].sum(), column)]

    assert [name for name in kept if others_like(name)] == []
    assert [name for name in values if name not in kept and not others_like(name)] == []
    assert len(kept) == n_kept


def test_with_one_held_out_item_recall_ndcg_and_mrr_are_left():
    names = [f"{n}@10" for n in ("recall", "precision", "ndcg", "hit_rate", "map", "mrr")]
    assert distinct_metrics(names, one_held_out=True) == ["recall@10", "ndcg@10", "mrr@10"]
    assert distinct_metrics(names, one_held_out=False) == names
    kept = distinct_metrics(names, one_held_out=True, preferred="map@10")
    assert kept == ["recall@10", "ndcg@10", "map@10"]


def test_other_metrics_and_the_sampled_view_are_left_alone():
    names = ["hit_rate@10", "sampled_hit_rate@10", "sampled_recall@10", "novelty@1", "coverage@10"]
    kept = distinct_metrics(names, one_held_out=True)
    assert kept == ["hit_rate@10", "sampled_recall@10", "novelty@1", "coverage@10"]
