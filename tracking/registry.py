"""The model registry: versions made of runs, and the alias of the one that is served.

An alias points to one version, so there are never two champions. That the one it points to was held
against the one before it, and not against an earlier one, is seen to by a lease
(:mod:`tracking.lease`): under it the champion is read again, and where it is not the one the gate
looked at, nothing is written and the caller is asked to judge anew.

A process may be killed between any two calls, so a promotion moves the alias first and notes the
move after, and a rollback the other way round: either way the former champions that
:func:`tracking.champions.succession` gives are the right ones.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from recsys.errors import ConfigError, TrackingError
from tracking.champions import Move, Way, moves_in, rollback_target
from tracking.lease import Lease, lease
from tracking.processes import user_name
from tracking.registry_page import (
    Candidate,
    details_in,
    model_description,
    version_description,
    version_tags,
)
from tracking.remote_run import existing_run, finished_models
from tracking.store import connect_to_read, every, found, plain_errors, without_password

DEFAULT_NAME = "bookends"
CHAMPION = "champion"
_NAME = re.compile(r"[\w.\- ]{1,200}")
_PAGE = 100


class ChampionChangedError(TrackingError):
    """The champion is no longer the one that the candidate was held against."""


@dataclass(frozen=True)
class Registered:
    """The run's version, what was done now, and where the alias points (None: nowhere)."""

    version: int
    is_new: bool
    has_moved: bool
    champion: int | None


