"""Runs that a store shows as running although nobody is: found, and ended truly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from mlflow import MlflowClient
from mlflow.entities import Run

from recsys.errors import TrackingError
from tracking.processes import Owner
from tracking.store import (
    STORE_ERRORS,
    connect,
    explain,
    resolve_uri,
    sqlite_path,
    without_password,
)


@dataclass(frozen=True)
class StaleRun:
    """A run that the store shows as running.

    Attributes:
        run_id: MLflow's id.
        name: its name.
        experiment_id: its experiment.
        reason: why it was mended, or why it was left.
    """

    run_id: str
    name: str
    experiment_id: str
    reason: str


@dataclass(frozen=True)
class Reconciliation:
    """What was found among the runs shown as running.

    Attributes:
        mended: now FAILED, with the tags ``bookends.status: killed`` and ``bookends.reason``.
        left: as they were; those that live are not among them.
    """

    mended: tuple[StaleRun, ...]
    left: tuple[StaleRun, ...]


def reconcile(
    tracking_uri: str | None = None,
    experiment: str | None = None,
    *,
    older_than: timedelta | None = None,
    include_foreign: bool = False,
) -> Reconciliation:
    """End the runs whose process is gone, as after ``kill -9``.

    A run of this machine is judged by its process. A run of another machine cannot be: it is ended
    only when it began longer ago than ``older_than``. A run that no process of ours took up (as
    ``mlflow run`` leaves one when its launch fails) is ended only where ``include_foreign`` says
    so, and, where given, only when older than ``older_than``.

    Args:
        tracking_uri: the store; None takes the usual one.
        experiment: name of one experiment; None takes all.
        older_than: age from which a run that cannot be judged counts as dead; None never.
        include_foreign: end runs without our tags as well.

    Raises:
        TrackingError: the store cannot be used, or has no such experiment.
    """
    uri = resolve_uri(tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise TrackingError(f"a store to reconcile must exist, and there is no file '{path}'")
    mended, left = list[StaleRun](), list[StaleRun]()
    try:
        client = connect(uri)
        for run in _running(client, _experiment_ids(client, experiment)):
            reason, is_dead = _judge(run, older_than, include_foreign)
            if not reason:
                continue
            info = run.info
            stale = StaleRun(info.run_id, info.run_name or "", str(info.experiment_id), reason)
            if is_dead:
                _mend(client, stale)
            (mended if is_dead else left).append(stale)
    except STORE_ERRORS as error:
        raise TrackingError(
            f"{without_password(uri)} could not be reconciled ({explain(error, uri)})"
        ) from error
    return Reconciliation(tuple(mended), tuple(left))


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


def _mend(client: MlflowClient, run: StaleRun) -> None:
    client.set_tag(run.run_id, "bookends.status", "killed")
    client.set_tag(run.run_id, "bookends.reason", run.reason)
    client.set_terminated(run.run_id, "FAILED")


def _experiment_ids(client: MlflowClient, name: str | None) -> list[str]:
    if name is None:
        return [str(found.experiment_id) for found in client.search_experiments()]
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise TrackingError(f"experiment must exist in the tracking store, got '{name}'")
    return [str(experiment.experiment_id)]


def _running(client: MlflowClient, experiment_ids: list[str]) -> list[Run]:
    """All of them, before any is changed: changing one would shift the pages."""
    runs, token = list[Run](), None
    while True:
        page = client.search_runs(
            experiment_ids, "attributes.status = 'RUNNING'", max_results=500, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs
