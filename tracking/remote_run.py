"""One run in a tracking store: every call sends only what is not there yet."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, LoggedModel, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from recsys.errors import TrackingError
from recsys.reporting.record import TABLES_DIR, RunRecord, read_json, write_json
from recsys.reporting.results import monitor_of
from tracking import payload
from tracking.run_page import viewer_table
from tracking.store import connect, ensure_experiment, found, sqlite_path, without_password

MOST_METRICS = 1000
KEY_TAG = "bookends.key"


@dataclass(frozen=True)
class Sent:
    """Where what was sent can be seen: the store, without a password, and ids in it.

    ``model_id`` is None where it holds no model.
    """

    tracking_uri: str
    experiment_id: str
    run_id: str
    model_id: str | None = None


class RemoteRun:
    """An MLflow run that exists, addressed by its id; no run is ever "active".

    What the store held is read once, here: while a run lives, only its own process writes to it.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id = str(run.info.run_id)
        self.experiment_id = str(run.info.experiment_id)
        self.name = run.info.run_name or ""
        self._status = run.info.status
        self._params = dict(run.data.params)
        self._tags = dict(run.data.tags)
        self._metrics = dict(run.data.metrics)
        inputs = run.inputs.dataset_inputs if run.inputs else []
        self._digests = {held.dataset.digest for held in inputs}

    def send_settings(self, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log parameters and tags in one call.

        MLflow never changes a parameter, but a continued run may have been given other settings:
        one that is held with another value becomes a tag ``changed.KEY``.
        """
        missing = {key: value for key, value in parameters.items() if key not in self._params}
        changed = {
            f"changed.{key}": value
            for key, value in parameters.items()
            if self._params.get(key, value) != value
        }
        wanted = changed | dict(tags)
        differing = {key: value for key, value in wanted.items() if self._tags.get(key) != value}
        log(self.client, self.run_id, params=missing, tags=differing)
        self._params |= missing
        self._tags |= differing

    def send_tags(self, tags: Mapping[str, str]) -> None:
        """Set the tags that are absent or differ."""
        self.send_settings({}, tags)

    def delete_tags(self, keys: Iterable[str]) -> None:
        """Remove the tags that the run has."""
        for key in keys:
            if self._tags.pop(key, None) is not None:
                self.client.delete_tag(self.run_id, key)

    def without_held(self, tags: Mapping[str, str]) -> dict[str, str]:
        """The tags of which the run has none yet."""
        return {key: value for key, value in tags.items() if key not in self._tags}

    def send_dataset(
        self,
        described: Mapping[str, Any],
        filter_steps: Sequence[Mapping[str, Any]] = (),
        context: Literal["training", "evaluation"] = "training",
    ) -> None:
        """Log the data set as an input, as :func:`tracking.payload.dataset_input` takes it."""
        dataset = payload.dataset_input(described, filter_steps, context)
        if dataset is not None and dataset.dataset.digest not in self._digests:
            self.client.log_inputs(self.run_id, [dataset])
            self._digests.add(dataset.dataset.digest)

    def epochs_sent(self) -> dict[int, int]:
        """When each epoch that the store holds ended, in milliseconds; an epoch is sent whole."""
        history = self.client.get_metric_history(self.run_id, payload.LOSS_KEY)
        return {int(point.step): int(point.timestamp) for point in history}

    def send_history(self, record: RunRecord) -> None:
        """Log the epochs of a record that the store lacks, each dated after the one before it."""
        sent = self.epochs_sent()
        monitored, shown = monitor_of(record), payload.shown_in_epochs(record)
        ended, batch = payload.created_ms(record), list[Metric]()
        for epoch in record.history:
            if epoch.number in sent:
                ended = sent[epoch.number]
                continue
            ended += int((epoch.seconds or 0) * 1000)
            new = points(
                payload.epoch_metrics(epoch, monitored, shown), step=epoch.number, at=ended
            )
            if len(batch) + len(new) > MOST_METRICS:  # the client would divide an epoch
                log(self.client, self.run_id, batch)
                batch = []
            batch += new
        log(self.client, self.run_id, batch)

    def send_metrics(self, metrics: Mapping[str, float], at: int | None = None) -> None:
        """Log single metrics that are absent or differ; ``at`` as :func:`points` takes it."""
        changed = {
            key: value
            for key, value in metrics.items()
            if repr(self._metrics.get(key)) != repr(float(value))  # NaN equals not even NaN
        }
        log(self.client, self.run_id, points(changed, at=at))

    def send_model_metrics(self, record: RunRecord, model: LoggedModel) -> None:
        """Show the model's own metrics at it too, as measured on the data set of the run.

        They are the same points, so that none is doubled.
        """
        held = {metric.key for metric in model.metrics or []}
        absent = {
            key: value
            for key, value in payload.evaluation_metrics(record).items()
            if key.startswith(("test", "final_")) and key not in held
        }
        measured_on = payload.dataset_input(record.dataset)
        dataset = None if measured_on is None else measured_on.dataset
        ended = payload.ended_ms(record)
        log(self.client, self.run_id, points(absent, at=ended, model=model, dataset=dataset))

    def send_files(self, files: Mapping[PurePosixPath, Path], sent: dict[str, str]) -> None:
        """Upload the files that the store lacks, or holds with another content, each to its place.

        Of tables only what MLflow's pages show. ``sent`` is the digest of what was uploaded before,
        by place; it is kept up to date.
        """
        held = self.file_sizes({_folder(place) for place in files})
        tables = [str(place) for place in files if place.parts[0] == TABLES_DIR]
        with TemporaryDirectory() as made:
            for place, path in files.items():
                name, source = str(place), path
                if name in tables:
                    source = write_json(Path(made, path.name), viewer_table(read_json(path)))
                content = source.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:24]
                if sent.get(name) != digest or held.get(name) != len(content):
                    self.send_file(source, place)
                    sent[name] = digest
        if tables:  # MLflow's UI pages what it knows as tables, and it can load them
            entries = [{"path": path, "type": "table"} for path in tables]
            self.send_tags({MLFLOW_LOGGED_ARTIFACTS: json.dumps(entries)})

    def send_file(self, source: Path, path: PurePosixPath) -> None:
        """Upload a file; ``path`` is its place in the run and ends in the file's own name."""
        self.client.log_artifact(self.run_id, str(source), _folder(path))

    def file_sizes(self, folders: Iterable[str | None]) -> dict[str, int]:
        """Bytes of each file that the store holds directly in the given folders, by its path."""
        return {
            str(file.path): int(file.file_size or 0)
            for folder in folders
            for file in self.client.list_artifacts(self.run_id, folder)
            if not file.is_dir
        }

    def send_status(self, status: str | None) -> None:
        """End the run as FINISHED, FAILED or KILLED, or (None) say that it runs."""
        if status is None and self._status != "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")
        elif status is not None and self._status != status:
            self.client.set_terminated(self.run_id, status)
        self._status = status or "RUNNING"


