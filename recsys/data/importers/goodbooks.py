"""goodbooks-10k (Zygmunt Zając, CC BY-SA 4.0, https://github.com/zygmuntz/goodbooks-10k).

The ratings have no timestamps, but their row order is kept: the publication says that they are
sorted by time. The first release (on Kaggle) calls ``book_id`` ``id`` and ``goodreads_book_id``
``book_id`` in books.csv; both are read.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from recsys.data.csv_file import read_header
from recsys.data.importers.source import (
    BOOK_COLUMNS,
    INTERACTION_COLUMNS,
    FileSummary,
    Source,
    clean_text,
    csv_fields,
    find_file,
    find_optional,
    interaction,
    join_values,
    required_id,
    year_text,
)

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
"""Tags that say what a user does with a book, not what it is."""

_KEEP_AT_ONCE = 2 * TAGS_PER_BOOK


def open_goodbooks(folder: Path) -> tuple[Source, Source]:
    """The books and ratings in a folder; without book_tags.csv, books have no categories.

    Raises:
        DataError: a file is not found, or the tags cannot be read.
    """
    books = find_file(folder, ("books.csv",), "books")
    ratings = find_file(folder, ("ratings.csv",), "ratings")
    book_tags = find_optional(folder, ("book_tags.csv",))
    categories = {}
    if book_tags is not None:
        categories = _categories(book_tags, find_file(folder, ("tags.csv",), "names of the tags"))
    ids = ("book_id", "goodreads_book_id")
    if ids[1] not in read_header(books):
        ids = ("id", "book_id")
    optional = ("average_rating", "ratings_count", "original_publication_year")
    records = csv_fields(*ids, "title", "authors", optional=optional)
    return (
        Source(books, BOOK_COLUMNS, records, partial(_book, categories, ids[0])),
        Source(
            ratings,
            INTERACTION_COLUMNS[:3],
            csv_fields("user_id", "book_id", "rating"),
            partial(interaction, ("user_id", "book_id")),
        ),
    )


def _book(categories: Mapping[str, str], id_name: str, fields: Sequence[str]) -> tuple[str, ...]:
    book_id, goodreads_id, title, authors, average, count, year = fields
    return (
        required_id(book_id, id_name),
        clean_text(title),
        clean_text(authors),
        categories.get(goodreads_id, ""),
        clean_text(average),
        clean_text(count),
        "",
        year_text(year),
    )


def _categories(book_tags: Path, tags: Path) -> dict[str, str]:
    """'|'-separated names of the most used tags of each book, by Goodreads id.

    The file's rows of a book need not be together; at any time at most ``2 * TAGS_PER_BOOK`` of
    them are kept. Equal counts: the name that comes first.
    """
    names = _tag_names(tags)
    summary = FileSummary(book_tags)
    shelves: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line, (book, tag, text) in csv_fields("goodreads_book_id", "tag_id", "count")(summary):
        if not text.lstrip("-").isdecimal() or tag not in names:
            summary.drop(line, "bad 'count' or unknown 'tag_id'")
            continue
        name, count, shelf = names[tag], int(text), shelves[book]
        if count > 0 and name not in NOT_CATEGORIES:  # the dump has counts of -1
            shelf[name] = max(count, shelf.get(name, 0))
            if len(shelf) > _KEEP_AT_ONCE:
                shelves[book] = dict(_most_used(shelf))
    summary.check()
    return {
        book: join_values([name for name, _ in _most_used(shelf)])
        for book, shelf in shelves.items()
    }


def _most_used(shelf: dict[str, int]) -> list[tuple[str, int]]:
    return heapq.nsmallest(TAGS_PER_BOOK, shelf.items(), key=lambda tag: (-tag[1], tag[0]))


def _tag_names(path: Path) -> dict[str, str]:
    summary = FileSummary(path)
    records = csv_fields("tag_id", "tag_name")(summary)
    names = {tag: clean_text(name) for _, (tag, name) in records}
    summary.check()
    return names
