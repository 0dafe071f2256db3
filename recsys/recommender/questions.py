"""Questions to a recommender, each a generator that stops once, where it needs lists.

So questions can share a search, see :mod:`recsys.recommender.search`; each ends with its answer, as
an Arrow table. What they ask and what an answer holds is said by the methods of ``Recommender``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.data.columns import ITEM_ID, TEXT_FIELDS, USER_ID
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError
from recsys.evaluation.lists import Lists
from recsys.recommender.liked import Liked, Ratings, check_list, liked_histories
from recsys.recommender.parts import Parts
from recsys.recommender.search import Asking, Query, Wanted, answer, normalised

POSITION = "position"
"""Column of an answer: the place in the question of what a row answers."""
Source = Literal["model", "popularity", "fold_in", "liked_mean"]
"""Where a list comes from.

model: the user's own vectors. fold_in: a new user's, by the user tower from the items they like.
liked_mean: the mean of those items' vectors, where the user tower knows ids alone.
popularity: the items most common in train, the same for everyone of whom nothing is known.
"""


# Users -------------------------------------------------------------------------------------------


def recommend_for_users(
    model: Parts,
    user_ids: Sequence[str | None],
    liked: Liked,
    k: int = 10,
    *,
    ratings: Ratings | None = None,
    exclude_seen: bool = True,
    categories: Sequence[str] = (),
) -> Asking[pa.Table]:
    """The k best items for users, each by what is known of them."""
    _check_length(k, len(model.books), "the catalogue")
    check_list(user_ids, "users")
    allowed = model.books.carrying(categories)
    names = [None if name is None else str(name) for name in user_ids]
    users = np.full(len(names), -1)
    named = np.array([row for row, name in enumerate(names) if name is not None], np.int64)
    users[named] = model.users.find([name for name in names if name is not None])
    histories = liked_histories(liked, ratings, model.items)
    masked = _seen_by(model, users, histories) if exclude_seen else None
    lists, sources = yield from _lists(model, users, histories, k, masked, allowed)
    return _item_table(model, lists, {USER_ID: pa.array(names, pa.string())}, sources)


def lists_among(
    model: Parts, user_ids: Sequence[str], known: Histories, k: int, allowed: BoolArray
) -> Lists:
    """The k best of some items for users of whom other items are known than when trained.

    Args:
        model: what answers.
        user_ids: raw ids, (n,).
        known: items of the catalogue that each user has, (n, I): left out, and what places
            a user whose id the model does not know.
        k: list length.
        allowed: the only items that may appear, (I,).
    """
    users = model.users.find(user_ids)
    return answer(_lists(model, users, known, k, known.bags, allowed))[0]


def _seen_by(model: Parts, users: IntArray, liked: Histories) -> Bags:
    """What is left out of each user's list: what the model has seen of them, else the liked."""
    is_known = users >= 0
    if is_known.all():
        return model.seen.take(users)
    seen = model.seen.take(users[is_known])
    others = np.flatnonzero(~is_known)
    rows, items = liked.bags.entries(others)
    return Bags.from_pairs(
        np.concatenate([np.flatnonzero(is_known)[seen.owners], others[rows]]),
        np.concatenate([seen.indices, items]),
        n_rows=len(users),
        n_columns=len(model.books),
    )


def _lists(
    model: Parts,
    users: IntArray,
    histories: Histories,
    k: int,
    masked: Bags | None,
    allowed: BoolArray | None,
) -> Asking[tuple[Lists, np.ndarray]]:
    """Lists of users and where each comes from, (n, k) and (n,); -1 is no known user."""
    sources = np.full(len(users), "popularity", dtype=object)
    known = np.flatnonzero(users >= 0)
    placed = np.flatnonzero((users < 0) & (histories.lengths > 0))
    others = np.flatnonzero((users < 0) & (histories.lengths == 0))
    wanted: list[Wanted] = []

    def want(rows: IntArray, vectors: FloatArray, source: Source) -> None:
        own = None if masked is None else masked.take(rows)
        wanted.append(Wanted(model.search, Query(vectors, k, own, allowed)))
        sources[rows] = source

    if len(known):
        want(known, model.vectors.users[users[known]], "model")
    if len(placed):
        want(placed, *_placed(model, histories.take(placed)))
    if len(others):
        anyone = np.ones((1, 1), dtype=np.float32)
        wanted.append(Wanted(model.popular_search, Query(anyone, k, allowed=allowed)))
    found = yield wanted
    lists = Lists.empty(len(users), k)
    groups = [rows for rows in (known, placed, others) if len(rows)]
    for rows, some in zip(groups, found, strict=True):
        lists.put(rows, some)
    return lists, sources


