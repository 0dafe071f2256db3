"""Sending a run directory to MLflow; sending it again changes nothing and fills what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pandas as pd

from recsys.errors import TrackingError
from recsys.reporting.record import PER_USER_FILE, TABLES_DIR, RunRecord, read_tables, write_json
from tracking import payload
from tracking.ledger import FILE_NAME, Delivery, kept_ledger
from tracking.model import send_model
from tracking.processes import Owner, source_tags
from tracking.remote_run import RemoteRun, Sent, files_below, find_or_create_run
from tracking.run_page import detail_tables
from tracking.store import connect, one_line, plain_errors, without_password
from tracking.views import show_view

MODEL_DIR = "model"
PREVIEW_FILE = "per_user_preview.csv"
_PREVIEW_ROWS = 200
_PREVIEW_DECIMALS = 4
_ENVIRONMENT_FILE = "environment.json"
_KEPT_HOME = {FILE_NAME, MODEL_DIR, TABLES_DIR}
_CHECKPOINT = ".pt"  # which only training reads


def mirror(run_dir: Path, tracking_uri: str | None = None) -> Sent:
    """Send everything of a run directory that its store does not hold yet.

    The store is the one given, else the one of the run's settings, else ``MLFLOW_TRACKING_URI``,
    else the one used last, else ``mlflow.db`` in the working directory.

    Raises:
        ArtifactError: the run directory is missing or damaged.
        TrackingError: the store cannot be used, or another process is training in the directory.
    """
    record = RunRecord.read(run_dir)
    with kept_ledger(run_dir) as ledger:
        uri = ledger.store(tracking_uri or record.setting("experiment.tracking_uri"))
        shown = without_password(uri)
        _refuse_while_training(run_dir, record, ledger.owner)
        delivery = ledger.delivery(uri)
        try:
            with plain_errors(uri, f"{run_dir}: could not be sent to {shown}"):
                client = connect(uri)
                run = find_or_create_run(client, record, delivery.run_id)
                delivery.begin(run.run_id, run.experiment_id)
                ledger.write(run_dir)
                show_view(client, run.experiment_id, record)
                model_id = _send_all(run, run_dir, record, delivery, ledger.owner)
            delivery.complete, delivery.error = True, None
        except TrackingError as error:
            delivery.complete, delivery.error = False, one_line(error)
            raise
    return Sent(shown, run.experiment_id, run.run_id, model_id)


def send_head(
    run: RemoteRun, record: RunRecord, process: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Send what is known before the first epoch: settings, data set, description.

    ``process`` holds the tags of the process, where it is the one that trains.
    """
    tags = dict(process) | payload.tags(record) | run.without_held(source_tags(record.environment))
    run.send_settings(payload.parameters(record), tags)
    run.send_dataset(record.dataset, record.filter_steps)


def _send_all(
    run: RemoteRun, run_dir: Path, record: RunRecord, delivery: Delivery, owner: Owner | None
) -> str | None:
    """Send a run directory, the status last; gives the model's id."""
    send_head(run, record)
    run.send_history(record)
    run.send_metrics(payload.summary_metrics(record), payload.ended_ms(record))
    with TemporaryDirectory() as directory:
        run.send_files(_collect_files(run_dir, record, Path(directory)), delivery.files)
    model_id = _send_model(run, run_dir, record)
    if record.status != "running":
        run.send_status(payload.STATUS[record.status])
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


def _collect_files(run_dir: Path, record: RunRecord, made: Path) -> dict[PurePosixPath, Path]:
    """Each file to send by its place in the run; what MLflow wants otherwise is in ``made``."""
    files = {
        place: path
        for place, path in files_below(run_dir).items()
        if place.parts[0] not in _KEPT_HOME and place.suffix != _CHECKPOINT
    }
    for table in [*read_tables(run_dir, record.tables).values(), *detail_tables(record)]:
        place = PurePosixPath(TABLES_DIR, f"{table.name}.json")
        files[place] = write_json(made / place, table.to_json())
    place = PurePosixPath(_ENVIRONMENT_FILE)
    files[place] = write_json(made / place, record.environment)
    if (run_dir / PER_USER_FILE).exists():
        # MLflow's UI shows CSV as a table, and Parquet not at all.
        files[PurePosixPath(PREVIEW_FILE)] = made / PREVIEW_FILE
        preview = pd.read_parquet(run_dir / PER_USER_FILE).head(_PREVIEW_ROWS)
        preview.round(_PREVIEW_DECIMALS).to_csv(made / PREVIEW_FILE, index=False)
    return files


def _send_model(run: RemoteRun, run_dir: Path, record: RunRecord) -> str | None:
    bundle, per_user = run_dir / MODEL_DIR, run_dir / PER_USER_FILE
    if not bundle.is_dir() or record.status != "finished":
        return None
    keep = ("cfg.model.", "dataset.fingerprint")
    params = {
        key: value for key, value in payload.parameters(record).items() if key.startswith(keep)
    }
    users = list[str]()
    if per_user.exists():
        users = (
            pd.read_parquet(per_user, columns=["user_id"])["user_id"].head(2).astype(str).tolist()
        )
    model = send_model(
        run.client, run.run_id, bundle, name=record.run_name, users=users, params=params
    )
    run.send_model_metrics(record, model)
    return str(model.model_id)
