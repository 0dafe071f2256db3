"""Questions that wait are answered in one pass, and each as if it were alone."""

import logging
import threading

import numpy as np
import pytest
from pydantic import BaseModel

from experiments.serve import answering as answering_module
from experiments.serve.answering import Answering
from experiments.serve.meters import Meters
from recsys.errors import DataError
from recsys.recommender.search import ItemSearch, Query, Wanted, answer
from tests.waiting import wait_until

SECONDS = 20
RNG = np.random.default_rng(3)
ITEMS = RNG.standard_normal((200, 8)).astype(np.float32)
VECTORS = RNG.standard_normal((20, 8)).astype(np.float32)


class Found(BaseModel):
    items: list[list[int]]
    bits: list[list[int]]


class HeldSearch(ItemSearch):
    """A search whose passes end when they are released; what each was asked together.

    A query of the length in ``fails`` raises, one of ``fails_together`` only with others.
    """

    def __init__(self, fails=None, fails_together=None):
        super().__init__(ITEMS)
        self.fails, self.fails_together, self.batches = fails, fails_together, []
        self.may_go_on = threading.Event()

    def best_together(self, queries):
        lengths = [query.k for query in queries]
        self.batches.append(lengths)
        assert self.may_go_on.wait(SECONDS)
        if self.fails in lengths or (len(lengths) > 1 and self.fails_together in lengths):
            raise MemoryError("too many")
        return super().best_together(queries)


class Counts(Meters):
    def __init__(self):
        super().__init__()
        self.passes = []

    def count_pass(self, n_questions):
        self.passes.append(n_questions)


def question(search, *queries):
    found = yield [Wanted(search, query) for query in queries]
    items = [row for lists in found for row in lists.items.tolist()]
    bits = [row for lists in found for row in lists.scores.view(np.int32).tolist()]
    return Found(items=items, bits=bits)


def alone(*queries):
    return answer(question(ItemSearch(ITEMS), *queries))


def found_by(body):
    return Found.model_validate_json(body.result(SECONDS))


@pytest.fixture
def start():
    started = []

    def start(**options):
        """One thread, taken by a first question until the search is released."""
        search, counts = HeldSearch(**options), Counts()
        started.append((search, Answering(counts, n_threads=1)))
        started[-1][1].ask(question(search, Query(VECTORS[:1], 1)))
        wait_until(lambda: search.batches, SECONDS)
        return search, started[-1][1], counts

    yield start
    for search, answering in started:
        search.may_go_on.set()
        answering.close()


def test_what_waits_is_answered_by_one_pass_as_if_it_were_alone(start):
    search, answering, counts = start()
    allowed = np.arange(200) % 2 == 0
    queries = [
        Query(VECTORS[k : k + 2], k, allowed=allowed if k % 2 else None) for k in range(2, 9)
    ]
    bodies = [answering.ask(question(search, query)) for query in queries]
    search.may_go_on.set()
    assert [found_by(body) for body in bodies] == [alone(query) for query in queries]
    assert search.batches == [[1], [2, 3, 4, 5, 6, 7, 8]]
    assert counts.passes == [1, 7]


def test_a_question_may_need_several_lists_of_several_searches(start):
    search, answering, _ = start()
    first, second = Query(VECTORS[:2], 3), Query(VECTORS[2:3], 5)
    other = HeldSearch()
    other.may_go_on.set()

    def mixed():
        one, two, three = yield [
            Wanted(search, first),
            Wanted(other, second),
            Wanted(search, second),
        ]
        lists = (one, two, three)
        return Found(items=[row for some in lists for row in some.items.tolist()], bits=[])

    bodies = [answering.ask(mixed()), answering.ask(question(search, first))]
    search.may_go_on.set()
    assert found_by(bodies[0]).items == alone(first, second, second).items
    assert found_by(bodies[1]) == alone(first)
    assert (search.batches, other.batches) == ([[1], [3, 5, 3]], [[5]])


def test_a_question_that_finds_a_thread_free_waits_for_no_other(start):
    search, answering, _ = start()
    search.may_go_on.set()
    for k in (3, 4):
        query = Query(VECTORS[:1], k)
        assert found_by(answering.ask(question(search, query))) == alone(query)
    assert search.batches == [[1], [3], [4]]


