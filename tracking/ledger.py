"""tracking.json: which MLflow run a run directory is mirrored to, and what was sent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from recsys.errors import ArtifactError
from recsys.reporting.record import write_json
from tracking.processes import Owner
from tracking.store import without_password

FILE_NAME = "tracking.json"
_FORMAT = 1


@dataclass
class Delivery:
    """How far one store has come.

    Attributes:
        run_id: the MLflow run.
        experiment_id: its experiment.
        complete: whether all of the run directory was sent.
        error: why not, where a call failed.
        files: content digest of each artifact sent, by its path in the run.
    """

    run_id: str = ""
    experiment_id: str = ""
    complete: bool = False
    error: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    def begin(self, run_id: str, experiment_id: str) -> None:
        """Deliver to this run; what another run was sent does not count."""
        if self.run_id != run_id:
            self.files = {}
        self.run_id, self.experiment_id = run_id, experiment_id
        self.complete, self.error = False, None


@dataclass
class Ledger:
    """The deliveries of one run directory, by the store's address.

    Attributes:
        tracking_uri: the store used last, without a password.
        owner: the process that trained last; None where tracking never began.
        deliveries: by address, without a password.
    """

    tracking_uri: str | None = None
    owner: Owner | None = None
    deliveries: dict[str, Delivery] = field(default_factory=dict)

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The ledger of a run directory; an empty one where nothing was ever sent."""
        path = run_dir / FILE_NAME
        if not path.exists():
            return cls()
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ArtifactError(
                    f"{path}: must have 'format' {_FORMAT}, got {content['format']!r}"
                )
            return cls(
                content["tracking_uri"],
                Owner(**content["owner"]) if content["owner"] else None,
                {uri: Delivery(**delivery) for uri, delivery in content["deliveries"].items()},
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{path}: must be a tracking ledger ({error}); delete it to begin anew"
            ) from error

    def write(self, run_dir: Path) -> None:
        """Put the ledger into the run directory, whole or not at all."""
        write_json(run_dir / FILE_NAME, {"format": _FORMAT} | asdict(self))

    def delivery(self, uri: str) -> Delivery:
        """The delivery to a store, which becomes the one used last."""
        self.tracking_uri = without_password(uri)
        return self.deliveries.setdefault(self.tracking_uri, Delivery())
