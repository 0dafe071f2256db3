"""goodbooks-10k (Zygmunt Zając, CC BY-SA 4.0, https://github.com/zygmuntz/goodbooks-10k).

The ratings have no timestamps, but their row order is kept: the publication says that they are
sorted by time. The first release (on Kaggle) calls ``book_id`` ``id`` and ``goodreads_book_id``
``book_id`` in books.csv; both are read.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from functools import partial
from pathlib import Path

from recsys.data.csv_records import read_header
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
    find_optional,
    join_values,
    rating_text,
    read_columns,
    required_id,
    year_text,
)
from recsys.errors import DataError

TAGS_PER_BOOK = 20
"""A book's most used tags become its categories."""
NOT_CATEGORIES = frozenset(
    {
        *("to-read", "currently-reading", "read", "re-read", "wish-list", "to-buy", "default"),
        *("owned", "owned-books", "books-i-own", "i-own", "my-books", "my-library", "library"),
        *("favorites", "favourites", "all-time-favorites"),
        *("kindle", "ebook", "ebooks", "e-book", "e-books", "audio", "audiobook", "audiobooks"),
    }
)
"""Shelves that say what a reader does with a book, not what it is."""

_KEEP_AT_ONCE = 2 * TAGS_PER_BOOK


def open_goodbooks(source: Path) -> Dump:
    """The files of goodbooks-10k in a folder; without book_tags.csv, books have no categories.

    Raises:
        DataError: a file is not found.
    """
    books = find_file(source, ("books.csv",), "books")
    ratings = find_file(source, ("ratings.csv",), "ratings")
    book_tags = find_optional(source, ("book_tags.csv",))
    tags = None if book_tags is None else find_file(source, ("tags.csv",), "names of the tags")
    read_books = partial(_read_books, book_tags, tags)
    return Dump(
        Source(books, BOOK_COLUMNS, read_books),
        Source(ratings, INTERACTION_COLUMNS[:3], _read_ratings),
    )


def _read_ratings(tally: Tally) -> Rows:
    columns = ("user_id", "book_id", "rating")
    for line, (user_id, item_id, rating) in read_columns(tally, columns):
        try:
            yield (
                required_id(user_id, "user_id"),
                required_id(item_id, "book_id"),
                rating_text(rating),
            )
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_books(book_tags: Path | None, tags: Path | None, tally: Tally) -> Rows:
    categories = {} if book_tags is None or tags is None else _categories(book_tags, tags)
    ids = ("book_id", "goodreads_book_id")
    if "goodreads_book_id" not in read_header(tally.path):
        ids = ("id", "book_id")
    columns = (*ids, "title", "authors")
    optional = ("average_rating", "ratings_count", "original_publication_year")
    for line, fields in read_columns(tally, columns, optional):
        book_id, goodreads_id, title, authors, average, count, year = fields
        try:
            yield (
                required_id(book_id, ids[0]),
                clean_text(title),
                clean_text(authors),
                categories.get(goodreads_id, ""),
                clean_text(average),
                clean_text(count),
                "",
                year_text(year),
            )
        except Unreadable as error:
            tally.drop(line, str(error))


def _categories(book_tags: Path, tags: Path) -> dict[str, str]:
    """'|'-separated names of the most used tags of each book, by Goodreads id.

    The file's rows of a book need not be together; at any time at most ``2 * TAGS_PER_BOOK`` of
    them are kept. Equal counts: the name that comes first.
    """
    names = _tag_names(tags)
    tally = Tally(book_tags)
    shelves: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line, (book, tag, text) in read_columns(tally, ("goodreads_book_id", "tag_id", "count")):
        if not text.lstrip("-").isdecimal() or tag not in names:
            tally.drop(line, "bad 'count' or unknown 'tag_id'")
            continue
        name, count, shelf = names[tag], int(text), shelves[book]
        if count > 0 and name not in NOT_CATEGORIES:  # the dump has counts of -1
            shelf[name] = max(count, shelf.get(name, 0))
            if len(shelf) > _KEEP_AT_ONCE:
                shelves[book] = dict(_most_used(shelf))
    tally.check()
    return {
        book: join_values([name for name, _ in _most_used(shelf)])
        for book, shelf in shelves.items()
    }


def _most_used(shelf: dict[str, int]) -> list[tuple[str, int]]:
    return heapq.nsmallest(TAGS_PER_BOOK, shelf.items(), key=lambda tag: (-tag[1], tag[0]))


def _tag_names(path: Path) -> dict[str, str]:
    tally = Tally(path)
    names = {
        tag: clean_text(name) for _, (tag, name) in read_columns(tally, ("tag_id", "tag_name"))
    }
    tally.check()
    if not names:
        raise DataError(f"{path}: must name at least one tag, is empty")
    return names
