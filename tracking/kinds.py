"""What a run in MLflow is, by its tags."""

from __future__ import annotations

from datetime import UTC, datetime

from mlflow.entities import Run

TRIAL_TAG = "optuna.trial"


def kind_of(run: Run) -> str:
    """What a run is: "run", "trial", "sweep" or "comparison"."""
    tags = run.data.tags
    return "trial" if TRIAL_TAG in tags else tags.get("bookends.kind", "run")


def started(run: Run) -> datetime:
    """When it began, UTC."""
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC)
