"""Runs that were: found by what a person calls them, and listed."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from recsys.errors import ArtifactError, TrackingError
from recsys.evaluation.tables import Table
from recsys.reporting.record import RECORD_FILE, TABLES_DIR, RunRecord, read_json, read_tables
from tracking import payload
from tracking.ledger import Ledger
from tracking.mirror import PER_USER_FILE
from tracking.names import parameter_key
from tracking.remote_run import existing_run
from tracking.run_filter import metric_keys, mlflow_filter, order_by
from tracking.store import (
    STORE_ERRORS,
    connect_to_read,
    explain,
    one_line,
    resolve_uri,
    without_password,
)

SHORTEST_PREFIX = 6
_WHOLE_ID = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},31}}")
_MOST_CANDIDATES = 10
_PAGE = 200
_TRIAL_TAG, _KIND_TAG = "optuna.trial", "bookends.kind"


MODEL = (("training", "objective"), ("model", "item_encoder", "fusion"))
EMBEDDING_DIM = ("model", "user_encoder", "id_embedding", "params", "embedding_dim")


@dataclass(frozen=True, eq=False)
class PastRun:
    """A run as it was left.

    Attributes:
        run_id: MLflow's id; None for a directory that was never tracked.
        name: of the run.
        record: what it was and gave.
        per_user: metrics of each test user as the run wrote them (user_id, n_train, segment, then
            one column a metric); without rows and columns where the run has none.
        tables: in the order in which its report shows them. MLflow keeps their columns and rows
            alone, so from there they have plain titles and no notes.
        directory: the local run directory, where there is one.
    """

    run_id: str | None
    name: str
    record: RunRecord
    per_user: pd.DataFrame
    tables: tuple[Table, ...]
    directory: Path | None


@dataclass(frozen=True)
class Measured:
    """A metric of a listed run.

    Attributes:
        value: the mean.
        low: lower end of its interval; None where MLflow holds none, and so is ``high``.
        high: upper end.
        split: "test" or "validation"; None for what is of no split.
    """

    value: float
    low: float | None
    high: float | None
    split: str | None


@dataclass(frozen=True)
class RunRow:
    """What a list says of a run.

    Attributes:
        run_id: MLflow's id.
        name: of the run.
        kind: "run", "trial", "sweep" or "comparison".
        status: such as "finished", "running", "failed" or "pruned".
        created: start, UTC.
        fingerprint: of the data; None where MLflow does not know it.
        model: objective and fusion of the item tower; None where neither is known.
        embedding_dim: None where it is not known.
        metrics: by MLflow's key.
    """

    run_id: str
    name: str
    kind: str
    status: str
    created: datetime
    fingerprint: str | None
    model: str | None
    embedding_dim: str | None
    metrics: Mapping[str, float]

    def measured(self, metric: str) -> Measured | None:
        """A metric by our name, of the test split or else of validation; None without one."""
        for key in metric_keys(metric):
            value = self.metrics.get(key)
            if value is None or math.isnan(value):
                continue
            group, _, name = key.partition("/")
            ends = [self.metrics.get(f"{group}_ci_{end}/{name}") for end in ("low", "high")]
            return Measured(value, ends[0], ends[1], _split_of(group))
        return None


def find_run(text: str, tracking_uri: str | None = None, experiment: str | None = None) -> PastRun:
    """The run that a person means.

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
    uri = resolve_uri(tracking_uri)
    try:
        client = connect_to_read(uri)
        return _download(client, _find(client, text, uri, experiment))
    except STORE_ERRORS as error:
        raise TrackingError(
            f"run '{text}' could not be read from {without_password(uri)} ({explain(error, uri)})"
        ) from error


def read_run(run_dir: Path, tracking_uri: str | None = None) -> PastRun:
    """The run of a directory; its id is the one in the given store, else in the one used last."""
    record = RunRecord.read(run_dir)
    ledger = Ledger.read(run_dir)
    uri = ledger.tracking_uri if tracking_uri is None else resolve_uri(tracking_uri)
    delivery = ledger.deliveries.get(without_password(uri or ""))
    return PastRun(
        run_id=(delivery.run_id if delivery else "") or None,
        name=record.run_name,
        record=record,
        per_user=_read_per_user(run_dir / PER_USER_FILE),
        tables=tuple(read_tables(run_dir, record.tables).values()),
        directory=run_dir,
    )


def list_runs(
    tracking_uri: str | None = None,
    experiment: str = "bookends",
    *,
    filter_text: str = "",
    sort: str = "ndcg@10",
    is_reversed: bool = False,
    limit: int = 20,
    include_all: bool = False,
) -> list[RunRow]:
    """Runs of an experiment, best first.

    Args:
        tracking_uri: the store; None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here.
        experiment: its name.
        filter_text: MLflow's search syntax, and our metric names; see ``mlflow_filter``.
        sort: "date" or a metric; see ``order_by``.
        is_reversed: worst or oldest first.
        limit: rows at most.
        include_all: trials, sweeps and comparisons too.

    Raises:
        TrackingError: no such store or experiment, a filter that MLflow does not take, or a metric
            to sort by that no run has.
    """
    uri = resolve_uri(tracking_uri)
    condition = _condition(filter_text, include_all)
    order = order_by(sort, is_reversed=is_reversed)
    try:
        client = connect_to_read(uri)
        ids = _experiment_ids(client, uri, experiment)
        found = map(_row, _search(client, ids, condition, order, min(limit, _PAGE)))
        wanted = (row for row in found if include_all or row.kind == "run")
        rows = list(itertools.islice(wanted, limit))
    except STORE_ERRORS as error:
        chosen = f" by the filter '{filter_text}'" if filter_text else ""
        raise TrackingError(
            f"runs{chosen} could not be read from {without_password(uri)} ({explain(error, uri)})"
        ) from error
    _refuse_unknown_metric(rows, sort)
    return rows


