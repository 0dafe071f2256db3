"""What MLflow's UI shows of an experiment: a saved view with the columns and charts that matter.

MLflow's own table of runs starts without a single metric or setting, and its charts in the order of
the alphabet. A saved view is a tag of the experiment; the UI lists it under "Views", and a link in
the experiment's description opens it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, ErrorCode

from recsys.reporting.record import RunRecord
from tracking.names import metric_key, parameter_key
from tracking.payload import monitored_metric

VIEW_ID = "bookends"
VIEW_NAME = "Bookends"
_NOTE_TAG = "mlflow.note.content"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_ID}"
_AT_A_GLANCE = "at a glance"
BASELINES = ("item_knn", "ease", "ials", "bpr")  # beside popularity; the first two by default
_SECTIONS = {  # in this order; those that are False are folded
    _AT_A_GLANCE: True,
    "val": True,
    "train": True,
    "test": True,
    "test_sampled": False,
    "sweep": True,
    "trial": False,
    "run": False,
    "model": False,
    "popularity": False,
    "popularity_sampled": False,
    "popularity_val": False,
    **{group: False for name in BASELINES for group in (name, f"{name}_val")},
    "oracle": False,
    "oracle_sampled": False,
    "test_ci_low": False,
    "test_ci_high": False,
    "test_sampled_ci_low": False,
    "test_sampled_ci_high": False,
    "comparison": False,
    "compared": False,
    "reference": False,
    "difference": False,
    "difference_ci_low": False,
    "difference_ci_high": False,
    "p_corrected": False,
    "effect_size": False,
}
_SETTINGS = (
    ("model", "item_encoder", "fusion"),
    ("model", "user_encoder", "id_embedding", "params", "embedding_dim"),
    ("training", "learning_rate"),
)
_WIDTHS = {"metrics": 140, "params": 165, "tags": 120, "attributes": 100}  # pixels
_NAME_WIDTH = 260


def show_view(client: MlflowClient, experiment_id: str, record: RunRecord) -> None:
    """Give an experiment the view, and a description that links to it, where it has none.

    What a user made of either stays as it is, and so does an experiment that we may not change.

    Args:
        client: of the store.
        experiment_id: of the record's run.
        record: says which metric matters.
    """
    try:
        held = client.get_experiment(experiment_id).tags
        if VIEW_TAG not in held:
            client.set_experiment_tag(experiment_id, VIEW_TAG, _saved(_state(record)))
        if not held.get(_NOTE_TAG):
            client.set_experiment_tag(experiment_id, _NOTE_TAG, _note(experiment_id))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(PERMISSION_DENIED):
            raise


def view_address(experiment_id: str) -> str:
    """Where the view is, below the address of the UI."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_ID}"


def _note(experiment_id: str) -> str:
    return (
        "Two-tower book recommenders. **[Open the view with the columns and charts that matter]"
        f"({view_address(experiment_id)})**: test metrics beside the settings, and charts with "
        "the monitored metric first."
    )


def _state(record: RunRecord) -> dict[str, Any]:
    """The part of the UI's state that the view fixes; the UI's defaults stand for the rest."""
    monitored = monitored_metric(record)
    columns = _columns(monitored)
    widths = {column: _WIDTHS[column.partition(".")[0]] for column in columns}
    run_name = _column("attributes", "Run Name")
    return {
        "selectedColumns": columns,
        "columnOrder": [run_name, *columns],
        "columnWidths": widths | {run_name: _NAME_WIDTH},
        "compareRunSections": [
            {"uuid": name, "name": name, "display": is_open, "isReordered": True}
            for name, is_open in _SECTIONS.items()
        ],
        "compareRunCharts": _charts(monitored),
        "isAccordionReordered": True,
    }


def _columns(monitored: str) -> list[str]:
    k = monitored.partition("@")[2]
    shown = dict.fromkeys([monitored, *(f"{other}@{k}" for other in ("recall", "coverage"))])
    metrics = [metric_key("test", metric) for metric in shown]
    metrics += [metric_key(name, monitored) for name in (*BASELINES[:2], "val")]
    settings = [parameter_key(path) for path in _SETTINGS]
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
    validation, test = metric_key("val", monitored), metric_key("test", monitored)
    return [
        _chart("LINE", [validation], xAxisKey="step"),
        _chart("LINE", ["train/loss"], xAxisKey="step"),
        _chart("BAR", [test]),
        _chart(
            "PARALLEL",
            [],
            selectedParams=[parameter_key(path) for path in _SETTINGS[1:]],
            selectedMetrics=[test],
        ),
    ]


def _chart(kind: str, keys: Sequence[str], **options: Any) -> dict[str, Any]:
    """A card; the UI reads every field below without asking whether it is there."""
    line: Mapping[str, Any] = {
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "selectedMetricKeys": list(keys),
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return {
        "uuid": f"{VIEW_ID}-{kind.lower()}-{'-'.join(keys)}",
        "type": kind,
        "metricSectionId": _AT_A_GLANCE,
        "metricKey": keys[0] if keys else "",
        "runsCountToCompare": 100 if kind == "PARALLEL" else 10,
        "deleted": False,
        "isGenerated": False,
        **(line if kind == "LINE" else {}),
        **options,
    }


def _saved(state: Mapping[str, Any]) -> str:
    """A view as the UI saves it; the state is packed, since a tag holds 5,000 characters."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    envelope = {"name": VIEW_NAME, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return json.dumps(envelope)
