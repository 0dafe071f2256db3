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
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data.arrays import IntArray
from recsys.data.columns import MAX_NUMBER, MISSING_NUMBERS, Column
from recsys.data.csv_source import csv_form, open_binary, text_lines
from recsys.errors import DataError, shown

BATCH_ROWS = 1 << 16
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
SURROGATES = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is no UTF-8

# Reasons for which a row cannot be read, as counted when it is dropped.
WRONG_FIELDS = "wrong number of fields"
BAD_QUOTES = "quotes that do not match"
BAD_LINE_END = "a CR within a line"
BAD_ENCODING = "not UTF-8"
TOO_LONG = "a field that is too long"

QUOTES_MUST_MATCH = 'a field that begins with " must end with "'
MAX_FIELD = 1 << 22
csv.field_size_limit(MAX_FIELD)  # for the whole process; 131,072 where not set


@dataclass(frozen=True)
class Record:
    """One row of a CSV file as text.

    Attributes:
        line: number of its first line in the file, counted from 1.
        fields: its fields, bytes that are no UTF-8 as surrogates; None where it cannot be parted
            into fields.
        fault: why it cannot, (reason, what is wrong).
    """

    line: int
    fields: list[str] | None
    fault: tuple[str, str] = ("", "")


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


def read_header(path: Path) -> list[str]:
    """Names of the columns, from the first row.

    Raises:
        DataError: the file is empty, is not UTF-8 text, or its first row is not a row.
    """
    first = next(read_records(path), None)
    if first is None:
        raise DataError(f"{path}: the first line must name the columns, the file is empty")
    if first.fields is None:
        raise DataError(f"{path}: line {first.line}: {first.fault[1]}")
    for text in first.fields:
        if SURROGATES.search(text):
            raise DataError(f"{path}: line {first.line}: {_must_be_utf8(text)}")
    return first.fields


def read_records(path: Path) -> Iterator[Record]:
    """Every row, the header included; blank lines are passed over.

    Where the quotes of a row do not match, that row is its first line alone.

    Raises:
        DataError: the file is UTF-16, or a .gz that cannot be unpacked.
    """
    line = 1
    try:
        form = csv_form(path)
        with open_binary(path) as file:
            lines = _Lines(text_lines(file, path))
            line += len(list(islice(lines, form.n_skipped)))
            lines.taken.clear()
            reader = csv.reader(lines, delimiter=form.separator, strict=True)
            while True:
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Record(line, None, _fault(error))
                    lines.give_back()
                else:
                    if fields:
                        yield Record(line, fields)
                line += len(lines.taken)
                lines.taken.clear()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: must be a whole gzip file, breaks off after line {line - 1} ({error})"
        ) from error


class _Lines:
    """Lines of text, of which all but the first that were taken can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._given_back: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """All that were taken but the first."""
        self._given_back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _fault(error: csv.Error) -> tuple[str, str]:
    """(reason, what is wrong) with a row that has no fields."""
    text = str(error)
    if "new-line" in text:
        return BAD_LINE_END, "lines must end in LF or CR LF, this one has a CR in it"
    if "field limit" in text:
        return TOO_LONG, f"a field must have at most {MAX_FIELD} characters; {QUOTES_MUST_MATCH}"
    return BAD_QUOTES, QUOTES_MUST_MATCH


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
            packed.append(pa.array(values, type=arrow_type(column)))
            values.clear()

    def table(self) -> pa.Table:
        self._pack()
        names = [column.name for column in self._columns]
        return pa.table([pa.chunked_array(packed) for packed in self._packed], names=names)


def arrow_type(column: Column) -> pa.DataType:
    """The type in which a column of a CSV file is held."""
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
        return [], record.fault
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
            detail = f"column '{column.source}' {requirement(column)}, got {shown(text)}"
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
            return f"must be a number between {-MAX_NUMBER:g} and {MAX_NUMBER:g}"
        case "time":
            return "must be seconds or milliseconds since 1970"
        case "number":
            return f"must be a number between {-MAX_NUMBER:g} and {MAX_NUMBER:g}, or empty"
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
