"""Seeded bookshops of any size, written as the two files that every bar starts from.

Books carry 14 dense features, about 26 categories, 19 of them among the 300 most frequent as in
goodbooks-10k, and one or two authors: with 300 + 300 one-hot columns an item is 614 wide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pc

IntArray = npt.NDArray[np.integer]

FEATURE_PARAMS = {
    "numeric_columns": ("average_rating", "rating_number", "price", "pages", "publication_year"),
    "category_top_k": 300,
    "author_top_k": 300,
    "series_top_k": 0,
    "title_word_top_k": 0,
    "min_count": 1,
    "idf": False,
}
"""What is made of a book here: numbers and plain one-hot columns, which every peer takes."""
N_CATEGORIES = 600
CATEGORIES_A_BOOK = 29  # draws; some twice
RAW_CATEGORIES_A_BOOK = 3
SECONDS = (1_000_000_000, 1_600_000_000)
ROWS_AT_ONCE = 2_000_000
WORDS = ("River", "stone", "the", "of", "Night", "HISTORY", "a", "Garden", "1984", "light", "Two")


def write_distinct_shop(path: Path, *, n_users: int, n_items: int, n_train: int, seed: int) -> None:
    """A shop whose train split, at leave-latest-out, holds exactly ``n_train`` interactions.

    No user has a book twice and each user has at least three, so that nothing is filtered out.
    """
    rng = np.random.default_rng(seed)
    users, items = draw_distinct(n_users, n_items, n_train + 2 * n_users, rng)
    order = rng.permutation(len(users))
    path.mkdir(parents=True, exist_ok=True)
    _write_log(path / "users.csv", users[order], items[order], rng)
    _write(path / "books.csv", books_table(n_items, CATEGORIES_A_BOOK, rng))


def write_raw_shop(
    path: Path, *, n_users: int, n_items: int, n_interactions: int, seed: int
) -> None:
    """A shop as dumps are: heavy heads and long tails, users with one book, repeated pairs."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    items = (n_items * rng.random(n_interactions) ** 3.0).astype(np.int32)
    users = (n_users * rng.random(n_interactions) ** 2.5).astype(np.int32)
    _write_log(path / "users.csv", users, items, rng)
    _write(path / "books.csv", books_table(n_items, RAW_CATEGORIES_A_BOOK, rng))


def draw_distinct(
    n_users: int, n_items: int, n: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """N distinct (user, item) pairs, ascending: at least three a user, items by popularity."""
    activity = np.minimum(rng.gamma(1.0, size=n_users), 3.0)  # nobody has half a small shop
    quota = 3 + rng.multinomial(n - 3 * n_users, activity / activity.sum())
    assert quota.max() < n_items // 2, "too many interactions for so few books"
    places = rng.permutation(n_items)
    keys = np.zeros(0, dtype=np.int64)
    missing = quota
    while missing.any():
        owners = np.repeat(np.arange(n_users, dtype=np.int64), missing)
        drawn = places[(n_items * rng.random(len(owners)) ** 1.8).astype(np.int64)]
        keys = np.unique(np.concatenate([keys, owners * n_items + drawn]))
        missing = quota - np.bincount(keys // n_items, minlength=n_users)
    return keys // n_items, keys % n_items


def books_table(n: int, categories_a_book: int, rng: np.random.Generator) -> pa.Table:
    """N books with every column of the schema and two numeric ones more."""
    lengths = 1 + rng.poisson(categories_a_book - 1, n)
    return pa.table(
        {
            "item_id": pa.array(np.arange(n)).cast(pa.string()),
            "title": _joined(np.array(WORDS), rng.integers(2, 7, n), " ", rng, power=1.0),
            "author": _joined(
                np.array([f"Author {i}" for i in range(n // 4 + 1)]),
                1 + rng.poisson(0.3, n),
                ",",
                rng,
                power=2.0,
            ),
            "categories": _joined(
                np.array([f"category-{i}" for i in range(N_CATEGORIES)]),
                lengths,
                "|",
                rng,
                power=2.5,
            ),
            "average_rating": _some(rng.normal(4, 0.3, n).round(2), 0.0, rng),
            "rating_number": _some((rng.pareto(1.2, n) * 10).astype(int), 0.02, rng),
            "price": _some(rng.gamma(2, 8, n).round(2), 0.3, rng),
            "pages": _some(rng.integers(20, 900, n), 0.1, rng),
            "publication_year": _some(rng.integers(1900, 2024, n), 0.05, rng),
        }
    )


def _joined(
    values: npt.NDArray[Any],
    lengths: IntArray,
    separator: str,
    rng: np.random.Generator,
    power: float,
) -> pa.Array:
    """Lists of values of the given lengths, the first values more often, joined to text."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = (len(values) * rng.random(offsets[-1]) ** power).astype(np.int32)
    lists = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values).take(pa.array(drawn))
    )
    return pa.compute.binary_join(lists, separator)


def _some(values: npt.NDArray[Any], missing: float, rng: np.random.Generator) -> pa.Array:
    return pa.array(values, mask=rng.random(len(values)) < missing)


def _write_log(path: Path, users: IntArray, items: IntArray, rng: np.random.Generator) -> None:
    with pc.CSVWriter(str(path), _log_schema(), write_options=_options()) as writer:
        for start in range(0, len(users), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            n = len(users[part])
            columns = [
                pa.array(users[part]).cast(pa.string()),
                pa.array(items[part]).cast(pa.string()),
                pa.array(rng.integers(1, 6, n)),
                pa.array(rng.integers(*SECONDS, n)),
            ]
            writer.write(pa.table(columns, schema=_log_schema()))


def _log_schema() -> pa.Schema:
    return pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("rating", pa.int64()),
            ("timestamp", pa.int64()),
        ]
    )


def _options() -> pc.WriteOptions:
    return pc.WriteOptions(quoting_style="needed")


def _write(path: Path, table: pa.Table) -> None:
    pc.write_csv(table, str(path), _options())
