"""A sweep in MLflow: one parent run, and a run nested under it for every trial.

Of a trial MLflow is told when it begins and when it ends; its epochs go out together, every few
seconds while it lasts and at its end, since a call costs the same for one epoch as for twenty.
A store that fails is left alone for a while; the sweep goes on without it, and what it missed is
sent from the study later.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.config import flatten
from recsys.training.trainer import EpochResult
from tracking.names import metric_key, parameter_key
from tracking.payload import ENDING_TAGS, STATUS, epoch_metrics, parameter_text
from tracking.processes import Owner, maker_tags, source_tags
from tracking.remote_run import (
    KEY_TAG,
    RemoteRun,
    attached_run,
    existing_run,
    files_below,
    log,
    points,
    run_with_key,
)
from tracking.store import (
    STORE_ERRORS,
    connect,
    ensure_experiment,
    plain_errors,
    resolve_uri,
    warn,
    without_password,
)
from tracking.trial_runs import ENDS, EndedTrial, TrialEnd, deliver, end_lost

FLUSH_SECONDS = 10.0
"""A trial that lasts longer shows its epochs while it runs, at most this late."""
PAUSE_SECONDS = 30.0
"""A worker leaves a store that failed alone so long, and twice as long after each failure more."""
DATA_DIR = "prepared_data"
"""Of the sweep's run: the prepared data set, where workers elsewhere are to fetch it."""
_KEPT_HOME = (".lock", ".turn", ".log", ".npz", ".parquet", ".npy")


@dataclass
class SweepRun:
    """The parent run of a sweep; made by :func:`open_sweep`.

    Attributes:
        uri: the store, as resolved.
        run: the run in it.
        failures: what the store could not do.
    """

    uri: str
    run: RemoteRun
    failures: list[str] = field(default_factory=list)
    _sent: dict[str, str] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """MLflow's id."""
        return self.run.run_id

    @property
    def experiment_id(self) -> str:
        """Its experiment, which the trials share."""
        return self.run.experiment_id

    def send_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, those of a description among them."""
        with self._trying("set tags"):
            self.run.send_tags(tags)

    def send_origin(
        self,
        environment: Mapping[str, Any],
        dataset: Mapping[str, Any],
        filter_steps: Sequence[Mapping[str, Any]],
    ) -> None:
        """Say which code, command and data the sweep came from, as a run does."""
        with self._trying("say where the sweep came from"):
            tags = source_tags(environment, "bookends sweep") | maker_tags()
            self.run.send_tags(self.run.without_held(tags))
            self.run.send_dataset(dataset, filter_steps)

    def send_progress(self, series: Sequence[Mapping[str, float]]) -> None:
        """Log the series of the sweep: one point a trial that ended, in the order of their end.

        Args:
            series: all points since the start; those that the store holds are left out.
        """
        with self._trying("log the progress"):
            sent = len(self.run.client.get_metric_history(self.run_id, "sweep/n_ended"))
            log(self.run.client, self.run_id, list(_series(series, sent)))

    def send_metrics(self, group: str, values: Mapping[str, float | None]) -> None:
        """Log single numbers under a group."""
        with self._trying("log metrics"):
            metrics = points({metric_key(group, name): value for name, value in values.items()})
            log(self.run.client, self.run_id, metrics)

    def send_files(self, sweep_dir: Path) -> None:
        """Upload what lies in the sweep's directory, except the study's storage and vectors."""
        with self._trying("upload files"):
            files = files_below(sweep_dir)
            sent = {place: file for place, file in files.items() if place.suffix not in _KEPT_HOME}
            self.run.send_files(sent, self._sent)

    def send_data(self, files: Mapping[Path, str], sent: Mapping[str, str]) -> bool:
        """Upload the files of the prepared data set that the run lacks; gives whether it has all.

        Args:
            files: each with its digest.
            sent: digest of what was uploaded before, by name, to this run or to one that is gone.
        """
        with self._trying("take the prepared data"):
            held = self.run.file_sizes([DATA_DIR])
            for path, digest in files.items():
                place = PurePosixPath(DATA_DIR, path.name)
                is_held = held.get(str(place)) == path.stat().st_size
                if not is_held or sent.get(path.name) != digest:
                    self.run.send_file(path, place)
            return True
        return False

    def end_lost(self, run_id: str | None, reason: str) -> None:
        """Mark a trial's run whose process is gone."""
        with self._trying("mark a lost trial"):
            if run_id is not None and existing_run(self.run.client, run_id) is not None:
                end_lost(self.run.client, run_id, reason)

    def deliver(self, trials: Sequence[EndedTrial]) -> None:
        """Send the trials that the store lacks, or shows otherwise than they ended or were lost."""
        with self._trying("take the trials it lacks"):
            deliver(self.run.client, self.experiment_id, self.run_id, trials)

    def finish(self, status: str, error: str | None = None) -> None:
        """End the run: "finished", "interrupted", "failed" or "killed", and by what."""
        with self._trying("end the sweep's run"):
            because = {} if error is None else {"bookends.error": error}
            self.run.send_tags({"bookends.status": status} | because)
            self.run.send_status(STATUS.get(status, "FAILED"))

    @contextmanager
    def _trying(self, action: str) -> Iterator[None]:
        """Note and tell that the store could not do it, and go on."""
        try:
            yield
        except STORE_ERRORS as error:
            self.failures.append(action)
            warn(self.uri, action, error, "the sweep goes on")


