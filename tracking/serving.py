"""The served model: MLflow copies this file into the model and runs it where the model is loaded.

It is written for that place, where only ``recsys`` travels along and no other module of ours is to
be found; nothing here imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from recsys.recommender import Recommender

BUNDLE = "bundle"


class RecommenderModel(PythonModel):
    """Ranked books for readers, those never seen included."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle, once."""
        self._recommender = Recommender.load(Path(context.artifacts[BUNDLE]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Recommendations of every reader in turn, best first.

        Args:
            context: not used; MLflow hands it over.
            model_input: column ``user_id``, text; a reader may come more than once.
            params: ``k`` (10), the length of each list, and ``exclude_seen`` (true).

        Returns:
            Columns user_id, rank (from 1), item_id, score, title, source ("model" or
            "popularity", for a reader the model does not know).
        """
        options = {"k": 10, "exclude_seen": True} | (params or {})
        frame: pd.DataFrame = self._recommender.recommend(
            model_input["user_id"].tolist(),
            k=int(options["k"]),
            exclude_seen=bool(options["exclude_seen"]),
        )
        return frame


set_model(RecommenderModel())