def _placed(model: Parts, liked: Histories) -> tuple[FloatArray, Source]:
    """Vectors of users by what they like, one item or more each, and where their lists come from.

    Returns:
        (n, D) or (n, K, D) float32; "fold_in" or "liked_mean".
    """
    towers = model.cold_start
    if towers is not None and towers.encodes_users:
        return towers.user_vectors(liked), "fold_in"
    totals = np.add.reduceat(model.vectors.items[liked.items], liked.offsets[:-1], axis=0)
    means = (totals / liked.lengths[:, None]).astype(np.float32)
    return means if towers is None else towers.vectors_near(means), "liked_mean"


# Items -------------------------------------------------------------------------------------------


def similar_items(
    model: Parts, item_ids: Sequence[str], k: int = 10, *, categories: Sequence[str] = ()
) -> Asking[pa.Table]:
    """The k items nearest to each item of the catalogue."""
    _check_length(k, len(model.books), "the catalogue")
    check_list(item_ids, "items")
    allowed = model.books.carrying(categories)
    asked = [str(item_id) for item_id in item_ids]
    items = model.items.find(asked)
    if (items < 0).any():
        raise DataError(f"'item_id' must be in the catalogue, got '{asked[int(np.argmin(items))]}'")
    itself = Bags(np.arange(len(items) + 1), items.astype(np.int32), len(model.books))
    search = model.cosine_search
    query = Query(search.catalogue.items[items], k, itself, allowed)
    (lists,) = yield [Wanted(search, query)]
    columns = {ITEM_ID: pa.array(asked, pa.string())}
    return _item_table(model, lists, columns, key="similar_item_id")


def similar_to_book(
    model: Parts, books: pd.DataFrame, k: int = 10, *, categories: Sequence[str] = ()
) -> Asking[pa.Table]:
    """The k items of the catalogue nearest to each new book."""
    _check_length(k, len(model.books), "the catalogue")
    allowed = model.books.carrying(categories)
    vectors = normalised(model.likeness(new_item_vectors(model, books)))
    (lists,) = yield [Wanted(model.cosine_search, Query(vectors, k, allowed=allowed))]
    return _item_table(model, lists, {})


def users_of_book(model: Parts, books: pd.DataFrame, k: int = 10) -> Asking[pa.Table]:
    """The k known users who score each new book highest."""
    _check_length(k, len(model.users), "the known users")
    query = Query(new_item_vectors(model, books), k)
    (lists,) = yield [Wanted(model.user_search, query)]
    rows, ranks = np.nonzero(lists.items >= 0)
    return pa.table(
        {
            POSITION: pa.array(rows),
            "rank": pa.array(ranks + 1),
            USER_ID: model.users.ids.take(pa.array(lists.items[rows, ranks])),
            "score": pa.array(lists.scores[rows, ranks]),
        }
    )


def new_item_vectors(model: Parts, books: pd.DataFrame) -> FloatArray:
    """Vectors of new books by their metadata, (n, D) float32."""
    if model.cold_start is None:
        raise DataError("a new book needs a model with towers; this one holds vectors alone")
    return model.cold_start.item_vectors(_book_table(books, model.book_columns))


def _book_table(books: pd.DataFrame, known: Sequence[str]) -> pa.Table:
    """New books as a table; texts as strings, numbers as float64, null where missing."""
    names = [str(name) for name in books.columns]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        given = f"'{unknown[0]}'" if unknown else "none"
        raise DataError(f"a new book must be described by {', '.join(known)}, got {given}")
    columns = {}
    for name, (_, values) in zip(names, books.items(), strict=True):
        expected = pa.string() if name in TEXT_FIELDS else pa.float64()
        try:
            column = pa.array(values.tolist(), expected, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            kind = "texts" if expected == pa.string() else "numbers"
            raise DataError(f"column '{name}' of a new book must hold {kind} ({error})") from error
        if expected == pa.float64() and np.isinf(column.to_numpy(zero_copy_only=False)).any():
            raise DataError(f"column '{name}' of a new book must hold finite numbers")
        columns[name] = column
    return pa.table(columns)


# Answers -----------------------------------------------------------------------------------------


def _check_length(k: int, highest: int, what: str) -> None:
    """Refuse a list length that is no whole number from 1 to ``highest``."""
    is_whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not is_whole or not 1 <= k <= highest:
        raise ConfigError(f"'k' must be from 1 to {highest}, {what}, got {k}")


def _item_table(
    model: Parts,
    lists: Lists,
    columns: Mapping[str, pa.Array],
    sources: np.ndarray | None = None,
    *,
    key: str = ITEM_ID,
) -> pa.Table:
    """One row for each item found: position, what was asked, rank, item, score, title, source."""
    rows, ranks = np.nonzero(lists.items >= 0)
    items = pa.array(lists.items[rows, ranks])
    asked = {name: values.take(pa.array(rows)) for name, values in columns.items()}
    answer = {
        POSITION: pa.array(rows),
        **asked,
        "rank": pa.array(ranks + 1),
        key: model.items.ids.take(items),
        "score": pa.array(lists.scores[rows, ranks]),
        "title": model.books.titles.take(items),
    }
    if sources is not None:
        answer["source"] = pa.array(sources, pa.string()).take(pa.array(rows))
    return pa.table(answer)