def open_sweep(
    tracking_uri: str | None,
    *,
    experiment: str,
    name: str,
    created: str,
    params: Mapping[str, Mapping[str, Any]],
    tags: Mapping[str, str],
    run_id: str | None,
) -> SweepRun:
    """The parent run of a sweep: the one it had, else the one that ``mlflow run`` opened, or new.

    Under ``mlflow run`` the environment's run is used up: the variable is taken away, so that the
    winner's run becomes one of its own.

    Args:
        tracking_uri: the setting; None takes the usual one.
        experiment: name of the experiment where the run is made.
        name: of the sweep.
        created: start of the sweep's first session.
        params: nested settings to log under ``cfg.`` and ``sweep.``.
        tags: to set.
        run_id: the run that the sweep had in an earlier session.

    Raises:
        TrackingError: the address can be no store, or names one that does not hold the run.
        STORE_ERRORS: the store cannot be reached.
    """
    attached_id = os.environ.pop("MLFLOW_RUN_ID", None)
    uri = resolve_uri(None if attached_id else tracking_uri)
    attached = attached_run(uri, attached_id) if attached_id else None
    client, key = connect(uri), _key(name, created)
    run = existing_run(client, run_id) if run_id else None
    if run is None and attached is not None:
        run = attached
        client.update_run(run.run_id, name=name)
    elif run is None:
        experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
        experiment_id = experiment_id or ensure_experiment(client, experiment)
        run = run_with_key(client, experiment_id, key, name)
    elif attached is not None and attached.run_id != run.run_id:
        note = f"Resumed the sweep **{name}**, whose run is `{run.run_id}`."
        attached.send_tags({"mlflow.note.content": note, "bookends.sweep_run": run.run_id})
    run.send_status(None)
    run.delete_tags(ENDING_TAGS)  # how an earlier session ended
    run.send_settings(
        {
            parameter_key(setting, f"{group}."): parameter_text(value)
            for group, values in params.items()
            for setting, value in flatten(values).items()
        },
        dict(tags) | Owner.current().to_tags() | {KEY_TAG: key, "bookends.status": "running"},
    )
    return SweepRun(uri, run)


@contextmanager
def fetched_data(uri: str, run_id: str, name: str) -> Iterator[Path]:
    """A file of the prepared data set that a sweep's run holds, here until the block ends.

    Args:
        uri: the store, as resolved.
        run_id: the sweep's run.
        name: of the file.

    Raises:
        TrackingError: it cannot be had.
    """
    what = f"the tracking store {without_password(uri)} must hold the prepared data"
    with TemporaryDirectory() as folder:
        with plain_errors(uri, what):
            place = f"{DATA_DIR}/{name}"
            path = Path(connect(uri).download_artifacts(run_id, place, folder))
        yield path


