"""Optuna's journal file such that a full disk, a killed process or a damaged line costs little.

The one place that knows more of Optuna than its public names: how it writes and replays entries
(``optuna.storages.journal._storage``), as seen in 5.0.0; ``tests/sweeps/test_journal.py`` says in
plain words when that moves.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation as Op
from optuna.storages.journal._storage import JournalStorageReplayResult
from optuna.trial import TrialState

from recsys.errors import TrackingError

Entry = dict[str, Any]
EXCESS = "excess"
"""Note of a trial that counts for nothing."""
_FORCED = (Op.CREATE_STUDY, Op.SET_STUDY_USER_ATTR, Op.SET_TRIAL_STATE_VALUES)
_NOTHING = {"op_code": Op.SET_STUDY_USER_ATTR, "worker_id": "", "study_id": -1, "user_attr": {}}
logger = logging.getLogger(__name__)


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold a lock file, made where absent; None holds nothing.

    The system gives it back when the process dies, however it dies. Optuna's own locks stay behind,
    and all others wait half a minute for them.
    """
    if path is None:
        yield
        return
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Journal(BaseJournalBackend):
    """A journal file that is forced to the disk when a study is made or changed or a trial ends.

    Optuna forces every entry, each report of an epoch included, which takes milliseconds. What was
    written outlives a killed process anyway; only a power failure loses what was not forced, and
    that is part of a trial that is then run again.

    An entry carries a checksum; one that does not agree with it, or that Optuna could not replay,
    is damaged. What is lost of a trial fails it, so that none counts with half its values.

    Args:
        path: of the file, made where absent. ``PATH.lock`` is held for every entry.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch()
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._starts = {0: 0}  # entry: where its line begins
        self._replayed = JournalStorageReplayResult("")

    def append_logs(self, logs: list[Entry]) -> None:
        """Add entries, all of them or none.

        Raises:
            OSError: the disk did not take them; the journal is as it was.
        """
        text = "".join(_line(log) for log in logs)
        try:
            with locked(self._lock), open(self._path, "r+b", buffering=0) as file:
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

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:
        """Entries from a number on; a damaged one is named, and only its trial suffers.

        Raises:
            TrackingError: it is lost which study or trial the entries that follow belong to.
        """
        number, end = log_number_from, self._starts[log_number_from]
        if number == 0:
            self._replayed = JournalStorageReplayResult("")
        with locked(self._lock), open(self._path, "rb") as file:  # a half-written line may go again
            file.seek(end)
            lines = file.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                return
            number, end = number + 1, end + len(line)
            self._starts[number] = end
            yield self._entry(line, number)

    def _entry(self, line: bytes, number: int) -> Entry:
        """The entry in a line, or what is left of it."""
        for part in (line, line[line.rfind(b'{"op_code"') :]):
            entry = self._replay(_parse(part), number)
            if entry is not None:
                if part != line:
                    self._warn(number, "the entry at its end is kept")
                return entry
        self._warn(number, "the other lines are kept")
        remains = _remains(line)
        if remains is None:
            raise self._lost(number, "a study")
        return self._replay(remains, number) or _NOTHING

    def _replay(self, entry: Entry | None, number: int) -> Entry | None:
        """The entry, or one that makes its trial where that is lost; None where Optuna cannot."""
        try:
            if entry is not None:
                replayed = self._replayed
                if entry.get("study_id", -1) >= replayed._next_study_id:
                    raise self._lost(number - 1, "a study")
                if entry.get("trial_id", -1) >= len(replayed._trials):
                    if len(replayed._studies) != 1:
                        raise self._lost(number - 1, "a trial")
                    entry = _creation(entry, *replayed._studies)
                replayed.apply_logs([entry])
        except (LookupError, ValueError, TypeError, AttributeError, AssertionError):
            return None
        return entry

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


def _line(entry: Entry) -> str:
    """The entry with a checksum at its end."""
    text = json.dumps(entry, separators=(",", ":"))
    return f'{text[:-1]},"crc32":{zlib.crc32(text.encode())}}}\n'


def _parse(line: bytes) -> Entry | None:
    """The entry in a line; None where it is damaged. Older ones have no checksum."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or "op_code" not in entry:
        return None
    whole = "crc32" not in entry or _line({k: entry[k] for k in entry if k != "crc32"})
    return entry if whole is True or whole == line.decode() else None


def _remains(line: bytes) -> Entry | None:
    """An entry in place of a damaged one: a trial keeps its number, but fails; None for a study."""
    failed = {"worker_id": "", "state": TrialState.FAIL, "datetime_complete": _now()}
    if b'"study_name"' in line:
        return None
    made = re.search(rb'"op_code":4\b.*?"study_id":(\d+)|"study_id":(\d+),"datetime_start"', line)
    if made is not None:
        own = {"study_id": int(made[1] or made[2]), "user_attrs": {EXCESS: True}}
        return failed | own | {"op_code": Op.CREATE_TRIAL, "datetime_start": _now()}
    told = re.search(rb'"trial_id":(\d+),', line)
    if told is None:
        return _NOTHING
    own = {"op_code": Op.SET_TRIAL_STATE_VALUES, "trial_id": int(told[1]), "values": None}
    return failed | own


def _creation(entry: Entry, study_id: int) -> Entry:
    """An entry that makes the trial, and holds what the given one says of it."""
    made: Entry = {
        key: entry[key] for key in ("state", "values", "datetime_complete") if key in entry
    }
    made |= {f"{key}s": entry[key] for key in ("user_attr", "system_attr") if key in entry}
    if "param_name" in entry:
        name = entry["param_name"]
        made["distributions"] = {name: entry["distribution"]}
        made["params"] = {name: entry["param_value_internal"]}
    if "step" in entry:
        made["intermediate_values"] = {entry["step"]: entry["intermediate_value"]}
    own = {"op_code": Op.CREATE_TRIAL, "worker_id": entry["worker_id"], "study_id": study_id}
    return made | own | {"datetime_start": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat()
