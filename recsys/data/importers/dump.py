"""What every importer shares: what a dump offers, what was read of it, and finding its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from recsys.data.columns import listed
from recsys.data.csv_records import (
    BAD_ENCODING,
    NUMBER,
    SURROGATES,
    WRONG_FIELDS,
    read_header,
    read_records,
)
from recsys.errors import DataError

DumpKind = Literal["amazon-2023", "goodbooks", "movielens"]

BOOK_COLUMNS = (
    "item_id",
    "title",
    "author",
    "categories",
    "average_rating",
    "rating_number",
    "price",
    "publication_year",
)
INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
MAX_FAULTY_SHARE = 0.01
"""Of a file's rows, at most this share may be unreadable before the import is refused."""

_SPACE = re.compile(r"\s+")
_YEAR = re.compile(r"-?\d{1,4}(?=\.0*$|$)")


class Unreadable(ValueError):
    """Why a row cannot be used; it is counted under this reason."""


@dataclass
class Tally:
    """What happened to the rows of one file while they were streamed.

    Attributes:
        path: the file.
        read: rows so far.
        dropped: rows that could not be used, by reason.
        first_fault: the first of them, as "line 12: ...", or None.
    """

    path: Path
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_fault: str | None = None

    def drop(self, line: int, reason: str) -> None:
        """Count a row that cannot be used."""
        self.dropped[reason] += 1
        self.first_fault = self.first_fault or f"line {line}: {reason}"

    def check(self) -> None:
        """Refuse a file of which more than one per cent could not be used.

        Raises:
            DataError: naming the first such row.
        """
        faulty = self.dropped.total()
        if faulty > MAX_FAULTY_SHARE * self.read:
            raise DataError(
                f"{self.path}: at most {MAX_FAULTY_SHARE:.0%} of the rows may be unreadable, "
                f"got {faulty} of {self.read}, the first at {self.first_fault}"
            )


@dataclass(frozen=True)
class FileSummary:
    """What became of one file of a dump.

    Attributes:
        source: the file that was read.
        path: the file that was written.
        read: rows read.
        written: rows written.
        dropped: rows that could not be used, by reason.
        first_fault: the first of them, as "line 12: ...", or None.
    """

    source: Path
    path: Path
    read: int
    written: int
    dropped: dict[str, int]
    first_fault: str | None


@dataclass(frozen=True)
class ImportSummary:
    """What became of a dump."""

    kind: DumpKind
    books: FileSummary
    interactions: FileSummary


Rows = Iterator[tuple[str, ...]]


@dataclass(frozen=True)
class Source:
    """One file of a dump and how to read it.

    Attributes:
        path: the file.
        columns: names of the columns it becomes.
        read: the rows it becomes, streamed, in the order of ``columns``.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Tally], Rows]


@dataclass(frozen=True)
class Dump:
    """A published dump, its files found."""

    books: Source
    interactions: Source


def find_file(folder: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of the candidates that there is, packed (.gz) or not.

    Args:
        folder: where the dump lies.
        candidates: paths below it, the preferred one first.
        what: what the file holds, for the error.

    Raises:
        DataError: there is none; the line names all that were looked for.
    """
    found = find_optional(folder, candidates)
    if found is None:
        looked_for = ", ".join(candidates)
        raise DataError(f"{folder}: must hold the {what}, looked for {looked_for} (each also .gz)")
    return found


def find_optional(folder: Path, candidates: Sequence[str]) -> Path | None:
    """The first of the candidates that there is, packed (.gz) or not, or None."""
    for candidate in candidates:
        for path in (folder / candidate, folder / f"{candidate}.gz"):
            if path.is_file():
                return path
    return None


def read_columns(
    tally: Tally, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The named columns of every row of a CSV file, with the row's line number.

    Rows that cannot be split into fields are counted and left out. A missing optional column is
    empty throughout.

    Raises:
        DataError: the file is empty or lacks a column.
    """
    header = read_header(tally.path)
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"{tally.path}: column '{missing[0]}' is missing; the file has: {listed(header)}"
        )
    wanted = (*columns, *optional)
    places = [header.index(name) if name in header else -1 for name in wanted]
    for record in islice(read_records(tally.path), 1, None):
        tally.read += 1
        fields = record.fields
        if fields is None:
            tally.drop(record.line, record.fault[0])
        elif len(fields) != len(header):
            tally.drop(record.line, WRONG_FIELDS)
        elif any(SURROGATES.search(text) for text in fields):
            tally.drop(record.line, BAD_ENCODING)
        else:
            yield record.line, tuple(fields[at] if at >= 0 else "" for at in places)


def clean_text(text: str) -> str:
    """The text on one line, runs of white space as one space, without control characters."""
    return _SPACE.sub(" ", text).strip().replace("\x00", "")


def join_values(values: Sequence[str]) -> str:
    """Values of a '|'-separated field; a '|' within a value becomes '/'."""
    cleaned = (clean_text(value).replace("|", "/") for value in values)
    return "|".join(dict.fromkeys(value for value in cleaned if value))


def required_id(text: str, name: str) -> str:
    """An id as text, without white space around it.

    Raises:
        Unreadable: it is empty.
    """
    text = text.strip()
    if not text:
        raise Unreadable(f"no '{name}'")
    return text


def rating_text(text: str) -> str:
    """A rating as plain text: 4.0 as 4, 4.5 as it is.

    Raises:
        Unreadable: it is not a finite number.
    """
    try:
        value = float(text if NUMBER.fullmatch(text.strip()) else "")  # which takes 1_0, too
        return str(int(value)) if value == int(value) else repr(value)
    except (ValueError, OverflowError) as error:
        raise Unreadable("bad 'rating'") from error


def time_text(text: str) -> str:
    """A timestamp as plain text, in its own unit.

    Raises:
        Unreadable: it is not a whole number.
    """
    text = text.strip()
    if not text.isascii() or not text.isdigit():
        raise Unreadable("bad 'timestamp'")
    return text


def year_text(text: str) -> str:
    """A year such as 2008 or 2008.0, empty where there is none."""
    found = _YEAR.match(text.strip())
    return found[0] if found else ""