class TrialTracker:
    """What a worker tells MLflow of its trials.

    Args:
        uri: the store, as resolved.
        experiment_id: the parent's.
        parent_id: the sweep's run.

    Attributes:
        run_id: the present trial's run; None where the store is away.
    """

    def __init__(self, uri: str, experiment_id: str, parent_id: str) -> None:
        self._uri = uri
        self._experiment_id = experiment_id
        self._parent_id = parent_id
        self._owner = Owner.current()
        self._client: MlflowClient | None = None
        self._is_live = True
        self._pause = PAUSE_SECONDS
        self._retry = 0.0
        self.run_id: str | None = None
        self._params: dict[str, str] = {}
        self._points: list[Metric] = []
        self._flushed = time.monotonic()

    def connect(self) -> None:
        """Reach the store and read from it, before the first trial: this takes about a second."""
        self._try("be reached", lambda: self._connect().get_run(self._parent_id))

    def begin(self, number: int, name: str, tags: Mapping[str, str]) -> None:
        """Make the run of a trial."""
        self.run_id, self._points, self._params = None, [], {}
        self._flushed = time.monotonic()
        self._is_live |= self._flushed >= self._retry

        def create() -> None:
            run = self._connect().create_run(
                self._experiment_id,
                run_name=name,
                tags={
                    MLFLOW_PARENT_RUN_ID: self._parent_id,
                    "optuna.trial": str(number),
                    "optuna.state": "RUNNING",
                    "bookends.status": "running",
                }
                | self._owner.to_tags()
                | dict(tags),
            )
            self.run_id = run.info.run_id

        self._try("make a trial's run", create)

    def params(self, params: Mapping[str, Any]) -> None:
        """Take in the trial's values by dotted setting; they go out with its epochs."""
        for name, value in params.items():
            self._params[parameter_key(name)] = parameter_text(value)

    def log_epoch(self, epoch: EpochResult, shown: Sequence[str]) -> None:
        """Take in the shown metrics of an epoch, the first of them the one that decides.

        They go out at the trial's end, or when the last went out long ago.
        """
        self._points += points(epoch_metrics(epoch, shown[0], shown), step=epoch.number)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush({})

    def end(
        self, how: TrialEnd, *, summary: Mapping[str, float | None], tags: Mapping[str, str]
    ) -> None:
        """Send what is left, and how the trial ended."""
        state, ours, status = ENDS[how]
        self._points += points({metric_key("trial", name): v for name, v in summary.items()})
        self._flush({"optuna.state": state, "bookends.status": ours} | dict(tags))
        self._try("end a trial's run", lambda: self._terminate(status))

    def _flush(self, tags: Mapping[str, str]) -> None:
        metrics, self._points = self._points, []
        params, self._params = self._params, {}
        run_id = self.run_id
        self._flushed = time.monotonic()
        if run_id is not None:
            self._try("log a trial", lambda: log(self._connect(), run_id, metrics, params, tags))

    def _terminate(self, status: str) -> None:
        if self.run_id is not None:
            self._connect().set_terminated(self.run_id, status)

    def _connect(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self._uri)
        return self._client

    def _try(self, action: str, call: Callable[[], object]) -> None:
        if not self._is_live:
            return
        try:
            call()
        except STORE_ERRORS as error:
            self._is_live, self._retry = False, time.monotonic() + self._pause
            self._pause *= 2  # each attempt may wait for a minute
            warn(self._uri, action, error, "trials go on without it for a while")


def _key(name: str, created: str) -> str:
    return hashlib.sha256(f"sweep\n{name}\n{created}".encode()).hexdigest()[:20]


def _series(series: Sequence[Mapping[str, float]], sent: int) -> Iterator[Metric]:
    for step, point in enumerate(series[sent:], start=sent + 1):
        values = {"n_ended": float(step)} | dict(point)
        yield from points({metric_key("sweep", name): v for name, v in values.items()}, step=step)
