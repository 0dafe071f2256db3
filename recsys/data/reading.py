"""One file of books or interactions: read, and its every value checked.

A file is read by Arrow, strictly and all at once. Where Arrow refuses, or a value is not what it
must be, a slower reading finds the line, and ``bad_rows`` decides whether the run ends there or
the row is left out and counted.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from recsys.data.arrays import BoolArray, IntArray
from recsys.data.columns import (
    ITEM_ID,
    MAX_NUMBER,
    MISSING_NUMBERS,
    SEPARATORS,
    TIMESTAMP,
    USER_ID,
    Column,
    present_columns,
)
from recsys.data.csv_records import (
    arrow_type,
    fault_name,
    read_clean_rows,
    read_header,
    read_records,
    requirement,
)
from recsys.data.csv_source import QuoteCheckedFile, csv_form, open_binary
from recsys.data.files import file_format, parts_of
from recsys.data.id_codes import encode_ids
from recsys.data.item_lines import read_item_lines
from recsys.data.list_cells import join_lists
from recsys.errors import DataError, cut, shown

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 22  # every core holds one block as text
# 1e11 seconds after 1970 is the year 5138, 1e11 milliseconds the year 1973.
MILLISECONDS_FROM = 10**11
MILLISECONDS_TO = 10**14


@dataclass(frozen=True, eq=False)
class Checked:
    """A file's rows whose every value is what it must be.

    Attributes:
        table: our names; times as int64.
        rows: number of each row among the file's, from 1; None where none was left out.
        ticks: how many units of the times make a second, 1 or 1000.
    """

    table: pa.Table
    rows: IntArray | None
    ticks: int = 1


@dataclass(frozen=True)
class _Source:
    """A file, the columns to read from it, and how."""

    path: Path
    columns: tuple[Column, ...]
    limit: int | None
    drop: bool


def read_checked(path: Path, wanted: Sequence[Column], *, limit: int | None, drop: bool) -> Checked:
    """The rows of a file whose every value is what it must be.

    Args:
        path: the file.
        wanted: columns to read; those that are not required may be absent.
        limit: read only the first so many rows.
        drop: leave out and count bad rows, rather than raise.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds a bad row or no row.
    """
    match file_format(path):
        case "csv":
            columns = present_columns(wanted, read_header(path), path)
            checked = _read_csv(_Source(path, columns, limit, drop))
        case "parquet":
            first = parts_of(path)[0]
            columns = present_columns(wanted, _parquet_columns(first), first)
            checked = _read_parquet(_Source(path, columns, limit, drop))
        case "lines":
            columns = present_columns(wanted, (USER_ID, ITEM_ID), path)
            checked = _read_lines(_Source(path, columns, limit, drop))
    if not len(checked.table):
        lines = file_format(path) == "lines"
        what = "interaction" if lines else "row that can be read below the header"
        raise DataError(f"{path}: must have at least one {what}")
    return checked


def _read_csv(source: _Source) -> Checked:
    try:
        table = _read_csv_at_once(source)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, EOFError, zlib.error) as error:
        logger.info("%s: reading line by line, since: %s", source.path, cut(str(error)))
        return _read_csv_by_line(source)
    return _check(source, table, rows=None, dropped=Counter())


def _read_csv_at_once(source: _Source) -> pa.Table:
    """The file as a table of our names; raises Arrow's errors on anything out of the ordinary."""
    types = {column.source: arrow_type(column) for column in source.columns}
    reader = pacsv.open_csv if source.limit is not None else pacsv.read_csv
    form = csv_form(source.path)
    with open_binary(source.path) as file:
        result = reader(
            QuoteCheckedFile(file, form.separator),
            read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, skip_rows=form.n_skipped),
            parse_options=pacsv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=list(MISSING_NUMBERS),
                strings_can_be_null=False,
            ),
        )
        table = result if source.limit is None else _first_rows(result, source.limit)
    return _encoded(source, {column.name: table[column.source] for column in source.columns})


