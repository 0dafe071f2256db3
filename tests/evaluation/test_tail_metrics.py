"""What a user's list holds of the items outside the head."""

from math import log2

import numpy as np
import pytest
from pytest import approx

from recsys.baselines.popularity import Popularity
from recsys.config import EvaluationConfig, SegmentConfig
from recsys.data.histories import Histories
from recsys.evaluation.evaluation import evaluate
from recsys.evaluation.metrics import Places
from recsys.evaluation.segments import TAIL_PREFIX, tail_metrics

# Item 0 is head (9 of 12 train interactions), 1 is tail (3), 2 is cold (0).
CONFIG = EvaluationConfig(metrics_k=(2,), segments=SegmentConfig(cold_max=1, head_share=0.5))


@pytest.fixture
def tail():
    """Reader 0: head first, tail second. Reader 1: head only. Reader 2: cold first, tail missed."""
    found = Places(
        rows=np.array([0, 0, 1, 2, 2]),
        items=np.array([0, 1, 0, 2, 1]),
        places=np.array([0, 1, 0, 0, -1]),
        n_rows=3,
    )
    values = tail_metrics(found, np.array([9, 3, 0]), CONFIG.segments, CONFIG.metrics_k)
    return {name.removeprefix(TAIL_PREFIX): column for name, column in values.items()}


def test_hits_of_the_head_count_for_nothing(tail):
    """The one relevant book stands second: 1 / log2(3) of what it would be worth first."""
    assert tail["ndcg@2"][0] == approx(1 / log2(3))


def test_a_user_who_went_on_to_read_the_head_alone_has_no_value(tail):
    assert all(np.isnan(values[1]) for values in tail.values())


def test_cold_books_are_outside_the_head(tail):
    """Two to find, the cold one found first."""
    assert tail["recall@2"][2] == approx(1 / 2)
    assert tail["ndcg@2"][2] == approx(1 / (1 + 1 / log2(3)))


def test_every_ranking_metric_is_there(tail):
    assert set(tail) == set(CONFIG.metric_names)


def test_every_user_of_an_evaluation_has_these_values(board_prepared):
    """On the checkerboard all books are read alike, so the head is a part of them or empty."""
    config = EvaluationConfig(
        metrics_k=(5,),
        candidate_samples=0,
        bootstrap_samples=100,
        segments=SegmentConfig(head_share=0.01),
    )
    train = Histories.of(board_prepared.train)
    evaluation = evaluate(
        Popularity().fit(train).scorer(train, None),
        board_prepared,
        split="test",
        config=config,
        seed=0,
        baselines={},
    )
    frame = evaluation.per_user
    for name in config.metric_names:  # nothing is head: the tail is all that was held out
        assert frame[f"{TAIL_PREFIX}{name}"].tolist() == frame[name].tolist()
