"""Where a study is kept: an embedded journal file, or a database that many machines share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import sqlalchemy
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, fail_stale_trials
from sqlalchemy.exc import SQLAlchemyError

from recsys.addresses import (
    hide_passwords,
    is_ambiguous,
    lacks_password,
    scheme_of,
    without_password,
)
from recsys.artifacts import make_folder
from recsys.errors import ConfigError, TrackingError
from sweeps.journal import Journal, locked

STORAGE_ERRORS = (OptunaError, SQLAlchemyError, OSError)
HEARTBEAT_SECONDS = 60
"""Shorter ones take trials for dead that a busy machine only held up."""
_DATABASES = ("sqlite", "postgresql", "mysql")
_JOURNAL = "journal:///"


@dataclass(frozen=True)
class Storage:
    """A study's storage."""

    url: str  # journal:///PATH for a journal file
    backend: BaseStorage
    lock_path: Path | None  # locked to act one at a time; None where other machines may take part

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from acting, where they can be kept."""
        with locked(self.lock_path):
            yield

    @property
    def has_heartbeat(self) -> bool:
        """Whether running trials say so from time to time."""
        return isinstance(self.backend, RDBStorage)

    def beat(self, study: str, number: int) -> None:
        """Say that a trial is alive, where the storage has a heartbeat."""
        if isinstance(self.backend, RDBStorage):
            study_id = self.backend.get_study_id_from_name(study)
            trial_id = self.backend.get_trial_id_from_study_id_trial_number(study_id, number)
            self.backend.record_heartbeat(trial_id)

    def fail_silent(self, study: optuna.Study) -> None:
        """Fail the running trials that have not said so for too long."""
        if self.has_heartbeat:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is experimental
                fail_stale_trials(study)

    def close(self) -> None:
        """Let go of connections."""
        if isinstance(self.backend, RDBStorage):
            self.backend.remove_session()
            self.backend.engine.dispose()


def open_storage(url: str) -> Storage:
    """The storage at an address, made where there is none.

    Args:
        url: ``journal:///PATH`` or a bare path for a journal file, or a database URL.

    Raises:
        ConfigError: an address of no kind, or of MLflow's database.
        TrackingError: the storage cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scheme = scheme_of(url)
    if is_ambiguous(url):
        raise ConfigError(
            "the password in a storage's address must have @ as %40 and / as %2F, got "
            f"'{without_password(url)}' with another"
        )
    if scheme in _DATABASES:
        return _open_database(url, scheme)
    if scheme and not url.startswith(_JOURNAL):
        raise ConfigError(
            "the storage must be a journal file or start with sqlite:///, postgresql:// or "
            f"mysql://, got '{without_password(url)}'"
        )
    path = _ready(Path(url.removeprefix(_JOURNAL)))
    backend = JournalStorage(Journal(path))
    return Storage(f"{_JOURNAL}{path}", backend, path.with_name(path.name + ".turn"))


def refuse_shared(url: str, tracking_uri: str) -> None:
    """Refuse a storage in the tracker's database: each would destroy the other's schema.

    Raises:
        ConfigError: both addresses mean the same database.
    """
    if _identity(url) == _identity(tracking_uri):
        raise ConfigError(
            "the storage must be a database of its own, got MLflow's tracking store "
            f"'{without_password(url)}': both keep their schema version in the same table"
        )


def _ready(path: Path) -> Path:
    """The absolute path, its folder made where absent."""
    make_folder(path.absolute().parent, "--storage")
    return path.absolute()


def _open_database(url: str, scheme: str) -> Storage:
    lock_path = None
    try:
        engine = sqlalchemy.create_engine(url)
    except (ImportError, SQLAlchemyError, ValueError) as error:
        reason = hide_passwords(str(error))
        raise ConfigError(f"the storage {without_password(url)} cannot be used: {reason}") from None
    if scheme == "sqlite":
        path = _ready(Path(engine.url.database or ""))
        url = engine.url.set(database=str(path)).render_as_string()
        lock_path = path.with_name(path.name + ".turn")
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        if "alembic_version" in tables and "studies" not in tables:
            raise ConfigError(
                f"the storage must be a database of its own, got '{without_password(url)}', which "
                f"holds {'MLflow' if 'experiments' in tables else 'another program'}'s tables"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are experimental
            with locked(lock_path):
                backend = _connect(url)
    except (*STORAGE_ERRORS, RuntimeError) as error:
        head = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "; BOOKENDS_STORAGE may hold a password" if lacks_password(url) else ""
        raise TrackingError(
            f"the storage {without_password(url)} cannot be used "
            f"({hide_passwords(head)[:300]}){hint}"
        ) from error
    finally:
        engine.dispose()
    return Storage(url, backend, lock_path)


def _connect(url: str) -> RDBStorage:
    for attempt in (1, 2, 3):
        try:
            return RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS)
        except SQLAlchemyError:  # another machine made the tables at the same moment
            if attempt == 3:
                raise
    raise AssertionError


def _identity(url: str) -> tuple[str, ...]:
    """What two addresses of one database have in common; user and password are no part of it."""
    scheme = scheme_of(url)
    if scheme == "sqlite":
        return ("sqlite", str(Path(sqlalchemy.make_url(url).database or "").absolute()))
    parts = urlsplit(without_password(url))
    return (scheme, parts.netloc.rpartition("@")[2].lower(), parts.path.strip("/"))
