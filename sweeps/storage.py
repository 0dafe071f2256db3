"""Where a study is kept: an embedded journal file, or a database that many machines share."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import threading
import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import sqlalchemy
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from recsys.addresses import hide_passwords, is_ambiguous, lacks_password, without_password
from recsys.errors import ConfigError, TrackingError

logger = logging.getLogger(__name__)
STORAGE_ERRORS = (OptunaError, SQLAlchemyError, OSError)
SURPLUS = "surplus"
"""Note of a trial that counts for nothing."""
HEARTBEAT_SECONDS = 60
"""Shorter ones take trials for dead that a busy machine only held up."""
_DATABASES = ("sqlite", "postgresql", "mysql")
_JOURNAL = "journal:///"
_FORCED = (
    JournalOperation.CREATE_STUDY,
    JournalOperation.SET_STUDY_USER_ATTR,
    JournalOperation.SET_TRIAL_STATE_VALUES,
)
_NOTHING = {
    "op_code": JournalOperation.SET_STUDY_USER_ATTR,
    "worker_id": "",
    "study_id": -1,
    "user_attr": {},
}


@dataclass(frozen=True)
class Storage:
    """A study's storage.

    Attributes:
        url: its address; ``journal:///PATH`` for a journal file.
        backend: what Optuna writes to.
        lock_path: a file that processes of this machine lock to act one at a time; None where
            other machines may take part.
    """

    url: str
    backend: BaseStorage
    lock_path: Path | None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from acting, where they can be kept."""
        with _turn(self.lock_path):
            yield

    @property
    def has_heartbeat(self) -> bool:
        """Whether running trials say so from time to time."""
        return isinstance(self.backend, RDBStorage)

    def beat(self, trial_id: int) -> None:
        """Say that a trial is alive, where the storage has a heartbeat."""
        if isinstance(self.backend, RDBStorage):
            self.backend.record_heartbeat(trial_id)

    def silent_trials(self, study_id: int) -> list[int]:
        """Ids of running trials that have not said so for too long."""
        if isinstance(self.backend, RDBStorage):
            return list(self.backend._get_stale_trial_ids(study_id))
        return []

    def close(self) -> None:
        """Let go of connections."""
        if isinstance(self.backend, RDBStorage):
            self.backend.remove_session()
            self.backend.engine.dispose()


class FileLock(BaseJournalFileLock):
    """A lock that the system takes back when its process dies, however it dies.

    Optuna's own locks stay behind, and all others wait half a minute for them.

    Args:
        path: the file to lock; made where absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._among_threads = threading.Lock()
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._among_threads.acquire()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
        self._among_threads.release()


class Journal(JournalFileBackend):
    """A journal file that is forced to the disk when a study is made or changed or a trial ends.

    Optuna forces every entry, each report of an epoch included, which takes milliseconds. What was
    written outlives a killed process anyway; only a power failure loses what was not forced, and
    that is part of a trial that is then run again.

    An entry carries a checksum; one that does not agree with it, or that Optuna could not replay,
    is damaged. What is lost of a trial fails it, so that none counts with half its values.

    Args:
        path: of the file.
        lock: taken for every entry.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        super().__init__(str(path), lock_obj=lock)
        self._path = path
        self._file_lock = lock
        self._replayed = JournalStorageReplayResult("")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries, all of them or none.

        Raises:
            OSError: the disk did not take them; the journal is as it was.
        """
        text = "".join(_line(log) for log in logs)
        self._file_lock.acquire()
        try:
            with open(self._path, "r+b", buffering=0) as file:
                size = self._cut_unfinished(file)
                try:
                    _write_all(file, text.encode())
                    if any(log["op_code"] in _FORCED for log in logs):
                        os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            reason = f"its disk must take an entry ({error.strerror}); all before it is kept"
            raise OSError(error.errno, reason, str(self._path)) from error
        finally:
            self._file_lock.release()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Entries from a number on; a damaged one is named, and only its trial suffers.

        Raises:
            TrackingError: it is lost which study or trial the entries that follow belong to.
        """
        number, end = log_number_from, self._log_number_offset[log_number_from]
        if number == 0:
            self._replayed = JournalStorageReplayResult("")
        self._file_lock.acquire()  # what is being written may be taken back
        try:
            with open(self._path, "rb") as file:
                file.seek(end)
                lines = file.readlines()
        finally:
            self._file_lock.release()
        for line in lines:
            if not line.endswith(b"\n"):
                return
            number, end = number + 1, end + len(line)
            self._log_number_offset[number] = end
            yield self._entry(line, number)

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        """The entry in a line, or what is left of it."""
        for part in (line, line[line.rfind(b'{"op_code"') :]):
            entry = self._replayed_as(_parse(part), number)
            if entry is not None:
                if part != line:
                    self._warn(number, "the entry at its end is kept")
                return entry
        self._warn(number, "the other lines are kept")
        remains = _remains(line)
        if remains is None:
            raise self._lost(number, "a study")
        return self._replayed_as(remains, number) or _NOTHING

    def _replayed_as(self, entry: dict[str, Any] | None, number: int) -> dict[str, Any] | None:
        """The entry, once Optuna has replayed it; None where it cannot."""
        try:
            if entry is not None:
                entry = self._placed(entry, number)
                self._replayed.apply_logs([entry])
        except (LookupError, ValueError, TypeError, AttributeError, AssertionError):
            return None
        return entry

    def _placed(self, entry: dict[str, Any], number: int) -> dict[str, Any]:
        """The entry, or where the one that made its trial is lost, one that makes it."""
        if entry.get("study_id", -1) >= self._replayed._next_study_id:
            raise self._lost(number - 1, "a study")
        if entry.get("trial_id", -1) < len(self._replayed._trials):
            return entry
        if len(self._replayed._studies) != 1:
            raise self._lost(number - 1, "a trial")
        return _making(entry, *self._replayed._studies)

    def _warn(self, number: int, kept: str) -> None:
        logger.warning("%s: line %d is damaged; %s", self._path, number, kept)

    def _lost(self, number: int, what: str) -> TrackingError:
        return TrackingError(
            f"{self._path}: the entry that made {what} must be whole, it is lost in line {number} "
            "or before; mend it, or give another --name"
        )

    @staticmethod
    def _cut_unfinished(file: FileIO) -> int:
        """Cut off a last line that a power failure left unfinished; gives the size."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read(1) in (b"\n", b""):
            return size
        file.seek(0)
        end = file.readall().rfind(b"\n") + 1
        file.truncate(end)
        logger.warning("%s: the last entry was unfinished and is left out", file.name)
        return file.seek(end)


def _write_all(file: FileIO, content: bytes) -> None:
    """Write to the end: a disk that is nearly full takes a part and says no error."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _line(entry: dict[str, Any]) -> str:
    """The entry with a checksum at its end."""
    text = json.dumps(entry, separators=(",", ":"))
    return f'{text[:-1]},"crc32":{zlib.crc32(text.encode())}}}\n'


