"""Books and interactions as they are in the files, checked, with raw ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import DataConfig
from recsys.data.arrays import FloatArray, IntArray
from recsys.data.columns import (
    ITEM_ID,
    RATING,
    SEPARATORS,
    TEXT_FIELDS,
    TIMESTAMP,
    USER_ID,
    book_columns,
    interaction_columns,
)
from recsys.data.files import file_format
from recsys.data.list_cells import lists_as_text, warn_of_other_notations
from recsys.data.reading import read_checked
from recsys.errors import DataError

logger = logging.getLogger(__name__)

PARTS = ("interactions", "validation", "test")
"""The files of interactions of a ready-made split; the first holds train."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What the two files hold.

    Attributes:
        books: item_id, title, author, categories (strings, "" where missing) and the numeric
            columns that it has (float64, null where missing), one row a book, in file order.
        user_ids: distinct raw ids of the interactions' users.
        item_ids: distinct raw ids of the interactions' items.
        users: position in ``user_ids`` of each interaction, in file order, (N,) int32.
        items: position in ``item_ids``, (N,) int32.
        ratings: (N,) float32, or None where the file has none.
        times: seconds or milliseconds since 1970, as in the file, (N,) int64, or None.
        ticks: how many units of ``times`` make a second, 1 or 1000.
        rows: number of each interaction among the rows of its file, from 1, or None where no row
            was left out and interaction ``i`` is row ``i + 1``, and where there are several files.
        parts: where the split is ready-made, the place in ``PARTS`` of the file of each
            interaction, (N,) int8; else None. The files follow one another.
    """

    books: pa.Table
    user_ids: pa.Array
    item_ids: pa.Array
    users: IntArray
    items: IntArray
    ratings: FloatArray | None
    times: IntArray | None
    ticks: int
    rows: IntArray | None
    parts: IntArray | None = None


def read_tables(config: DataConfig) -> Tables:
    """All files, checked.

    Raises:
        DataError: a file cannot be read or does not hold what it must; the message names the file
            and, where there is one, the line (row, in Parquet) and column.
    """
    books = None if config.books_path is None else read_books(config.books_path, config)
    files = tuple(
        _InteractionsFile.read(config.source_paths[part], part, config)
        for part in PARTS
        if part in config.source_paths
    )
    ticks = max(file.ticks for file in files)
    table = _joined(files, ticks)
    user_ids, users = _codes(table[USER_ID])
    item_ids, items = _codes(table[ITEM_ID])
    times = _times(table, files[0].path)
    logger.info(
        "%s: %d interactions of %d users with %d items",
        " and ".join(str(file.path) for file in files),
        len(users),
        len(user_ids),
        len(item_ids),
    )
    return Tables(
        books=_unknown_books(item_ids) if books is None else books,
        user_ids=user_ids,
        item_ids=item_ids,
        users=users,
        items=items,
        ratings=_numbers(table[RATING], np.float32) if RATING in table.column_names else None,
        times=times,
        ticks=ticks,
        rows=files[0].rows if len(files) == 1 else None,
        parts=_parts(files) if len(files) > 1 else None,
    )


@dataclass(frozen=True, eq=False)
class _InteractionsFile:
    """The interactions of one file, and the part that they are where the split is ready-made."""

    path: Path
    part: str
    table: pa.Table
    rows: IntArray | None
    ticks: int

    @classmethod
    def read(cls, path: Path, part: str, config: DataConfig) -> _InteractionsFile:
        limit = config.interactions_limit if part == "interactions" else None
        wanted = interaction_columns(config)
        checked = read_checked(path, wanted, limit=limit, drop=config.bad_rows == "drop")
        return cls(path, part, checked.table, checked.rows, checked.ticks)

    def in_ticks(self, ticks: int) -> pa.Table:
        """The table with its times in the given unit, which is no coarser than its own."""
        if ticks == self.ticks or TIMESTAMP not in self.table.column_names:
            return self.table
        times = pc.multiply(self.table[TIMESTAMP], ticks // self.ticks)
        return self.table.set_column(self.table.column_names.index(TIMESTAMP), TIMESTAMP, times)


def _joined(files: Sequence[_InteractionsFile], ticks: int) -> pa.Table:
    """The rows of all files, with the columns that all have and one dictionary for each id."""
    if len(files) == 1:
        return files[0].table
    every = files[0].table.column_names
    kept = [name for name in every if all(name in file.table.column_names for file in files)]
    for file in files:
        for name in file.table.column_names:
            if name not in kept:
                logger.warning("%s: '%s' is not used: other files have none", file.path, name)
    tables = [file.in_ticks(ticks).select(kept) for file in files]
    return pa.concat_tables(tables).unify_dictionaries()


def _times(table: pa.Table, path: Path) -> IntArray | None:
    """The times of the interactions; None where there are none, or no two that differ."""
    if TIMESTAMP not in table.column_names:
        return None
    times = _numbers(table[TIMESTAMP], np.int64)
    if len(times) > 1 and times.min() == times.max():
        logger.warning(
            "%s: '%s' holds the same in every row, so it gives no order and is not used",
            path,
            TIMESTAMP,
        )
        return None
    return times


def _parts(files: Sequence[_InteractionsFile]) -> IntArray:
    numbers = [PARTS.index(file.part) for file in files]
    parts: IntArray = np.repeat(numbers, [len(file.table) for file in files]).astype(np.int8)
    return parts


def _unknown_books(item_ids: pa.Array) -> pa.Table:
    """A row for each id, in the order of the ids as text, with nothing known."""
    ids = item_ids.cast(pa.string())
    ids = ids.take(pc.sort_indices(ids))
    empty = pa.array([""] * len(ids), pa.string())
    return pa.table({ITEM_ID: ids} | dict.fromkeys(TEXT_FIELDS, empty))


def read_books(path: Path, config: DataConfig) -> pa.Table:
    """The books file: one row an id, the first where the file has several.

    Text columns that the file lacks are there, and empty; numeric ones are not there.
    """
    if file_format(path) == "lines":
        raise DataError(f"{path}: a books file must be .csv, .csv.gz or .parquet")
    wanted = book_columns(config)
    checked = read_checked(path, wanted, limit=config.books_limit, drop=config.bad_rows == "drop")
    table = checked.table
    lacking = [column for column in wanted if column.name not in table.column_names]
    if lacking:
        texts = [column for column in lacking if column.kind == "text"]
        logger.log(
            logging.WARNING if texts else logging.INFO,
            "%s: has no column %s, which is left out of the features; one that is there under "
            "another name is named in 'data.book_columns'",
            path,
            ", ".join(column.source for column in lacking),
        )
        for column in texts:
            table = table.append_column(column.name, pa.array([""] * len(table), pa.string()))
    table = _with_lists_as_text(table, path)
    kept = [c.name for c in wanted if c.kind == "number" and c.name in table.column_names]
    table = table.select([ITEM_ID, *TEXT_FIELDS, *kept])
    _, codes = _codes(table[ITEM_ID])
    table = table.set_column(0, ITEM_ID, table[ITEM_ID].cast(pa.string()))
    first = np.sort(np.unique(codes, return_index=True)[1])
    if len(first) < len(table):
        logger.warning(
            "%s: %d rows repeat a book's id; the first row of each book is kept",
            path,
            len(table) - len(first),
        )
        table = table.take(pa.array(first))
    logger.info("%s: %d books", path, len(table))
    return table.combine_chunks()


def _with_lists_as_text(books: pa.Table, path: Path) -> pa.Table:
    for name, separator in SEPARATORS.items():
        cells = lists_as_text(books[name], separator)
        warn_of_other_notations(cells, separator, path=path, column=name)
        books = books.set_column(books.column_names.index(name), name, cells)
    return books


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, IntArray]:
    """(distinct values, position of each row's among them)."""
    encoded = column.combine_chunks()  # of one dictionary
    return encoded.dictionary, encoded.indices.to_numpy()


def _numbers(column: pa.ChunkedArray, dtype: type[np.generic]) -> np.ndarray:
    values: np.ndarray = column.to_numpy().astype(dtype, copy=False)
    return values
