"""Questions that wait are answered together, and each as if it were alone."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.serve import answers, desk, schemas
from experiments.serve.desk import Desk
from experiments.serve.meters import Meters
from experiments.serve.served import Place, Served
from recsys.errors import ConfigError, DataError
from recsys.recommender.coarse import CoarseCatalogue
from recsys.recommender.search import ItemSearch

SECONDS = 20


@pytest.fixture
def served(towers):
    """The recommender with towers, as the server holds it."""
    return Served(towers, Place("somewhere", "7"), "somewhere")


@pytest.fixture
def open_desk():
    """Makes desks of one thread."""
    desks = []

    def build(max_k=1000, meters=None):
        desks.append(Desk(answers.Limits(max_k=max_k), meters or Meters(), n_threads=1))
        return desks[-1]

    yield build
    for each in desks:
        each.close()


class Busy:
    """A question that keeps the thread of a desk until it is released."""

    def __init__(self, at, served):
        self._begun, self._may_end = threading.Event(), threading.Event()
        self.answer = at.put(served, self._hold, schemas.RecommendQuestion(user_ids=[None]))
        assert self._begun.wait(SECONDS)

    def _hold(self, *_):
        self._begun.set()
        assert self._may_end.wait(SECONDS)
        raise DataError("held up")

    def release(self):
        self._may_end.set()


def questions(recommender):
    """Of every kind, of different length, with and without filters."""
    readers, books = recommender.users.ids.to_pylist(), recommender.items.ids.to_pylist()
    category = recommender.books.categories[0]
    asked = [
        dict(user_ids=readers[:1]),
        dict(user_ids=readers[1:2], k=3),
        dict(user_ids=readers[2:5], k=7, exclude_seen=False),
        dict(user_ids=readers[5:6], categories=[category], k=2),
        dict(user_ids=[readers[6], None, "stranger"]),
        dict(liked=[books[:3], books[4:5]], k=4),
        dict(liked=[books[2:6]], exclude_seen=False),
    ]
    similar = schemas.SimilarItemsQuestion(item_ids=books[:2], k=3)
    new = schemas.NewBookSimilarQuestion(books=[schemas.NewBook(title="A Whole New Book")], k=3)
    whom = schemas.NewBookReadersQuestion(books=[schemas.NewBook(title="For Whom")], k=3)
    return [
        *((answers.recommend, schemas.RecommendQuestion(**question)) for question in asked),
        (answers.similar_items, similar),
        (answers.similar_to_book, new),
        (answers.readers_of_book, whom),
    ]


def test_answers_together_are_those_alone_to_the_bit(open_desk, served):
    at = open_desk()
    asked = questions(served.recommender)
    alone = [at.put(served, *question).result(SECONDS) for question in asked]
    busy = Busy(at, served)
    waiting = [at.put(served, *question) for question in asked]
    busy.release()
    assert [answer.result(SECONDS) for answer in waiting] == alone
    assert len(set(alone)) == len(alone)


def test_what_waits_is_searched_for_in_one_pass(open_desk, served, monkeypatch):
    passes = []
    wanted = CoarseCatalogue.wanted

    def counted(self, users, *rest):
        passes.append(len(users))
        return wanted(self, users, *rest)

    monkeypatch.setattr(CoarseCatalogue, "wanted", counted)
    meters = Meters()
    at = open_desk(meters=meters)
    busy = Busy(at, served)
    readers = served.recommender.users.ids.to_pylist()[:8]
    asked = [schemas.RecommendQuestion(user_ids=[name], k=k + 1) for k, name in enumerate(readers)]
    waiting = [at.put(served, answers.recommend, question) for question in asked]
    assert passes == []
    busy.release()
    lists = [json.loads(answer.result(SECONDS))["results"][0] for answer in waiting]
    assert passes == [8]
    assert [len(one["items"]) for one in lists] == list(range(1, 9))
    assert b"bookends_questions_together_sum 8.0" in meters.text()


def test_a_question_that_finds_a_thread_free_waits_for_no_other(open_desk, served):
    at = open_desk()
    question = schemas.RecommendQuestion(user_ids=[None])
    for _ in range(3):
        assert at.put(served, answers.recommend, question).result(SECONDS)


def test_one_pass_takes_no_more_than_its_bound(open_desk, served, monkeypatch):
    monkeypatch.setattr(desk, "MOST_VECTORS", 3)
    sizes = []
    meters = Meters()
    monkeypatch.setattr(meters, "count_pass", sizes.append)
    at = open_desk(meters=meters)
    busy = Busy(at, served)
    readers = served.recommender.users.ids.to_pylist()
    groups = [readers[:1], readers[1:3], readers[3:8], readers[8:9]]
    asked = [schemas.RecommendQuestion(user_ids=names) for names in groups]
    waiting = [at.put(served, answers.recommend, question) for question in asked]
    busy.release()
    for answer in waiting:
        answer.result(SECONDS)
    assert sizes == [2, 1, 1]


def test_a_refused_question_leaves_the_others(open_desk, served):
    at = open_desk(max_k=10)
    readers = served.recommender.users.ids.to_pylist()
    good = schemas.RecommendQuestion(user_ids=readers[:1], k=4)
    alone = at.put(served, answers.recommend, good).result(SECONDS)

    def mistaken(*_):
        raise ZeroDivisionError

    busy = Busy(at, served)
    first = at.put(served, answers.recommend, good)
    long = at.put(served, answers.recommend, schemas.RecommendQuestion(user_ids=[None], k=11))
    unknown = schemas.RecommendQuestion(user_ids=readers[:1], categories=["no such"])
    unknown_category = at.put(served, answers.recommend, unknown)
    own_mistake = at.put(served, mistaken, good)
    last = at.put(served, answers.recommend, good)
    busy.release()
    assert first.result(SECONDS) == last.result(SECONDS) == alone
    assert isinstance(busy.answer.exception(SECONDS), DataError)
    assert isinstance(long.exception(SECONDS), ConfigError)
    assert isinstance(unknown_category.exception(SECONDS), DataError)
    assert isinstance(own_mistake.exception(SECONDS), ZeroDivisionError)


def test_a_search_that_fails_for_one_question_fails_for_that_one(open_desk, served, monkeypatch):
    best_together = ItemSearch.best_together

    def frail(self, queries):
        if any(query.k == 5 for query in queries):
            raise MemoryError("five are too many")
        return best_together(self, queries)

    monkeypatch.setattr(ItemSearch, "best_together", frail)
    at = open_desk()
    busy = Busy(at, served)
    name = served.recommender.users.ids[0].as_py()
    waiting = [
        at.put(served, answers.recommend, schemas.RecommendQuestion(user_ids=[name], k=k))
        for k in (4, 5, 6)
    ]
    busy.release()
    assert isinstance(waiting[1].exception(SECONDS), MemoryError)
    for answer, k in ((waiting[0], 4), (waiting[2], 6)):
        assert len(json.loads(answer.result(SECONDS))["results"][0]["items"]) == k


def test_a_search_that_fails_only_together_is_logged_with_its_trace(
    open_desk, served, monkeypatch, caplog
):
    best_together = ItemSearch.best_together

    def alone(self, queries):
        if len(queries) > 1:
            raise ZeroDivisionError("not together")
        return best_together(self, queries)

    monkeypatch.setattr(ItemSearch, "best_together", alone)
    at = open_desk()
    busy = Busy(at, served)
    question = schemas.RecommendQuestion(user_ids=[None])
    with caplog.at_level(logging.WARNING, "bookends.serve"):
        waiting = [at.put(served, answers.recommend, question) for _ in range(3)]
        busy.release()
        assert all(answer.result(SECONDS) for answer in waiting)
    (record,) = caplog.records
    assert "3 questions failed together" in record.getMessage()
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_questions_to_two_models_at_once_are_answered_by_their_own(open_desk, served, towers):
    at = open_desk()
    other = Served(towers, Place("elsewhere", "8"), "elsewhere")
    busy = Busy(at, served)
    question = schemas.RecommendQuestion(user_ids=[None])
    waiting = [at.put(each, answers.recommend, question) for each in (served, other, served)]
    busy.release()
    versions = [json.loads(answer.result(SECONDS))["model_version"] for answer in waiting]
    assert versions == ["7", "8", "7"]


def test_a_question_that_was_given_up_is_not_searched_for(open_desk, served):
    at = open_desk()
    busy = Busy(at, served)
    question = schemas.RecommendQuestion(user_ids=[None])
    given_up = at.put(served, answers.recommend, question)
    kept = at.put(served, answers.recommend, question)
    assert given_up.cancel()
    busy.release()
    assert kept.result(SECONDS)


def test_what_waits_at_the_end_is_answered(served):
    at = Desk(answers.Limits(), Meters(), n_threads=1)
    busy = Busy(at, served)
    answer = at.put(served, answers.recommend, schemas.RecommendQuestion(user_ids=[None]))
    busy.release()
    at.close()
    assert answer.done() and answer.result()


def test_a_burst_over_http_gets_the_answers_of_one_at_a_time(client, towers):
    names = towers.users.ids.to_pylist()
    bodies = [{"user_ids": [name], "k": 1 + n % 5} for n, name in enumerate(names[:24])]
    bodies[7] = {"user_ids": ["x"], "k": 0}

    def ask(body):
        answer = client.post("/recommend", json=body)
        return answer.status_code, answer.content

    alone = [ask(body) for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, bodies)) == alone
    assert [status for status, _ in alone].count(200) == len(bodies) - 1
