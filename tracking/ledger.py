"""tracking.json: which MLflow run a run directory is mirrored to, and what was sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.artifacts import locked
from recsys.errors import ArtifactError, first_problem
from recsys.reporting.record import write_json
from tracking.processes import Owner
from tracking.store import resolve_uri, without_password

FILE_NAME = "tracking.json"
_LOCK_NAME = ".tracking.lock"


class Delivery(BaseModel):
    """How far one store has come.

    Attributes:
        complete: whether all of the run directory was sent.
        error: why not, where a call failed.
        files: content digest of each artifact sent, by its path in the run.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: str = ""
    experiment_id: str = ""
    complete: bool = False
    error: str | None = None
    files: dict[str, str] = {}

    def begin(self, run_id: str, experiment_id: str) -> None:
        """Deliver to this run; what another run was sent does not count."""
        if self.run_id != run_id:
            self.files = {}
        self.run_id, self.experiment_id = run_id, experiment_id
        self.complete, self.error = False, None


class Ledger(BaseModel):
    """The deliveries of one run directory, by the store's address without a password.

    Attributes:
        tracking_uri: the store used last.
        owner: the process that trained last; None where tracking never began.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    tracking_uri: str | None = None
    owner: Owner | None = None
    deliveries: dict[str, Delivery] = {}

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The ledger of a run directory; an empty one where nothing was ever sent."""
        path = run_dir / FILE_NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        except (OSError, ValidationError) as error:
            said = first_problem(error) if isinstance(error, ValidationError) else error
            raise ArtifactError(
                f"{path}: must be a tracking ledger ({said}); delete it to begin anew"
            ) from error

    def store(self, setting: str | None) -> str:
        """The store asked for, else ``MLFLOW_TRACKING_URI``, else the one used last; resolved."""
        return resolve_uri(setting or os.environ.get("MLFLOW_TRACKING_URI") or self.tracking_uri)

    def write(self, run_dir: Path) -> None:
        """Put the ledger into the run directory, whole or not at all."""
        write_json(run_dir / FILE_NAME, self.model_dump())

    def delivery(self, uri: str) -> Delivery:
        """The delivery to a store, which becomes the one used last."""
        self.tracking_uri = without_password(uri)
        return self.deliveries.setdefault(self.tracking_uri, Delivery())


@contextmanager
def kept_ledger(run_dir: Path) -> Iterator[Ledger]:
    """The ledger of a run directory, for this process alone; it is kept at the end."""
    with locked(run_dir / _LOCK_NAME):
        ledger = Ledger.read(run_dir)
        try:
            yield ledger
        finally:
            if ledger.tracking_uri is not None:  # a directory that was never tracked stays as it is
                ledger.write(run_dir)