def _encoded(source: _Source, columns: dict[str, pa.ChunkedArray]) -> pa.Table:
    """The columns, by our names, as a table; ids with one dictionary a column."""
    ids = [column.name for column in source.columns if column.kind == "id"]
    with ThreadPoolExecutor(len(ids)) as pool:
        columns |= zip(ids, pool.map(encode_ids, [columns[name] for name in ids]), strict=True)
    return pa.table(columns)


def _first_rows(reader: pacsv.CSVStreamingReader, limit: int) -> pa.Table:
    batches, n_rows = [], 0
    with reader:
        for batch in reader:
            batches.append(batch)
            n_rows += len(batch)
            if n_rows >= limit:
                break
        return pa.Table.from_batches(batches, schema=reader.schema).slice(0, limit)


def _read_csv_by_line(source: _Source) -> Checked:
    clean = read_clean_rows(source.path, source.columns, limit=source.limit, drop=source.drop)
    columns = {column.name: clean.table[column.name] for column in source.columns}
    return _check(source, _encoded(source, columns), rows=clean.rows, dropped=clean.dropped)


def _read_lines(source: _Source) -> Checked:
    table = read_item_lines(source.path, source.limit)
    columns = {column.name: table[column.name] for column in source.columns}
    return Checked(_encoded(source, columns), rows=None)


def _parquet_columns(path: Path) -> list[str]:
    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: must be a Parquet file ({str(error).splitlines()[0]})") from error
    return names


def _read_parquet(source: _Source) -> Checked:
    parts: list[pa.Table] = []
    for path in parts_of(source.path):
        left = None if source.limit is None else source.limit - sum(map(len, parts))
        if left is None or left > 0:
            parts.append(_read_part(source, path, left))
    columns = {
        column.name: _joined([part[column.name] for part in parts], column, source.path)
        for column in source.columns
    }
    return _check(source, _encoded(source, columns), rows=None, dropped=Counter())


def _read_part(source: _Source, path: Path, limit: int | None) -> pa.Table:
    """The wanted columns of a Parquet file, in canonical types."""
    names = [column.source for column in source.columns]
    present = _parquet_columns(path)
    for name in names:
        if name not in present:
            raise DataError(f"{path}: column '{name}' is missing, which other parts have")
    try:
        if limit is None:
            table = pq.read_table(path, columns=names)
        else:
            with pq.ParquetFile(path) as file:
                table = _first_row_groups(file, names, limit)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: must be a whole Parquet file ({str(error).splitlines()[0]})"
        ) from error
    columns = {c.name: _canonical(c, table[c.source], path) for c in source.columns}
    return pa.table(columns)


def _joined(parts: Sequence[pa.ChunkedArray], column: Column, path: Path) -> pa.ChunkedArray:
    """The parts of a column one after the other; ids of types that differ as text."""
    if len({part.type for part in parts}) > 1:
        if column.kind != "id":
            raise DataError(f"{path}: column '{column.source}' must be of one type in all parts")
        parts = [part.cast(pa.string()) for part in parts]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _first_row_groups(file: pq.ParquetFile, names: list[str], limit: int) -> pa.Table:
    batches = []
    n_rows = 0
    for batch in file.iter_batches(columns=names):
        batches.append(batch)
        n_rows += len(batch)
        if n_rows >= limit:
            break
    schema = pa.schema([file.schema_arrow.field(name) for name in names])
    return pa.Table.from_batches(batches, schema=schema).slice(0, limit)


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
            target = pa.float32() if column.kind == "rating" else pa.float64()
            return values.cast(target, safe=False)
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
    return re.sub("^must (be )?", "", requirement(column))


def _is_list_of_texts(given: pa.DataType) -> bool:
    is_list = pa.types.is_list(given) or pa.types.is_large_list(given)
    return is_list and given.value_type in (pa.string(), pa.large_string(), pa.null())


# Checking ----------------------------------------------------------------------------------------


