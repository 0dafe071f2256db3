"""Directories of arrays, tables and values that are read back memory-mapped, whole or not at all.

A directory is written under a temporary name and renamed when complete. Its manifest, written
last, holds the size of every file; a directory whose files do not agree with it is not read.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.artifacts import new_directory
from recsys.errors import ArtifactError

MANIFEST = "manifest.json"
VALUES = "values.json"
ABANDONED_SECONDS = 86_400.0


@dataclass(frozen=True, eq=False)
class Content:
    """What a directory holds.

    Attributes:
        arrays: by name, each in a .npy file.
        tables: by name, each in an Arrow IPC file.
        values: what JSON can hold.
    """

    arrays: Mapping[str, np.ndarray]
    tables: Mapping[str, pa.Table]
    values: Mapping[str, Any]


def write_directory(path: Path, content: Content) -> None:
    """Write a directory in one step, in place of what is not whole there.

    Where another process has written a whole one meanwhile, that one stays. What processes that
    were killed while writing left behind a day ago or earlier is removed.

    Raises:
        ArtifactError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*"):
            if _age(left) > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        while True:
            try:
                with new_directory(path) as unfinished:
                    _write_files(unfinished, content)
                return
            except FileExistsError:
                if is_whole(path):
                    return
            damaged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # another process has just moved it away
                path.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"{path}: must be writable ({error})") from error


def _age(path: Path) -> float:
    """Seconds since the last change; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _write_files(directory: Path, content: Content) -> None:
    for name, array in content.arrays.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)
    for name, table in content.tables.items():
        with pa.ipc.new_file(str(directory / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table)
    values = json.dumps(dict(content.values), allow_nan=False)
    (directory / VALUES).write_text(values, encoding="utf-8")
    sizes = {file.name: file.stat().st_size for file in sorted(directory.iterdir())}
    manifest = {"arrays": [*content.arrays], "tables": [*content.tables], "sizes": sizes}
    (directory / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def is_whole(path: Path) -> bool:
    """Whether a directory is there and agrees with its manifest."""
    try:
        _read_manifest(path)
    except ArtifactError:
        return False
    return True


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sizes: dict[str, int] = manifest["sizes"]
        for name, size in sizes.items():
            found = (path / name).stat().st_size
            if found != size:
                raise ArtifactError(f"{path / name}: must have {size} bytes, has {found}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: must be a whole directory ({error})") from error
    return manifest


def read_directory(path: Path) -> Content:
    """What :func:`write_directory` wrote, arrays and tables memory-mapped and read-only.

    Raises:
        ArtifactError: the directory is missing, incomplete or damaged.
    """
    manifest = _read_manifest(path)
    try:
        # np.asarray makes a plain array of the same mapping: indexing a np.memmap is slower
        arrays = {
            name: np.asarray(np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in manifest["arrays"]
        }
        tables = {
            name: pa.ipc.open_file(pa.memory_map(str(path / f"{name}.arrow"))).read_all()
            for name in manifest["tables"]
        }
        values = json.loads((path / VALUES).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path}: must be a whole directory ({error})") from error
    return Content(arrays, tables, values)
