"""The import of a published data set: from its files to ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from recsys.artifacts import replacement
from recsys.data.csv_file import write_csv
from recsys.data.importers.amazon import open_amazon
from recsys.data.importers.goodbooks import open_goodbooks
from recsys.data.importers.movielens import open_movielens
from recsys.data.importers.source import FileSummary, Source
from recsys.errors import DataError

_log = logging.getLogger(__name__)

DatasetKind = Literal["amazon-2023", "goodbooks", "movielens"]


@dataclass(frozen=True)
class ImportSummary:
    """What became of a data set."""

    kind: DatasetKind
    books: FileSummary
    interactions: FileSummary

    def __str__(self) -> str:
        """A line for each file."""
        files = (self.books, self.interactions)
        return "\n".join(f"{f.path}: {f.written:,} of {f.read:,} rows of {f.source}" for f in files)


def import_dataset(
    kind: DatasetKind, source: Path, destination: Path, *, compress: bool = False
) -> ImportSummary:
    """Turn a published data set into books.csv and users.csv.

    Rows are streamed: memory does not grow with the number of interactions. The two files appear
    when both are complete. Duplicates and interactions whose item is missing are passed on, since
    reading the two files has an answer to them.

    Args:
        kind: which data set.
        source: the folder that holds its files as published, packed (.gz) or not.
        destination: the folder to write to.
        compress: write books.csv.gz and users.csv.gz.

    Returns:
        Rows read, written and dropped.

    Raises:
        ArtifactError: the destination cannot be written.
        DataError: a file is not found or lacks a column, more than one per cent of its rows cannot
            be read, or it holds none.
    """
    if not source.is_dir():
        raise DataError(f"{source}: must be the folder that holds the files of the data set")
    books, interactions = _open(kind, source)
    if destination.resolve() in {file.path.parent.resolve() for file in (books, interactions)}:
        raise DataError(f"{destination}: must not be the folder that the data set lies in")
    suffix = ".csv.gz" if compress else ".csv"
    paths = destination / f"books{suffix}", destination / f"users{suffix}"
    # Both files take their place together, after the last row of the second.
    with replacement(paths[0]) as books_file, replacement(paths[1]) as interactions_file:
        return ImportSummary(
            kind,
            _convert(books, books_file, paths[0]),
            _convert(interactions, interactions_file, paths[1]),
        )


def _open(kind: DatasetKind, folder: Path) -> tuple[Source, Source]:
    """(items, interactions)."""
    match kind:
        case "amazon-2023":
            return open_amazon(folder)
        case "goodbooks":
            return open_goodbooks(folder)
        case "movielens":
            return open_movielens(folder)
        case _:
            assert_never(kind)


def _convert(source: Source, unfinished: Path, path: Path) -> FileSummary:
    """Stream one file of a data set into ``unfinished``, which is to become ``path``."""
    summary = FileSummary(source.path, path)
    summary.written = write_csv(unfinished, source.columns, source.rows(summary))
    summary.check()
    _log.info("%s: %d of %d rows of %s", path, summary.written, summary.read, source.path)
    if summary.first_fault:
        _log.warning(
            "%s: %d rows left out, the first at %s",
            source.path,
            summary.dropped.total(),
            summary.first_fault,
        )
    return summary
