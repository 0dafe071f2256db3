"""Files and directories that are written whole or not at all, digests, and locks."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from recsys.errors import ArtifactError, ConfigError


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A place to write to, moved to ``path`` at the end, and gone where an error is raised.

    Raises:
        ArtifactError: the system refuses the file, as a full disk does.
    """
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path}: must be writable ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, moved to ``path`` at the end, and gone where an error is raised.

    Raises:
        FileExistsError: ``path`` holds something, as where another process was first.
        OSError: the system refuses the directory.
    """
    with _unfinished(path) as unfinished:
        yield unfinished
        try:
            unfinished.rename(path)
        except OSError as error:
            if not path.exists():
                raise
            raise FileExistsError(error.errno, "must not be there yet", str(path)) from error


@contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, moved to ``path`` at the end, and gone where an error is raised.

    An older one goes only once the new one is there.

    Raises:
        OSError: the system refuses the directory.
    """
    with _unfinished(path) as unfinished:
        yield unfinished
        older = unfinished.with_name(f"{unfinished.name}.old")
        if path.exists():
            os.replace(path, older)
        try:
            os.replace(unfinished, path)
        except OSError:
            if older.exists():
                os.replace(older, path)
            raise
        shutil.rmtree(older, ignore_errors=True)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A directory beside ``path``, gone at the end unless it was moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp lets nobody else in
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold a lock file, made where absent, against other processes.

    Args:
        path: of the file, which stays.
        refusal: what is said where another process holds it; None waits as long as it takes.

    Raises:
        ArtifactError: another process holds it, or the system refuses the file.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if refusal is None else 0)
    except TimeoutError:
        raise ArtifactError(refusal or "") from None
    except OSError as error:
        raise ArtifactError(f"{path}: must be writable ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def make_folder(path: Path, setting: str) -> None:
    """Make a folder that a setting names, with those above it, unless it is there.

    Raises:
        ConfigError: the system refuses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"'{setting}' must lie where a folder can be made, got '{path}' ({error.strerror})"
        ) from None
