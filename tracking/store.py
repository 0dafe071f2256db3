"""Where runs go: the tracking store's address, and a client of it that fails soon and plainly."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import requests
import sqlalchemy
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from recsys import addresses
from recsys.errors import TrackingError

T = TypeVar("T")
DEFAULT_URI = "sqlite:///mlflow.db"
STORE_ERRORS = (
    MlflowException,
    SQLAlchemyError,
    requests.RequestException,
    sqlite3.Error,
    OSError,
)
"""What an MLflow call raises where the store is away, full, locked or broken."""

_logger = logging.getLogger(__name__)
_SQL = ("postgresql", "mysql", "mssql")
_REMOTE = ("http", "https", "databricks")
_REFUSAL = re.compile(r"password|authenti|denied|unauthorized|\b40[13]\b", re.IGNORECASE)
_IMPATIENCE = {  # the defaults keep a call waiting for minutes, and name each run twice
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "PGCONNECT_TIMEOUT": "20",  # of PostgreSQL's clients
}


def resolve_uri(setting: str | None) -> str:
    """The store's address: the setting, else ``MLFLOW_TRACKING_URI``, else a file in the cwd.

    A relative SQLite path becomes absolute, so that the address means the same from anywhere. An
    address that was kept without its password gets it back where the variable holds the same whole.

    Raises:
        TrackingError: an address that MLflow has no working store for.
    """
    usual = os.environ.get("MLFLOW_TRACKING_URI")
    uri = setting or usual or DEFAULT_URI
    if usual and uri == without_password(usual):
        uri = usual
    if addresses.is_ambiguous(uri):
        raise TrackingError(
            "the password in a tracking URI must have @ as %40, / as %2F, ? as %3F and # as %23, "
            f"got '{without_password(uri)}' with another"
        )
    scheme = addresses.scheme_of(uri) or uri
    if scheme == "sqlite":
        path = sqlite_path(uri)
        return uri if path is None else sqlite_uri(path)
    if scheme in (*_SQL, *_REMOTE):
        return uri
    raise TrackingError(
        "the tracking URI must start with sqlite:///, postgresql://, mysql://, mssql://, http:// "
        f"or https:// (MLflow no longer takes directories), got '{without_password(uri)}'"
    )


def how_to_look(uri: str, experiment_id: str, run_id: str) -> dict[str, str]:
    """What leads to a run's page in MLflow's UI: its address, and what starts a server first.

    The page is asked for in the view for training, since MLflow 3.17 opens on that for GenAI.
    """
    page = f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
    shown = without_password(uri)
    if is_server(uri):
        return {"run page": f"{shown.rstrip('/')}/{page}"}
    command = Path(sys.executable).with_name("mlflow")
    return {
        "MLflow UI": f"{command} ui --backend-store-uri {shown}",
        "run page": f"http://127.0.0.1:5000/{page}",
    }


def is_server(uri: str) -> bool:
    """Whether the store is reached over HTTP, not a database that this process opens."""
    return addresses.scheme_of(uri) in _REMOTE


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of a SQLite store's file; None for any other store."""
    if not uri.startswith("sqlite:///") or uri == "sqlite:///:memory:":
        return None
    return Path(sqlalchemy.make_url(uri).database or "").absolute()


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite store's file; what SQLAlchemy would read otherwise is quoted."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()


def without_password(uri: str) -> str:
    """The address as it may be shown and stored."""
    return addresses.without_password(uri)


def one_line(error: BaseException) -> str:
    """The head of an error's message, without passwords; MLflow's go on for pages."""
    lines = str(error).strip().splitlines()
    return addresses.hide_passwords(lines[0] if lines else type(error).__name__)[:300]


def explain(error: BaseException, uri: str) -> str:
    """Why a store failed in one line, and what to do where its address lacks the password."""
    said = one_line(error)
    if (addresses.lacks_password(uri) or is_server(uri)) and _REFUSAL.search(str(error)):
        said += "; passwords are not kept: give the whole address in MLFLOW_TRACKING_URI"
    return said


def warn(uri: str, action: str, error: BaseException, then: str) -> None:
    """Log in one line what a store could not do, and what happens then."""
    _logger.warning(
        "tracking store %s could not %s (%s); %s",
        without_password(uri),
        action,
        explain(error, uri),
        then,
    )


@contextmanager
def plain_errors(uri: str, what: str) -> Iterator[None]:
    """Make what a store raises a ``TrackingError`` of one line, which begins with ``what``."""
    try:
        yield
    except STORE_ERRORS as error:
        raise TrackingError(f"{what} ({explain(error, uri)})") from error


