"""A run that was: found by what a user calls it, and read whole."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from recsys.errors import ArtifactError, TrackingError
from recsys.evaluation.tables import Table
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import (
    HELD_OUT_FILE,
    PER_USER_FILE,
    RECORD_FILE,
    TABLES_DIR,
    RunRecord,
    read_json,
    read_tables,
)
from tracking import payload
from tracking.ledger import Ledger
from tracking.remote_run import existing_run
from tracking.run_list import kind_of, started
from tracking.store import (
    experiment_ids,
    one_line,
    reading,
    resolve_uri,
    without_password,
)

_SHORTEST_PREFIX = 6
_WHOLE_ID = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(rf"[0-9a-f]{{{_SHORTEST_PREFIX},31}}")
_MOST_CANDIDATES = 10


def find_run(text: str, tracking_uri: str | None = None, experiment: str | None = None) -> PastRun:
    """The run that a user means.

    Args:
        text: a run directory, an MLflow run id, the first 6 or more characters of one, or the name
            of a run. An id or a name must be that of one run only.
        tracking_uri: the store; None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here.
        experiment: where to look; None looks in all.

    Raises:
        ArtifactError: a directory without a run, or with a damaged one.
        TrackingError: no run, several, or one that holds no record.
    """
    path = Path(text)
    if (path / RECORD_FILE).is_file():
        return read_run(path, tracking_uri)
    if os.sep in text:
        raise ArtifactError(f"{text}: must be a run directory ({RECORD_FILE} in it)")
    with reading(tracking_uri, f"run '{text}' could not be read from") as client:
        return _download(client, _find(client, text, experiment))


def read_run(run_dir: Path, tracking_uri: str | None = None) -> PastRun:
    """The run of a directory; its id is the one in the given store, else in the one used last."""
    record = RunRecord.read(run_dir)
    ledger = Ledger.read(run_dir)
    uri = ledger.tracking_uri if tracking_uri is None else resolve_uri(tracking_uri)
    delivery = ledger.deliveries.get(without_password(uri or ""))
    run_id = (delivery.run_id if delivery else "") or None
    tables = read_tables(run_dir, record.tables)
    return PastRun(record.run_name, record, *_frames(run_dir), run_id, tables, run_dir)


def _find(client: MlflowClient, text: str, experiment: str | None) -> Run:
    shown = without_password(client.tracking_uri)
    if _WHOLE_ID.fullmatch(text):
        if existing_run(client, text) is None:
            raise TrackingError(
                f"run '{text}': must be in the tracking store, but {shown} holds none with this id"
            )
        return client.get_run(text)
    ids = experiment_ids(client, experiment)
    conditions = [f"attributes.run_name = {_quoted(text)}"]
    if _PREFIX.fullmatch(text):
        conditions.append(f"attributes.run_id LIKE '{text}%'")
    runs = {
        run.info.run_id: run
        for condition in conditions
        for run in client.search_runs(ids, condition, max_results=_MOST_CANDIDATES + 1)
    }
    if len(runs) == 1:
        return next(iter(runs.values()))
    place = shown + (f", experiment '{experiment}'" if experiment else "")
    if not runs:
        raise TrackingError(
            f"run '{text}': must be a run directory, a run's id, its first {_SHORTEST_PREFIX} "
            f"characters or more, or a run's name; found none of these in {place}"
        )
    raise TrackingError(
        f"run '{text}': must mean one run, but means several in {place}: "
        f"{_candidates(list(runs.values()))}; give the id"
    )


def _candidates(runs: list[Run]) -> str:
    named = [
        f"{run.info.run_id[:12]} ({run.info.run_name}, {started(run):%Y-%m-%d %H:%M} UTC)"
        for run in runs[:_MOST_CANDIDATES]
    ]
    return ", ".join(named) + (", ..." if len(runs) > _MOST_CANDIDATES else "")


def _download(client: MlflowClient, run: Run) -> PastRun:
    run_id, name = run.info.run_id, run.info.run_name or ""
    held = {found.path for found in client.list_artifacts(run_id)}
    if RECORD_FILE not in held:
        raise TrackingError(
            f"run '{name}' ({run_id}): must be a Bookends run that was sent whole, but holds no "
            f"{RECORD_FILE}; it is a {kind_of(run)} with status {run.info.status}"
        )
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for artifact in (RECORD_FILE, PER_USER_FILE, HELD_OUT_FILE, TABLES_DIR):
            if artifact in held:
                client.download_artifacts(run_id, artifact, folder)
        record = RunRecord.read(place)
        tables, directory = _sent_tables(place, record), _local_directory(run, record)
        return PastRun(name, record, *_frames(place), run_id, tables, directory)


def _sent_tables(place: Path, record: RunRecord) -> dict[str, Table]:
    """Tables as MLflow keeps them: columns and rows alone, so with plain titles and no notes."""
    tables = {}
    for name in record.tables:
        path = place / TABLES_DIR / f"{name}.json"
        if path.exists():
            content = {"title": name.replace("_", " ").capitalize(), "note": "", "name": name}
            tables[name] = Table.from_json(content | read_json(path))
    return tables


def _local_directory(run: Run, record: RunRecord) -> Path | None:
    """Where the run was made, if that is here and still holds this run."""
    text = run.data.tags.get("bookends.run_dir")
    if not text or not (Path(text) / RECORD_FILE).is_file():
        return None
    try:
        there = RunRecord.read(Path(text))
    except ArtifactError:
        return None
    return Path(text) if payload.key_of(there) == payload.key_of(record) else None


def _frames(place: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of each test user, and the test interactions."""
    return _read_frame(place / PER_USER_FILE), _read_frame(place / HELD_OUT_FILE)


def _read_frame(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise ArtifactError(
            f"{path}: must be a readable Parquet file, {one_line(error)}"
        ) from error


def _quoted(text: str) -> str:
    """Text as MLflow's filters take it; they know no escape, so only one kind of quote may occur.

    Raises:
        TrackingError: both kinds do.
    """
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise TrackingError(f"run {text!r}: must not hold both kinds of quotation marks; give its id")
