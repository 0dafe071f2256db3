"""The model that is served: where it is found, how it is made ready, and when it is replaced."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from experiments.serve.meters import Meters
from recsys.errors import BookendsError, ConfigError
from recsys.recommender import Recommender
from tracking.model import FoundModel, find_model, resolve_bundle
from tracking.store import STORE_ERRORS, one_line

LOG = logging.getLogger("bookends.serve")


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is ready to answer.

    Attributes:
        recommender: what answers.
        place: where it came from.
        asked: the address that the server was started with.
        loaded_at: when it was ready.
    """

    recommender: Recommender
    place: FoundModel
    asked: str
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, eq=False)
class ModelSource:
    """Where models come from.

    Attributes:
        uri: as :func:`tracking.model.resolve_bundle` takes it.
        tracking_uri: the store; None for the usual one.
        ann: whether models search by an index.
    """

    uri: str
    tracking_uri: str | None = None
    ann: bool = False

    def load(self, place: FoundModel) -> Served:
        """The model at a place, whole and warm.

        Raises:
            BookendsError: it cannot be reached, or is damaged.
        """
        recommender = Recommender.load(resolve_bundle(place.uri, self.tracking_uri))
        if self.ann:
            recommender = recommender.with_approximate()
        _warm(recommender)
        served = Served(recommender, place, self.uri)
        _say(served)
        return served


def _warm(recommender: Recommender) -> None:
    """Ask once, so that what is made at the first question is there before it."""
    if not len(recommender.items) or not len(recommender.users):
        raise ConfigError("a served model must know a user and an item at least")
    first_user, first_item = recommender.users.ids[0].as_py(), recommender.items.ids[0].as_py()
    recommender.recommend_for_users([first_user, None], [[], []], 1)
    recommender.similar_items([first_item], 1)


def _say(served: Served) -> None:
    recommender = served.recommender
    LOG.info(
        "%s: %s users, %s items, %.0f MB",
        served.place.uri,
        f"{len(recommender.users):,}",
        f"{len(recommender.items):,}",
        recommender.n_bytes / 1e6,
    )
    if recommender.approximate is not None:
        LOG.info("%s", recommender.approximate.recall)


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


class CurrentModel:
    """The model that answers, and the one place where it is changed.

    A request takes :attr:`served` once and keeps to it, so that none sees two models. Loads are
    counted in :attr:`meters`, and so is all else of the server.

    Args:
        source: where models come from.
    """

    def __init__(self, source: ModelSource) -> None:
        self.served: Served | None = None
        self.meters = Meters()
        self._source = source
        self._failure: str | None = None

    def start(self) -> None:
        """Load the first model.

        Raises:
            BookendsError: there is none.
        """
        self._take(self._source.load(self._find()))

    def refresh(self) -> None:
        """Take the model that the alias points to now, if it is another; on failure keep this one.

        A failure is counted each time and logged when it is another than the one before.
        """
        try:
            place = self._find()
            if self.served is not None and place.uri == self.served.place.uri:
                self._failure = None
                return
            served = self._source.load(place)
        except _FAILURES as error:
            self.meters.count_reload(has_failed=True)
            failure = one_line(error)
            if failure != self._failure:
                LOG.error("the model stays as it is, since loading failed: %s", failure)
            self._failure = failure
            return
        self._failure = None
        self._take(served)
        settle()
        self.meters.count_reload(has_failed=False)

    def _find(self) -> FoundModel:
        return find_model(self._source.uri, self._source.tracking_uri)

    def _take(self, served: Served) -> None:
        n_bytes = served.recommender.n_bytes
        self.meters.show_model(served.place.version, served.place.run_id, n_bytes)
        self.served = served


@contextmanager
def refreshed(current: CurrentModel, seconds: float) -> Iterator[None]:
    """Refresh the model now and then while the block lasts, in a thread.

    Not in a task of the event loop: a store that hangs, or a million items to load, would hold up
    requests.

    Args:
        current: what is refreshed.
        seconds: between two looks.
    """
    ended = threading.Event()

    def refresh() -> None:
        torch.set_num_threads(1)  # of this thread: requests have the other cores
        while not ended.wait(seconds):
            current.refresh()

    thread = threading.Thread(target=refresh, name="reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)  # a load that is under way
