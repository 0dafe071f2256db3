"""The files that data comes in: their formats and what identifies their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from recsys.artifacts import file_digest
from recsys.errors import DataError

FileFormat = Literal["csv", "parquet", "lines"]


def file_format(path: Path) -> FileFormat:
    """The format that the file's name says; a folder is one of Parquet parts.

    Raises:
        DataError: there is no such file, it is a pipe, or its name ends in nothing known.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    parts = parts_of(path)
    if not parts:
        raise DataError(f"{path}: a folder must hold files whose names end in .parquet, has none")
    for part in parts:
        if not part.is_file():
            raise DataError(
                f"{part}: must be a file, which is read more than once; write what a pipe gives "
                "to a file first"
            )
        if not os.access(part, os.R_OK):
            raise DataError(f"{part}: must be readable, permission is denied")
    if path.is_dir():
        return "parquet"
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return "csv"
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith((".txt", ".txt.gz")):
        return "lines"
    raise DataError(
        f"{path}: the name must end in .csv, .csv.gz, .tsv, .tsv.gz, .parquet, .txt or .txt.gz"
    )


def parts_of(path: Path) -> list[Path]:
    """The files that hold the data: the path itself, or the Parquet files of a folder by name."""
    if not path.is_dir():
        return [path]
    return sorted(part for part in path.glob("*.parquet") if is_part(part.name))


def is_part(name: str) -> bool:
    """Whether a file of a folder holds data; what begins with a dot or "_" is its writer's own."""
    return name.endswith(".parquet") and name[0] not in "._"


def content_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, of a folder of those of its parts; in hexadecimal."""
    digests = [file_digest(part) for part in parts_of(path)]
    if not path.is_dir():
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def file_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds: what a change would alter.

    Raises:
        DataError: as :func:`file_format`.
    """
    file_format(path)
    statuses = [part.stat() for part in parts_of(path)]
    return sum(s.st_size for s in statuses), max(s.st_mtime_ns for s in statuses)
