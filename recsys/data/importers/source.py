"""What every importer shares: finding files, reading their records, counting what is unreadable."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from recsys.data.columns import NUMBER, listed
from recsys.data.csv_file import BAD_ENCODING, SURROGATES, open_binary, read_header, read_records
from recsys.errors import DataError

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


class UnreadableError(ValueError):
    """Why a row cannot be used; it is counted under this reason."""


@dataclass
class FileSummary:
    """What became of the rows of one file, counted while they are streamed.

    Attributes:
        source: the file that is read.
        path: the file that is written, or None.
        read: rows read.
        written: rows written.
        dropped: rows that could not be used, by reason.
        first_fault: the first of them, as "line 12: ...", or None.
    """

    source: Path
    path: Path | None = None
    read: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_fault: str | None = None

    def drop(self, line: int, reason: str) -> None:
        """Count a row that cannot be used."""
        self.dropped[reason] += 1
        self.first_fault = self.first_fault or f"line {line}: {reason}"

    def check(self) -> None:
        """Refuse a file without rows, or of which more than one per cent could not be used.

        Raises:
            DataError: naming the first such row.
        """
        faulty = self.dropped.total()
        if not self.read:
            raise DataError(f"{self.source}: must hold at least one row, holds none")
        if faulty > MAX_FAULTY_SHARE * self.read:
            raise DataError(
                f"{self.source}: at most {MAX_FAULTY_SHARE:.0%} of the rows may be unreadable, "
                f"got {faulty} of {self.read}, the first at {self.first_fault}"
            )


Records = Iterator[tuple[int, Any]]


@dataclass(frozen=True)
class Source:
    """One file of a data set and how to read it.

    Attributes:
        path: the file.
        columns: names of the columns it becomes.
        records: its records with their line numbers, streamed, read and counted in the summary.
        convert: from a record to the row it becomes, in the order of ``columns``; raises
            :class:`UnreadableError` where it cannot be used.
    """

    path: Path
    columns: tuple[str, ...]
    records: Callable[[FileSummary], Records]
    convert: Callable[[Any], tuple[str, ...]]

    def rows(self, summary: FileSummary) -> Iterator[tuple[str, ...]]:
        """The rows it becomes; what cannot be used is counted and left out."""
        for line, record in self.records(summary):
            try:
                yield self.convert(record)
            except UnreadableError as error:
                summary.drop(line, str(error))


def find_file(folder: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of the candidates that there is, packed (.gz) or not.

    Args:
        folder: where the data set lies.
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
    paths = (folder / f"{name}{suffix}" for name in candidates for suffix in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def csv_fields(*columns: str, optional: Sequence[str] = ()) -> Callable[[FileSummary], Records]:
    """The named columns of every row of a CSV file, an optional one empty where it is missing.

    Rows that cannot be split into fields are counted and left out; a file that is empty or lacks a
    column is a DataError.
    """

    def records(summary: FileSummary) -> Records:
        path = summary.source
        header = read_header(path)
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(
                f"{path}: column '{missing[0]}' is missing; the file has: {listed(header)}"
            )
        wanted = (*columns, *optional)
        places = [header.index(name) if name in header else -1 for name in wanted]
        for record in islice(read_records(path), 1, None):
            summary.read += 1
            fields = record.fields
            if fields is None:
                summary.drop(record.line, record.fault[0])
            elif any(SURROGATES.search(text) for text in fields):
                summary.drop(record.line, BAD_ENCODING)
            else:
                yield record.line, tuple(fields[at] if at >= 0 else "" for at in places)

    return records


def filled_lines(summary: FileSummary) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number.

    Raises:
        DataError: the file breaks off.
    """
    try:
        with open_binary(summary.source) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    summary.read += 1
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{summary.source}: must be a whole, readable file ({error})") from error


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
        UnreadableError: it is empty.
    """
    text = text.strip()
    if not text:
        raise UnreadableError(f"no '{name}'")
    return text


def rating_text(text: str) -> str:
    """A rating as plain text: 4.0 as 4, 4.5 as it is.

    Raises:
        UnreadableError: it is not a finite number.
    """
    try:
        value = float(text if NUMBER.fullmatch(text.strip()) else "")  # which takes 1_0, too
        return str(int(value)) if value == int(value) else repr(value)
    except (ValueError, OverflowError) as error:
        raise UnreadableError("bad 'rating'") from error


def time_text(text: str) -> str:
    """A timestamp as plain text, in its own unit.

    Raises:
        UnreadableError: it is not a whole number.
    """
    text = text.strip()
    if not text.isascii() or not text.isdigit():
        raise UnreadableError("bad 'timestamp'")
    return text


def year_text(text: str) -> str:
    """A year such as 2008 or 2008.0, empty where there is none."""
    found = _YEAR.match(text.strip())
    return found[0] if found else ""


def interaction(names: tuple[str, str], fields: Sequence[str]) -> tuple[str, ...]:
    """A row of users.csv from a user, an item, a rating and, where there is one, a timestamp.

    Args:
        names: what the source calls the user's and the item's id.
        fields: as the source has them.

    Raises:
        UnreadableError: one of them cannot be used.
    """
    ids = (required_id(text, name) for text, name in zip(fields[:2], names, strict=True))
    return (*ids, rating_text(fields[2]), *map(time_text, fields[3:]))
