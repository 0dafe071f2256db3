"""Amazon Reviews 2023, category Books (Hou et al. 2024, https://amazon-reviews-2023.github.io).

Books come from ``meta_Books.jsonl``; interactions from the rating-only ``Books.csv`` or else from
the reviews, ``Books.jsonl``. An item is a ``parent_asin``: editions of a book share it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recsys.data.csv_source import open_binary
from recsys.data.importers.dump import (
    BOOK_COLUMNS,
    INTERACTION_COLUMNS,
    Dump,
    Rows,
    Source,
    Tally,
    Unreadable,
    clean_text,
    find_file,
    join_values,
    rating_text,
    read_columns,
    required_id,
    time_text,
)
from recsys.errors import DataError

META_FILES = ("meta_Books.jsonl", "raw/meta_categories/meta_Books.jsonl")
INTERACTION_FILES = (
    "Books.csv",
    "5core/rating_only/Books.csv",
    "benchmark/5core/rating_only/Books.csv",
    "0core/rating_only/Books.csv",
    "benchmark/0core/rating_only/Books.csv",
    "Books.jsonl",
    "raw/review_categories/Books.jsonl",
)
_ROOT = "Books"
_PRICE = re.compile(
    r"(?:from\s+)?(?:[$€£¥]|[A-Z]{3}\b)?\s*(\d[\d.,]*(?:\s\d{3}(?!\d)[\d.,]*)*)", re.IGNORECASE
)
_CENTS = re.compile(r"[.,](\d\d?)$")
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
# "Jane Roe (Author), John Doe (Illustrator)": how a book's store is written.
_ROLE = re.compile(r"\s*\([^()]*\)")


def open_amazon(source: Path) -> Dump:
    """The Books category below a folder, flat or in the folders of the publication.

    Where several interaction files are there, the first of ``INTERACTION_FILES`` is read.

    Raises:
        DataError: a file is not found.
    """
    books = find_file(source, META_FILES, "books' metadata")
    interactions = find_file(source, INTERACTION_FILES, "ratings or reviews")
    is_csv = ".csv" in interactions.suffixes
    read = _read_ratings if is_csv else _read_reviews
    return Dump(
        Source(books, BOOK_COLUMNS, _read_books), Source(interactions, INTERACTION_COLUMNS, read)
    )


def _read_books(tally: Tally) -> Rows:
    return _read_json(tally, _book)


def _read_reviews(tally: Tally) -> Rows:
    return _read_json(tally, _review)


def _read_ratings(tally: Tally) -> Rows:
    columns = ("user_id", "parent_asin", "rating", "timestamp")
    for line, (user_id, item_id, rating, timestamp) in read_columns(tally, columns):
        try:
            yield (
                required_id(user_id, "user_id"),
                required_id(item_id, "parent_asin"),
                rating_text(rating),
                time_text(timestamp),
            )
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_json(tally: Tally, convert: Callable[[dict[str, Any]], tuple[str, ...]]) -> Rows:
    """The records of a JSON Lines file, one at a time; what cannot be read is counted."""
    for line, text in _lines(tally.path):
        tally.read += 1
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise Unreadable("not a JSON object")
            yield convert(record)
        except Unreadable as error:
            tally.drop(line, str(error))
        except ValueError:  # not JSON, or not UTF-8
            tally.drop(line, "not JSON")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: must be a whole, readable file ({error})") from error


def _review(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        required_id(_text(record.get("user_id")), "user_id"),
        required_id(_text(record.get("parent_asin")), "parent_asin"),
        rating_text(_text(record.get("rating"))),
        time_text(_text(record.get("timestamp"))),
    )


def _book(record: dict[str, Any]) -> tuple[str, ...]:
    categories = record.get("categories")
    if not isinstance(categories, list):
        categories = []
    return (
        required_id(_text(record.get("parent_asin")), "parent_asin"),
        clean_text(_text(record.get("title"))),
        _author(record),
        # The root says nothing: every book has it.
        join_values([_text(each) for each in categories if each != _ROOT]),
        _number(record.get("average_rating")),
        _number(record.get("rating_number")),
        _price(record.get("price")),
        _year(record),
    )


def _author(record: dict[str, Any]) -> str:
    """The author's name, else those whom the store field names, without their roles."""
    author = record.get("author")
    if isinstance(author, dict) and author.get("name"):
        return clean_text(_text(author["name"]))
    if isinstance(author, str) and author not in ("", "None"):
        return clean_text(author)
    return clean_text(_ROLE.sub("", _text(record.get("store"))))


def _price(value: object) -> str:
    """A price such as 9.99, "$9.99", "from 9.99" or "9,99 €" as 9.99; empty for "None" and such.

    One or two digits at the end are cents, whether a point or a comma is before them; other commas
    part thousands, and so do points where there are several or commas too.
    """
    found = _PRICE.match(_text(value).strip())
    if found is None:
        return _number(value)
    amount = re.sub(r"\s", "", found[1]).rstrip(".,")
    if amount.count(".") == 1 and "," not in amount:
        return amount
    cents = _CENTS.search(amount)
    whole = re.sub(r"[.,]", "", amount[: cents.start()] if cents else amount)
    return f"{whole}.{cents[1]}" if cents else whole


def _year(record: dict[str, Any]) -> str:
    """The year in the publisher's details, or in the subtitle ("Hardcover – May 5, 2009")."""
    details = record.get("details")
    places = [_text(record.get("subtitle"))]
    if isinstance(details, dict):
        places.insert(0, _text(details.get("Publisher")))
        places.insert(0, _text(details.get("Publication date")))
    for text in places:
        years = _YEAR.findall(text)
        if years:
            return str(years[-1])
    return ""


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value) if math.isfinite(value) else ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
