"""Turns at a registry: one process at a time may move its champion, wherever the processes are.

MLflow can move an alias but not "move it if it still points there", so that two registrations which
both looked at the same champion would each believe to have followed it. What a registry does give,
by the unique key of its table and hence on a server as in a file, is that of any number of calls to
create a registered model of one name exactly one succeeds. Such a model, which nothing else is kept
in, is the lease: whoever created it has the turn, and deletes it at its end. A file lock would be
simpler, but says nothing to processes of other machines that use the same server.

A holder may die. On the same machine this is seen at once, by the process's number and start. A
holder on another machine is given up when its lease has stood unchanged for ``TTL`` seconds of the
*waiting* process's own clock, so that clocks need not agree. A dead lease is not deleted but
renamed to a name made of its own token, and kept there for a while: of those who saw the same dead
lease only one can do that, and none of them can take away the lease of the next holder instead.

A holder that was stopped for longer than ``TTL`` and goes on cannot be told from outside, so it
asks :meth:`Turn.check` before each thing it writes. Between that question and the write a moment
remains; it is closed only as far as the registry allows, by keeping the turn to a few calls.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)

from recsys.errors import TrackingError
from tracking.processes import Owner

TTL = 60.0
"""Seconds after which a holder that cannot be asked is given up; a turn takes a second or two."""
PATIENCE = 3 * TTL
"""Seconds after which a process that waits for its turn gives up."""
_POLL = 0.1
_BROKEN = ".broken."
_TOKEN_TAG = "bookends.lease.token"
_KEPT_MS = 600_000  # longer than any process can be between looking at a lease and renaming it
_PASSING = {
    ErrorCode.Name(code)
    for code in (RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE)
}
"""What a call may end with because another process came first."""


@dataclass(frozen=True)
class Turn:
    """The right to write, for a short time.

    Attributes:
        client: of the registry.
        lease: name of the registered model that stands for it.
        token: tells this turn from any other.
        begun: when, on this process's clock.
    """

    client: MlflowClient
    lease: str
    token: str
    begun: float

    def check(self) -> None:
        """Make sure that the turn is still ours.

        Raises:
            TrackingError: it took too long, and another process may have it.
        """
        held = _read(self.client, self.lease)
        if held is None or _token(held) != self.token or time.monotonic() - self.begun > TTL / 2:
            raise TrackingError(
                "the registry must answer within "
                f"{TTL / 2:.0f} seconds while a champion is moved, but did not, and another "
                "registration may have begun; nothing more was written: register again"
            )


@contextmanager
def turn(client: MlflowClient, name: str) -> Iterator[Turn]:
    """Wait for the turn at a registered model, and hold it.

    Args:
        client: of the registry.
        name: of the registered model; the lease is ``NAME.lease``.

    Raises:
        TrackingError: others held it for too long.
        STORE_ERRORS: the registry cannot be reached.
    """
    held = _take(client, f"{name}.lease", uuid.uuid4().hex)
    try:
        _sweep(client, held.lease)
        yield held
    finally:
        _give_back(held)


def _take(client: MlflowClient, lease: str, token: str) -> Turn:
    waiting_since = time.monotonic()
    seen, seen_since = "", waiting_since
    while True:
        asked = time.monotonic()
        if _create(client, lease, token):
            return Turn(client, lease, token, asked)
        held = _read(client, lease)
        if held is None:
            continue
        if _token(held) == token:  # the answer to our call was lost, and the call sent again
            return Turn(client, lease, token, asked)
        if _token(held) != seen:
            seen, seen_since = _token(held), time.monotonic()
        if _is_dead(held) or time.monotonic() - seen_since > TTL:
            _break(client, lease, seen)
        elif time.monotonic() - waiting_since > PATIENCE:
            raise TrackingError(
                f"the registry must be free within {PATIENCE:.0f} seconds, but others hold it, "
                f"last {_holder(held)}"
            )
        else:
            time.sleep(_POLL * (0.5 + random.random()))


def _create(client: MlflowClient, lease: str, token: str) -> bool:
    tags = {_TOKEN_TAG: token} | Owner.current().to_tags()
    note = "Not a model: held for a moment while a champion is moved, so that one moves at a time."
    try:
        client.create_registered_model(lease, tags=tags, description=note)
    except MlflowException as error:
        if error.error_code not in _PASSING:
            raise
        return False
    return True


def _read(client: MlflowClient, lease: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(lease)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None


def _break(client: MlflowClient, lease: str, token: str) -> None:
    """Take away the lease with this token, if nobody did so before."""
    broken = lease + _BROKEN + token
    try:
        client.rename_registered_model(lease, broken)
    except MlflowException as error:
        if error.error_code not in _PASSING:
            raise
        return
    moved = _read(client, broken)
    if moved is not None and _token(moved) != token:  # it had been given back, and taken anew
        client.rename_registered_model(broken, lease)


def _give_back(held: Turn) -> None:
    """Delete the lease, unless it was taken from us."""
    lease = _read(held.client, held.lease)
    if lease is not None and _token(lease) == held.token:
        held.client.delete_registered_model(held.lease)


def _sweep(client: MlflowClient, lease: str) -> None:
    """Delete the broken leases that nobody can be looking at any more."""
    for broken in client.search_registered_models(f"name LIKE '{lease}{_BROKEN}%'"):
        if time.time() * 1000 - (broken.last_updated_timestamp or 0) > _KEPT_MS:
            client.delete_registered_model(broken.name)


def _is_dead(held: RegisteredModel) -> bool:
    owner = Owner.from_tags(held.tags)
    return owner is not None and owner.life() == "dead"


def _token(held: RegisteredModel) -> str:
    return str(held.tags.get(_TOKEN_TAG, ""))


def _holder(held: RegisteredModel) -> str:
    owner = Owner.from_tags(held.tags)
    return "an unknown process" if owner is None else f"process {owner.pid} of {owner.host}"