def points(
    metrics: Mapping[str, float | None],
    *,
    step: int = 0,
    at: int | None = None,
    model: LoggedModel | None = None,
    dataset: Dataset | None = None,
) -> list[Metric]:
    """A point of each metric that has a value, by MLflow's key.

    ``at`` is in milliseconds since 1970, None is now; a ``model`` shows them too, as measured on
    ``dataset``.
    """
    at = int(time.time() * 1000) if at is None else at
    model_id = None if model is None else model.model_id
    name, digest = (None, None) if dataset is None else (dataset.name, dataset.digest)
    return [
        Metric(key, float(value), at, step, model_id, dataset_name=name, dataset_digest=digest)
        for key, value in metrics.items()
        if value is not None
    ]


def log(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log all in one call, if there is anything; what a call cannot hold, the client divides."""
    if metrics or params or tags:
        client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )


def end(
    client: MlflowClient,
    run_id: str,
    status: str,
    tags: Mapping[str, str],
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
) -> None:
    """End a run, with what is to be logged before."""
    log(client, run_id, metrics, params, tags)
    client.set_terminated(run_id, status)


def existing_run(client: MlflowClient, run_id: str) -> RemoteRun | None:
    """The run with this id; None where the store has none, or it was deleted."""
    run = found(lambda: client.get_run(run_id))
    return None if run is None or run.info.lifecycle_stage != "active" else RemoteRun(client, run)


def run_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The models of a run, newest first, those begun and not finished among them."""
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in (outputs.model_outputs if outputs else [])]
    models = [client.get_logged_model(model_id) for model_id in ids]
    return sorted(models, key=lambda model: model.creation_timestamp, reverse=True)


def finished_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The models of a run that were logged whole, newest first."""
    models = run_models(client, run_id)
    return [model for model in models if model.status == LoggedModelStatus.READY]


def files_below(folder: Path) -> dict[PurePosixPath, Path]:
    """All files below a folder by their place in it, but hidden ones."""
    files = {}
    for path in sorted(folder.rglob("*")):
        place = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not any(part.startswith(".") for part in place.parts):
            files[place] = path
    return files


def attached_run(uri: str, run_id: str) -> RemoteRun:
    """The run that ``mlflow run`` opened for this process.

    Raises:
        TrackingError: the store does not hold it.
    """
    path = sqlite_path(uri)
    run = existing_run(connect(uri), run_id) if path is None or path.exists() else None
    if run is None:
        raise TrackingError(
            f"MLFLOW_RUN_ID must name a run of the tracking store {without_password(uri)}, got "
            f"'{run_id}', which is not there; set MLFLOW_TRACKING_URI to the store that holds it, "
            "with a whole path ('mlflow run' changes into the project), or unset MLFLOW_RUN_ID"
        )
    return run


def run_with_key(
    client: MlflowClient, experiment_id: str, key: str, name: str, started: int | None = None
) -> RemoteRun:
    """The run that carries this key as a tag; a new one of this name where there is none."""
    runs = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if runs:
        return RemoteRun(client, runs[0])
    tags = {KEY_TAG: key}
    return RemoteRun(client, client.create_run(experiment_id, started, tags, run_name=name))


def find_or_create_run(client: MlflowClient, record: RunRecord, run_id: str) -> RemoteRun:
    """The run a record was sent to before, as ``run_id`` or by its key; else a new one."""
    run = existing_run(client, run_id) if run_id else None
    if run is not None:
        return run
    experiment = record.setting("experiment.name", "bookends")
    experiment_id = ensure_experiment(client, experiment)
    key, started = payload.key_of(record), payload.created_ms(record)
    return run_with_key(client, experiment_id, key, record.run_name, started)


def _folder(path: PurePosixPath) -> str | None:
    return None if path.parent == PurePosixPath() else str(path.parent)
