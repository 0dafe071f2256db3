"""MovieLens (GroupLens, https://grouplens.org/datasets/movielens): films in place of books.

Three shapes: ``ratings.csv`` and ``movies.csv`` (ml-latest, ml-20m, ml-25m, ml-32m),
``ratings.dat`` and ``movies.dat`` with '::' between fields (ml-1m in Latin-1, ml-10m in UTF-8), and
``u.data`` and ``u.item`` (ml-100k, Latin-1). Films have a title, genres and a year, but neither
author nor price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from recsys.data.csv_file import WRONG_FIELDS
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

RATING_FILES = ("ratings.csv", "ratings.dat", "u.data")
NO_GENRES = "(no genres listed)"
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""What the 19 flags of u.item stand for, as in u.genre."""

_YEAR_OF_TITLE = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")


def open_movielens(folder: Path) -> tuple[Source, Source]:
    """The films and the ratings in a folder, of whichever shape.

    Raises:
        DataError: a file is not found.
    """
    ratings = find_file(folder, RATING_FILES, "ratings")
    convert = _movie
    if ".csv" in ratings.suffixes:
        name, movies = "movies.csv", csv_fields("movieId", "title", "genres")
        records = csv_fields("userId", "movieId", "rating", "timestamp")
    elif ".dat" in ratings.suffixes:
        name, movies, records = "movies.dat", _separated("::", 3), _separated("::", 4)
    else:
        name, movies = "u.item", _separated("|", 5 + len(GENRES_100K))
        convert, records = _flagged_movie, _separated("\t", 4)
    path = find_file(folder, (name,), "films")
    rating = partial(interaction, ("userId", "movieId"))
    return (
        Source(path, BOOK_COLUMNS, movies, convert),
        Source(ratings, INTERACTION_COLUMNS, records, rating),
    )


def _movie(fields: Sequence[str]) -> tuple[str, ...]:
    movie_id, title, genres = fields
    title = clean_text(title)
    year = _YEAR_OF_TITLE.search(title)
    categories = join_values([genre for genre in genres.split("|") if genre != NO_GENRES])
    item_id = required_id(movie_id, "movieId")
    return (item_id, title, "", categories, "", "", "", year[1] if year else "")


def _flagged_movie(fields: Sequence[str]) -> tuple[str, ...]:
    """From id, title, two dates, an address, and a flag for each genre."""
    flags = zip(GENRES_100K[1:], fields[6:], strict=True)
    return _movie((*fields[:2], "|".join(genre for genre, flag in flags if flag == "1")))


def _separated(separator: str, n_fields: int) -> Callable[[FileSummary], Records]:
    """The fields of every line; there are no quotes."""

    def records(summary: FileSummary) -> Records:
        for number, line in filled_lines(summary):
            fields = tuple(_decode(line).rstrip("\r\n").split(separator))
            if len(fields) == n_fields:
                yield number, fields
            else:
                summary.drop(number, WRONG_FIELDS)

    return records


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:  # ml-1m and ml-100k
        return line.decode("latin-1")
