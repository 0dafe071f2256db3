"""CSV files as Bookends writes them: UTF-8, newlines alone between rows, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa


def csv_bytes(table: pa.Table) -> bytes:
    """The table as CSV: quotes only where needed, nothing where a value is missing."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return text.getvalue().encode()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that is either the old one or the new one, never half of it."""
    with replacement(path) as partial:
        partial.write_bytes(content)


def write_rows(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], *, packed: bool
) -> int:
    """Stream rows into a CSV file, gzipped where ``packed``; how many there were."""
    count = 0
    with _open_text(path, packed=packed) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A path to write to, moved to ``path`` at the end, or removed where an error is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _open_text(path: Path, *, packed: bool) -> Iterator[IO[str]]:
    if not packed:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    # No name and time in the header: the same rows give the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="") as file,
    ):
        yield file
