"""A prepared data set on its way to machines that lack it: in parts, checked by digest.

It goes through Ray's object store, or through the store in which the tracker keeps artifacts.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.sweep.trial import FindData
from recsys.artifacts import file_digest, locked, new_directory
from recsys.config import DataConfig
from recsys.data.dataset import Prepared, cache_path, prepare_cached
from recsys.data.storage import is_whole
from recsys.errors import ArtifactError, TrackingError

PART_BYTES = 64 << 20
logger = logging.getLogger(__name__)


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


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of each file of a directory, by its name."""
    return {each.name: file_digest(each) for each in sorted(path.iterdir())}


def find_here(config: DataConfig, seed: int) -> Prepared:
    """The data set of settings, by its files on this machine.

    Raises:
        ArtifactError: it lacks one.
    """
    for path in _missing(config):  # that speaks against this machine, not against a trial
        raise ArtifactError(
            f"{path}: {socket.gethostname()} must have this file; of a sweep's data only those of "
            "its base configuration are fetched, over Ray or with '--upload-data'"
        )
    return prepare_cached(config, seed)


def finder(
    fingerprint: str, files: tuple[ShippedFile, ...] | None, get: Callable[[Any], Any]
) -> FindData:
    """Finds the data set of a study without its files, and others by them.

    Args:
        fingerprint: of the data set.
        files: of it; None where all machines have it.
        get: gives the array that a part stands for; TrackingError where it cannot be had.
    """
    own = None

    def find(config: DataConfig, seed: int) -> Prepared:
        nonlocal own
        own = own or config  # the base's comes first
        if config != own:
            return find_here(config, seed)
        path = cache_path(config, fingerprint)
        if files is not None:
            try:
                receive(path, files, get)
            except TrackingError as error:
                if _missing(config):
                    raise
                logger.warning("%s; they are prepared from their files", error)
        return Prepared.load(path) if is_whole(path) else find_here(config, seed)

    return find


def _missing(config: DataConfig) -> list[Path]:
    """The files of the data that this machine lacks."""
    places = config.sources.values()
    return [place for place in places if isinstance(place, Path) and not place.exists()]


def receive(path: Path, files: tuple[ShippedFile, ...], get: Callable[[Any], Any]) -> None:
    """Write a directory that was shipped, unless it is there; one process of a machine does.

    Args:
        path: of the directory.
        files: of it.
        get: gives the array that something stands for.

    Raises:
        ArtifactError: it cannot be written, or a file is not what it was.
    """
    if is_whole(path):  # where it may be that nothing can be written
        return
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
