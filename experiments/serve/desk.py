"""Where questions wait: a thread that becomes free takes all that are there, for one answer to all.

One pass over a large catalogue costs hardly more for eight readers than for one. Nothing is held up
to gather more: a question that finds a thread free is alone in its pass.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread

import torch
from pydantic import BaseModel

from experiments.serve.answers import Asked, Asking, Limits
from experiments.serve.meters import Meters
from experiments.serve.served import Served
from recsys.recommender.enquiry import search_together

MOST_LISTS = 64
"""Lists in one pass, but for a question that wants more by itself: later ones wait no longer than
one pass for a thread."""


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
        waiting, n_lists = self._queue.get(), 0
        while waiting is not None:
            asked = self._understand(waiting)
            if asked is not None:
                understood.append((waiting, asked))
                n_lists += asked.enquiry.n_lists
            if n_lists >= MOST_LISTS:
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
        try:
            return waiting.asking(waiting.served, waiting.question, self._limits)
        except Exception as error:  # raised where the answer is waited for; the thread lives on
            waiting.answer.set_exception(error)
            return None

    def _answer(self, understood: list[tuple[Waiting, Asked]]) -> None:
        """Search for all at once; where that fails, for each alone, so that one is to blame."""
        if not understood:
            return
        try:
            found = search_together([asked.enquiry for _, asked in understood])
        except Exception as error:
            if len(understood) == 1:
                understood[0][0].answer.set_exception(error)
                return
            for one in understood:
                self._answer([one])
            return
        self._meters.count_pass(len(understood))
        for (waiting, asked), lists in zip(understood, found, strict=True):
            try:  # the JSON too: that of long lists takes as long as finding them
                answer = asked.lay_out(asked.enquiry.answer(lists)).model_dump_json().encode()
            except Exception as error:
                waiting.answer.set_exception(error)
            else:
                waiting.answer.set_result(answer)
