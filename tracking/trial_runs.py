"""The runs of a sweep's trials: how each ends, and those that a store lacks since it was away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tracking.names import metric_key, parameter_key
from tracking.payload import parameter_text
from tracking.processes import Owner
from tracking.remote_run import end, points
from tracking.store import runs_where

TrialEnd = Literal["complete", "pruned", "failed", "interrupted"]
ENDS = {
    "complete": ("COMPLETE", "finished", "FINISHED"),
    "pruned": ("PRUNED", "pruned", "KILLED"),
    "failed": ("FAIL", "failed", "FAILED"),
    "interrupted": ("FAIL", "interrupted", "FAILED"),
}
"""For each end of a trial: Optuna's word, ours, and MLflow's status."""


@dataclass(frozen=True)
class EndedTrial:
    """What a study knows of a trial that ended.

    Attributes:
        number: in its study.
        name: of its run.
        how: it ended.
        params: its values by dotted setting.
        summary: metrics of its best epoch and costs, by name.
        epochs: what the pruner was told, by epoch.
        monitored: the metric of ``epochs``.
        tags: of its run, ``optuna.study`` among them.
    """

    number: int
    name: str
    how: TrialEnd
    params: Mapping[str, Any]
    summary: Mapping[str, float | None]
    epochs: Mapping[int, float]
    monitored: str
    tags: Mapping[str, str]


def deliver(
    client: MlflowClient, experiment_id: str, parent_id: str, trials: Sequence[EndedTrial]
) -> None:
    """Send the trials that the store lacks, or shows otherwise than they ended.

    Others that it shows as running although their process is gone are ended.
    """
    below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"
    held = {
        (run.data.tags.get("optuna.study"), run.data.tags.get("optuna.trial")): run
        for run in runs_where(client, [experiment_id], below)
    }
    for trial in trials:
        run = held.pop((trial.tags["optuna.study"], str(trial.number)), None)
        state, _, status = ENDS[trial.how]
        shown = None if run is None else (run.info.status, run.data.tags.get("optuna.state"))
        if shown != (status, state):
            _send(client, experiment_id, parent_id, trial, run)
    for (_, number), run in held.items():
        owner = Owner.from_tags(run.data.tags)
        if run.info.status == "RUNNING" and owner is not None and owner.life() == "dead":
            end_lost(client, run.info.run_id, f"the process of trial {number} is gone")


def end_lost(client: MlflowClient, run_id: str, reason: str) -> None:
    """Mark the run of a trial whose process is gone."""
    tags = {"bookends.status": "killed", "bookends.reason": reason, "optuna.state": "FAIL"}
    end(client, run_id, "FAILED", tags)


def _send(
    client: MlflowClient, experiment_id: str, parent_id: str, trial: EndedTrial, run: Run | None
) -> None:
    state, ours, status = ENDS[trial.how]
    tags = {"optuna.trial": str(trial.number), "optuna.state": state, "bookends.status": ours}
    if run is None:
        tags |= {MLFLOW_PARENT_RUN_ID: parent_id} | dict(trial.tags)
        run = client.create_run(experiment_id, run_name=trial.name, tags=tags)
    elif "bookends.reason" in run.data.tags and trial.how != "interrupted":
        client.delete_tag(run.info.run_id, "bookends.reason")  # it was taken for killed
    summary = {metric_key("trial", name): value for name, value in trial.summary.items()}
    metrics = points({key: v for key, v in summary.items() if key not in run.data.metrics})
    shown = metric_key("val", trial.monitored)
    if shown not in run.data.metrics:
        for epoch, value in trial.epochs.items():
            metrics += points({shown: value}, step=epoch)
        metrics += _best_points(trial)
    params = {
        key: parameter_text(value)
        for name, value in trial.params.items()
        if (key := parameter_key(name)) not in run.data.params
    }
    end(client, run.info.run_id, status, dict(trial.tags) | tags, metrics, params)


def _best_points(trial: EndedTrial) -> list[Metric]:
    """The best epoch's value, as the group "best" of a trial that was sent live ends."""
    if not trial.epochs:
        return []
    kept = max(trial.epochs, key=lambda epoch: trial.epochs[epoch])  # the first of equals
    return points({metric_key("best", trial.monitored): trial.epochs[kept]}, step=kept)