def found(call: Callable[[], T]) -> T | None:
    """What a call gives; None where the store holds no such thing."""
    try:
        return call()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def every(page: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """All that a search finds; ``page`` is asked with the token of each page, None first."""
    token = None
    while True:
        results = page(token)
        yield from results
        token = results.token
        if not token:
            return


def runs_where(
    client: MlflowClient,
    ids: list[str],
    condition: str,
    order: list[str] | None = None,
    page_size: int = 500,
) -> Iterator[Run]:
    """All runs of experiments that meet a condition, read page by page as they are taken."""
    return every(
        lambda token: client.search_runs(
            ids, condition, max_results=page_size, order_by=order, page_token=token
        )
    )


def connect(uri: str) -> MlflowClient:
    """A client of the store at a resolved address.

    A SQLite store that does not exist is made; processes that come at once wait for the first,
    because a schema that two of them make together is broken for good. Waits for a silent server
    are bounded where the user did not do so: about a minute a call.

    Raises:
        STORE_ERRORS: the store cannot be reached.
        TrackingError: its database driver is not installed.
    """
    for name, value in _IMPATIENCE.items():
        os.environ.setdefault(name, value)
    path = sqlite_path(uri)
    if path is not None and path.is_dir():
        raise TrackingError(f"a SQLite store must be a file, got the directory '{path}'")
    if path is not None and not _is_ready(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"), quiet("mlflow.store.db.utils", "alembic"):
            if not path.exists() or not path.stat().st_size:
                _create(path)
            _write_ahead(path)
    if not is_server(uri):
        _probe(uri)
    return MlflowClient(uri)


def connect_to_read(uri: str) -> MlflowClient:
    """A client of a store that exists; a SQLite file that does not is not made.

    Raises:
        TrackingError: there is no such file.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise TrackingError(
            f"{without_password(uri)}: must hold runs, but there is no such file; "
            "--tracking-uri or MLFLOW_TRACKING_URI says where they are"
        )
    return connect(uri)


@contextmanager
def reading(tracking_uri: str | None, what: str) -> Iterator[MlflowClient]:
    """A client of a store that exists, whose errors are a ``TrackingError`` of one line.

    Args:
        tracking_uri: as :func:`resolve_uri` takes it.
        what: begins the line, and the address of the store follows.

    Raises:
        TrackingError: there is no such store, or it fails.
    """
    uri = resolve_uri(tracking_uri)
    with plain_errors(uri, f"{what} {without_password(uri)}"):
        yield connect_to_read(uri)


def _is_ready(path: Path) -> bool:
    """Whether it is a SQLite file that several processes can use at once.

    SQLite itself looks. A file that this process opens and closes loses all of its locks, and those
    of other connections of the process with them: another process would then take itself for the
    last one, and delete the log that they write to (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    to_read = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(to_read, uri=True)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            return bool(mode == "wal")
    except sqlite3.Error:
        return False


def _create(path: Path) -> None:
    """Make a store beside its place and move it there whole.

    Making the schema takes seconds, and a store whose maker was ended in them is broken for good.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    for suffix in ("", "-journal", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    store = SqlAlchemyStore(sqlite_uri(unfinished), "mlruns")  # type: ignore[no-untyped-call]
    store.engine.dispose()
    unfinished.replace(path)


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment with this name, made where there is none.

    Raises:
        TrackingError: it was deleted, and its name stays taken until it is restored.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, _artifact_location(name, client.tracking_uri))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)  # made by another process meanwhile
        if experiment is None:
            raise TrackingError(f"experiment '{name}' must exist in the store, but was not found")
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"experiment '{name}' must not be deleted; 'mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}' brings it back"
        )
    return str(experiment.experiment_id)


def experiment_ids(client: MlflowClient, name: str | None) -> list[str]:
    """The id of the experiment with this name; None gives those of all.

    Raises:
        TrackingError: the store has none of that name.
    """
    held = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    if name is None:
        return list(held.values())
    if name not in held:
        raise TrackingError(
            f"experiment '{name}': must be in {without_password(client.tracking_uri)}, which has "
            f"{', '.join(map(repr, sorted(held)))}"
        )
    return [held[name]]


def _artifact_location(name: str, uri: str) -> str | None:
    """Beside a SQLite file, not wherever the process happens to stand; a server knows its own."""
    path = sqlite_path(uri)
    folder = re.sub(r"[^\w-]+", "-", name)[:60]  # MLflow loses its way where paths hold a %
    return None if path is None else (path.parent / "mlruns" / folder).as_uri()


def _probe(uri: str) -> None:
    """Fail at once where a database is away: MLflow would try for more than a minute."""
    try:
        engine = sqlalchemy.create_engine(uri)
    except ImportError as error:
        raise TrackingError(
            f"the store {without_password(uri)} needs its driver installed, got: {error}"
        ) from error
    except ValueError as error:
        raise TrackingError(
            f"the store {without_password(uri)} must be an address ({one_line(error)})"
        ) from error
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _write_ahead(path: Path) -> None:
    """Let processes read while one writes; the mode stays in the file."""
    with closing(sqlite3.connect(path, timeout=5)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let the loggers of these names say warnings and worse only."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
