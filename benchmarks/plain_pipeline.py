"""The straightforward pandas way from two files to the arrays that training needs.

What a practitioner writes first: groupby counts until the core stands, columns by the methods of
``Series.str``, scipy for the bags, Parquet and npz for the cache. The result holds what the
product's does: the same filters, split, vocabularies and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

SKEWNESS = 2.0
BAG_SIZE = 300


def run_plain_pipeline(
    folder: Path, cache: Path, *, min_user: int, min_item: int, numeric_columns: Sequence[str]
) -> dict[str, float]:
    """Load, filter, split, featurise and save; counts of what was left."""
    books, log = read(folder)
    log = core(log, min_user, min_item)
    train, held_out = split(log)
    books = books[books.item_id.isin(log.item_id)].reset_index(drop=True)
    users = pd.Index(log.user_id.unique())
    items = pd.Index(books.item_id)
    user_codes, item_codes = users.get_indexer(train.user_id), items.get_indexer(train.item_id)
    dense = dense_features(books, numeric_columns)
    bags = [bag(books[column], mark) for column, mark in (("categories", "|"), ("author", ","))]
    user_dense = dense.iloc[item_codes].groupby(user_codes).mean()
    weights = sparse.csr_matrix(
        (np.ones(len(train), np.float32), (user_codes, item_codes)), shape=(len(users), len(items))
    )
    counts = np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1)
    user_bags = [sparse.diags(1 / counts) @ weights @ matrix for matrix in bags]
    save(cache, {"train": train, "held_out": held_out, "books": books}, dense, user_dense)
    for number, matrix in enumerate([*bags, *user_bags]):
        sparse.save_npz(cache / f"bag{number}.npz", matrix, compressed=False)
    return {
        "users": len(users),
        "items": len(items),
        "train": len(train),
        "user_entries": sum(matrix.nnz for matrix in user_bags),
    }


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both files, one row a book, the latest of each (user, book) pair."""
    books = pd.read_csv(folder / "books.csv", dtype={"item_id": str})
    log = pd.read_csv(folder / "users.csv", dtype={"user_id": str, "item_id": str})
    books = books.drop_duplicates("item_id")
    log = log[log.item_id.isin(books.item_id)]
    log = log.sort_values("timestamp", kind="stable")
    return books, log.drop_duplicates(["user_id", "item_id"], keep="last")


def core(log: pd.DataFrame, min_user: int, min_item: int) -> pd.DataFrame:
    """Users and books with enough interactions, until nothing changes."""
    while True:
        before = len(log)
        log = log[log.groupby("user_id").item_id.transform("size") >= min_user]
        log = log[log.groupby("item_id").user_id.transform("size") >= min_item]
        if len(log) == before:
            return log


def split(log: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train, and each user's two latest interactions."""
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    from_end = log.groupby("user_id").cumcount(ascending=False)
    is_held_out = (from_end < 2) & (log.groupby("user_id").user_id.transform("size") >= 3)
    return log[~is_held_out], log[is_held_out]


def dense_features(books: pd.DataFrame, numeric_columns: Sequence[str]) -> pd.DataFrame:
    """Standardised numbers with flags of what is missing, and statistics of the title."""
    columns: dict[str, Any] = {}
    titles: Any = books.title.fillna("")
    numbers: dict[str, Any] = {name: books[name].astype(float) for name in numeric_columns}
    visible = titles.str.replace(r"\s", "", regex=True).str.len()
    numbers |= {
        "title_words": titles.str.split().str.len(),
        "title_characters": titles.str.len(),
        "title_word_length": visible / titles.str.split().str.len(),
        "title_digit_share": titles.str.count(r"\d") / visible,
        "title_capital_share": titles.str.count(r"[A-Z]") / visible,
    }
    for name, raw in numbers.items():
        values = raw
        if values.min() >= 0 and values.skew() > SKEWNESS:
            values = np.log1p(raw)
        columns[name] = ((values - values.mean()) / values.std()).fillna(0)
        if raw.isna().any():
            columns[f"{name}_missing"] = raw.isna().astype(float)
    return pd.DataFrame(columns).astype(np.float32)


def bag(texts: Any, mark: str) -> sparse.csr_matrix:
    """One column for each of the most frequent values, (n, BAG_SIZE)."""
    values = texts.fillna("").str.split(mark).explode().str.strip()
    values = values[values != ""]
    frequent = values.value_counts().head(BAG_SIZE).index
    values = values[values.isin(frequent)]
    columns = frequent.get_indexer(values)
    entries = (np.ones(len(values), np.float32), (values.index.to_numpy(), columns))
    return sparse.csr_matrix(entries, shape=(len(texts), BAG_SIZE))


def save(
    cache: Path,
    frames: dict[str, pd.DataFrame],
    dense: pd.DataFrame,
    user_dense: pd.DataFrame,
) -> None:
    """Frames as Parquet."""
    cache.mkdir(parents=True, exist_ok=True)
    for name, frame in {**frames, "dense": dense, "user_dense": user_dense}.items():
        frame.to_parquet(cache / f"{name}.parquet")
