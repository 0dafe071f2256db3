"""The bytes of CSV files: packed or not, what parts their fields, and their quotes."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from recsys.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
"""What may part the fields of a row."""
_QUOTE = ord('"')
_HEAD_BYTES = 1 << 16
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip or Excel file; save the table as CSV",
    b"PAR1": "a Parquet file, whose name must end in .parquet",
}
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\s*')


@dataclass(frozen=True)
class CsvForm:
    """How a CSV file is written.

    Attributes:
        separator: between the fields of a row.
        n_skipped: lines before the header, 1 where Excel's "sep=;" is the first line.
    """

    separator: str
    n_skipped: int


def csv_form(path: Path) -> CsvForm:
    """The form that the first line shows: the separator by which the header has most fields."""
    with open_binary(path) as file:
        lines = iter(lambda: file.readline(_HEAD_BYTES), b"")
        head = next((line for line in lines if line.strip()), b"")
    text = head.decode("utf-8-sig", errors="replace").split("\r")[0]
    hint = _EXCEL_HINT.fullmatch(text)
    if hint is not None:
        return CsvForm(hint[1], 1)
    fields = {mark: len(next(csv.reader([text], delimiter=mark), ())) for mark in SEPARATORS}
    return CsvForm(max(SEPARATORS, key=lambda mark: fields[mark]), 0)


def open_binary(path: Path) -> BinaryIO | gzip.GzipFile:
    """The content of a file, unpacked where its name ends in .gz or it begins as gzip files do."""
    file = path.open("rb")
    if path.suffix.lower() != ".gz" and file.peek(2)[:2] != b"\x1f\x8b":
        return file
    file.close()
    return gzip.open(path, "rb")


def text_lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[str]:
    """The lines with their ends; bytes that are no UTF-8 as surrogates.

    Raises:
        DataError: the first line shows that this is no text in UTF-8.
    """
    for number, line in enumerate(file, start=1):
        if number == 1:
            for start, what in _OTHER_FORMATS.items():
                if line.startswith(start):
                    raise DataError(f"{path}: must be CSV, is {what}")
            if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line:
                raise DataError(
                    f"{path}: must be UTF-8 text, line 1 is UTF-16 or binary; "
                    "save the file as UTF-8"
                )
            if b"\r" in line.removesuffix(b"\r\n"):
                raise DataError(f"{path}: lines must end in LF or CR LF, line 1 ends in CR")
            line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 (the byte order mark is no text)
        yield line.decode("utf-8", errors="surrogateescape")


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
        self._around = np.frombuffer(f'{separator}"\r\n'.encode(), np.uint8)
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
        if known.count(b"\r", 1, -1) != known.count(b"\r\n", 1):
            raise pa.ArrowInvalid("a line ends in CR alone")
        self._before, self._last = known[-2:-1], known[-1:]
        if known.find(b'"', 1, -1) < 0:
            return
        seen = np.frombuffer(known, np.uint8)
        places = 1 + np.flatnonzero(seen[1:-1] == _QUOTE)
        is_opening = (self._n_quotes + np.arange(len(places))) % 2 == 0
        self._n_quotes += len(places)
        beside = seen[np.where(is_opening, places - 1, places + 1)]
        if not np.isin(beside, self._around).all():
            raise pa.ArrowInvalid("a quote neither begins nor ends a field")
