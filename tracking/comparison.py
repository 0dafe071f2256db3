"""A comparison of runs in MLflow: a run of its own beside those it compares."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from recsys.reporting.comparison import RunComparison
from recsys.reporting.comparison_report import description
from tracking.names import metric_key
from tracking.processes import maker_tags, source_tags
from tracking.remote_run import (
    KEY_TAG,
    RemoteRun,
    Sent,
    attached_run,
    existing_run,
    files_below,
    run_with_key,
)
from tracking.store import (
    connect,
    ensure_experiment,
    plain_errors,
    resolve_uri,
    without_password,
)

_LONGEST_TAG = 8000
_LONGEST_GROUP = 100


def send_comparison(
    comparison: RunComparison,
    directory: Path,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    environment: Mapping[str, Any],
) -> Sent:
    """Log a comparison; logging it again finds its run and changes nothing.

    Args:
        comparison: what was found.
        directory: holds its files.
        tracking_uri: the store; None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here.
        experiment: name of the experiment; None takes that of the first compared run which the
            store holds, else the one of the reference's settings.
        environment: with the git_commit and the command of this process.

    Raises:
        TrackingError: the store cannot be used.
    """
    uri = resolve_uri(tracking_uri)
    shown = without_password(uri)
    with plain_errors(uri, f"{directory}: is written, but could not be sent to {shown}"):
        client = connect(uri)
        run = _open(client, comparison, experiment)
        origin = source_tags(environment, "bookends compare") | maker_tags()
        run.send_settings(_params(comparison), _tags(comparison) | run.without_held(origin))
        reference = comparison.reference.record
        run.send_dataset(reference.dataset, reference.filter_steps, "evaluation")
        run.send_metrics(comparison_metrics(comparison))
        run.send_files(files_below(directory), {})
        run.send_status("FINISHED")
    return Sent(shown, run.experiment_id, run.run_id)


def comparison_metrics(comparison: RunComparison) -> dict[str, float]:
    """What a comparison found, by MLflow's key; where there are several pairs, each has groups.

    ``difference`` is the run minus the reference, in the unit of the metric; ``untested`` is the
    same of a metric that was not tested.
    """
    values: dict[str, float] = {"comparison/users": float(comparison.n_users)}
    for pair in comparison.pairs:
        of = "" if len(comparison.pairs) == 1 else f" of {pair.name[:_LONGEST_GROUP]}"
        for found in pair.tested:
            compared = found.comparison
            low, high = compared.interval
            numbers = {
                "difference": compared.difference,
                "difference_ci_low": low,
                "difference_ci_high": high,
                "compared": compared.first,
                "p_corrected": found.p_corrected,
                "effect_size": compared.effect_size,
            }
            values |= {metric_key(key + of, found.metric): value for key, value in numbers.items()}
            values[metric_key("reference", found.metric)] = compared.second
        for found in pair.shown:
            values[metric_key(f"untested{of}", found.metric)] = found.comparison.difference
        for found in pair.segments:
            group = f"segment_{found.segment}{of}"
            values[metric_key(group, found.metric)] = found.comparison.difference
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _open(client: MlflowClient, comparison: RunComparison, experiment: str | None) -> RemoteRun:
    """The run that ``mlflow run`` opened, else that of the same comparison before, or a new one."""
    attached_id, uri = os.environ.get("MLFLOW_RUN_ID"), client.tracking_uri
    if attached_id and uri == resolve_uri(None):
        run = attached_run(uri, attached_id)
        client.update_run(run.run_id, name=comparison.name)
        return run
    experiment_id = _experiment_id(client, comparison, experiment)
    return run_with_key(client, experiment_id, comparison.key, comparison.name)


def _experiment_id(client: MlflowClient, comparison: RunComparison, experiment: str | None) -> str:
    if experiment is None:
        for run in comparison.runs:
            held = existing_run(client, run.run_id) if run.run_id else None
            if held is not None:
                return held.experiment_id
        experiment = comparison.reference.record.setting("experiment.name", "bookends")
    return ensure_experiment(client, experiment)


def _params(comparison: RunComparison) -> dict[str, str]:
    method = comparison.method
    others = {f"compared_{index}": run.name for index, run in enumerate(comparison.others, start=1)}
    return {
        "reference": comparison.reference.name,
        **others,
        "confidence": f"{method.confidence:g}",
        "tested": ", ".join(method.tested),
        "correction": f"Holm over {comparison.n_tests} tests",
        "bootstrap_samples": str(method.n_samples),
    }


def _tags(comparison: RunComparison) -> dict[str, str]:
    ids = [run.run_id for run in comparison.others if run.run_id]
    verdicts = {pair.name: pair.headline.verdict for pair in comparison.pairs}
    tags = {
        KEY_TAG: comparison.key,
        "bookends.kind": "comparison",
        "bookends.status": "finished",
        "bookends.dataset": comparison.reference.fingerprint,
        "bookends.reference_run": comparison.reference.run_id or "",
        "bookends.compared_runs": ",".join(ids),
        "bookends.verdict": "; ".join(f"{name}: {said}" for name, said in verdicts.items()),
        "mlflow.note.content": description(comparison),
    }
    return {key: _cut(text) for key, text in tags.items() if text}


def _cut(text: str) -> str:
    """MLflow cuts longer tags in silence."""
    return text if len(text) <= _LONGEST_TAG else text[: _LONGEST_TAG - 4].rstrip() + " ..."
