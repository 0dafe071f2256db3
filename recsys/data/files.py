"""The files that data comes in: their formats and what identifies their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from recsys.errors import DataError

FileFormat = Literal["csv", "parquet", "lines"]


def file_format(path: Path) -> FileFormat:
    """The format that the file's name says.

    Raises:
        DataError: there is no such file, or its name ends in nothing known.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: must be readable, permission is denied")
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


def content_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds: what a change would alter."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