class Registry:
    """One registered model of a store or server; what it raises is always a ``BookendsError``.

    Raises:
        ConfigError: MLflow would refuse the name, or a filter could not hold it.
        TrackingError: the store cannot be reached.
    """

    def __init__(self, uri: str, name: str = DEFAULT_NAME) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                "the name of a registered model must be letters, digits, spaces, '_', '-' and "
                f"'.', at most 200, got '{name}'"
            )
        self.uri, self.name = uri, name
        with self._plainly("be opened"):
            self._client = connect_to_read(uri)

    def champion(self) -> ModelVersion | None:
        """The version that the alias points to."""
        with self._plainly("say who is champion"):
            model = self._model()
            number = None if model is None else _champion_of(model)
            if number is None:
                return None
            return self._client.get_model_version(self.name, str(number))

    def version_of(self, run_id: str) -> int | None:
        """The version that was made of a run's present model."""
        with self._plainly("be searched"):
            model_id = self._logged_model(run_id).model_id
            return self._find(run_id, model_id)

    def register(self, candidate: Candidate) -> Registered:
        """Make a version of a run unless there is one, and move the alias to it if it may be.

        Raises:
            ChampionChangedError: meanwhile another version became champion; judge again.
            TrackingError: the run holds no model, or the registry does not answer.
        """
        with self._plainly(f"take up run {candidate.run_id}"):
            source = self._logged_model(candidate.run_id)
            with lease(self._client, self.name) as held:
                model = self._ensure_model()
                before = _champion_of(model)
                number = self._find(candidate.run_id, source.model_id)
                if number is not None and number == before:
                    return Registered(number, is_new=False, has_moved=False, champion=before)
                if before != candidate.against:
                    raise ChampionChangedError(
                        f"the champion must be {_called(candidate.against)}, which the candidate "
                        f"was held against, but is {_called(before)} now"
                    )
                is_new = number is None
                number = self._write_version(candidate, source, number)
                if candidate.is_promoted:
                    way: Way = "gate" if candidate.verdict.passed else "force"
                    self._promote(held, model, number, way, candidate.reason or "")
        champion = number if candidate.is_promoted else before
        return Registered(number, is_new, candidate.is_promoted, champion)

    def roll_back(self, to: int | None = None, reason: str = "") -> Move:
        """Move the alias to the champion before the present one, or to a former one.

        Raises:
            TrackingError: there is none, or it was deleted.
        """
        with self._plainly("roll back"), lease(self._client, self.name) as held:
            model = self._model()
            if model is None:
                raise TrackingError(
                    f"registered model '{self.name}': must exist to be rolled back, but "
                    f"{without_password(self.uri)} holds none of that name"
                )
            moves, current = moves_in(model.tags), _champion_of(model)
            existing = {int(version.version) for version in self._versions()}
            version = rollback_target(moves, current, existing, to)
            move = _move(moves, version, current, "rollback", reason)
            held.check()
            self._note(model, move)
            held.check()
            self._client.set_registered_model_alias(self.name, CHAMPION, str(version))
        return move

    def _promote(
        self, held: Lease, model: RegisteredModel, version: int, way: Way, reason: str
    ) -> None:
        moves = moves_in(model.tags)
        move = _move(moves, version, _champion_of(model), way, reason)
        held.check()
        self._client.set_registered_model_alias(self.name, CHAMPION, str(version))
        self._note(model, move)

    def _note(self, model: RegisteredModel, move: Move) -> None:
        self._client.set_registered_model_tag(self.name, *move.tag)
        description = model_description(
            self.name, [*moves_in(model.tags), move], model.description or ""
        )
        self._client.update_registered_model(self.name, description)

    def _write_version(self, candidate: Candidate, source: LoggedModel, number: int | None) -> int:
        """Make the version, or bring what stands at it up to date; gives its number."""
        tags = version_tags(candidate, source.model_id)
        description = version_description(candidate)
        if number is None:
            made = self._client.create_model_version(
                self.name,
                # Not models:/ID: a store that is no server looks that up in MLflow's global store.
                source=source.artifact_location,
                run_id=candidate.run_id,
                tags=tags,
                description=description,
                model_id=source.model_id,
                await_creation_for=0,
            )
            self._link(source, int(made.version))
            return int(made.version)
        held = self._client.get_model_version(self.name, str(number)).tags
        for key in held:
            if key.startswith("bookends.") and key not in tags:
                self._client.delete_model_version_tag(self.name, str(number), key)
        for key, value in tags.items():
            if held.get(key) != value:
                self._client.set_model_version_tag(self.name, str(number), key, value)
        self._client.update_model_version(self.name, str(number), description)
        return number

    def _link(self, source: LoggedModel, number: int) -> None:
        """Let the pages of the model and its run name the version; only a server does so itself."""
        held = json.loads(source.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
        entry = {"name": self.name, "version": number}
        if entry not in held:
            tags = {MLFLOW_MODEL_VERSIONS: json.dumps([*held, entry])}
            self._client.set_logged_model_tags(source.model_id, tags)

    def _model(self) -> RegisteredModel | None:
        return found(lambda: self._client.get_registered_model(self.name))

    def _ensure_model(self) -> RegisteredModel:
        model = self._model()
        if model is not None:
            return model
        try:
            return self._client.create_registered_model(
                self.name, description=model_description(self.name, [], "")
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_registered_model(self.name)  # made by other means meanwhile

    def _versions(self, condition: str = "") -> Iterator[ModelVersion]:
        """Versions that were not deleted, newest first."""
        condition = f"name = '{self.name}'{condition}"
        return every(
            lambda token: self._client.search_model_versions(
                condition, max_results=_PAGE, page_token=token
            )
        )

    def _find(self, run_id: str, model_id: str) -> int | None:
        for version in self._versions(f" and run_id = '{run_id}'"):
            if details_in(version.tags).get("model_id") == model_id:
                return int(version.version)
        return None

    def _logged_model(self, run_id: str) -> LoggedModel:
        """The run's model: the last that was logged whole."""
        if existing_run(self._client, run_id) is None:
            raise TrackingError(
                f"run {run_id}: must be in {without_password(self.uri)}, but is not there"
            )
        models = finished_models(self._client, run_id)
        if not models:
            raise TrackingError(
                f"run {run_id}: must hold a model to be registered, but holds none; a run logs "
                "its model when it is finished, and 'bookends track RUN_DIR' sends what is missing"
            )
        return models[0]

    def _plainly(self, what: str) -> AbstractContextManager[None]:
        return plain_errors(self.uri, f"registry {without_password(self.uri)}: could not {what}")


def _champion_of(model: RegisteredModel) -> int | None:
    number = dict(model.aliases).get(CHAMPION)
    return None if number is None else int(number)


def _called(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _move(moves: list[Move], version: int, previous: int | None, way: Way, reason: str) -> Move:
    return Move(
        number=max((move.number for move in moves), default=0) + 1,
        version=version,
        previous=previous,
        way=way,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=f"{user_name()}@{platform.node()}",
        reason=" ".join(reason.split())[:1000],
    )
