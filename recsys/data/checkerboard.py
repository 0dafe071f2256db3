"""The smallest world with a known answer: even readers like even books, odd readers odd ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.data.csv_output import csv_bytes, replace_file
from recsys.errors import DataError

_START = 1_640_995_200
_DAY = 86_400


@dataclass(frozen=True, eq=False)
class Checkerboard:
    """A reader of each parity reads every book of that parity, the withheld one last.

    Hence leave-latest-out puts the withheld book in test (and the one before in validation), and
    it is the only book of the reader's parity that is not known: it must rank first.

    Attributes:
        books: item_id, title, author, categories ('even' or 'odd') and constant numbers.
        interactions: user_id, item_id, rating, timestamp, one interaction a day.
        withheld: raw id of each reader's withheld book, by raw id of the reader.
    """

    books: pa.Table
    interactions: pa.Table
    withheld: dict[str, str]

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write books.csv and users.csv; their paths."""
        books_path, interactions_path = directory / "books.csv", directory / "users.csv"
        replace_file(books_path, csv_bytes(self.books))
        replace_file(interactions_path, csv_bytes(self.interactions))
        return books_path, interactions_path


def checkerboard(n_users: int, n_items: int) -> Checkerboard:
    """The checkerboard of ``n_users`` readers and ``n_items`` books.

    Nothing is drawn. The withheld books go round, so that each is withheld from as many readers
    as any other, give or take one, and read by the rest.

    Args:
        n_users: even.
        n_items: even, at least 6: each reader needs a book to train on beside the two held out.

    Raises:
        DataError: sizes that do not fit.
    """
    if n_users < 2 or n_users % 2 or n_items < 6 or n_items % 2:
        raise DataError(
            "a checkerboard must have an even number of readers and an even number of books, "
            f"at least 6, got {n_users} readers and {n_items} books"
        )
    half = n_items // 2
    rows: list[tuple[str, str, int, int]] = []
    withheld: dict[str, str] = {}
    for user in range(n_users):
        # Begin right after the withheld book and go round to it.
        order = [(user // 2 + 1 + step) % half for step in range(half)]
        user_id = f"r{user:04d}"
        item_ids = [f"b{2 * place + user % 2:04d}" for place in order]
        withheld[user_id] = item_ids[-1]
        rows += [(user_id, item_id, 5, _START + day * _DAY) for day, item_id in enumerate(item_ids)]
    columns = ("user_id", "item_id", "rating", "timestamp")
    interactions = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    return Checkerboard(_books(n_items), interactions, withheld)


def _books(n_items: int) -> pa.Table:
    parities = ["odd" if item % 2 else "even" for item in range(n_items)]
    return pa.table(
        {
            "item_id": [f"b{item:04d}" for item in range(n_items)],
            "title": [f"Square {item}" for item in range(n_items)],
            "author": ["Anonymous"] * n_items,
            "categories": parities,
            "average_rating": ["4.00"] * n_items,
            "rating_number": [10] * n_items,
            "price": pa.nulls(n_items, pa.string()),
        }
    )
