"""One file of items or interactions: read, and its every value checked.

A CSV file is read by Arrow, strictly and all at once. Where Arrow refuses, or a value is not what
it must be, a slower reading finds the line, and ``bad_rows`` decides whether the run ends there or
the row is left out and counted.
"""

from __future__ import annotations

import logging
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from recsys.data.arrays import BoolArray, IntArray
from recsys.data.columns import (
    ITEM_ID,
    MAX_NUMBER,
    MISSING_NUMBERS,
    TIMESTAMP,
    USER_ID,
    Column,
    present_columns,
)
from recsys.data.csv_file import (
    BAD_ENCODING,
    SURROGATES,
    QuoteCheckedFile,
    Record,
    csv_form,
    must_be_utf8,
    open_binary,
    read_header,
    read_records,
)
from recsys.data.files import FileFormat, file_format, parts_of
from recsys.data.id_codes import encode_ids
from recsys.data.parquet import first_rows, parquet_columns, read_parts
from recsys.errors import DataError, cut, shown

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 22  # every core holds one block as text
BATCH_ROWS = 1 << 16
# 1e11 seconds after 1970 is the year 5138, 1e11 milliseconds the year 1973.
MILLISECONDS_FROM = 10**11
MILLISECONDS_TO = 10**14


@dataclass(frozen=True, eq=False)
class Checked:
    """A file's rows whose every value is what it must be.

    Attributes:
        path: the file.
        table: our names; ids with one dictionary a column, times as int64.
        rows: number of each row among the file's, from 1; None where none was left out.
        ticks: how many units of the times make a second, 1 or 1000.
    """

    path: Path
    table: pa.Table
    rows: IntArray | None
    ticks: int


@dataclass(frozen=True)
class _Source:
    """A file, the columns to read from it, and how."""

    path: Path
    format: FileFormat
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
    kind, what = file_format(path), "row that can be read below the header"
    match kind:
        case "csv":
            columns = present_columns(wanted, read_header(path), path)
            checked = _read_csv(_Source(path, kind, columns, limit, drop))
        case "parquet":
            first = parts_of(path)[0]
            columns = present_columns(wanted, parquet_columns(first), first)
            table = read_parts(path, columns, limit)
            checked = _check(_Source(path, kind, columns, limit, drop), table)
        case "lines":
            columns = present_columns(wanted, (USER_ID, ITEM_ID), path)
            table = read_item_lines(path, limit)
            checked = _check(_Source(path, kind, columns, limit, drop), table)
            what = "interaction"
    if not len(checked.table):
        raise DataError(f"{path}: must have at least one {what}")
    return checked


def read_item_lines(path: Path, limit: int | None) -> pa.Table:
    """(user_id, item_id) of every item of every line "user item item ...", in file order.

    This is the format of published splits (LightGCN). A line without items has no interaction.

    Args:
        path: .txt or .txt.gz, parted by white space.
        limit: read only the first so many interactions.

    Raises:
        DataError: the file cannot be unpacked or is no UTF-8 text.
    """
    try:
        with open_binary(path) as file:
            content = file.read()
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:  # a bad gzip file is an OSError
        raise DataError(f"{path}: must be readable ({error})") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line}: must be UTF-8 text") from error
    lines = [fields for line in text.splitlines() if (fields := line.split())]
    items = [item for line in lines for item in line[1:]]
    owners = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])[:limit]
    users = pa.array([line[0] for line in lines], pa.string()).take(pa.array(owners))
    return pa.table({USER_ID: users, ITEM_ID: pa.array(items[:limit], pa.string())})


def _read_csv(source: _Source) -> Checked:
    try:
        table = _read_csv_at_once(source)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, EOFError, zlib.error) as error:
        logger.info("%s: reading line by line, since: %s", source.path, cut(str(error)))
        return _read_csv_by_line(source)
    return _check(source, table)


def _read_csv_at_once(source: _Source) -> pa.Table:
    """The file as a table of our names; raises Arrow's errors on anything out of the ordinary."""
    types = {column.source: column.arrow_type for column in source.columns}
    separator, n_skipped = csv_form(source.path)
    with open_binary(source.path) as file:
        reader = pacsv.open_csv if source.limit is not None else pacsv.read_csv
        table = reader(
            QuoteCheckedFile(file, separator),
            read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, skip_rows=n_skipped),
            parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=list(MISSING_NUMBERS),
                strings_can_be_null=False,
            ),
        )
        if source.limit is not None:
            with table as batches:
                table = first_rows(batches, batches.schema, source.limit)
    return pa.table({column.name: table[column.source] for column in source.columns})


def _read_csv_by_line(source: _Source) -> Checked:
    """The rows that can be parted into fields and whose values can be read."""
    records = read_records(source.path)
    header = next(records).fields or []
    places = {column: header.index(column.source) for column in source.columns}
    rows, dropped = array("q"), Counter[str]()

    def values() -> Iterator[list[Any]]:
        for number, record in enumerate(islice(records, source.limit), start=1):
            try:
                row = _row_values(record, places)
            except _BadRow as fault:
                if not source.drop:
                    raise DataError(f"{source.path}: line {record.line}: {fault}") from None
                dropped[fault.reason] += 1
            else:
                rows.append(number)
                yield row

    schema = pa.schema([(column.name, column.arrow_type) for column in source.columns])
    good, batches = values(), []
    while batch := list(islice(good, BATCH_ROWS)):
        columns = zip(zip(*batch, strict=True), schema.types, strict=True)
        batches.append(pa.record_batch([pa.array(*column) for column in columns], schema=schema))
    table = pa.Table.from_batches(batches, schema)
    return _check(source, table, np.array(rows, dtype=np.int64), dropped)


