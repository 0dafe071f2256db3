"""Following an alias: the next model is loaded off to the side and takes its place at once."""

from __future__ import annotations

import gc
import threading

import torch

from experiments.serve.meters import Meters
from experiments.serve.served import LOG, ModelSource, Served
from recsys.errors import BookendsError
from tracking.store import STORE_ERRORS, one_line

_FAILURES = (BookendsError, *STORE_ERRORS, MemoryError, RuntimeError, ValueError, LookupError)
"""What keeps a model from being loaded, those of libraries included: a model that nobody expected
must not end the thread that would take the next one."""


def settle() -> None:
    """Let the collector pass over all that is there now: it stays as long as the model does.

    A full collection would look at every object of it, a quarter of a second in which no request
    is answered.
    """
    gc.unfreeze()  # what the model before this one left behind
    gc.collect()
    gc.freeze()


class Current:
    """The model that answers, and the one place where it is changed.

    A request takes :attr:`served` once and keeps to it, so that none sees two models.

    Args:
        source: where models come from.
        meters: where loads are counted.
    """

    def __init__(self, source: ModelSource, meters: Meters) -> None:
        self.served: Served | None = None
        self._source, self._meters = source, meters
        self._failure: str | None = None

    def start(self) -> None:
        """Load the first model.

        Raises:
            BookendsError: there is none.
        """
        self._take(self._source.load(self._source.find()))

    def refresh(self) -> None:
        """Take the model that the alias points to now, if it is another; on failure keep this one.

        A failure is counted each time and logged when it is another than the one before.
        """
        try:
            place = self._source.find()
            if self.served is not None and place.uri == self.served.place.uri:
                self._failure = None
                return
            served = self._source.load(place)
        except _FAILURES as error:
            self._meters.count_reload(has_failed=True)
            failure = one_line(error)
            if failure != self._failure:
                LOG.error("the model stays as it is, since loading failed: %s", failure)
            self._failure = failure
            return
        self._failure = None
        self._take(served)
        settle()
        self._meters.count_reload(has_failed=False)

    def _take(self, served: Served) -> None:
        self._meters.show_model(served)
        self.served = served


class Watch:
    """A thread that refreshes the model now and then.

    Not a task of the event loop: a store that hangs, or a million books to load, would hold up
    requests.

    Args:
        current: what is refreshed.
        seconds: between two looks.
    """

    def __init__(self, current: Current, seconds: float) -> None:
        self._current, self._seconds = current, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a load that is under way is given a few seconds."""
        self._ended.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread: requests have the other cores
        while not self._ended.wait(self._seconds):
            self._current.refresh()
