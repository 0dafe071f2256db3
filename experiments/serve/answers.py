"""From questions to answers: what each wants of the recommender, and how it is laid out as lists.

The search lies between the two, so that it can be one for all questions that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel

from experiments.serve.schemas import (
    NeighbourList,
    NewBook,
    NewBookItems,
    NewBookReaders,
    NewBookReadersAnswer,
    NewBookReadersQuestion,
    NewBookSimilarAnswer,
    NewBookSimilarQuestion,
    RankedItem,
    RankedReader,
    ReaderList,
    RecommendAnswer,
    RecommendQuestion,
    SimilarItemsAnswer,
    SimilarItemsQuestion,
)
from experiments.serve.served import Served
from recsys.errors import ConfigError, DataError
from recsys.recommender.enquiry import Enquiry

MOST_ROWS = 100_000
"""Ranked rows in one answer: about 10 MB of JSON."""
Ranked = TypeVar("Ranked", RankedItem, RankedReader)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        max_k: length of a list.
    """

    max_k: int = 1000

    def check(self, k: int, n_lists: int) -> None:
        """Refuse longer lists, and more than :data:`MOST_ROWS` rows in all.

        Raises:
            ConfigError: it is.
        """
        if k > self.max_k:
            raise ConfigError(f"'k' must be at most {self.max_k} on this server, got {k}")
        if k * n_lists > MOST_ROWS:
            raise ConfigError(
                f"'k' times the lists asked for must be at most {MOST_ROWS}, "
                f"got {k} times {n_lists}"
            )


@dataclass(frozen=True, eq=False)
class Asked:
    """A question that may be asked and was understood.

    Attributes:
        enquiry: what is to be searched for.
        lay_out: the answer, from the rows that the enquiry makes of what was found.
    """

    enquiry: Enquiry
    lay_out: Callable[[pa.Table], BaseModel]


def recommend(served: Served, question: RecommendQuestion, limits: Limits) -> Asked:
    """Lists of users; see ``Recommender.recommend_for_users``."""
    user_ids, liked = _users(question)
    limits.check(question.k, len(user_ids))
    enquiry = served.recommender.ask_for_users(
        user_ids,
        liked,
        question.k,
        ratings=question.liked_ratings,
        exclude_seen=question.exclude_seen,
        categories=question.categories,
    )

    def lay_out(rows: pa.Table) -> RecommendAnswer:
        positions = rows["position"].to_pylist()
        sources = dict(zip(positions, rows["source"].to_pylist(), strict=True))
        lists = _lists(positions, _ranked_items(rows, "item_id"), len(user_ids))
        results = [
            ReaderList(user_id=user_id, source=sources.get(row), items=items)
            for row, (user_id, items) in enumerate(zip(user_ids, lists, strict=True))
        ]
        return RecommendAnswer(model_version=served.version, results=results)

    return Asked(enquiry, lay_out)


def similar_items(served: Served, question: SimilarItemsQuestion, limits: Limits) -> Asked:
    """The books near each book; see ``Recommender.similar_items``."""
    limits.check(question.k, len(question.item_ids))
    places = {item_id: place for place, item_id in enumerate(dict.fromkeys(question.item_ids))}
    enquiry = served.recommender.ask_for_similar_items(
        list(places), question.k, categories=question.categories
    )

    def lay_out(rows: pa.Table) -> SimilarItemsAnswer:
        owners = [places[item_id] for item_id in rows["item_id"].to_pylist()]
        lists = _lists(owners, _ranked_items(rows, "similar_item_id"), len(places))
        results = [
            NeighbourList(item_id=item_id, items=lists[places[item_id]])
            for item_id in question.item_ids
        ]
        return SimilarItemsAnswer(model_version=served.version, results=results)

    return Asked(enquiry, lay_out)


def similar_to_book(served: Served, question: NewBookSimilarQuestion, limits: Limits) -> Asked:
    """The books near each new book; see ``Recommender.similar_to_book``."""
    limits.check(question.k, len(question.books))
    enquiry = served.recommender.ask_for_similar_to_book(
        _described(question.books), question.k, categories=question.categories
    )

    def lay_out(rows: pa.Table) -> NewBookSimilarAnswer:
        ranked = _ranked_items(rows, "item_id")
        lists = _lists(rows["position"].to_pylist(), ranked, len(question.books))
        results = [NewBookItems(items=items) for items in lists]
        return NewBookSimilarAnswer(model_version=served.version, results=results)

    return Asked(enquiry, lay_out)


def readers_of_book(served: Served, question: NewBookReadersQuestion, limits: Limits) -> Asked:
    """The users for each new book; see ``Recommender.users_of_book``."""
    limits.check(question.k, len(question.books))
    enquiry = served.recommender.ask_for_users_of_book(_described(question.books), question.k)

    def lay_out(rows: pa.Table) -> NewBookReadersAnswer:
        columns = (rows[name].to_pylist() for name in ("rank", "user_id", "score"))
        users = [
            RankedReader(rank=rank, user_id=user_id, score=score)
            for rank, user_id, score in zip(*columns, strict=True)
        ]
        lists = _lists(rows["position"].to_pylist(), users, len(question.books))
        results = [NewBookReaders(readers=ranked) for ranked in lists]
        return NewBookReadersAnswer(model_version=served.version, results=results)

    return Asked(enquiry, lay_out)


Asking = Callable[[Served, Any, Limits], Asked]


def _users(question: RecommendQuestion) -> tuple[list[str | None], list[list[str]]]:
    """Id and liked books of each user."""
    user_ids, liked = question.user_ids, question.liked
    if question.liked_ratings is not None and liked is None:
        raise DataError("'liked_ratings' must be given with 'liked', whose books they rate")
    if user_ids is None and liked is None:
        raise DataError(
            "'user_ids' or 'liked' must be given, got neither; {\"user_ids\": [null]} asks for "
            "the popular list"
        )
    if user_ids is None or liked is None:
        n_users = len(user_ids or liked or [])
        return user_ids or [None] * n_users, liked or [[]] * n_users
    if len(user_ids) != len(liked):
        raise DataError(
            "'user_ids' and 'liked' must have one entry for each user, "
            f"got {len(user_ids)} and {len(liked)}"
        )
    return user_ids, liked


def _described(books: Sequence[NewBook]) -> pd.DataFrame:
    """New books as rows, with the columns that any of them gives."""
    rows = [book.model_dump(exclude_none=True) for book in books]
    if {} in rows:
        raise DataError(
            f"a new book must be described by at least one field, book {rows.index({})} has none"
        )
    return pd.DataFrame.from_records(rows)


def _ranked_items(rows: pa.Table, key: str) -> list[RankedItem]:
    columns = (rows[name].to_pylist() for name in ("rank", key, "score", "title"))
    return [
        RankedItem(rank=rank, item_id=item_id, score=score, title=title)
        for rank, item_id, score, title in zip(*columns, strict=True)
    ]


def _lists(rows: Sequence[int], ranked: Sequence[Ranked], n_lists: int) -> list[list[Ranked]]:
    """Ranked entries gathered by the row they answer, a list for each row."""
    lists: list[list[Ranked]] = [[] for _ in range(n_lists)]
    for row, entry in zip(rows, ranked, strict=True):
        lists[row].append(entry)
    return lists
