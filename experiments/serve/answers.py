"""From questions to answers: what each asks of the recommender, laid out as lists.

Each is a generator that stops where it needs lists, so that questions can share a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa

from experiments.serve import schemas
from experiments.serve.model import Served
from recsys.errors import ConfigError, DataError
from recsys.recommender import questions
from recsys.recommender.search import Asking

MOST_ROWS = 100_000
"""Ranked rows in one answer: about 10 MB of JSON."""
Answer = TypeVar("Answer", bound=schemas.Answer)
Results = list[dict[str, Any]]


def recommend(
    served: Served, question: schemas.RecommendQuestion, max_k: int
) -> Asking[schemas.RecommendAnswer]:
    """Lists for users; see ``Recommender.recommend_for_users``."""
    user_ids, liked = _users(question)
    _check_size(question.k, len(user_ids), max_k)
    rows = yield from questions.recommend_for_users(
        served.recommender,
        user_ids,
        liked,
        question.k,
        ratings=question.liked_ratings,
        exclude_seen=question.exclude_seen,
        categories=question.categories,
    )
    lists = _lists(rows, len(user_ids))
    results = [
        {"user_id": user_id, "source": ranked[0]["source"] if ranked else None, "items": ranked}
        for user_id, ranked in zip(user_ids, lists, strict=True)
    ]
    return _answer(schemas.RecommendAnswer, served, results)


def similar_items(
    served: Served, question: schemas.SimilarItemsQuestion, max_k: int
) -> Asking[schemas.SimilarItemsAnswer]:
    """The items near each item; see ``Recommender.similar_items``."""
    item_ids = question.item_ids
    _check_size(question.k, len(item_ids), max_k)
    rows = yield from questions.similar_items(
        served.recommender, item_ids, question.k, categories=question.categories
    )
    rows = rows.drop_columns("item_id").rename_columns({"similar_item_id": "item_id"})
    lists = _lists(rows, len(item_ids))
    results = [
        {"item_id": item_id, "items": ranked}
        for item_id, ranked in zip(item_ids, lists, strict=True)
    ]
    return _answer(schemas.SimilarItemsAnswer, served, results)


def similar_to_book(
    served: Served, question: schemas.NewBookSimilarQuestion, max_k: int
) -> Asking[schemas.NewBookSimilarAnswer]:
    """The items near each new book; see ``Recommender.similar_to_book``."""
    n_books = len(question.books)
    _check_size(question.k, n_books, max_k)
    rows = yield from questions.similar_to_book(
        served.recommender, _described(question.books), question.k, categories=question.categories
    )
    lists = _lists(rows, n_books)
    return _answer(schemas.NewBookSimilarAnswer, served, [{"items": ranked} for ranked in lists])


def users_of_book(
    served: Served, question: schemas.NewBookUsersQuestion, max_k: int
) -> Asking[schemas.NewBookUsersAnswer]:
    """The users for each new book; see ``Recommender.users_of_book``."""
    n_books = len(question.books)
    _check_size(question.k, n_books, max_k)
    rows = yield from questions.users_of_book(
        served.recommender, _described(question.books), question.k
    )
    lists = _lists(rows, n_books)
    return _answer(schemas.NewBookUsersAnswer, served, [{"users": ranked} for ranked in lists])


def model_card(served: Served) -> schemas.ModelCard:
    """The model that answers, as far as those who ask may know."""
    recommender, index = served.recommender, None
    if recommender.approximate is not None:
        measured = asdict(recommender.approximate.recall)
        means = {f"recall_{name}": measured.pop(name) for name in ("mean", "lowest")}
        index = schemas.Index(**means, **measured)
    return schemas.ModelCard(
        uri=served.asked,
        version=served.place.version,
        run_id=served.place.run_id,
        loaded_at=served.loaded_at.isoformat(timespec="seconds"),
        n_users=len(recommender.users),
        n_items=len(recommender.items),
        n_bytes=recommender.n_bytes,
        book_columns=list(recommender.book_columns),
        index=index,
        provenance=dict(recommender.provenance),
    )


def _check_size(k: int, n_lists: int, max_k: int) -> None:
    """Refuse lists that are too long, and more than :data:`MOST_ROWS` rows in all."""
    if k > max_k:
        raise ConfigError(f"'k' must be at most {max_k} on this server, got {k}")
    if k * n_lists > MOST_ROWS:
        raise ConfigError(
            f"'k' times the lists asked for must be at most {MOST_ROWS}, got {k} times {n_lists}"
        )


def _users(question: schemas.RecommendQuestion) -> tuple[list[str | None], list[list[str]]]:
    """Id and liked items of each user."""
    user_ids, liked = question.user_ids, question.liked
    if question.liked_ratings is not None and liked is None:
        raise DataError("'liked_ratings' must be given with 'liked', whose items they rate")
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


def _described(books: Sequence[schemas.NewBook]) -> pd.DataFrame:
    """New books as rows, with the columns that any of them gives."""
    rows = [book.model_dump(exclude_none=True) for book in books]
    if {} in rows:
        raise DataError(
            f"a new book must be described by at least one field, book {rows.index({})} has none"
        )
    return pd.DataFrame.from_records(rows)


def _lists(rows: pa.Table, n_lists: int) -> list[Results]:
    """Ranked rows gathered by the position in the question of what they answer."""
    lists: list[Results] = [[] for _ in range(n_lists)]
    for row in rows.to_pylist():
        lists[row[questions.POSITION]].append(row)
    return lists


def _answer(kind: type[Answer], served: Served, results: Results) -> Answer:
    return kind.model_validate({"model_version": served.place.version, "results": results})
