"""The smallest world with a known answer: even users like even items, odd users odd ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.data.csv_file import replace_csv

_START = 1_640_995_200
_DAY = 86_400


@dataclass(frozen=True, eq=False)
class Checkerboard:
    """A user of each parity has every item of that parity, the withheld one last.

    Hence leave-latest-out puts the withheld item in test (and the one before in validation), and
    it is the only item of the user's parity that is not known: it must rank first.

    Attributes:
        books: item_id, title, author, categories ('even' or 'odd') and constant numbers.
        interactions: user_id, item_id, rating, timestamp, one interaction a day.
        withheld: raw id of each user's withheld item, by raw id of the user.
    """

    books: pa.Table
    interactions: pa.Table
    withheld: dict[str, str]

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write books.csv and users.csv; their paths."""
        books_path, interactions_path = directory / "books.csv", directory / "users.csv"
        replace_csv(books_path, self.books)
        replace_csv(interactions_path, self.interactions)
        return books_path, interactions_path


def checkerboard(n_users: int, n_items: int) -> Checkerboard:
    """The checkerboard of ``n_users`` users and ``n_items`` items, both even.

    Nothing is drawn. The withheld items go round, so that each is withheld from as many users as
    any other, give or take one, and had by the rest.
    """
    half = n_items // 2
    rows: list[dict[str, object]] = []
    withheld: dict[str, str] = {}
    for user in range(n_users):
        # Begin right after the withheld item and go round to it.
        order = [(user // 2 + 1 + step) % half for step in range(half)]
        user_id = f"r{user:04d}"
        for day, place in enumerate(order):
            withheld[user_id] = f"b{2 * place + user % 2:04d}"  # in the end the last
            interaction = {"user_id": user_id, "item_id": withheld[user_id], "rating": 5}
            rows.append(interaction | {"timestamp": _START + day * _DAY})
    books = {
        "item_id": [f"b{item:04d}" for item in range(n_items)],
        "title": [f"Square {item}" for item in range(n_items)],
        "author": ["Anonymous"] * n_items,
        "categories": ["odd" if item % 2 else "even" for item in range(n_items)],
        "average_rating": ["4.00"] * n_items,
        "rating_number": [10] * n_items,
        "price": pa.nulls(n_items, pa.string()),
    }
    return Checkerboard(pa.table(books), pa.Table.from_pylist(rows), withheld)