def _parse(line: bytes) -> dict[str, Any] | None:
    """The entry in a line; None where it is damaged. Older ones have no checksum."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or "op_code" not in entry:
        return None
    whole = "crc32" not in entry or _line({k: entry[k] for k in entry if k != "crc32"})
    return entry if whole is True or whole == line.decode() else None


def _remains(line: bytes) -> dict[str, Any] | None:
    """An entry in place of a damaged one: a trial keeps its number, but fails; None for a study."""
    now = datetime.now(UTC).isoformat()
    if b'"study_name"' in line:
        return None
    made = re.search(rb'"op_code":4\b.*?"study_id":(\d+)|"study_id":(\d+),"datetime_start"', line)
    if made is not None:
        op, study_id = JournalOperation.CREATE_TRIAL, int(made[1] or made[2])
        return {
            "op_code": op,
            "worker_id": "",
            "study_id": study_id,
            "state": TrialState.FAIL,
            "user_attrs": {SURPLUS: True},
            "datetime_start": now,
            "datetime_complete": now,
        }
    told = re.search(rb'"trial_id":(\d+),', line)
    if told is None:
        return _NOTHING
    return {
        "op_code": JournalOperation.SET_TRIAL_STATE_VALUES,
        "worker_id": "",
        "trial_id": int(told[1]),
        "state": TrialState.FAIL,
        "values": None,
        "datetime_complete": now,
    }


def _making(entry: dict[str, Any], study_id: int) -> dict[str, Any]:
    """An entry that makes the trial, and holds what the given one says of it."""
    held: dict[str, Any] = {
        key: entry[key] for key in ("state", "values", "datetime_complete") if key in entry
    }
    held |= {f"{key}s": entry[key] for key in ("user_attr", "system_attr") if key in entry}
    if "param_name" in entry:
        name = entry["param_name"]
        held["distributions"] = {name: entry["distribution"]}
        held["params"] = {name: entry["param_value_internal"]}
    if "step" in entry:
        held["intermediate_values"] = {entry["step"]: entry["intermediate_value"]}
    return held | {
        "op_code": JournalOperation.CREATE_TRIAL,
        "worker_id": entry["worker_id"],
        "study_id": study_id,
        "datetime_start": datetime.now(UTC).isoformat(),
    }


def open_storage(url: str) -> Storage:
    """The storage at an address, made where there is none.

    Args:
        url: ``journal:///PATH`` or a bare path for a journal file, or a database URL.

    Raises:
        ConfigError: an address of no kind, or of MLflow's database.
        TrackingError: the storage cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scheme = _scheme(url)
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
    path = _in_directory(Path(url.removeprefix(_JOURNAL)))
    lock = FileLock(path.with_name(path.name + ".lock"))
    backend = JournalStorage(Journal(path, lock))
    return Storage(journal_url(path), backend, path.with_name(path.name + ".turn"))


def journal_url(path: Path) -> str:
    """The address of a journal file."""
    return f"{_JOURNAL}{path.absolute()}"


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


def _in_directory(path: Path) -> Path:
    """The absolute path, its directory made where absent."""
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the storage {path} must lie in a directory that can be written ({error.strerror})"
        ) from None
    return path


def _open_database(url: str, scheme: str) -> Storage:
    lock_path = None
    try:
        engine = sqlalchemy.create_engine(url)
    except (ImportError, SQLAlchemyError, ValueError) as error:
        reason = hide_passwords(str(error))
        raise ConfigError(f"the storage {without_password(url)} cannot be used: {reason}") from None
    if scheme == "sqlite":
        path = _in_directory(Path(engine.url.database or ""))
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
            with _turn(lock_path):
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


@contextmanager
def _turn(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _connect(url: str) -> RDBStorage:
    for attempt in (1, 2, 3):
        try:
            return RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS)
        except SQLAlchemyError:  # another machine made the tables at the same moment
            if attempt == 3:
                raise
    raise AssertionError


def _scheme(url: str) -> str:
    """What the address begins with, without the driver; empty for a bare path."""
    scheme, mark, _ = url.partition("://")
    return scheme.partition("+")[0].lower() if mark else ""


def _identity(url: str) -> tuple[str, ...]:
    """What two addresses of one database have in common; user and password are no part of it."""
    scheme = _scheme(url)
    if scheme == "sqlite":
        return ("sqlite", str(Path(sqlalchemy.make_url(url).database or "").absolute()))
    parts = urlsplit(without_password(url))
    return (scheme, parts.netloc.rpartition("@")[2].lower(), parts.path.strip("/"))