def _check(
    source: _Source, table: pa.Table, *, rows: IntArray | None, dropped: Counter[str]
) -> Checked:
    """The rows of ``table`` whose values are what they must be; the others raise or are counted."""
    good = np.ones(len(table), dtype=bool)
    first: tuple[int, Column] | None = None
    for column in source.columns:
        bad = _bad_values(column, table[column.name])
        if bad is None:
            continue
        bad &= good
        good &= ~bad
        n_bad = int(np.count_nonzero(bad))
        if n_bad:
            dropped[fault_name(column)] += n_bad
            row = int(np.argmax(bad))
            first = min(first, (row, column), key=lambda f: f[0]) if first else (row, column)
    if first is not None and not source.drop:
        row, column = first
        value = table[column.name][row].as_py()
        place = row if rows is None else rows[row] - 1
        raise DataError(_bad_value_message(source, place, column, value))
    if dropped:
        counts = ", ".join(f"{count} with {reason}" for reason, count in dropped.most_common())
        logger.warning("%s: %d rows left out: %s", source.path, dropped.total(), counts)
    if first is not None:
        rows = np.flatnonzero(good) + 1 if rows is None else rows[good]
        table = table.filter(pa.array(good))
    if TIMESTAMP not in table.column_names:
        return Checked(table, rows)
    times = table[TIMESTAMP]
    ticks = 1000 if pa.types.is_timestamp(times.type) or _in_milliseconds(times.to_numpy()) else 1
    place = table.column_names.index(TIMESTAMP)
    return Checked(table.set_column(place, TIMESTAMP, times.cast(pa.int64())), rows, ticks)


def _bad_values(column: Column, values: pa.ChunkedArray) -> BoolArray | None:
    """Which values are not what the column must hold, or None where all are."""
    match column.kind:
        case "id":
            return _empty_ids(values)
        case "rating":
            bad: BoolArray = ~(np.abs(values.to_numpy()) <= MAX_NUMBER)  # a null becomes NaN
            return bad
        case "number":
            absurd: BoolArray = np.abs(values.to_numpy()) > MAX_NUMBER
            return absurd
        case "time":
            times = values.cast(pa.int64())
            times = times.fill_null(-1).to_numpy() if times.null_count else times.to_numpy()
            if pa.types.is_timestamp(values.type):
                return _outside(times, 0, MILLISECONDS_TO)
            return _bad_times(times)
        case _:
            return None


def _empty_ids(values: pa.ChunkedArray) -> BoolArray | None:
    """Ids that are null or blank; only distinct values are looked at."""
    ids = values.combine_chunks()  # of one dictionary
    bad = ids.is_null().to_numpy(zero_copy_only=False) if ids.null_count else None
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(ids.dictionary)), 0)
    if pc.any(blank).as_py():
        places = np.flatnonzero(blank.to_numpy(zero_copy_only=False))
        is_blank = np.isin(ids.indices.fill_null(-1).to_numpy(), places)
        bad = is_blank if bad is None else bad | is_blank
    return bad


def _bad_times(times: IntArray) -> BoolArray:
    """Times that are negative, too large, or not in the unit that most are in."""
    if _in_milliseconds(times):
        return _outside(times, MILLISECONDS_FROM, MILLISECONDS_TO)
    return _outside(times, 0, MILLISECONDS_FROM)


def _outside(times: IntArray, low: int, high: int) -> BoolArray:
    bad: BoolArray = (times < low) | (times >= high)
    return bad


def _bad_value_message(source: _Source, row: int, column: Column, value: object) -> str:
    """What is wrong with the value in the given row (from 0) of the file."""
    must = requirement(column)
    if column.kind == "time":
        must += ", all in the same unit"
    place, got = f"row {row + 1}", "" if value is None else f", got {shown(value)}"
    if file_format(source.path) == "csv":
        header = read_header(source.path)
        record = next(islice(read_records(source.path), row + 1, None))
        place = f"line {record.line}"
        if record.fields is not None:
            got = f", got {shown(record.fields[header.index(column.source)])}"
    return f"{source.path}: {place}: column '{column.source}' {must}{got}"


def _in_milliseconds(times: IntArray) -> bool:
    """Whether more of the times are milliseconds since 1970 than seconds."""
    return bool(2 * np.count_nonzero(times >= MILLISECONDS_FROM) > len(times))
