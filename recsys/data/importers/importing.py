"""The import of a dump: from its files to ours."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import assert_never

from recsys.data.csv_output import replacement, write_rows
from recsys.data.importers.amazon import open_amazon
from recsys.data.importers.dump import (
    Dump,
    DumpKind,
    FileSummary,
    ImportSummary,
    Source,
    Tally,
)
from recsys.data.importers.goodbooks import open_goodbooks
from recsys.data.importers.movielens import open_movielens
from recsys.errors import DataError

_log = logging.getLogger(__name__)


def import_dump(
    kind: DumpKind, source: Path, destination: Path, *, compress: bool = False
) -> ImportSummary:
    """Turn a published dump into books.csv and users.csv.

    Rows are streamed: memory does not grow with the number of interactions. The two files appear
    when both are complete. Duplicates and interactions whose book is missing are passed on, since
    reading the two files has an answer to them.

    Args:
        kind: which dump.
        source: the folder that holds its files as published, packed (.gz) or not.
        destination: the folder to write to.
        compress: write books.csv.gz and users.csv.gz.

    Returns:
        Rows read, written and dropped.

    Raises:
        DataError: a file is not found or lacks a column, more than one per cent of its rows cannot
            be read, or it holds none.
    """
    if not source.is_dir():
        raise DataError(f"{source}: must be the folder that holds the files of the dump")
    dump = _open(kind, source)
    if destination.resolve() in {
        part.path.parent.resolve() for part in (dump.books, dump.interactions)
    }:
        raise DataError(f"{destination}: must not be the folder that the dump lies in")
    suffix = ".csv.gz" if compress else ".csv"
    books_path, interactions_path = destination / f"books{suffix}", destination / f"users{suffix}"
    # Both files take their place together, after the last row of the second.
    with replacement(books_path) as books, replacement(interactions_path) as interactions:
        return ImportSummary(
            kind,
            _convert(dump.books, books, books_path),
            _convert(dump.interactions, interactions, interactions_path),
        )


def _open(kind: DumpKind, source: Path) -> Dump:
    match kind:
        case "amazon-2023":
            return open_amazon(source)
        case "goodbooks":
            return open_goodbooks(source)
        case "movielens":
            return open_movielens(source)
        case _:
            assert_never(kind)


def _convert(source: Source, partial: Path, path: Path) -> FileSummary:
    """Stream one file of a dump into ``partial``, which is to become ``path``."""
    tally = Tally(source.path)
    packed = path.suffix == ".gz"
    written = write_rows(partial, source.columns, source.read(tally), packed=packed)
    if not tally.read:
        raise DataError(f"{source.path}: must hold at least one row, holds none")
    tally.check()
    _log.info("%s: %d of %d rows of %s", path, written, tally.read, source.path)
    if tally.first_fault:
        _log.warning(
            "%s: %d rows left out, the first at %s",
            source.path,
            tally.dropped.total(),
            tally.first_fault,
        )
    return FileSummary(
        source.path, path, tally.read, written, dict(tally.dropped), tally.first_fault
    )
