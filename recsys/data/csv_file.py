"""CSV files as they lie on the disk: packed or not, their separator, quotes, lines and records."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from recsys.artifacts import replacement
from recsys.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
"""What may part the fields of a row."""
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

_QUOTE = ord('"')
_HEAD_BYTES = 1 << 16
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip or Excel file; save the table as CSV",
    b"PAR1": "a Parquet file, whose name must end in .parquet",
}
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\s*')


def open_binary(path: Path) -> BinaryIO | gzip.GzipFile:
    """The content of a file, unpacked where its name ends in .gz or it begins as gzip files do."""
    file = path.open("rb")
    if path.suffix.lower() != ".gz" and file.peek(2)[:2] != b"\x1f\x8b":
        return file
    file.close()
    return gzip.open(path, "rb")


def csv_form(path: Path) -> tuple[str, int]:
    """(separator, lines before the header): the separator by which the first line has most fields.

    Excel's "sep=;" as the first line names the separator and stands before the header.
    """
    with open_binary(path) as file:
        lines = iter(lambda: file.readline(_HEAD_BYTES), b"")
        head = next((line for line in lines if line.strip()), b"")
    text = head.decode("utf-8-sig", errors="replace").split("\r")[0]
    hint = _EXCEL_HINT.fullmatch(text)
    if hint is not None:
        return hint[1], 1
    fields = {mark: len(next(csv.reader([text], delimiter=mark), ())) for mark in SEPARATORS}
    return max(SEPARATORS, key=lambda mark: fields[mark]), 0


class QuoteCheckedFile:
    """A file for Arrow to read, which looks at quotes and line ends on the way.

    Arrow takes text behind a closing quote as part of the field, so that an opening quote without a
    closing one would swallow all rows up to the next quote, and a CR alone as the end of a row.

    Args:
        file: what is read.
        separator: of the fields.
    """

    closed = False

    def __init__(self, file: BinaryIO | gzip.GzipFile, separator: str) -> None:
        self._file = file
        self._is_around = np.zeros(256, dtype=bool)
        self._is_around[list(f'{separator}"\r\n'.encode())] = True
        self._before = b"\n"
        self._last = b""  # not looked at yet, since what follows it is not known
        self._n_quotes = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            pa.ArrowInvalid: a quote neither begins nor ends a field, or a CR stands alone.
        """
        block = self._file.read(size)
        self._check(self._last + (block or b"\n"))
        if not block and self._n_quotes % 2:
            raise pa.ArrowInvalid("the last quote is not closed")
        return block

    def _check(self, text: bytes) -> None:
        """Look at the text, but for its last byte, which is looked at next."""
        known = self._before + text
        self._before, self._last = known[-2:-1], known[-1:]
        if b"\r" in known and known.count(b"\r", 1, -1) != known.count(b"\r\n", 1):
            raise pa.ArrowInvalid("a line ends in CR alone")
        if known.find(b'"', 1, -1) < 0:
            return
        seen = np.frombuffer(known, np.uint8)
        before = np.flatnonzero(seen[1:-1] == _QUOTE)  # of each quote, the place before it
        first = self._n_quotes % 2  # that opens a field
        self._n_quotes += len(before)
        outside = seen[before[first::2]], seen[2:][before[1 - first :: 2]]
        if not all(self._is_around[each].all() for each in outside):
            raise pa.ArrowInvalid("a quote neither begins nor ends a field")


@dataclass(frozen=True)
class Record:
    """One row of a CSV file as text.

    Attributes:
        line: number of its first line in the file, counted from 1.
        fields: its fields, bytes that are no UTF-8 as surrogates; None where it cannot be parted
            into as many as the header has.
        fault: why it cannot, (reason, what is wrong).
    """

    line: int
    fields: list[str] | None
    fault: tuple[str, str] = ("", "")


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
            raise DataError(f"{path}: line {first.line}: {must_be_utf8(text)}")
    return first.fields


def must_be_utf8(text: str) -> str:
    """What is wrong with a field that has surrogates, in words."""
    raw = text[:60].encode("utf-8", errors="surrogateescape")
    return f"must be UTF-8 text, got {raw!r}; save the file as UTF-8"


def read_records(path: Path) -> Iterator[Record]:
    """Every row, the header included; blank lines are passed over.

    Where the quotes of a row do not match, that row is its first line alone.

    Raises:
        DataError: the file is UTF-16, or a .gz that cannot be unpacked.
    """
    line = 1
    try:
        separator, n_skipped = csv_form(path)
        with open_binary(path) as file:
            lines = _Lines(_text_lines(file, path))
            line += len(list(islice(lines, n_skipped)))
            lines.taken.clear()
            reader, n_fields = csv.reader(lines, delimiter=separator, strict=True), 0
            while True:
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Record(line, None, _fault(str(error)))
                    lines.give_back()
                else:
                    n_fields = n_fields or len(fields)  # of the header
                    if fields and len(fields) == n_fields:
                        yield Record(line, fields)
                    elif fields:
                        wrong = f"must have {n_fields} fields like the header, has {len(fields)}"
                        yield Record(line, None, (WRONG_FIELDS, wrong))
                line += len(lines.taken)
                lines.taken.clear()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: must be a whole gzip file, breaks off after line {line - 1} ({error})"
        ) from error


def _text_lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[str]:
    """The lines with their ends; bytes that are no UTF-8 as surrogates.

    Raises:
        DataError: the first line shows that this is no text in UTF-8.
    """
    first = file.readline()
    for start, what in _OTHER_FORMATS.items():
        if first.startswith(start):
            raise DataError(f"{path}: must be CSV, is {what}")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in first:
        raise DataError(
            f"{path}: must be UTF-8 text, line 1 is UTF-16 or binary; save the file as UTF-8"
        )
    if b"\r" in first.removesuffix(b"\r\n"):
        raise DataError(f"{path}: lines must end in LF or CR LF, line 1 ends in CR")
    if first:
        yield first.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")
    for line in file:
        yield line.decode("utf-8", errors="surrogateescape")


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


def _fault(error: str) -> tuple[str, str]:
    """(reason, what is wrong) with a row that Python's reader refuses with the given words."""
    if "new-line" in error:
        return BAD_LINE_END, "lines must end in LF or CR LF, this one has a CR in it"
    if "field limit" in error:
        return TOO_LONG, f"a field must have at most {MAX_FIELD} characters; {QUOTES_MUST_MATCH}"
    return BAD_QUOTES, QUOTES_MUST_MATCH


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Stream rows into a CSV file, gzipped where its name ends in .gz; how many there were.

    UTF-8, quotes only where needed, nothing where a value is None, newlines alone between rows. The
    same rows give the same bytes.
    """
    with ExitStack() as stack:
        binary: BinaryIO | gzip.GzipFile = stack.enter_context(path.open("wb"))
        if path.suffix == ".gz":  # no name and time in the header
            packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=binary, mtime=0)
            binary = stack.enter_context(packed)
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        file = stack.enter_context(text)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        n_rows = 0
        for n_rows, row in enumerate(rows, start=1):  # noqa: B007 (counted)
            writer.writerow(row)
    return n_rows


def replace_csv(path: Path, table: pa.Table) -> None:
    """Write a table as a CSV file that is either the old one or the new one, never half of it."""
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    with replacement(path) as unfinished:
        write_csv(unfinished, table.column_names, rows)
