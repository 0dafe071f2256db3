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
TASKS = ("recommend", "recommend_lists", "similar_items", "similar_to_item", "users_of_item")
_FORMER_NAMES = {"similar_to_book": "similar_to_item", "readers_of_book": "users_of_item"}


class RecommenderModel(PythonModel):
    """Ranked items for users and near items, those never seen included."""

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
            model_input: by task, a question a row. recommend and recommend_lists: ``user_id``
                (text, null for a user without one) or ``liked`` (list of item ids, the most recent
                last) or both, and ``liked_ratings`` (list of numbers) of the liked.
                similar_items: ``item_id``.
                similar_to_item and users_of_item: any of ``title``, ``author``, ``categories``
                and the numeric columns the model was trained with.
            params: ``task`` (recommend), ``k`` (10), the length of each list, ``exclude_seen``
                (true) and ``categories`` (none: recommend only items that carry one of these).

        Returns:
            recommend: position (of the row in the input), user_id, rank, item_id, score, title,
            source. recommend_lists: item_ids (list of texts) and scores (list of numbers), a row
            for each of the input, as Spark wants it. similar_items: item_id, rank,
            similar_item_id, score, title. similar_to_item: position, rank, item_id, score, title.
            users_of_item: position, rank, user_id, score.

        Raises:
            MlflowException: the input is not as it must be; the server answers with 400.
        """
        options = DEFAULTS | (params or {})
        try:
            return self._answer(model_input, options)
        except BookendsError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _answer(self, rows: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        k, chosen = options["k"], list(options["categories"])
        task = _FORMER_NAMES.get(options["task"], options["task"])
        match task:
            case "recommend" | "recommend_lists":
                _check_columns(rows, task, ("user_id", "liked", "liked_ratings"))
                answer = self._recommend(rows, k, bool(options["exclude_seen"]), chosen)
                return answer if task == "recommend" else _row_by_row(answer, len(rows))
            case "similar_items":
                _check_columns(rows, task, ("item_id",))
                ids = _texts("item_id", _cells(rows, "item_id"))
                named = [text for text in ids if text is not None]
                if len(named) < len(ids):
                    row = ids.index(None)
                    raise DataError(f"'item_id' must be given in every row, row {row} has none")
                return self._recommender.similar_items(named, k, categories=chosen)
            case "similar_to_item":
                items = self._described(rows, task)
                return self._recommender.similar_to_book(items, k, categories=chosen)
            case "users_of_item":
                if chosen:
                    raise DataError("the param 'categories' has no meaning for users_of_item")
                return self._recommender.users_of_book(self._described(rows, task), k)
            case _:
                raise DataError(f"the param 'task' must be one of {', '.join(TASKS)}, got {task!r}")

    def _recommend(
        self, rows: pd.DataFrame, k: int, exclude_seen: bool, categories: Sequence[str]
    ) -> pd.DataFrame:
        user_ids = _texts("user_id", _cells(rows, "user_id"))
        liked = _lists(rows, "liked", "texts")
        ratings = _lists(rows, "liked_ratings", "numbers")
        answer = self._recommender.recommend_for_users(
            user_ids,
            [[text for text in _texts("liked", ids or []) if text is not None] for ids in liked],
            k,
            ratings=ratings if "liked_ratings" in rows.columns else None,
            exclude_seen=exclude_seen,
            categories=categories,
        )
        # JSON has no NaN, which is what pandas' own text type would become
        answer["user_id"] = pd.Series([user_ids[row] for row in answer["position"]], dtype=object)
        return answer

    def _described(self, rows: pd.DataFrame, task: str) -> pd.DataFrame:
        known = self._recommender.book_columns
        _check_columns(rows, task, known)
        items = rows[[name for name in rows.columns if name in known]].copy()
        for name in set(items.columns) - set(TEXT_FIELDS):
            try:
                items[name] = pd.to_numeric(items[name]).astype(np.float64)
            except (ValueError, TypeError) as error:
                raise DataError(f"column '{name}' must hold numbers ({error})") from None
        said_nothing = items.isna().all(axis=1).to_numpy()
        if said_nothing.any():
            row = int(said_nothing.argmax())
            raise DataError(
                f"a new item must be described by {', '.join(known)}, row {row} is empty"
            )
        return items


def _row_by_row(answer: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Lists of items and scores, one for each row that was asked with, an empty one included."""
    starts = np.searchsorted(answer["position"], np.arange(1, n_rows))
    parts = {"item_ids": answer["item_id"], "scores": answer["score"]}
    return pd.DataFrame(
        {
            name: [list(part) for part in np.split(column.to_numpy(), starts)[:n_rows]]
            for name, column in parts.items()
        }
    )


def _check_columns(rows: pd.DataFrame, task: str, wanted: Sequence[str]) -> None:
    """Refuse an input without what the task needs, or with what it would pass over in silence."""
    given = [name for name in rows.columns if name in wanted or rows[name].notna().any()]
    other = [name for name in given if name not in wanted]
    if other or not given:
        got = f"'{other[0]}'" if other else "none of them"
        raise DataError(
            f"task '{task}' must be given rows with columns {', '.join(wanted)}, got {got}"
        )


def _cells(rows: pd.DataFrame, column: str) -> list[Any]:
    """What a column holds, None where that is nothing."""
    if column not in rows.columns:
        return [None] * len(rows)
    return [None if _is_missing(cell) else cell for cell in rows[column].tolist()]


def _lists(rows: pd.DataFrame, column: str, kind: str) -> list[list[Any] | None]:
    """The lists of a column, None where there is none; what is missing within is None."""
    lists: list[list[Any] | None] = []
    for cell in _cells(rows, column):
        if not isinstance(cell, list | tuple | np.ndarray | None):
            raise DataError(f"column '{column}' must hold lists of {kind}, got {cell!r}")
        lists.append(cell if cell is None else [None if _is_missing(e) else e for e in cell])
    return lists


def _texts(column: str, cells: Sequence[Any]) -> list[str | None]:
    """The cells, which must be texts: MLflow lets other objects through."""
    for cell in cells:
        if isinstance(cell, list | tuple | np.ndarray):
            hint = "rows are given as 'dataframe_records' or 'dataframe_split'"
            raise DataError(f"column '{column}' must hold texts, got {cell!r}; {hint}")
        if not isinstance(cell, str | None):
            raise DataError(f"column '{column}' must hold texts, got {cell!r}; write \"{cell}\"")
    return [None if cell is None else str(cell) for cell in cells]


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


set_model(RecommenderModel())
