"""Parquet files, and folders of them, in the types in which CSV files are held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.columns import SEPARATORS, Column
from recsys.data.files import parts_of
from recsys.data.list_cells import join_lists
from recsys.errors import DataError


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of one file.

    Raises:
        DataError: it is no Parquet file.
    """
    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: must be a Parquet file ({str(error).splitlines()[0]})") from error
    return names


def first_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema, limit: int) -> pa.Table:
    """As many of the first rows as asked for, no further batch being read."""
    taken: list[pa.RecordBatch] = []
    for batch in batches:
        taken.append(batch)
        if sum(map(len, taken)) >= limit:
            break
    return pa.Table.from_batches(taken, schema=schema).slice(0, limit)


def read_parts(path: Path, columns: Sequence[Column], limit: int | None) -> pa.Table:
    """The columns of a file, or of the files of a folder in turn, by our names.

    Args:
        path: a file or a folder of parts.
        columns: what to read; times of a timestamp type become milliseconds.
        limit: read only the first so many rows.

    Raises:
        DataError: a part lacks a column, is broken, or holds a type that the column cannot have.
    """
    parts: list[pa.Table] = []
    for part in parts_of(path):
        left = None if limit is None else limit - sum(map(len, parts))
        if left is None or left > 0:
            parts.append(_read_part(part, columns, left))
    return pa.table({c.name: _joined([part[c.name] for part in parts], c, path) for c in columns})


def _read_part(path: Path, columns: Sequence[Column], limit: int | None) -> pa.Table:
    names = [column.source for column in columns]
    present = parquet_columns(path)
    for name in names:
        if name not in present:
            raise DataError(f"{path}: column '{name}' is missing, which other parts have")
    try:
        if limit is None:
            table = pq.read_table(path, columns=names)
        else:
            with pq.ParquetFile(path) as file:
                schema = pa.schema([file.schema_arrow.field(name) for name in names])
                table = first_rows(file.iter_batches(columns=names), schema, limit)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: must be a whole Parquet file ({reason})") from error
    return pa.table({c.name: _canonical(c, table[c.source], path) for c in columns})


def _joined(parts: Sequence[pa.ChunkedArray], column: Column, path: Path) -> pa.ChunkedArray:
    """The parts of a column one after the other; ids of types that differ as text."""
    if len({part.type for part in parts}) > 1:
        if column.kind != "id":
            raise DataError(f"{path}: column '{column.source}' must be of one type in all parts")
        parts = [part.cast(pa.string()) for part in parts]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _canonical(column: Column, values: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """A Parquet column in the type that the same column of a CSV file would be read in."""
    given = values.type
    if pa.types.is_dictionary(given):
        given = given.value_type
        if column.kind != "id":
            values = values.cast(given)
    numeric = pa.types.is_integer(given) or pa.types.is_floating(given)
    textual = pa.types.is_string(given) or pa.types.is_large_string(given)
    empty = pa.types.is_null(given)
    match column.kind:
        case "id" if textual or pa.types.is_integer(given):
            return values
        case "text" if textual or empty:
            return pc.fill_null(values.cast(pa.string()), "")
        case "text" if column.name in SEPARATORS and _is_list_of_texts(given):
            return join_lists(values, SEPARATORS[column.name])
        case "rating" | "number" if numeric or pa.types.is_decimal(given) or empty:
            return values.cast(column.arrow_type, safe=False)
        case "time" if pa.types.is_timestamp(given) or pa.types.is_date(given):
            return values.cast(pa.timestamp("ms"), safe=False)  # its unit is known, not guessed
        case "time" if numeric or empty:
            if pa.types.is_floating(given):
                values = pc.if_else(pc.is_finite(values), values, None)
            return values.cast(pa.int64(), safe=False)
    raise DataError(f"{path}: column '{column.source}' must hold {_type(column)}, holds {given}")


def _type(column: Column) -> str:
    """What a Parquet column must hold, in words."""
    if column.kind == "id":
        return "strings or integers"
    if column.name in SEPARATORS:
        return "text or lists of texts"
    return column.requirement.removeprefix("must ").removeprefix("be ")


def _is_list_of_texts(given: pa.DataType) -> bool:
    is_list = pa.types.is_list(given) or pa.types.is_large_list(given)
    return is_list and given.value_type in (pa.string(), pa.large_string(), pa.null())
