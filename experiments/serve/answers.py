"""From questions to answers: one call of the recommender each, laid out as lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

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

MOST_ROWS = 100_000
"""Ranked rows in one answer: about 10 MB of JSON."""
Ranked = TypeVar("Ranked", RankedItem, RankedReader)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        max_k: length of a list.
        max_rows: length of all lists together.
    """

    max_k: int = 1000
    max_rows: int = MOST_ROWS

    def check(self, k: int, n_lists: int) -> None:
        """Refuse what is above them.

        Raises:
            ConfigError: it is.
        """
        if k > self.max_k:
            raise ConfigError(f"'k' must be at most {self.max_k} on this server, got {k}")
        if k * n_lists > self.max_rows:
            raise ConfigError(
                f"'k' times the lists asked for must be at most {self.max_rows}, "
                f"got {k} times {n_lists}"
            )


def recommend(served: Served, question: RecommendQuestion, limits: Limits) -> RecommendAnswer:
    """Lists of readers; see ``Recommender.recommend_for_readers``."""
    user_ids, liked = _readers(question)
    limits.check(question.k, len(user_ids))
    frame = served.recommender.recommend_for_readers(
        user_ids,
        liked,
        question.k,
        exclude_seen=question.exclude_seen,
        categories=question.categories,
    )
    positions = frame["position"].tolist()
    sources = dict(zip(positions, frame["source"].tolist(), strict=True))
    lists = _lists(positions, _ranked_items(frame, "item_id"), len(user_ids))
    results = [
        ReaderList(user_id=user_id, source=sources.get(row), items=items)
        for row, (user_id, items) in enumerate(zip(user_ids, lists, strict=True))
    ]
    return RecommendAnswer(model_version=served.version, results=results)


def similar_items(
    served: Served, question: SimilarItemsQuestion, limits: Limits
) -> SimilarItemsAnswer:
    """The books near each book; see ``Recommender.similar_items``."""
    limits.check(question.k, len(question.item_ids))
    places = {item_id: place for place, item_id in enumerate(dict.fromkeys(question.item_ids))}
    frame = served.recommender.similar_items(
        list(places), question.k, categories=question.categories
    )
    rows = [places[item_id] for item_id in frame["item_id"].tolist()]
    lists = _lists(rows, _ranked_items(frame, "similar_item_id"), len(places))
    results = [
        NeighbourList(item_id=item_id, items=lists[places[item_id]])
        for item_id in question.item_ids
    ]
    return SimilarItemsAnswer(model_version=served.version, results=results)


def similar_to_book(
    served: Served, question: NewBookSimilarQuestion, limits: Limits
) -> NewBookSimilarAnswer:
    """The books near each new book; see ``Recommender.similar_to_book``."""
    limits.check(question.k, len(question.books))
    frame = served.recommender.similar_to_book(
        _described(question.books), question.k, categories=question.categories
    )
    lists = _lists(frame["position"].tolist(), _ranked_items(frame, "item_id"), len(question.books))
    results = [NewBookItems(items=items) for items in lists]
    return NewBookSimilarAnswer(model_version=served.version, results=results)


def readers_of_book(
    served: Served, question: NewBookReadersQuestion, limits: Limits
) -> NewBookReadersAnswer:
    """The readers for each new book; see ``Recommender.readers_of_book``."""
    limits.check(question.k, len(question.books))
    frame = served.recommender.readers_of_book(_described(question.books), question.k)
    columns = (frame[name].tolist() for name in ("rank", "user_id", "score"))
    readers = [
        RankedReader(rank=rank, user_id=user_id, score=score)
        for rank, user_id, score in zip(*columns, strict=True)
    ]
    lists = _lists(frame["position"].tolist(), readers, len(question.books))
    results = [NewBookReaders(readers=ranked) for ranked in lists]
    return NewBookReadersAnswer(model_version=served.version, results=results)


Answering = Callable[[Served, Any, Limits], Any]


def _readers(question: RecommendQuestion) -> tuple[list[str | None], list[list[str]]]:
    """Id and liked books of each reader."""
    user_ids, liked = question.user_ids, question.liked
    if user_ids is None and liked is None:
        raise DataError(
            "'user_ids' or 'liked' must be given, got neither; {\"user_ids\": [null]} asks for "
            "the popular list"
        )
    if user_ids is None or liked is None:
        n_readers = len(user_ids or liked or [])
        return user_ids or [None] * n_readers, liked or [[]] * n_readers
    if len(user_ids) != len(liked):
        raise DataError(
            "'user_ids' and 'liked' must have one entry for each reader, "
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


def _ranked_items(frame: pd.DataFrame, key: str) -> list[RankedItem]:
    columns = (frame[name].tolist() for name in ("rank", key, "score", "title"))
    return [
        RankedItem(
            rank=rank,
            item_id=item_id,
            score=score,
            title=title if isinstance(title, str) else None,  # pandas has NaN for none
        )
        for rank, item_id, score, title in zip(*columns, strict=True)
    ]


def _lists(rows: Sequence[int], ranked: Sequence[Ranked], n_lists: int) -> list[list[Ranked]]:
    """Ranked entries gathered by the row they answer, a list for each row."""
    lists: list[list[Ranked]] = [[] for _ in range(n_lists)]
    for row, entry in zip(rows, ranked, strict=True):
        lists[row].append(entry)
    return lists
