"""A lease on a registry: one process at a time moves its champion, wherever the processes are.

MLflow can move an alias but not "move it if it still points there", so that two registrations which
both looked at the same champion would each believe to have followed it. What a registry does give,
by the unique key of its table and hence on a server as in a file, is that of any number of calls to
create a registered model of one name exactly one succeeds. Such a model, which nothing else is kept
in, is the lease: whoever created it may write, and deletes it at the end. A file lock would be
simpler, but says nothing to processes of other machines that use the same server.

A holder may die. On the same machine this is seen at once, by the process's number and start. A
holder on another machine is given up when its lease has stood unchanged for ``TTL`` seconds of the
*waiting* process's own clock, so that clocks need not agree. A dead lease is not deleted but
renamed to a name made of its own token, and kept there for a while: of those who saw the same dead
lease only one can do that, and none of them can take away the lease of the next holder instead.

A holder that was stopped for longer than ``TTL`` and goes on cannot be told from outside, so it
asks :meth:`Lease.check` before each thing it writes. Between that question and the write a moment
remains; it is closed only as far as the registry allows, by holding the lease for a few calls only.
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

from recsys.errors import TrackingError
from tracking.processes import Owner
from tracking.store import found

TTL = 60.0
"""Seconds after which a holder that cannot be asked is given up; most hold a lease for a second."""
PATIENCE = 3 * TTL
"""Seconds after which a process that waits gives up."""
_POLL = 0.1
_BROKEN = ".broken."
_TOKEN_TAG = "bookends.lease.token"
_KEPT_MS = 600_000  # longer than any process can be between looking at a lease and renaming it
_PASSING = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE")
"""What a call may end with because another process came first."""


@dataclass(frozen=True)
class Lease:
    """The right to write, for a short time.

    Attributes:
        name: of the registered model that stands for it.
        token: tells this lease from any other.
        begun: when, on this process's clock.
    """

    client: MlflowClient
    name: str
    token: str
    begun: float

    def check(self) -> None:
        """Make sure that the lease is still ours.

        Raises:
            TrackingError: it took too long, and another process may have it.
        """
        held = _read(self.client, self.name)
        if held is None or _token(held) != self.token or time.monotonic() - self.begun > TTL / 2:
            raise TrackingError(
                "the registry must answer within "
                f"{TTL / 2:.0f} seconds while a champion is moved, but did not, and another "
                "registration may have begun; nothing more was written: register again"
            )


@contextmanager
def lease(client: MlflowClient, name: str) -> Iterator[Lease]:
    """Wait for the lease of a registered model, which is called ``NAME.lease``, and hold it.

    Raises:
        TrackingError: others held it for too long.
    """
    held = _take(client, f"{name}.lease", uuid.uuid4().hex)
    try:
        _delete_broken(client, held.name)
        yield held
    finally:
        now = _read(client, held.name)
        if now is not None and _token(now) == held.token:  # it was not taken from us
            client.delete_registered_model(held.name)


def _take(client: MlflowClient, name: str, token: str) -> Lease:
    waiting_since = time.monotonic()
    seen, seen_since = "", waiting_since
    while True:
        asked = time.monotonic()
        if _create(client, name, token):
            return Lease(client, name, token, asked)
        held = _read(client, name)
        if held is None:
            continue
        if _token(held) == token:  # the answer to our call was lost, and the call sent again
            return Lease(client, name, token, asked)
        if _token(held) != seen:
            seen, seen_since = _token(held), time.monotonic()
        if _is_dead(held) or time.monotonic() - seen_since > TTL:
            _break(client, name, seen)
        elif time.monotonic() - waiting_since > PATIENCE:
            raise TrackingError(
                f"the registry must be free within {PATIENCE:.0f} seconds, but others hold it, "
                f"last {_holder(held)}"
            )
        else:
            time.sleep(_POLL * (0.5 + random.random()))


def _create(client: MlflowClient, name: str, token: str) -> bool:
    tags = {_TOKEN_TAG: token} | Owner.current().to_tags()
    note = "Not a model: held for a moment while a champion is moved, so that one moves at a time."
    try:
        client.create_registered_model(name, tags=tags, description=note)
    except MlflowException as error:
        if error.error_code not in _PASSING:
            raise
        return False
    return True


def _read(client: MlflowClient, name: str) -> RegisteredModel | None:
    return found(lambda: client.get_registered_model(name))


def _break(client: MlflowClient, name: str, token: str) -> None:
    """Take away the lease with this token, if nobody did so before."""
    broken = name + _BROKEN + token
    try:
        client.rename_registered_model(name, broken)
    except MlflowException as error:
        if error.error_code not in _PASSING:
            raise
        return
    moved = _read(client, broken)
    if moved is not None and _token(moved) != token:  # it had been given back, and taken anew
        client.rename_registered_model(broken, name)


def _delete_broken(client: MlflowClient, name: str) -> None:
    """Delete the broken leases that nobody can be looking at any more."""
    for broken in client.search_registered_models(f"name LIKE '{name}{_BROKEN}%'"):
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