def test_one_pass_takes_no_more_than_its_bound(start, monkeypatch):
    monkeypatch.setattr(answering_module, "MOST_VECTORS", 3)
    search, answering, counts = start()
    sizes = (1, 2, 5, 1)
    bodies = [answering.ask(question(search, Query(VECTORS[:n], 2))) for n in sizes]
    search.may_go_on.set()
    assert [len(found_by(body).items) for body in bodies] == list(sizes)
    assert counts.passes == [1, 2, 1, 1]


def test_several_vectors_of_a_user_count_each(start, monkeypatch):
    monkeypatch.setattr(answering_module, "MOST_VECTORS", 3)
    search, answering, counts = start()
    several = Query(VECTORS[:4].reshape(1, 4, 8), 2)
    bodies = [answering.ask(question(search, several)) for _ in range(2)]
    search.may_go_on.set()
    assert [found_by(body) for body in bodies] == [alone(several)] * 2
    assert counts.passes == [1, 1, 1]


def test_a_question_that_is_refused_before_the_search_holds_up_no_other(start):
    search, answering, counts = start()

    def refused():
        raise DataError("no such item")
        yield

    bodies = [
        answering.ask(question(search, Query(VECTORS[:1], 4))),
        answering.ask(refused()),
        answering.ask(question(search)),  # needs no list
    ]
    search.may_go_on.set()
    assert found_by(bodies[0]) == alone(Query(VECTORS[:1], 4))
    assert isinstance(bodies[1].exception(SECONDS), DataError)
    assert found_by(bodies[2]).items == []
    assert counts.passes == [1, 2]


def test_an_answer_that_fails_after_the_search_fails_alone(start):
    search, answering, _ = start()

    def fails():
        yield [Wanted(search, Query(VECTORS[:1], 3))]
        raise ValueError("cannot be laid out")

    bodies = [answering.ask(fails()), answering.ask(question(search, Query(VECTORS[:1], 4)))]
    search.may_go_on.set()
    assert isinstance(bodies[0].exception(SECONDS), ValueError)
    assert found_by(bodies[1]) == alone(Query(VECTORS[:1], 4))


def test_a_search_that_fails_for_one_question_fails_for_that_one(start, caplog):
    search, answering, _ = start(fails=5)
    bodies = [answering.ask(question(search, Query(VECTORS[:1], k))) for k in (4, 5, 6)]
    search.may_go_on.set()
    assert isinstance(bodies[1].exception(SECONDS), MemoryError)
    assert [len(found_by(bodies[place]).items[0]) for place in (0, 2)] == [4, 6]
    assert found_by(answering.ask(question(search, Query(VECTORS[:1], 2)))).items


def test_a_search_that_fails_only_together_is_logged_with_its_trace(start, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bookends"), "propagate", True)
    search, answering, _ = start(fails_together=3)
    bodies = [answering.ask(question(search, Query(VECTORS[:1], 3))) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        search.may_go_on.set()
        assert all(len(found_by(body).items) == 1 for body in bodies)
    (record,) = caplog.records
    assert "3 questions failed together" in record.getMessage()
    assert isinstance(record.exc_info[1], MemoryError)


def test_a_question_nobody_waits_for_any_more_is_not_searched_for(start):
    search, answering, _ = start()
    body = answering.ask(question(search, Query(VECTORS[:1], 7)))
    assert body.cancel()
    search.may_go_on.set()
    assert found_by(answering.ask(question(search, Query(VECTORS[:1], 2)))).items
    assert [7] not in search.batches


@pytest.mark.parametrize("n_threads", [1, 3])
def test_all_that_waits_is_answered_before_the_threads_end(n_threads):
    search = ItemSearch(ITEMS)
    answering = Answering(Meters(), n_threads=n_threads)
    queries = [Query(RNG.standard_normal((1, 8)).astype(np.float32), 1 + n % 9) for n in range(300)]
    bodies = [answering.ask(question(search, query)) for query in queries]
    answering.close()
    assert [found_by(body) for body in bodies] == [alone(query) for query in queries]
