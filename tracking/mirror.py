"""Sending a run directory to MLflow; sending it again changes nothing and fills what is missing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from mlflow import MlflowClient

from recsys.errors import TrackingError
from recsys.reporting.record import TABLES_DIR, RunRecord, read_tables
from tracking import payload
from tracking.ledger import Delivery, Ledger
from tracking.model import send_model, send_model_metrics
from tracking.origin import source_tags
from tracking.processes import Owner
from tracking.remote_run import RemoteRun, find_or_create_run
from tracking.store import (
    STORE_ERRORS,
    connect,
    explain,
    file_lock,
    one_line,
    resolve_uri,
    without_password,
)
from tracking.views import show_view

MODEL_DIR = "model"
PER_USER_FILE = "per_user.parquet"
PREVIEW_FILE = "per_user_preview.csv"
_PREVIEW_ROWS = 200
_PREVIEW_DECIMALS = 4
_TABLE_DIGITS = 6
_OWN_METRICS = ("test", "final_")  # groups of the model itself: the rest is of baselines
_ENVIRONMENT_FILE = "environment.json"
_KEPT_HOME = {"tracking.json", MODEL_DIR, TABLES_DIR}
_CHECKPOINT = ".pt"


@dataclass(frozen=True)
class Mirrored:
    """Where a run directory can be seen.

    Attributes:
        tracking_uri: the store, without a password.
        experiment_id: the experiment.
        run_id: the run.
        model_id: its model; None where the run directory holds none.
    """

    tracking_uri: str
    experiment_id: str
    run_id: str
    model_id: str | None


def mirror(run_dir: Path, tracking_uri: str | None = None) -> Mirrored:
    """Send everything of a run directory that its store does not hold yet.

    The store is the one given, else the one of the run's settings, else ``MLFLOW_TRACKING_URI``,
    else the one used last, else ``mlflow.db`` in the working directory.

    Raises:
        ArtifactError: the run directory is missing or damaged.
        TrackingError: the store cannot be used, or another process is training in the directory.
    """
    record = RunRecord.read(run_dir)
    with file_lock(run_dir):
        ledger = Ledger.read(run_dir)
        uri = resolve_uri(tracking_uri or _usual_uri(record, ledger))
        _refuse_while_training(run_dir, record, ledger.owner)
        delivery = ledger.delivery(uri)
        try:
            client = connect(uri)
            run = find_or_create_run(client, uri, record, delivery.run_id)
            delivery.begin(run.run_id, run.experiment_id)
            ledger.write(run_dir)
            show_view(client, run.experiment_id, record)
            model_id = send_all(run, run_dir, record, delivery, ledger.owner)
            delivery.complete, delivery.error = True, None
        except STORE_ERRORS as error:
            delivery.complete, delivery.error = False, one_line(error)
            raise TrackingError(
                f"{run_dir}: could not be sent to {without_password(uri)} ({explain(error, uri)})"
            ) from error
        finally:
            ledger.write(run_dir)
    return Mirrored(without_password(uri), run.experiment_id, run.run_id, model_id)


def send_head(
    run: RemoteRun, record: RunRecord, origin: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Send what is known before the first epoch: settings, data set, description.

    Args:
        run: to send to.
        record: what is known.
        origin: tags that say which process this is, where it is the one that trains.
    """
    tags = dict(origin) | payload.tags(record) | run.without_held(source_tags(record.environment))
    run.send_settings(payload.parameters(record), tags)
    run.send_dataset(record.dataset, record.filter_steps)


def send_all(
    run: RemoteRun, run_dir: Path, record: RunRecord, delivery: Delivery, owner: Owner | None
) -> str | None:
    """Send a run directory, the status last; gives the model's id."""
    send_head(run, record)
    run.send_history(record)
    run.send_summary(record)
    with TemporaryDirectory() as directory:
        _send_files(run, _collect_files(run_dir, record, Path(directory)), delivery)
    model_id = _send_model(run.client, run, run_dir, record)
    if record.status != "running":
        run.send_status(payload.status(record))
    elif owner is not None and owner.life() == "dead":
        run.send_tags({"bookends.status": "killed", "bookends.reason": "its process is gone"})
        run.send_status("FAILED")
    return model_id


