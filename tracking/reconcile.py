"""Runs that a store shows as running although nobody is: found, and ended truly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from mlflow.entities import Run

from tracking.processes import Owner
from tracking.remote_run import end
from tracking.store import experiment_ids, reading, runs_where


@dataclass(frozen=True)
class StaleRun:
    """A run that the store shows as running though it may not.

    Attributes:
        reason: why it was ended or left.
        is_ended: whether it is FAILED now, with tags that say why.
    """

    run_id: str
    name: str
    reason: str
    is_ended: bool


def reconcile(
    tracking_uri: str | None = None,
    experiment: str | None = None,
    *,
    older_than: timedelta | None = None,
    include_foreign: bool = False,
) -> list[StaleRun]:
    """End the runs whose process is gone, as after ``kill -9``; gives all but those that live.

    A run of this machine is judged by its process. A run of another machine cannot be: it is ended
    only when it began longer ago than ``older_than``. A run that no process of ours took up (as
    ``mlflow run`` leaves one when its launch fails) is ended only where ``include_foreign`` says
    so, and, where given, only when older than ``older_than``. None for ``experiment`` takes all.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
    """
    found = []
    with reading(tracking_uri, "runs could not be reconciled in") as client:
        ids = experiment_ids(client, experiment)
        # all are read before any is changed, which would shift the pages
        for run in list(runs_where(client, ids, "attributes.status = 'RUNNING'")):
            reason, is_dead = _judge(run, older_than, include_foreign)
            if not reason:
                continue
            found.append(StaleRun(run.info.run_id, run.info.run_name or "", reason, is_dead))
            if is_dead:
                tags = {"bookends.status": "killed", "bookends.reason": reason}
                end(client, run.info.run_id, "FAILED", tags)
    return found


def _judge(run: Run, older_than: timedelta | None, include_foreign: bool) -> tuple[str, bool]:
    """Why a run is stale or suspect, empty where it is neither; and whether it is to be ended."""
    owner = Owner.from_tags(run.data.tags)
    age = timedelta(milliseconds=time.time() * 1000 - run.info.start_time)
    is_old = older_than is not None and age > older_than
    if owner is None:
        reason = "no process took it up"
        return reason, include_foreign and (is_old or older_than is None)
    match owner.life():
        case "alive":
            return "", False
        case "dead":
            return f"process {owner.pid} on {owner.host} is gone", True
        case "elsewhere":
            hours = age.total_seconds() / 3600
            return f"began {hours:.1f} hours ago on {owner.host}", is_old
