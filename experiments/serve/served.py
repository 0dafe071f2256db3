"""The model that is served: where it is found, and how it is made ready."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from recsys.errors import ConfigError, TrackingError
from recsys.recommender import Recommender
from tracking.model import find_version, is_logged_model, resolve_bundle
from tracking.store import STORE_ERRORS, connect_to_read, one_line, resolve_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger("bookends.serve")
_MODELS, _RUNS = "models:/", "runs:/"


@dataclass(frozen=True)
class Place:
    """One model that does not change, other than what an alias points to.

    Attributes:
        uri: of this very model: with a version where it is registered.
        version: in the registry; None where the model was named in another way.
        run_id: of the run that made it, where that is known.
    """

    uri: str
    version: str | None = None
    run_id: str | None = None


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
    place: Place
    asked: str
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def version(self) -> str | None:
        """In the registry; None for a model that is not registered."""
        return self.place.version

    @property
    def run_id(self) -> str | None:
        """Of the run that made it, where that is known."""
        return self.place.run_id


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

    @property
    def can_move(self) -> bool:
        """Whether the address may come to mean another model: an alias does, all else does not."""
        return self.uri.startswith(_MODELS) and "@" in self.uri

    def find(self) -> Place:
        """What the address means now.

        Raises:
            TrackingError: there is no such model, or the store cannot be reached.
        """
        if self.uri.startswith(_RUNS):
            run_id = self.uri.removeprefix(_RUNS).strip("/").partition("/")[0]
            return Place(self.uri, run_id=run_id)
        if not self.uri.startswith(_MODELS) or is_logged_model(self.uri):
            return Place(self.uri)
        try:
            found = find_version(self._client, self.uri)
        except STORE_ERRORS as error:
            store = without_password(resolve_uri(self.tracking_uri))
            raise TrackingError(
                f"{self.uri}: must be a model in {store} ({one_line(error)})"
            ) from error
        version = str(found.version)
        return Place(f"{_MODELS}{found.name}/{version}", version, found.run_id or None)

    def load(self, place: Place) -> Served:
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

    @cached_property
    def _client(self) -> MlflowClient:
        return connect_to_read(resolve_uri(self.tracking_uri))


def _warm(recommender: Recommender) -> None:
    """Ask once, so that what is made at the first question is there before it."""
    if not len(recommender.items) or not len(recommender.users):
        raise ConfigError("a served model must know a user and a book at least")
    first_user, first_item = recommender.users.ids[0].as_py(), recommender.items.ids[0].as_py()
    recommender.recommend_for_users([first_user, None], [[], []], 1)
    recommender.similar_items([first_item], 1)


def _say(served: Served) -> None:
    recommender = served.recommender
    LOG.info(
        "%s: %s users, %s books, %.0f MB",
        served.place.uri,
        f"{len(recommender.users):,}",
        f"{len(recommender.items):,}",
        recommender.n_bytes / 1e6,
    )
    if recommender.approximate is not None:
        recall = recommender.approximate.recall
        LOG.info(
            "the index finds %.1f %% of the exact lists of %d books (worst of %d sampled users: "
            "%.1f %%); built in %.1f s",
            100 * recall.mean,
            recall.k,
            recall.n_users,
            100 * recall.lowest,
            recall.build_seconds,
        )
