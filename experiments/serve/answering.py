"""Request micro-batching: a thread that becomes free takes all questions that wait, for one search.

One pass over a large catalogue costs hardly more for eight users than for one. Nothing is held up
to gather more: a question that finds a thread free is alone in its pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from experiments.serve.meters import Meters
from experiments.serve.model import LOG
from recsys.evaluation.lists import Lists
from recsys.recommender.search import Asking, Wanted, finish, search_together

MOST_VECTORS = 64
"""Vectors in one pass, K for each user, but for a question that wants more by itself: later ones
wait no longer than one pass."""
Result = TypeVar("Result")


def as_json(answer: BaseModel) -> bytes:
    """The answer as the HTTP server sends it."""
    return answer.model_dump_json().encode()


@dataclass(frozen=True, eq=False)
class _Question:
    """A question that waits.

    Attributes:
        asking: the question, not begun.
        encode: makes of the answer what is sent.
        body: where that goes.
    """

    asking: Asking[BaseModel]
    encode: Callable[[BaseModel], Any]
    body: Future[Any] = field(default_factory=Future)

    def begin(self) -> Sequence[Wanted] | None:
        """What is to be searched for; None where it is refused, or nobody waits any more."""
        if not self.body.set_running_or_notify_cancel():
            return None
        return self._try(lambda: next(self.asking))

    def end(self, found: Sequence[Lists]) -> None:
        """Answer, from what was found."""
        # encoded here, too: long lists take as long to encode as to find
        body = self._try(lambda: self.encode(finish(self.asking, found)))
        if body is not None:
            self.body.set_result(body)

    def _try(self, step: Callable[[], Result]) -> Result | None:
        """What a step gives; what it raises ends the question, not the thread."""
        try:
            return step()
        except Exception as error:
            self.body.set_exception(error)
            return None


class Answering:
    """Threads that answer questions, each of which uses one thread of torch.

    Args:
        meters: where passes are counted.
        n_threads: passes at once; None for one a core.
    """

    def __init__(self, meters: Meters, n_threads: int | None = None) -> None:
        self._meters = meters
        self._queue: SimpleQueue[_Question | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._run, name=f"answer-{number}", daemon=True)
            for number in range(n_threads or len(os.sched_getaffinity(0)))
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, asking: Asking[BaseModel], encode: Callable[[Any], Any] = as_json) -> Future[Any]:
        """Leave a question; the answer comes as ``encode`` makes it, in the thread that answers."""
        question = _Question(asking, encode)
        self._queue.put(question)
        return question.body

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread
        while (question := self._queue.get()) is not None:
            self._answer(self._begin_all_from(question))
        self._queue.put(None)  # for the next thread

    def _begin_all_from(self, first: _Question) -> dict[_Question, Sequence[Wanted]]:
        """What all that wait want, as far as one pass may hold it."""
        question: _Question | None = first
        begun: dict[_Question, Sequence[Wanted]] = {}
        n_vectors = 0
        while question is not None:
            wanted = question.begin()
            if wanted is not None:
                begun[question] = wanted
                n_vectors += sum(len(one.query) * one.query.n_vectors for one in wanted)
            if n_vectors >= MOST_VECTORS:
                break
            try:
                question = self._queue.get_nowait()
            except Empty:
                break
        if question is None:
            self._queue.put(None)
        return begun

    def _answer(self, begun: dict[_Question, Sequence[Wanted]]) -> None:
        """Search for all at once; where that fails, for each alone, so that one is to blame."""
        if not begun:
            return
        try:
            found = search_together(list(begun.values()))
        except Exception as error:
            if len(begun) == 1:
                next(iter(begun)).body.set_exception(error)
                return
            # the trace too: alone, each may succeed, and then nobody else would tell
            said = "%d questions failed together, each is searched for alone; the error follows"
            LOG.warning(said, len(begun), exc_info=error)
            for question, wanted in begun.items():
                self._answer({question: wanted})
            return
        self._meters.count_pass(len(begun))
        for question, lists in zip(begun, found, strict=True):
            question.end(lists)
