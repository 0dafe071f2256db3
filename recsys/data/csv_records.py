"""CSV records one by one: slow, but able to say which line is wrong and why.

Reading is by Arrow (see ``tables``); this is where a file goes that Arrow refuses.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from recsys.data.arrays import IntArray
from recsys.data.columns import MISSING_NUMBERS, Column
from recsys.errors import DataError

BATCH_ROWS = 1 << 16
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
SURROGATES = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is no UTF-8

# Reasons for which a row cannot be read, as counted when it is dropped.
WRONG_FIELDS = "wrong number of fields"
BAD_QUOTES = "quotes that do not match"
BAD_ENCODING = "not UTF-8"

QUOTES_MUST_MATCH = 'a field that begins with " must end with "'


@dataclass(frozen=True)
class Record:
    """One row of a CSV file as text.

    Attributes:
        line: number of its first line in the file, counted from 1.
        fields: its fields, bytes that are no UTF-8 as surrogates; None where its quotes do not
            match, so that it has no fields.
    """

    line: int
    fields: list[str] | None


@dataclass(frozen=True, eq=False)
class CleanRows:
    """The rows of a file that can be read.

    Attributes:
        table: our names, canonical types.
        rows: number of each row among the file's, counted from 1 below the header, (n,) int64.
        dropped: rows left out, by reason.
    """

    table: pa.Table
    rows: IntArray
    dropped: Counter[str] = field(default_factory=Counter)


def open_binary(path: Path) -> BinaryIO | gzip.GzipFile:
    """The content of a file, unpacked where its name ends in .gz."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def read_header(path: Path) -> list[str]:
    """Names of the columns, from the first row.

    Raises:
        DataError: the file is empty, is not UTF-8 text, or its first row is not a row.
    """
    first = next(read_records(path), None)
    if first is None:
        raise DataError(f"{path}: the first line must name the columns, the file is empty")
    if first.fields is None:
        raise DataError(f"{path}: line {first.line}: {QUOTES_MUST_MATCH}")
    for text in first.fields:
        if SURROGATES.search(text):
            raise DataError(f"{path}: line {first.line}: {_must_be_utf8(text)}")
    return first.fields


def read_records(path: Path) -> Iterator[Record]:
    """Every row, the header included; blank lines are passed over.

    Raises:
        DataError: the file is UTF-16, or a .gz that cannot be unpacked.
    """
    last_line = 0
    try:
        with open_binary(path) as file:
            lines = _Lines(_text_lines(file, path))
            reader = csv.reader(lines)
            while True:
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    yield Record(last_line + 1, None)
                else:
                    if fields:  # a row that wants a line after the last has an open quote
                        yield Record(last_line + 1, None if lines.ended else fields)
                last_line = reader.line_num
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: must be a whole gzip file, breaks off after line {last_line} ({error})"
        ) from error


class _Lines:
    """Lines of text that remember whether one more than there are was asked for."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            self.ended = True
            raise


def _text_lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line:
                raise DataError(
                    f"{path}: must be UTF-8 text, line 1 is UTF-16 or binary; "
                    "save the file as UTF-8"
                )
            if b"\r" in line.removesuffix(b"\r\n"):
                raise DataError(f"{path}: lines must end in LF or CR LF, line 1 ends in CR")
            line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 (the byte order mark is no text)
        yield line.decode("utf-8", errors="surrogateescape")


def read_clean_rows(
    path: Path, columns: Sequence[Column], *, limit: int | None, drop: bool
) -> CleanRows:
    """The rows that can be split into fields and whose values can be read.

    Args:
        path: a .csv or .csv.gz file.
        columns: what to read; the file has them all.
        limit: look at the first so many rows only.
        drop: leave out rows that cannot be read, and count them, rather than raise.

    Raises:
        DataError: a row cannot be read and ``drop`` is false; it names file, line and column.
    """
    records = read_records(path)
    header = next(records).fields or []
    places = [header.index(column.source) for column in columns]
    dropped: Counter[str] = Counter()
    kept = array("q")
    collected = _Collected(columns)
    for number, record in enumerate(islice(records, limit), start=1):
        row, fault = _read_row(record, columns, places, len(header))
        if fault is None:
            kept.append(number)
            collected.append(row)
            continue
        reason, detail = fault
        if not drop:
            raise DataError(f"{path}: line {record.line}: {detail}")
        dropped[reason] += 1
    return CleanRows(collected.table(), np.array(kept, dtype=np.int64), dropped)


class _Collected:
    """Values of rows, packed whenever there are BATCH_ROWS of them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._values: list[list[Any]] = [[] for _ in columns]
        self._packed: list[list[Any]] = [[] for _ in columns]

    def append(self, row: list[Any]) -> None:
        for values, value in zip(self._values, row, strict=True):
            values.append(value)
        if len(self._values[0]) == BATCH_ROWS:
            self._pack()

    def _pack(self) -> None:
        for column, values, packed in zip(self._columns, self._values, self._packed, strict=True):
            packed.append(pa.array(values, type=_plain_type(column)))
            values.clear()

    def table(self) -> pa.Table:
        self._pack()
        names = [column.name for column in self._columns]
        return pa.table([pa.chunked_array(packed) for packed in self._packed], names=names)


def _plain_type(column: Column) -> pa.DataType:
    match column.kind:
        case "id" | "text":
            return pa.string()
        case "time":
            return pa.int64()
        case "rating":
            return pa.float32()
        case _:
            return pa.float64()


def _read_row(
    record: Record, columns: Sequence[Column], places: Sequence[int], n_fields: int
) -> tuple[list[Any], tuple[str, str] | None]:
    """The row's values, or ([], (reason, what is wrong))."""
    if record.fields is None:
        return [], (BAD_QUOTES, QUOTES_MUST_MATCH)
    if len(record.fields) != n_fields:
        detail = f"must have {n_fields} fields like the header, has {len(record.fields)}"
        return [], (WRONG_FIELDS, detail)
    row: list[Any] = []
    for column, place in zip(columns, places, strict=True):
        text = record.fields[place]
        if SURROGATES.search(text):
            return [], (BAD_ENCODING, f"column '{column.source}' {_must_be_utf8(text)}")
        try:
            row.append(_read_value(column, text))
        except ValueError:
            detail = f"column '{column.source}' {requirement(column)}, got '{text}'"
            return [], (fault_name(column), detail)
    return row, None


def _must_be_utf8(text: str) -> str:
    raw = text[:60].encode("utf-8", errors="surrogateescape")
    return f"must be UTF-8 text, got {raw!r}; save the file as UTF-8"


def requirement(column: Column) -> str:
    """What a value of the column must be, in words."""
    match column.kind:
        case "id":
            return "must not be empty"
        case "rating":
            return "must be a finite number"
        case "time":
            return "must be seconds or milliseconds since 1970"
        case "number":
            return "must be a finite number or empty"
        case _:
            return "must be text"


def fault_name(column: Column) -> str:
    """The reason under which rows with a bad value in this column are counted."""
    return f"bad '{column.source}'"


def _read_value(column: Column, text: str) -> str | float | int | None:
    match column.kind:
        case "id" | "text":
            return text
        case "time":
            return _read_time(text.strip())
        case _:
            return _read_number(text.strip())


def _read_number(text: str) -> float | None:
    if text in MISSING_NUMBERS:
        return None
    if not NUMBER.fullmatch(text):  # float() also takes 1_000
        raise ValueError(text)
    return float(text)


def _read_time(text: str) -> int | None:
    number = _read_number(text)
    if number is None:
        return None
    if not math.isfinite(number) or abs(number) >= 2**62:
        raise ValueError(text)
    return int(number)
