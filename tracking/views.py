"""What MLflow's UI shows of an experiment: a saved view with the columns and charts that matter.

MLflow's own table of runs starts without a single metric or setting, and its charts in the order of
the alphabet. A saved view is a tag of the experiment; the UI lists it under "Views", and a link in
the experiment's description opens it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any, get_args

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from recsys.config import BaselineName, prefix_of
from recsys.reporting.record import RunRecord
from recsys.reporting.results import monitor_of
from tracking.names import metric_key, parameter_key
from tracking.payload import LOSS_KEY

VIEW_ID = "bookends"
VIEW_NAME = "Bookends"
_NOTE_TAG = "mlflow.note.content"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_ID}"
_AT_A_GLANCE = "at a glance"
_OPEN_SECTIONS = (_AT_A_GLANCE, "best", "val", "train", "test", "sweep")
_SECTIONS = (  # in this order; those that are not open are folded
    *(_AT_A_GLANCE, "best", "val", "train", "test", "test_sampled", "sweep", "trial", "run"),
    *("model", "refit"),
    *(group for name in get_args(BaselineName) for group in (name, f"{name}_val")),
    *("oracle", "test_ci_low", "test_ci_high", "system"),
    *("comparison", "compared", "reference"),
    *("difference", "difference_ci_low", "difference_ci_high", "p_corrected", "effect_size"),
)
_SETTINGS = (
    "model.item_encoder.fusion",
    "model.user_encoder.id_embedding.params.embedding_dim",
    "training.learning_rate",
)
_WIDTHS = {"metrics": 140, "params": 165, "tags": 120, "attributes": 100}  # pixels
_NAME_WIDTH = 260
_LINE = {  # what a chart of the kind LINE has beside the fields of all charts
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "useGlobalXaxisKey": True,
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "scaleType": "linear",
    "lineSmoothness": 0,
    "useGlobalLineSmoothing": True,
    "range": {},
}


def show_view(client: MlflowClient, experiment_id: str, record: RunRecord) -> None:
    """Give an experiment the view, and a description that links to it, where it has none.

    What a user made of either stays as it is, and so does an experiment that we may not change. The
    record says which metric matters.
    """
    try:
        held = client.get_experiment(experiment_id).tags
        if VIEW_TAG not in held:
            client.set_experiment_tag(experiment_id, VIEW_TAG, _saved(_state(record)))
        if not held.get(_NOTE_TAG):
            client.set_experiment_tag(experiment_id, _NOTE_TAG, _note(experiment_id))
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise


def _note(experiment_id: str) -> str:
    address = f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_ID}"
    return (
        "Two-tower recommenders. **[Open the view with the columns and charts that matter]"
        f"({address})**: test metrics beside the settings, and charts with "
        "the monitored metric first."
    )


def _state(record: RunRecord) -> dict[str, Any]:
    """The part of the UI's state that the view fixes; the UI's defaults stand for the rest."""
    monitored = monitor_of(record)
    columns = _columns(monitored)
    widths = {column: _WIDTHS[column.partition(".")[0]] for column in columns}
    run_name = _column("attributes", "Run Name")
    return {
        "selectedColumns": columns,
        "columnOrder": [run_name, *columns],
        "columnWidths": widths | {run_name: _NAME_WIDTH},
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name in _OPEN_SECTIONS, "isReordered": True}
            for name in _SECTIONS
        ],
        "compareRunCharts": _charts(monitored),
        "isAccordionReordered": True,
    }


def _columns(monitored: str) -> list[str]:
    k = monitored.partition("@")[2]
    metrics = [metric_key(name, monitored) for name in ("test", "best")]
    prefix = prefix_of(monitored)
    others = [name for name in (f"{prefix}recall@{k}", f"coverage@{k}") if name != monitored]
    metrics += [metric_key("test", metric) for metric in others]
    baselines = ("content_knn",) if prefix else ("item_knn", "ease")
    metrics += [metric_key(name, monitored) for name in baselines]
    settings = [parameter_key(name) for name in _SETTINGS]
    return [
        *(_column("metrics", key) for key in metrics),
        *(_column("params", key) for key in settings),
        _column("metrics", "run/seconds"),
        *(_column("tags", key) for key in ("bookends.status", "optuna.state")),
        _column("attributes", "Models"),
    ]


def _column(group: str, key: str) -> str:
    return f"{group}.`{key}`"


def _charts(monitored: str) -> list[dict[str, Any]]:
    """The charts of the first section; the UI adds one for each metric that has none here."""
    test = metric_key("test", monitored)
    settings = [parameter_key(name) for name in _SETTINGS[1:]]
    return [
        _chart("LINE", metric_key("val", monitored)),
        _chart("LINE", LOSS_KEY),
        _chart("BAR", test),
        _chart("PARALLEL", selectedParams=settings, selectedMetrics=[test]),
    ]


def _chart(kind: str, key: str = "", **options: Any) -> dict[str, Any]:
    """A card; the UI reads every field below without asking whether it is there."""
    card = {
        "uuid": f"{VIEW_ID}-{kind.lower()}-{key}",
        "type": kind,
        "metricSectionId": _AT_A_GLANCE,
        "metricKey": key,
        "runsCountToCompare": 100 if kind == "PARALLEL" else 10,
        "deleted": False,
        "isGenerated": False,
    }
    return card | options | (_LINE | {"selectedMetricKeys": [key]} if kind == "LINE" else {})


def _saved(state: Mapping[str, Any]) -> str:
    """A view as the UI saves it; the state is packed, since a tag holds 5,000 characters."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    envelope = {"name": VIEW_NAME, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return json.dumps(envelope)
