"""MovieLens (GroupLens, https://grouplens.org/datasets/movielens): films in place of books.

Three shapes: ``ratings.csv`` and ``movies.csv`` (ml-latest, ml-20m, ml-25m, ml-32m),
``ratings.dat`` and ``movies.dat`` with '::' between fields (ml-1m in Latin-1, ml-10m in UTF-8), and
``u.data`` and ``u.item`` (ml-100k, Latin-1). Films have a title, genres and a year, but neither
author nor price.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from recsys.data.csv_records import WRONG_FIELDS
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

RATING_FILES = ("ratings.csv", "ratings.dat", "u.data")
NO_GENRES = "(no genres listed)"
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""What the 19 flags of u.item stand for, as in u.genre."""

_YEAR_OF_TITLE = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")


def open_movielens(source: Path) -> Dump:
    """MovieLens files in a folder, of whichever shape.

    Raises:
        DataError: a file is not found.
    """
    ratings = find_file(source, RATING_FILES, "ratings")
    if ".csv" in ratings.suffixes:
        return _dump(source, ("movies.csv", _read_movies), (ratings, _read_ratings))
    if ".dat" in ratings.suffixes:
        read_ratings = partial(_read_separated_ratings, "::")
        return _dump(source, ("movies.dat", _read_separated_movies), (ratings, read_ratings))
    read_ratings = partial(_read_separated_ratings, "\t")
    return _dump(source, ("u.item", _read_flagged_movies), (ratings, read_ratings))


def _dump(
    source: Path,
    movies: tuple[str, Callable[[Tally], Rows]],
    ratings: tuple[Path, Callable[[Tally], Rows]],
) -> Dump:
    name, read_movies = movies
    path, read_ratings = ratings
    return Dump(
        Source(find_file(source, (name,), "films"), BOOK_COLUMNS, read_movies),
        Source(path, INTERACTION_COLUMNS, read_ratings),
    )


def _read_ratings(tally: Tally) -> Rows:
    columns = ("userId", "movieId", "rating", "timestamp")
    for line, fields in read_columns(tally, columns):
        try:
            yield _rating(fields)
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_separated_ratings(separator: str, tally: Tally) -> Rows:
    for line, fields in _separated(tally, separator, n_fields=4):
        try:
            yield _rating(fields)
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_movies(tally: Tally) -> Rows:
    for line, (movie_id, title, genres) in read_columns(tally, ("movieId", "title", "genres")):
        try:
            yield _movie(movie_id, title, genres.split("|"))
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_separated_movies(tally: Tally) -> Rows:
    for line, (movie_id, title, genres) in _separated(tally, "::", n_fields=3):
        try:
            yield _movie(movie_id, title, genres.split("|"))
        except Unreadable as error:
            tally.drop(line, str(error))


def _read_flagged_movies(tally: Tally) -> Rows:
    """u.item: id, title, two dates, an address, and a flag for each genre."""
    for line, fields in _separated(tally, "|", n_fields=5 + len(GENRES_100K)):
        flags = zip(GENRES_100K, fields[5:], strict=True)
        try:
            genres = [genre for genre, flag in flags if flag == "1" and genre != "unknown"]
            yield _movie(fields[0], fields[1], genres)
        except Unreadable as error:
            tally.drop(line, str(error))


def _rating(fields: tuple[str, ...]) -> tuple[str, ...]:
    user_id, item_id, rating, timestamp = fields
    return (
        required_id(user_id, "userId"),
        required_id(item_id, "movieId"),
        rating_text(rating),
        time_text(timestamp),
    )


def _movie(movie_id: str, title: str, genres: list[str]) -> tuple[str, ...]:
    title = clean_text(title)
    year = _YEAR_OF_TITLE.search(title)
    categories = join_values([genre for genre in genres if genre != NO_GENRES])
    item_id = required_id(movie_id, "movieId")
    return (item_id, title, "", categories, "", "", "", year[1] if year else "")


def _separated(
    tally: Tally, separator: str, *, n_fields: int
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The fields of every line that is not blank, with its number; there are no quotes."""
    try:
        with open_binary(tally.path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                tally.read += 1
                fields = tuple(_decode(line).rstrip("\r\n").split(separator))
                if len(fields) == n_fields:
                    yield number, fields
                else:
                    tally.drop(number, WRONG_FIELDS)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{tally.path}: must be a whole, readable file ({error})") from error


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:  # ml-1m and ml-100k
        return line.decode("latin-1")
