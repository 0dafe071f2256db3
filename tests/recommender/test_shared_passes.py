"""Questions that wait are answered in one pass, and each as if it were alone."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recsys.recommender import search as search_module
from recsys.recommender.search import ItemSearch, Query

SECONDS = 20


class HeldSearch:
    """A search of one pass at once, taken until it is released; what it answers together.

    A query of the length in ``fails`` raises, one of ``fails_together`` only with others.
    """

    def __init__(self, fails=None, fails_together=None, error=MemoryError):
        self.fails, self.fails_together, self.error = fails, fails_together, error
        self.batches, self.counted = [], []
        rng = np.random.default_rng(3)
        items = rng.standard_normal((200, 8)).astype(np.float32)
        self.search = ItemSearch(items, on_pass=self.counted.append, n_passes=1)
        self.vectors = rng.standard_normal((20, 8)).astype(np.float32)
        self._best_together = self.search.best_together
        self.search.best_together = self._answer
        self._may_go_on = threading.Event()
        self._pool = ThreadPoolExecutor(20)
        self._first = self._ask(Query(self.vectors[:1], 1))
        self._wait_for(lambda: self.batches)

    def _answer(self, queries):
        self.batches.append([query.k for query in queries])
        assert self._may_go_on.wait(SECONDS)
        lengths = self.batches[-1]
        if self.fails in lengths or (len(lengths) > 1 and self.fails_together in lengths):
            raise self.error("too many")
        return self._best_together(queries)

    def _ask(self, query):
        return self._pool.submit(self.search.best, query)

    def _wait_for(self, condition):
        ended = threading.Event()
        for _ in range(SECONDS * 1000):
            if condition():
                return
            ended.wait(0.001)
        raise AssertionError("waited in vain")

    def wait(self, *queries):
        """Ask while the pass is taken, one after another."""
        answers = []
        for query in queries:
            answers.append(self._ask(query))
            self._wait_for(lambda: len(self.search._queue) == len(answers))
        return answers

    def release(self):
        """Let the pass end, and give what the first query found."""
        self._may_go_on.set()
        return self._first.result(SECONDS)

    def alone(self, query):
        """The lists of a query, shared with no other."""
        return self._best_together([query])[0]


def assert_same(found, expected):
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores.view(np.int32), expected.scores.view(np.int32))


def test_what_waits_is_answered_by_one_pass_as_if_it_were_alone():
    held = HeldSearch()
    allowed = np.arange(200) % 2 == 0
    queries = [
        Query(held.vectors[k : k + 2], k, allowed=allowed if k % 2 else None) for k in range(2, 9)
    ]
    answers = held.wait(*queries)
    held.release()
    for query, answer in zip(queries, answers, strict=True):
        assert_same(answer.result(SECONDS), held.alone(query))
    assert held.batches == [[1], [2, 3, 4, 5, 6, 7, 8]]
    assert held.counted == [1, 7]


def test_a_query_that_finds_a_pass_free_waits_for_no_other():
    held = HeldSearch()
    held.release()
    for k in (3, 4):
        query = Query(held.vectors[:1], k)
        assert_same(held.search.best(query), held.alone(query))
    assert held.batches == [[1], [3], [4]]


def test_one_pass_takes_no_more_than_its_bound(monkeypatch):
    monkeypatch.setattr(search_module, "MOST_VECTORS", 3)
    held = HeldSearch()
    sizes = (1, 2, 5, 1)
    answers = held.wait(*(Query(held.vectors[:n], 2) for n in sizes))
    held.release()
    assert [len(answer.result(SECONDS).items) for answer in answers] == list(sizes)
    assert held.counted == [1, 2, 1, 1]


def test_several_vectors_of_a_user_count_each(monkeypatch):
    monkeypatch.setattr(search_module, "MOST_VECTORS", 3)
    held = HeldSearch()
    several = Query(held.vectors[:4].reshape(1, 4, 8), 2)
    answers = held.wait(several, several)
    held.release()
    for answer in answers:
        assert_same(answer.result(SECONDS), held.alone(several))
    assert held.counted == [1, 1, 1]


def test_a_search_that_fails_for_one_query_fails_for_that_one(caplog):
    held = HeldSearch(fails=5)
    answers = held.wait(*(Query(held.vectors[:1], k) for k in (4, 5, 6)))
    with caplog.at_level(logging.WARNING):
        held.release()
        assert isinstance(answers[1].exception(SECONDS), MemoryError)
    for answer, k in ((answers[0], 4), (answers[2], 6)):
        assert answer.result(SECONDS).items.shape == (1, k)
    assert held.search.best(Query(held.vectors[:1], 2)).items.shape == (1, 2)


def test_a_search_that_fails_only_together_is_logged_with_its_trace(caplog):
    held = HeldSearch(fails_together=3)
    answers = held.wait(*(Query(held.vectors[:1], 3) for _ in range(3)))
    with caplog.at_level(logging.WARNING):
        held.release()
        assert all(answer.result(SECONDS).items.shape == (1, 3) for answer in answers)
    (record,) = caplog.records
    assert "3 questions failed together" in record.getMessage()
    assert isinstance(record.exc_info[1], MemoryError)


def test_an_interruption_of_one_thread_leaves_no_other_waiting():
    held = HeldSearch(fails=5, error=KeyboardInterrupt)
    answers = held.wait(*(Query(held.vectors[:1], k) for k in (4, 5)))
    held.release()
    assert isinstance(answers[0].exception(SECONDS), KeyboardInterrupt)
    assert isinstance(answers[1].exception(SECONDS), RuntimeError)
    assert held.search.best(Query(held.vectors[:1], 2)).items.shape == (1, 2)


@pytest.mark.parametrize("n_passes", [1, 2])
def test_many_threads_get_what_each_gets_alone(n_passes):
    rng = np.random.default_rng(4)
    search = ItemSearch(rng.standard_normal((500, 8)).astype(np.float32), n_passes=n_passes)
    queries = [Query(rng.standard_normal((1, 8)).astype(np.float32), 1 + n % 9) for n in range(300)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(search.best, queries))
    for query, one in zip(queries, found, strict=True):
        assert_same(one, search.best(query))
