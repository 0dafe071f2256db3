"""Amazon Reviews 2023, category Books (Hou et al. 2024, https://amazon-reviews-2023.github.io).

Books come from ``meta_Books.jsonl``; interactions from the rating-only ``Books.csv`` or else from
the reviews, ``Books.jsonl``. An item is a ``parent_asin``: editions of a book share it.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

from recsys.data.importers.source import (
    BOOK_COLUMNS,
    INTERACTION_COLUMNS,
    FileSummary,
    Records,
    Source,
    clean_text,
    csv_fields,
    filled_lines,
    find_file,
    interaction,
    join_values,
    required_id,
)

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
_INTERACTION_FIELDS = ("user_id", "parent_asin", "rating", "timestamp")
_ROOT = "Books"
_PRICE = re.compile(
    r"(?:from\s+)?(?:[$€£¥]|[A-Z]{3}\b)?\s*([0-9][0-9.,]*(?:[\s'’][0-9]{3}(?!\d)[0-9.,]*)*)"
    r"(?!['’e]?\d)",  # else a part of it would pass for the price
    re.IGNORECASE,
)
_CENTS = re.compile(r"[.,](\d\d?)$")
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
# "Jane Roe (Author), John Doe (Illustrator)": how a book's store is written.
_ROLE = re.compile(r"\s*\([^()]*\)")


def open_amazon(folder: Path) -> tuple[Source, Source]:
    """The Books category below a folder, flat or in the folders of the publication.

    Where several interaction files are there, the first of ``INTERACTION_FILES`` is read.

    Raises:
        DataError: a file is not found.
    """
    books = find_file(folder, META_FILES, "books' metadata")
    interactions = find_file(folder, INTERACTION_FILES, "ratings or reviews")
    is_csv = ".csv" in interactions.suffixes
    records = csv_fields(*_INTERACTION_FIELDS) if is_csv else _review_fields
    convert = partial(interaction, _INTERACTION_FIELDS[:2])
    ratings = Source(interactions, INTERACTION_COLUMNS, records, convert)
    return Source(books, BOOK_COLUMNS, _json_records, _book), ratings


def _json_records(summary: FileSummary) -> Records:
    """The objects of a JSON Lines file; what is none is counted and left out."""
    for line, text in filled_lines(summary):
        try:
            record = json.loads(text)
        except ValueError:  # not JSON, or not UTF-8
            summary.drop(line, "not JSON")
            continue
        if isinstance(record, dict):
            yield line, record
        else:
            summary.drop(line, "not a JSON object")


def _review_fields(summary: FileSummary) -> Records:
    for line, record in _json_records(summary):
        yield line, tuple(_text(record.get(name)) for name in _INTERACTION_FIELDS)


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
    part thousands, and so do blanks, apostrophes, and points where there are several or commas too.
    """
    found = _PRICE.match(_text(value).strip())
    if found is None:
        return _number(value)
    amount = re.sub(r"[\s'’]", "", found[1]).rstrip(".,")
    if amount.count(".") == 1 and "," not in amount:
        return amount
    cents = _CENTS.search(amount)
    whole = re.sub(r"[.,]", "", amount[: cents.start()] if cents else amount)
    return f"{whole}.{cents[1]}" if cents else whole


def _year(record: dict[str, Any]) -> str:
    """The year in the publisher's details, or in the subtitle ("Hardcover – May 5, 2009")."""
    details = record.get("details")
    if not isinstance(details, dict):
        details = {}
    places = (details.get("Publication date"), details.get("Publisher"), record.get("subtitle"))
    years = (_YEAR.findall(_text(place)) for place in places)
    return next((str(found[-1]) for found in years if found), "")


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value) if math.isfinite(value) else ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
