"""Items and interactions as they are in the files, checked, with raw ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import DataConfig
from recsys.data.arrays import IntArray, Interactions
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
from recsys.data.reading import Checked, read_checked
from recsys.errors import DataError

logger = logging.getLogger(__name__)

PARTS = ("interactions", "validation", "test")
"""The files of interactions of a ready-made split; the first holds train."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What the files hold.

    Attributes:
        books: item_id, title, author, categories (strings, "" where missing) and the numeric
            columns that it has (float64, null where missing), one row an item, in file order.
        user_ids: distinct raw ids of the interactions' users.
        item_ids: distinct raw ids of the interactions' items.
        interactions: users and items by position in these, in file order; times as in the file.
            The files of a ready-made split follow one another.
        ticks: how many units of the times make a second, 1 or 1000.
        rows: number of each interaction among the rows of its file, from 1, or None where no row
            was left out and interaction ``i`` is row ``i + 1``, and where there are several files.
    """

    books: pa.Table
    user_ids: pa.Array
    item_ids: pa.Array
    interactions: Interactions
    ticks: int
    rows: IntArray | None


def read_tables(config: DataConfig) -> Tables:
    """All files, checked.

    Raises:
        DataError: a file cannot be read or does not hold what it must; the message names the file
            and, where there is one, the line (row, in Parquet) and column.
    """
    paths = config.source_paths
    books = read_books(paths["books"], config) if "books" in paths else None
    files = {
        PARTS.index(part): read_checked(
            path,
            interaction_columns(config),
            limit=config.interactions_limit if part == "interactions" else None,
            drop=config.bad_rows == "drop",
        )
        for part, path in paths.items()
        if part in PARTS
    }
    first, several = files[0], len(files) > 1
    ticks = max(file.ticks for file in files.values())
    table = _joined(list(files.values()), ticks) if several else first.table
    sizes = [len(file.table) for file in files.values()]
    user_ids, users = _codes(table[USER_ID])
    item_ids, items = _codes(table[ITEM_ID])
    logger.info(
        "%s: %d interactions of %d users with %d items",
        " and ".join(str(file.path) for file in files.values()),
        len(users),
        len(user_ids),
        len(item_ids),
    )
    interactions = Interactions(
        users,
        items,
        _times(table, first.path),
        len(user_ids),
        len(item_ids),
        _numbers(table[RATING], np.float32) if RATING in table.column_names else None,
        np.repeat(list(files), sizes).astype(np.int8) if several else None,
    )
    books = _unknown_items(item_ids) if books is None else books
    return Tables(books, user_ids, item_ids, interactions, ticks, None if several else first.rows)


def _joined(files: Sequence[Checked], ticks: int) -> pa.Table:
    """The rows of all files, with the columns that all have and one dictionary for each id."""
    names = [file.table.column_names for file in files]
    kept = [name for name in names[0] if all(name in others for others in names)]
    tables = []
    for file in files:
        for name in file.table.column_names:
            if name not in kept:
                logger.warning("%s: '%s' is not used: other files have none", file.path, name)
        table = file.table.select(kept)
        if TIMESTAMP in kept and file.ticks < ticks:
            times = pc.multiply(table[TIMESTAMP], ticks // file.ticks)
            table = table.set_column(kept.index(TIMESTAMP), TIMESTAMP, times)
        tables.append(table)
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


def _unknown_items(item_ids: pa.Array) -> pa.Table:
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
    drop = config.bad_rows == "drop"
    table = read_checked(path, wanted, limit=config.books_limit, drop=drop).table
    lacking = [column for column in wanted if column.name not in table.column_names]
    texts = [column.name for column in lacking if column.kind == "text"]
    if lacking:
        logger.log(
            logging.WARNING if texts else logging.INFO,
            "%s: has no column %s, which is left out of the features; one that is there under "
            "another name is named in 'data.book_columns'",
            path,
            ", ".join(column.source for column in lacking),
        )
    ids, codes = _codes(table[ITEM_ID])
    columns = {ITEM_ID: ids.take(pa.array(codes))}
    for name in TEXT_FIELDS:
        cells = pa.chunked_array([[""] * len(table)]) if name in texts else table[name]
        if name in SEPARATORS:
            cells = lists_as_text(cells, SEPARATORS[name])
            warn_of_other_notations(cells, SEPARATORS[name], path=path, column=name)
        columns[name] = cells
    columns |= {c.name: table[c.name] for c in wanted if c.kind == "number" and c not in lacking}
    books = pa.table(columns)
    first = np.sort(np.unique(codes, return_index=True)[1])
    if len(first) < len(books):
        logger.warning(
            "%s: %d rows repeat an item's id; the first row of each item is kept",
            path,
            len(books) - len(first),
        )
        books = books.take(pa.array(first))
    logger.info("%s: %d items", path, len(books))
    return books.combine_chunks()


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, IntArray]:
    """(distinct values, position of each row's among them)."""
    encoded = column.combine_chunks()  # of one dictionary
    return encoded.dictionary, encoded.indices.to_numpy()


def _numbers(column: pa.ChunkedArray, dtype: type[np.generic]) -> np.ndarray:
    values: np.ndarray = column.to_numpy().astype(dtype, copy=False)
    return values