class _BadRow(Exception):
    """A row that cannot be read: what is wrong, and the reason under which it is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _row_values(record: Record, places: Mapping[Column, int]) -> list[Any]:
    if record.fields is None:
        raise _BadRow(*record.fault)
    row: list[Any] = []
    for column, place in places.items():
        text = record.fields[place]
        if SURROGATES.search(text):
            raise _BadRow(BAD_ENCODING, f"column '{column.source}' {must_be_utf8(text)}")
        try:
            row.append(column.parse(text))
        except ValueError:
            detail = f"column '{column.source}' {column.requirement}, got {shown(text)}"
            raise _BadRow(column.fault, detail) from None
    return row


# Checking ----------------------------------------------------------------------------------------


def _check(
    source: _Source,
    table: pa.Table,
    rows: IntArray | None = None,
    dropped: Counter[str] | None = None,
) -> Checked:
    """The rows of ``table`` whose values are what they must be; the others raise or are counted."""
    table = _with_encoded_ids(table, source.columns)
    dropped = Counter() if dropped is None else dropped
    good = np.ones(len(table), dtype=bool)
    firsts: list[tuple[int, Column]] = []
    for column in source.columns:
        bad = _bad_values(column, table[column.name]) & good
        if bad.any():
            good &= ~bad
            dropped[column.fault] += int(np.count_nonzero(bad))
            firsts.append((int(np.argmax(bad)), column))
    if firsts and not source.drop:
        row, column = min(firsts, key=lambda first: first[0])  # none was left out before it
        value = table[column.name].slice(row, 1).cast(pa.string())[0].as_py()  # any year, too
        raise DataError(_bad_value_message(source, row, column, value))
    if dropped:
        counts = ", ".join(f"{count} with {reason}" for reason, count in dropped.most_common())
        logger.warning("%s: %d rows left out: %s", source.path, dropped.total(), counts)
    if firsts:
        rows = np.flatnonzero(good) + 1 if rows is None else rows[good]
        table = table.filter(pa.array(good))
    if TIMESTAMP not in table.column_names:
        return Checked(source.path, table, rows, ticks=1)
    times = table[TIMESTAMP]
    ticks = 1000 if pa.types.is_timestamp(times.type) or _in_milliseconds(times.to_numpy()) else 1
    place = table.column_names.index(TIMESTAMP)
    table = table.set_column(place, TIMESTAMP, times.cast(pa.int64()))
    return Checked(source.path, table, rows, ticks)


def _with_encoded_ids(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """The columns, ids with one dictionary a column."""
    values = {column.name: table[column.name] for column in columns}
    ids = [column.name for column in columns if column.kind == "id"]
    with ThreadPoolExecutor(len(ids)) as pool:
        values |= zip(ids, pool.map(encode_ids, [values[name] for name in ids]), strict=True)
    return pa.table(values)


def _bad_values(column: Column, values: pa.ChunkedArray) -> BoolArray:
    """Which values are not what the column must hold, (n,) or, where all are, (1,)."""
    bad: BoolArray = np.zeros(1, dtype=bool)
    match column.kind:
        case "id":
            ids = values.combine_chunks()  # of one dictionary, trimmed
            is_empty = pc.equal(ids.dictionary, "").to_numpy(zero_copy_only=False)
            if ids.null_count or is_empty.any():
                bad = np.append(is_empty, True)[ids.indices.fill_null(-1).to_numpy()]
        case "rating":
            bad = ~(np.abs(values.to_numpy()) <= MAX_NUMBER)  # a null becomes NaN
        case "number":
            bad = np.abs(values.to_numpy()) > MAX_NUMBER
        case "time":
            times = pc.fill_null(values.cast(pa.int64()), -1).to_numpy()
            low, high = 0, MILLISECONDS_FROM
            if pa.types.is_timestamp(values.type):
                high = MILLISECONDS_TO
            elif _in_milliseconds(times):
                low, high = MILLISECONDS_FROM, MILLISECONDS_TO
            bad = (times < low) | (times >= high)
    return bad


def _in_milliseconds(times: IntArray) -> bool:
    """Whether more of the times are milliseconds since 1970 than seconds."""
    return bool(2 * np.count_nonzero(times >= MILLISECONDS_FROM) > len(times))


def _bad_value_message(source: _Source, row: int, column: Column, value: object) -> str:
    """What is wrong with the value in the given row (from 0) of the file."""
    must = column.requirement + (", all in the same unit" if column.kind == "time" else "")
    place, got = f"row {row + 1}", "" if value is None else f", got {shown(value)}"
    if source.format == "csv":
        header = read_header(source.path)
        record = next(islice(read_records(source.path), row + 1, None))
        place = f"line {record.line}"
        if record.fields is not None:
            got = f", got {shown(record.fields[header.index(column.source)])}"
    return f"{source.path}: {place}: column '{column.source}' {must}{got}"