def _refuse_while_training(run_dir: Path, record: RunRecord, owner: Owner | None) -> None:
    if record.status != "running" or owner is None or owner == Owner.current():
        return
    if owner.life() == "alive":
        raise TrackingError(
            f"{run_dir}: must not be in use, but process {owner.pid} is training there and tracks "
            "it by itself"
        )


def _usual_uri(record: RunRecord, ledger: Ledger) -> str | None:
    setting: str | None = record.config.get("experiment", {}).get("tracking_uri")
    return setting or os.environ.get("MLFLOW_TRACKING_URI") or ledger.tracking_uri


def _collect_files(run_dir: Path, record: RunRecord, made: Path) -> dict[PurePosixPath, Path]:
    """Each file to send by its place in the run; what MLflow wants otherwise is in ``made``."""
    files = {
        PurePosixPath(path.relative_to(run_dir).as_posix()): path
        for path in sorted(run_dir.rglob("*"))
        if path.is_file() and _is_sent(path.relative_to(run_dir))
    }
    (made / TABLES_DIR).mkdir()
    for name, table in read_tables(run_dir, record.tables).items():
        # MLflow reads tables with pandas, which refuses the keys beside these two.
        rows = [[_legible(cell) for cell in row] for row in table.rows]
        content = {"columns": list(table.columns), "data": rows}
        files[PurePosixPath(TABLES_DIR, f"{name}.json")] = path = made / TABLES_DIR / f"{name}.json"
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    files[PurePosixPath(_ENVIRONMENT_FILE)] = path = made / _ENVIRONMENT_FILE
    path.write_text(json.dumps(record.environment, indent=2), encoding="utf-8")
    if (run_dir / PER_USER_FILE).exists():
        # MLflow's UI shows CSV as a table, and Parquet not at all.
        files[PurePosixPath(PREVIEW_FILE)] = made / PREVIEW_FILE
        pa.csv.write_csv(_preview(run_dir / PER_USER_FILE), made / PREVIEW_FILE)
    return files


def _legible(cell: object) -> object:
    """A number as MLflow's narrow columns show it whole."""
    return float(f"{cell:.{_TABLE_DIGITS}g}") if isinstance(cell, float) else cell


def _preview(path: Path) -> pa.Table:
    rows = pa.parquet.read_table(path).slice(0, _PREVIEW_ROWS)
    for position, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            rounded = pa.compute.round(rows.column(position), _PREVIEW_DECIMALS)
            rows = rows.set_column(position, field, rounded)
    return rows


def _is_sent(path: Path) -> bool:
    """Neither a checkpoint, which only training reads, nor anything unfinished or our own."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.parts[0] not in _KEPT_HOME and path.suffix != _CHECKPOINT


def _send_files(run: RemoteRun, files: dict[PurePosixPath, Path], delivery: Delivery) -> None:
    folders = {None if path.parent == PurePosixPath() else str(path.parent) for path in files}
    held = run.file_sizes(sorted(folders, key=str))
    for path, source in files.items():
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:24]
        name = str(path)
        if delivery.files.get(name) != digest or held.get(name) != len(content):
            run.send_file(source, path)
            delivery.files[name] = digest
    run.declare_tables([str(path) for path in files if path.parts[0] == TABLES_DIR])


def _send_model(
    client: MlflowClient, run: RemoteRun, run_dir: Path, record: RunRecord
) -> str | None:
    bundle = run_dir / MODEL_DIR
    if not bundle.is_dir() or record.status != "finished":
        return None
    keep = ("cfg.model.", "dataset.fingerprint")
    params = {
        key: value for key, value in payload.parameters(record).items() if key.startswith(keep)
    }
    model_id = send_model(
        client, run.run_id, bundle, readers=_example_readers(run_dir), params=params
    )
    own = [key for key in payload.evaluation_metrics(record) if key.startswith(_OWN_METRICS)]
    send_model_metrics(client, run.run_id, model_id, own)
    return model_id


def _example_readers(run_dir: Path) -> list[str]:
    path = run_dir / PER_USER_FILE
    if not path.exists():
        return []
    ids = pa.parquet.read_table(path, columns=["user_id"]).column("user_id").slice(0, 2)
    return [str(user_id) for user_id in ids.to_pylist()]