def _find(client: MlflowClient, text: str, uri: str, experiment: str | None) -> Run:
    if _WHOLE_ID.fullmatch(text):
        found = existing_run(client, text)
        if found is None:
            raise TrackingError(
                f"run '{text}': must be in the tracking store, but {without_password(uri)} holds "
                "none with this id"
            )
        return client.get_run(text)
    ids = _experiment_ids(client, uri, experiment)
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
    place = without_password(uri) + (f", experiment '{experiment}'" if experiment else "")
    if not runs:
        raise TrackingError(
            f"run '{text}': must be a run directory, a run's id, its first {SHORTEST_PREFIX} "
            f"characters or more, or a run's name; found none of these in {place}"
        )
    raise TrackingError(
        f"run '{text}': must mean one run, but means several in {place}: "
        f"{_candidates(list(runs.values()))}; give the id"
    )


def _candidates(runs: list[Run]) -> str:
    named = [
        f"{run.info.run_id[:12]} ({run.info.run_name}, {_created(run):%Y-%m-%d %H:%M} UTC)"
        for run in runs[:_MOST_CANDIDATES]
    ]
    return ", ".join(named) + (", ..." if len(runs) > _MOST_CANDIDATES else "")


def _download(client: MlflowClient, run: Run) -> PastRun:
    run_id, name = run.info.run_id, run.info.run_name or ""
    held = {found.path for found in client.list_artifacts(run_id)}
    if RECORD_FILE not in held:
        raise TrackingError(
            f"run '{name}' ({run_id}): must be a Bookends run that was sent whole, but holds no "
            f"{RECORD_FILE}; it is a {_kind(run)} with status {run.info.status}"
        )
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for artifact in (RECORD_FILE, PER_USER_FILE, TABLES_DIR):
            if artifact in held:
                client.download_artifacts(run_id, artifact, folder)
        record = RunRecord.read(place)
        return PastRun(
            run_id=run_id,
            name=name,
            record=record,
            per_user=_read_per_user(place / PER_USER_FILE),
            tables=tuple(_sent_tables(place / TABLES_DIR, record)),
            directory=_local_directory(run, record),
        )


def _sent_tables(folder: Path, record: RunRecord) -> Iterator[Table]:
    for name in record.tables:
        path = folder / f"{name}.json"
        if path.exists():
            content = {"title": name.replace("_", " ").capitalize(), "note": "", "name": name}
            yield Table.from_json(content | read_json(path))


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


def _read_per_user(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise ArtifactError(
            f"{path}: must be a readable Parquet file, {one_line(error)}"
        ) from error


def _condition(filter_text: str, include_all: bool) -> str:
    conditions = [mlflow_filter(filter_text)] if filter_text.strip() else []
    if not include_all:
        conditions.append(f"tags.`{_TRIAL_TAG}` IS NULL")
    return " and ".join(conditions)


def _search(
    client: MlflowClient, ids: list[str], condition: str, order: list[str], page: int
) -> Iterator[Run]:
    token = None
    while True:
        runs = client.search_runs(
            ids, condition, max_results=page, order_by=order, page_token=token
        )
        yield from runs
        token = runs.token
        if not token:
            return


def _experiment_ids(client: MlflowClient, uri: str, experiment: str | None) -> list[str]:
    held = {found.name: found.experiment_id for found in client.search_experiments()}
    if experiment is None:
        return list(held.values())
    if experiment not in held:
        raise TrackingError(
            f"experiment '{experiment}': must be in {without_password(uri)}, which has "
            f"{', '.join(map(repr, sorted(held)))}"
        )
    return [held[experiment]]


def _row(run: Run) -> RunRow:
    params, tags = run.data.params, run.data.tags
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        kind=_kind(run),
        status=tags.get("bookends.status") or run.info.status.lower(),
        created=_created(run),
        fingerprint=tags.get("bookends.dataset") or params.get("dataset.fingerprint"),
        model=", ".join(params[key] for key in map(parameter_key, MODEL) if key in params) or None,
        embedding_dim=params.get(parameter_key(EMBEDDING_DIM)),
        metrics=dict(run.data.metrics),
    )


def _kind(run: Run) -> str:
    tags = run.data.tags
    return "trial" if _TRIAL_TAG in tags else tags.get(_KIND_TAG, "run")


def _created(run: Run) -> datetime:
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC)


def _split_of(group: str) -> str | None:
    return {"test": "test", "test_sampled": "test", "trial": "validation", "val": "validation"}.get(
        group
    )


def _refuse_unknown_metric(rows: list[RunRow], sort: str) -> None:
    usual = ("date", "ndcg@10")
    if not rows or sort in usual or any(row.measured(sort) is not None for row in rows):
        return
    raise TrackingError(
        f"'--sort' must be 'date' or a metric of these runs, such as 'ndcg@10', 'recall@10' or "
        f"'run/seconds', got '{sort}'"
    )


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
