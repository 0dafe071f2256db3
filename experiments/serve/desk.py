"""Where questions wait: a thread that becomes free takes all that are there, for one answer to all.

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
from typing import TypeVar, TypeVarTuple

import torch
from pydantic import BaseModel

from experiments.serve.answers import Asked, Asking, Limits
from experiments.serve.meters import Meters
from experiments.serve.served import LOG, Served
from recsys.recommender.enquiry import search_together
from recsys.recommender.search import Found

MOST_VECTORS = 64
"""Vectors in one pass, K for each user, but for a question that wants more by itself: later ones
wait no longer than one pass for a thread."""
Result = TypeVar("Result")
Given = TypeVarTuple("Given")


@dataclass(frozen=True, eq=False)
class Waiting:
    """A question that waits, and where its answer goes.

    Attributes:
        served: the model that answers, from beginning to end.
        asking: how the question is understood.
        question: what was asked.
        answer: JSON, or what was raised.
    """

    served: Served
    asking: Asking
    question: BaseModel
    answer: Future[bytes] = field(default_factory=Future)


class Desk:
    """Threads that answer, each of which uses one thread of torch.

    Args:
        limits: what may be asked.
        meters: where passes are counted.
        n_threads: passes at once.
    """

    def __init__(self, limits: Limits, meters: Meters, n_threads: int | None = None) -> None:
        self._limits, self._meters = limits, meters
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        n_threads = n_threads or len(os.sched_getaffinity(0))
        self._threads = [
            Thread(target=self._run, name=f"answer-{number}", daemon=True)
            for number in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, served: Served, asking: Asking, question: BaseModel) -> Future[bytes]:
        """Leave a question; the answer comes as JSON."""
        waiting = Waiting(served, asking, question)
        self._queue.put(waiting)
        return waiting.answer

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread
        is_open = True
        while is_open:
            is_open = self._answer_together()

    def _answer_together(self) -> bool:
        """Answer all that waits, as far as it is not too much for one pass; False at the end."""
        understood: list[tuple[Waiting, Asked]] = []
        waiting, n_vectors = self._queue.get(), 0
        while waiting is not None:
            asked = self._understand(waiting)
            if asked is not None:
                understood.append((waiting, asked))
                n_vectors += asked.enquiry.n_vectors
            if n_vectors >= MOST_VECTORS:
                break
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                break
        self._answer(understood)
        return waiting is not None

    def _understand(self, waiting: Waiting) -> Asked | None:
        """What is to be searched for; None where the question is answered, by its refusal."""
        if not waiting.answer.set_running_or_notify_cancel():
            return None
        asked = _outcome(waiting.asking, waiting.served, waiting.question, self._limits)
        if isinstance(asked, Exception):
            waiting.answer.set_exception(asked)
            return None
        return asked

    def _answer(self, understood: list[tuple[Waiting, Asked]]) -> None:
        """Search for all at once; where that fails, for each alone, so that one is to blame."""
        if not understood:
            return
        found = _outcome(search_together, [asked.enquiry for _, asked in understood])
        if isinstance(found, Exception):
            if len(understood) == 1:
                understood[0][0].answer.set_exception(found)
                return
            # the trace too: alone, each may succeed, and then nobody else would tell
            said = "%d questions failed together, each is searched for alone; the error follows"
            LOG.warning(said, len(understood), exc_info=found)
            for one in understood:
                self._answer([one])
            return
        self._meters.count_pass(len(understood))
        for (waiting, asked), lists in zip(understood, found, strict=True):
            answer = _outcome(_written, asked, lists)
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)


def _written(asked: Asked, lists: Sequence[Found]) -> bytes:
    """The answer as JSON; that of long lists takes as long as finding them."""
    return asked.lay_out(asked.enquiry.answer(lists)).model_dump_json().encode()


def _outcome(work: Callable[[*Given], Result], *given: *Given) -> Result | Exception:
    """What the work gives, or what it raised, to be raised again where the answer is waited for."""
    try:
        return work(*given)
    except Exception as error:  # whatever it is: it ends one question, not the thread
        return error
