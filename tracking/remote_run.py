"""One run in a tracking store: every call sends only what is not there yet."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from recsys.errors import TrackingError
from recsys.reporting.record import RunRecord
from tracking import payload
from tracking.datasets import Context, dataset_input
from tracking.store import connect, ensure_experiment, sqlite_path, without_password

MOST_METRICS = 1000
KEY_TAG = "bookends.key"


class RemoteRun:
    """An MLflow run that exists, addressed by its id; no run is ever "active".

    What the store held is read once, here: while a run lives, only its own process writes to it.

    Args:
        client: of the run's store.
        run: as the client gave it.
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
        if missing or differing:
            self.client.log_batch(
                self.run_id,
                params=[Param(key, value) for key, value in missing.items()],
                tags=[RunTag(key, value) for key, value in differing.items()],
            )
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
        context: Context = "training",
    ) -> None:
        """Log the data set as an input; arguments as of :func:`tracking.datasets.dataset_input`."""
        dataset = dataset_input(described, filter_steps, context)
        if dataset is not None and dataset.dataset.digest not in self._digests:
            self.client.log_inputs(self.run_id, [dataset])
            self._digests.add(dataset.dataset.digest)

    def epochs_sent(self) -> dict[int, int]:
        """When each epoch that the store holds ended, in milliseconds; an epoch is sent whole."""
        history = self.client.get_metric_history(self.run_id, payload.LOSS_KEY)
        return {int(point.step): int(point.timestamp) for point in history}

    def send_epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch in one call, now."""
        now = int(time.time() * 1000)
        points = [Metric(key, value, now, number) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def send_history(self, record: RunRecord) -> None:
        """Log the epochs of a record that the store lacks, each dated after the one before it."""
        sent = self.epochs_sent()
        ended, batch = payload.created_ms(record), list[Metric]()
        for epoch in record.history:
            if epoch["number"] in sent:
                ended = sent[epoch["number"]]
                continue
            ended += int(epoch["seconds"] * 1000)
            metrics = payload.epoch_metrics(
                train_loss=epoch["train_loss"],
                parts=epoch["parts"],
                validation=epoch["validation"],
                seconds=epoch["seconds"],
                monitored=payload.monitored_metric(record),
            )
            points = [Metric(key, value, ended, epoch["number"]) for key, value in metrics.items()]
            if batch and len(batch) + len(points) > MOST_METRICS:
                self.client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += points
        if batch:
            self.client.log_batch(self.run_id, metrics=batch)

    def send_summary(self, record: RunRecord) -> None:
        """Log the whole run's metrics that are absent or differ."""
        held = self._metrics
        ended = payload.created_ms(record) + int(record.seconds * 1000)
        points = [
            Metric(key, value, ended, 0)
            for key, value in payload.summary_metrics(record).items()
            if key not in held or not _same(held[key], value)
        ]
        for start in range(0, len(points), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=points[start : start + MOST_METRICS])

    def send_file(self, source: Path, path: PurePosixPath) -> None:
        """Upload a file; ``path`` is its place in the run and ends in the file's own name."""
        folder = None if path.parent == PurePosixPath() else str(path.parent)
        self.client.log_artifact(self.run_id, str(source), folder)

    def file_sizes(self, folders: Iterable[str | None]) -> dict[str, int]:
        """Bytes of each file that the store holds directly in the given folders, by its path."""
        return {
            str(found.path): int(found.file_size or 0)
            for folder in folders
            for found in self.client.list_artifacts(self.run_id, folder)
            if not found.is_dir
        }

    def declare_tables(self, paths: Sequence[str]) -> None:
        """Tell MLflow which files are tables, so that its UI pages them and it can load them."""
        entries = [{"path": path, "type": "table"} for path in paths]
        self.send_tags({MLFLOW_LOGGED_ARTIFACTS: json.dumps(entries)} if entries else {})

    def send_status(self, status: str | None) -> None:
        """End the run as FINISHED, FAILED or KILLED, or (None) say that it runs."""
        if status is None and self._status != "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")
        elif status is not None and self._status != status:
            self.client.set_terminated(self.run_id, status)
        self._status = status or "RUNNING"


def existing_run(client: MlflowClient, run_id: str) -> RemoteRun | None:
    """The run with this id; None where the store has none, or it was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return RemoteRun(client, run) if run.info.lifecycle_stage == "active" else None


def finished_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The models of a run that were logged whole, newest first."""
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in (outputs.model_outputs if outputs else [])]
    models = [client.get_logged_model(model_id) for model_id in ids]
    whole = [model for model in models if model.status == LoggedModelStatus.READY]
    return sorted(whole, key=lambda model: model.creation_timestamp, reverse=True)


def attached_run(uri: str, run_id: str) -> RemoteRun:
    """The run that ``mlflow run`` opened for this process.

    Raises:
        TrackingError: the store does not hold it.
        STORE_ERRORS: the store cannot be reached.
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


def find_or_create_run(client: MlflowClient, uri: str, record: RunRecord, run_id: str) -> RemoteRun:
    """The run that a record was sent to before, by id or by its key; a new one where there is none.

    Args:
        client: of the store.
        uri: the store's resolved address.
        record: says the experiment, the name and the key.
        run_id: where the record went last time; empty where it never did.
    """
    found = existing_run(client, run_id) if run_id else None
    if found is not None:
        return found
    name = record.config.get("experiment", {}).get("name", "bookends")
    experiment_id = ensure_experiment(client, name, uri)
    key = payload.key_of(record)
    runs = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if runs:
        return RemoteRun(client, runs[0])
    run = client.create_run(
        experiment_id,
        start_time=payload.created_ms(record),
        tags={KEY_TAG: key},
        run_name=record.run_name,
    )
    return RemoteRun(client, run)


def _same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))
