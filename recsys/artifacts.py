"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
