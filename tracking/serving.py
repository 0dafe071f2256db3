"""The served model: MLflow copies this file into the model and runs it where the model is loaded.

It is written for that place, where only ``recsys`` travels along and no other module of ours is to
be found; nothing here imports it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from recsys.data.columns import TEXT_FIELDS
from recsys.errors import BookendsError, DataError
from recsys.recommender import Recommender

BUNDLE = "bundle"
DEFAULTS = {"task": "recommend", "k": 10, "exclude_seen": True, "categories": []}
TASKS = ("recommend", "similar_items", "similar_to_book", "readers_of_book")


class RecommenderModel(PythonModel):
    """Ranked books for users and near books, those never seen included."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle, once."""
        self._recommender = Recommender.load(Path(context.artifacts[BUNDLE]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """The answers to every row of the input in turn, best first.

        Args:
            context: not used; MLflow hands it over.
            model_input: by task, a question a row. recommend: ``user_id`` (text, null for a user
                without one) or ``liked`` (list of item ids, the most recent last) or both, and
                ``liked_ratings`` (list of numbers) of the liked. similar_items: ``item_id``.
                similar_to_book and readers_of_book: any of ``title``, ``author``, ``categories``
                and the numeric columns the model was trained with.
            params: ``task`` (recommend), ``k`` (10), the length of each list, ``exclude_seen``
                (true) and ``categories`` (none: recommend only books that carry one of these).

        Returns:
            recommend: position (of the row in the input), user_id, rank, item_id, score, title,
            source. similar_items: item_id, rank, similar_item_id, score, title. similar_to_book:
            position, rank, item_id, score, title. readers_of_book: position, rank, user_id, score.

        Raises:
            MlflowException: the input is not as it must be; the server answers with 400.
        """
        options = DEFAULTS | (params or {})
        try:
            return self._answer(model_input, options)
        except BookendsError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _answer(self, rows: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        task, k, chosen = options["task"], options["k"], list(options["categories"])
        match task:
            case "recommend":
                _check_columns(rows, task, ("user_id", "liked", "liked_ratings"))
                return self._recommend(rows, k, bool(options["exclude_seen"]), chosen)
            case "similar_items":
                _check_columns(rows, task, ("item_id",))
                return self._similar_items(_names(rows, "item_id"), k, chosen)
            case "similar_to_book":
                books = self._described(rows, task)
                return self._recommender.similar_to_book(books, k, categories=chosen)
            case "readers_of_book":
                if chosen:
                    raise DataError("the param 'categories' has no meaning for readers_of_book")
                return self._recommender.users_of_book(self._described(rows, task), k)
            case _:
                raise DataError(f"the param 'task' must be one of {', '.join(TASKS)}, got {task!r}")

    def _recommend(
        self, rows: pd.DataFrame, k: int, exclude_seen: bool, categories: Sequence[str]
    ) -> pd.DataFrame:
        user_ids, liked = _names(rows, "user_id"), _lists(rows, "liked")
        answer = self._recommender.recommend_for_users(
            user_ids,
            liked,
            k,
            ratings=_numbers(rows, "liked_ratings"),
            exclude_seen=exclude_seen,
            categories=categories,
        )
        # JSON has no NaN, which is what pandas' own text type would become
        answer["user_id"] = pd.Series([user_ids[row] for row in answer["position"]], dtype=object)
        return answer

    def _similar_items(
        self, item_ids: Sequence[str | None], k: int, categories: Sequence[str]
    ) -> pd.DataFrame:
        named = [name for name in item_ids if name is not None]
        if len(named) < len(item_ids):
            raise DataError(
                f"'item_id' must be given in every row, row {item_ids.index(None)} has none"
            )
        return self._recommender.similar_items(named, k, categories=categories)

    def _described(self, rows: pd.DataFrame, task: str) -> pd.DataFrame:
        known = self._recommender.book_columns
        _check_columns(rows, task, known)
        books = rows[[name for name in rows.columns if name in known]].copy()
        for name in set(books.columns) - set(TEXT_FIELDS):
            try:
                books[name] = pd.to_numeric(books[name]).astype(np.float64)
            except (ValueError, TypeError) as error:
                raise DataError(f"column '{name}' must hold numbers ({error})") from None
        said_nothing = books.isna().all(axis=1).to_numpy()
        if said_nothing.any():
            row = int(said_nothing.argmax())
            raise DataError(
                f"a new book must be described by {', '.join(known)}, row {row} is empty"
            )
        return books


def _check_columns(rows: pd.DataFrame, task: str, wanted: Sequence[str]) -> None:
    """Refuse an input without what the task needs, or with what it would pass over in silence."""
    given = [name for name in rows.columns if name in wanted or rows[name].notna().any()]
    other = [name for name in given if name not in wanted]
    if other or not given:
        got = f"'{other[0]}'" if other else "none of them"
        raise DataError(
            f"task '{task}' must be given rows with columns {', '.join(wanted)}, got {got}"
        )


def _names(rows: pd.DataFrame, column: str) -> list[str | None]:
    """The texts of a column, None where there is none; MLflow lets other objects through."""
    if column not in rows.columns:
        return [None] * len(rows)
    return [_text(column, cell) for cell in rows[column].tolist()]


def _lists(rows: pd.DataFrame, column: str) -> list[list[str]]:
    """The lists of a column; empty where there is none."""
    if column not in rows.columns:
        return [[] for _ in range(len(rows))]
    lists = []
    for cell in rows[column].tolist():
        given = cell if isinstance(cell, list | tuple | np.ndarray) else []
        if given is not cell and not _is_missing(cell):
            raise DataError(f"column '{column}' must hold lists of texts, got {cell!r}")
        lists.append([text for text in (_text(column, each) for each in given) if text is not None])
    return lists


def _numbers(rows: pd.DataFrame, column: str) -> list[list[float | None] | None] | None:
    """The lists of numbers of a column, None where there is none."""
    if column not in rows.columns:
        return None
    lists: list[list[float | None] | None] = []
    for cell in rows[column].tolist():
        if not isinstance(cell, list | tuple | np.ndarray):
            if not _is_missing(cell):
                raise DataError(f"column '{column}' must hold lists of numbers, got {cell!r}")
            lists.append(None)
            continue
        lists.append([None if _is_missing(each) else each for each in cell])
    return lists


def _text(column: str, cell: object) -> str | None:
    if isinstance(cell, str):
        return str(cell)
    if _is_missing(cell):
        return None
    hint = f'write "{cell}"'
    if isinstance(cell, list | tuple | np.ndarray):
        hint = "rows are given as 'dataframe_records' or 'dataframe_split'"
    raise DataError(f"column '{column}' must hold texts, got {cell!r}; {hint}")


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


set_model(RecommenderModel())
