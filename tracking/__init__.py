"""Runs in MLflow: the run directory is the source, MLflow mirrors it."""

import os

# MLflow reads this while it is imported, so it must be set before any module here imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A bar for a copy of a few files says nothing; the console has its own.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
