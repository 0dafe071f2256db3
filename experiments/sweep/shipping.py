"""A prepared data set on its way to machines that lack it: in parts, checked by digest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts import locked, new_directory
from recsys.data.storage import is_whole
from recsys.errors import ArtifactError

PART_BYTES = 64 << 20


@dataclass(frozen=True)
class ShippedFile:
    """One file of the directory."""

    name: str
    sha256: str
    parts: tuple[Any, ...]
    """What stands for its bytes, in order."""


def ship(path: Path, put: Callable[[Any], Any]) -> tuple[ShippedFile, ...]:
    """Put all files of a directory where others can get them.

    Args:
        path: the directory.
        put: takes bytes, as an array, and gives what stands for them.
    """
    return tuple(_shipped(file, put) for file in sorted(path.iterdir()))


def _shipped(path: Path, put: Callable[[Any], Any]) -> ShippedFile:
    digest, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            digest.update(part)
            parts.append(put(np.frombuffer(part, np.uint8)))
    return ShippedFile(path.name, digest.hexdigest(), tuple(parts))


def receive(path: Path, files: tuple[ShippedFile, ...], get: Callable[[Any], Any]) -> None:
    """Write a directory that was shipped, unless it is there; one process of a machine does.

    Args:
        path: of the directory.
        files: of it.
        get: gives the array that something stands for.

    Raises:
        ArtifactError: it cannot be written, or a file is not what it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            if is_whole(path):
                return
            shutil.rmtree(path, ignore_errors=True)
            with suppress(FileExistsError), new_directory(path) as unfinished:
                for file in files:
                    _receive(unfinished / file.name, file, get)
    except OSError as error:
        raise ArtifactError(f"{path}: must be writable ({error.strerror or error})") from error


def _receive(path: Path, file: ShippedFile, get: Callable[[Any], Any]) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for part in file.parts:
            array = get(part)
            digest.update(array)
            out.write(array)
    if digest.hexdigest() != file.sha256:
        raise ArtifactError(f"{path.name}: must have the digest {file.sha256} it was sent with")
