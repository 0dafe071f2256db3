"""A run that is tracked while it trains."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from pathlib import Path

from mlflow.entities import Metric
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from recsys.errors import ArtifactError, TrackingError
from recsys.reporting.record import RunRecord
from recsys.reporting.results import monitor_of
from recsys.training.trainer import EpochResult
from tracking import payload
from tracking.ledger import Ledger, kept_ledger
from tracking.mirror import mirror, send_head
from tracking.processes import Owner, maker_tags
from tracking.remote_run import (
    MOST_METRICS,
    RemoteRun,
    Sent,
    attached_run,
    find_or_create_run,
    log,
    points,
)
from tracking.store import STORE_ERRORS, connect, one_line, resolve_uri, warn, without_password
from tracking.views import show_view

PACE_SECONDS = 1.0
"""Between two calls that send epochs."""
_logger = logging.getLogger(__name__)
_MADE_UP_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")


class TrackedRun:
    """A run directory and the MLflow run that follows it, epoch by epoch; see :func:`open_run`.

    The directory is the source. A store that fails is warned about once and left alone until
    ``close``, which sends all that is missing; training never fails, and waits at most about a
    minute, because of the store.

    Attributes:
        tracking_uri: the store, without a password.
        run_id: the MLflow run; None where the store was away from the start.
        experiment_id: its experiment; None likewise.
        is_live: whether epochs are sent as they end.
    """

    def __init__(self, run_dir: Path, record: RunRecord, uri: str) -> None:
        self.tracking_uri = without_password(uri)
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.is_live = True
        self._run_dir = run_dir
        self._uri = uri
        self._run: RemoteRun | None = None
        self._sent = set[int]()
        self._monitored, self._shown = monitor_of(record), payload.shown_in_epochs(record)
        self._monitor: SystemMetricsMonitor | None = None
        self._waiting: list[Metric] = []
        self._told = -math.inf

    def log_epoch(self, epoch: EpochResult) -> None:
        """Send an epoch, with those that wait; within a second of the last call it waits as well.

        A call costs the same for one epoch as for many. What the store holds, as after a resume, is
        left out.
        """
        if epoch.number in self._sent:
            return
        self._sent.add(epoch.number)
        metrics = payload.epoch_metrics(epoch, self._monitored, self._shown)
        self._waiting += points(metrics, step=epoch.number)
        if time.monotonic() - self._told >= PACE_SECONDS or len(self._waiting) > MOST_METRICS / 2:
            self.send_epochs()

    def send_epochs(self) -> None:
        """Send the epochs that wait, in one call."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self.is_live or self._run is None:
            return
        try:
            log(self._run.client, self._run.run_id, waiting)
        except STORE_ERRORS as error:
            self._stop(f"log epoch {waiting[0].step}", error)
        self._told = time.monotonic()

    def close(self) -> Sent | None:
        """Send all of the run directory, its status included.

        The record must say how the run ended, so it is to be written before. Never fails because
        of the store: where that is away, says how to send the run later and gives None.
        """
        if RunRecord.read(self._run_dir).status == "running":
            raise ArtifactError(
                f"{self._run_dir}: the record of a run to close must say how it ended, got "
                "'running'"
            )
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]
        try:
            return mirror(self._run_dir, self._uri)
        except (ArtifactError, TrackingError) as error:
            _logger.warning(
                "%s; nothing is lost, send it later with: bookends track %s", error, self._run_dir
            )
            return None

    def _begin(self, record: RunRecord, attached_id: str | None) -> None:
        with kept_ledger(self._run_dir) as ledger:
            ledger.owner = Owner.current()
            delivery = ledger.delivery(self._uri)
            if attached_id:  # so that it is found again even where the store is away now
                delivery.begin(attached_id, "")
            ledger.write(self._run_dir)
            if attached_id:
                run = attached_run(self._uri, attached_id)
            else:
                run = find_or_create_run(connect(self._uri), record, delivery.run_id)
            delivery.begin(run.run_id, run.experiment_id)
        self._run, self.run_id, self.experiment_id = run, run.run_id, run.experiment_id
        if attached_id and (_MADE_UP_NAME.fullmatch(run.name) or not run.name):
            run.client.update_run(run.run_id, name=record.run_name)  # one that a user gave stays
        run.send_status(None)
        run.delete_tags(payload.ENDING_TAGS)  # how an earlier session of a resumed run ended
        show_view(run.client, run.experiment_id, record)
        place = {"bookends.run_dir": str(self._run_dir.absolute())}
        send_head(run, record, Owner.current().to_tags() | maker_tags() | place)
        self._sent = set(run.epochs_sent())
        if record.setting("experiment.system_metrics", False):
            self._watch_system(run.run_id)

    def _watch_system(self, run_id: str) -> None:
        """Let MLflow log the use of the machine, in a thread of its own, until ``close``."""
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            run_id, resume_logging=True, tracking_uri=self._uri
        )
        self._monitor.start()  # type: ignore[no-untyped-call]

    def _stop(self, action: str, error: BaseException) -> None:
        self.is_live = False
        warn(self._uri, action, error, "training goes on, and the run is sent at its end")
        with kept_ledger(self._run_dir) as ledger:
            delivery = ledger.delivery(self._uri)
            delivery.complete, delivery.error = False, f"{action}: {one_line(error)}"


def open_run(run_dir: Path, tracking_uri: str | None = None) -> TrackedRun:
    """Follow a run directory, whose record says "running", in MLflow.

    Under ``mlflow run`` the run that is open there is used, and its store goes before the setting.
    A directory that was tracked before (a resumed run) goes on in its own run. Else a run is made,
    in the experiment of the settings.

    Args:
        run_dir: holds ``record.json``.
        tracking_uri: the setting; None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here.

    Raises:
        TrackingError: the address can be no store, the experiment was deleted, or the run to attach
            to does not exist. A store that is merely away is no error.
    """
    record = RunRecord.read(run_dir)
    attached_id = os.environ.get("MLFLOW_RUN_ID")
    uri = resolve_uri(None) if attached_id else Ledger.read(run_dir).store(tracking_uri)
    if attached_id and tracking_uri and resolve_uri(tracking_uri) != uri:
        _logger.warning(
            "under mlflow run the open run's store %s is used, not 'experiment.tracking_uri'",
            without_password(uri),
        )
    run = TrackedRun(run_dir, record, uri)
    try:
        run._begin(record, attached_id)
    except STORE_ERRORS as error:
        run._stop("open the run", error)
    return run
