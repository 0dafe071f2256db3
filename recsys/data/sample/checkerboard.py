"""The smallest world with a known answer: even users like even items, odd users odd ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.data.csv_file import replace_csv
from recsys.errors import DataError

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
    """The checkerboard of ``n_users`` users and ``n_items`` items.

    Nothing is drawn. The withheld items go round, so that each is withheld from as many users as
    any other, give or take one, and had by the rest.

    Args:
        n_users: even.
        n_items: even, at least 6: each user needs an item to train on beside the two held out.

    Raises:
        DataError: sizes that do not fit.
    """
    if n_users < 2 or n_users % 2 or n_items < 6 or n_items % 2:
        raise DataError(
            "a checkerboard must have an even number of users and an even number of items, "
            f"at least 6, got {n_users} users and {n_items} items"
        )
    half = n_items // 2
    rows: list[tuple[str, str, int, int]] = []
    withheld: dict[str, str] = {}
    for user in range(n_users):
        # Begin right after the withheld item and go round to it.
        order = [(user // 2 + 1 + step) % half for step in range(half)]
        user_id = f"r{user:04d}"
        item_ids = [f"b{2 * place + user % 2:04d}" for place in order]
        withheld[user_id] = item_ids[-1]
        rows += [(user_id, item_id, 5, _START + day * _DAY) for day, item_id in enumerate(item_ids)]
    columns = ("user_id", "item_id", "rating", "timestamp")
    interactions = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    books = {
        "item_id": [f"b{item:04d}" for item in range(n_items)],
        "title": [f"Square {item}" for item in range(n_items)],
        "author": ["Anonymous"] * n_items,
        "categories": ["odd" if item % 2 else "even" for item in range(n_items)],
        "average_rating": ["4.00"] * n_items,
        "rating_number": [10] * n_items,
        "price": pa.nulls(n_items, pa.string()),
    }
    return Checkerboard(pa.table(books), interactions, withheld)
