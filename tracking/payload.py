"""What MLflow is told of a run: its record as parameters, metrics, tags, data set."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, Literal

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from recsys.addresses import without_password
from recsys.config import AMONG_NEW, RANKING_METRICS, flatten, is_ranking_metric
from recsys.errors import TrackingError
from recsys.evaluation.distinct import distinct_metrics
from recsys.reporting.record import EpochRecord, RunRecord
from recsys.reporting.results import monitor_of, one_held_out, results_of
from recsys.training.trainer import EpochResult
from tracking.names import metric_key, parameter_key
from tracking.run_page import description

LOSS_KEY = "train/loss"
ENDING_TAGS = ("bookends.error", "bookends.reason", "bookends.stop_reason")
"""What a run is told of its end, and must forget when it goes on."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's word for how a run ended, by ours."""
_LONGEST_PARAMETER = 6000
_LONGEST_DIGEST = 36
_SAMPLED = "sampled_"
_SHORT = {"validation": "val"}


def parameters(record: RunRecord) -> dict[str, str]:
    """Every resolved setting under ``cfg.``, and the data set's numbers under ``dataset.``."""
    config = flatten(record.config)
    address = "experiment.tracking_uri"
    if config.get(address):
        config[address] = without_password(config[address])
    summary = {key: value for key, value in record.dataset.items() if key != "sources"}
    values = {parameter_key(name): value for name, value in config.items()}
    values |= {
        parameter_key(name, "dataset."): value
        for name, value in flatten(summary).items()
        if value is not None
    }
    return {key: parameter_text(value) for key, value in values.items()}


def parameter_text(value: object) -> str:
    """A value as MLflow keeps it, which cuts longer ones in silence: two of them might look alike.

    A longer one ends in a digest of the whole.
    """
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    if len(text) <= _LONGEST_PARAMETER:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    end = f"... ({len(text)} characters, sha256:{digest}, whole in config.yaml)"
    return text[: _LONGEST_PARAMETER - len(end)] + end


def epoch_metrics(
    epoch: EpochResult | EpochRecord, monitored: str, shown: Collection[str] | None = None
) -> dict[str, float]:
    """One epoch's metrics by MLflow's key; a value that a record could not hold is NaN.

    The monitored one comes first: MLflow keeps the order, and draws the first when runs are
    compared. The best epoch so far has its metrics in the group "best" too, so that the last value
    there is that of the epoch whose weights are kept.

    Args:
        epoch: as the trainer gave it, or as it is recorded.
        monitored: what training is stopped by.
        shown: which validation metrics are sent; None sends all.
    """
    names = sorted(
        (name for name in epoch.validation if shown is None or name in shown),
        key=lambda name: name != monitored,
    )
    groups = ("val", "best") if epoch.is_best else ("val",)
    values: dict[str, float | None] = {
        metric_key(group, name): epoch.validation[name] for group in groups for name in names
    }
    values |= {LOSS_KEY: epoch.train_loss, "train/seconds": epoch.seconds}
    values |= {metric_key("train", f"loss_{name}"): value for name, value in epoch.parts.items()}
    return {key: _number(value) for key, value in values.items()}


def summary_metrics(record: RunRecord) -> dict[str, float]:
    """The whole run's metrics by MLflow's key: what it gave, against what, and what it cost."""
    values: dict[str, float | None] = {
        "run/seconds": record.seconds,
        "run/peak_memory_mb": record.peak_memory_mb,
        "run/epochs": len(record.history),
    }
    if record.best_epoch is not None:
        values["run/best_epoch"] = record.best_epoch
    if record.refit is not None:
        values["refit/seconds"] = record.refit["seconds"]
    values |= {metric_key("model", name): value for name, value in record.model_size.items()}
    values |= evaluation_metrics(record)
    oracle, expected = record.oracle or {}, f"expected_{monitor_of(record)}"
    if expected in oracle:
        values[metric_key("oracle", expected)] = oracle[expected]
    return {key: _number(value) for key, value in values.items()}


def evaluation_metrics(record: RunRecord) -> dict[str, float]:
    """What people compare of the evaluated split: of the model and of its baselines, by key.

    Of the model the ranking metrics at every list length; those beyond accuracy, those among
    sampled candidates and the ends of the intervals at that of the monitored metric. Of the
    baselines the ranking metrics at that length. Metrics that are one number by construction are
    sent once. Everything else is in the tables that :func:`tracking.run_page.detail_tables` gives.
    """
    results = results_of(record)
    if results is None:
        return {}
    split, monitored, one = results.split, results.headline, results.one_held_out
    group = "test" if split == "test" else f"final_{split}"
    compared = compared_metrics(results.metrics, monitored, one_held_out=one)
    first = sorted(compared, key=lambda name: name != monitored)
    values = {_score_key(group, name): results.value("model", name).mean for name in first}
    values[metric_key(group, "users")] = results.n_users
    for recommender, scores in results.scores.items():
        shown = main_metrics(scores.means, monitored, one_held_out=one)
        for name in filter(is_ranking_metric, shown):
            mean, low, high = scores.value(name)
            if recommender != "model":
                values[metric_key(baseline_group(recommender, split), name)] = mean
            elif low is not None and high is not None:
                values[metric_key(f"{group}_ci_low", name)] = low
                values[metric_key(f"{group}_ci_high", name)] = high
    return {key: _number(value) for key, value in values.items()}


def compared_metrics(metrics: Iterable[str], monitored: str, *, one_held_out: bool) -> list[str]:
    """Ranking metrics at every list length, others at that of the monitored; each number once."""
    told = distinct_metrics(metrics, one_held_out=one_held_out, preferred=monitored)
    return [name for name in told if is_ranking_metric(name) or name.endswith(_main_end(monitored))]


def main_metrics(metrics: Iterable[str], monitored: str, *, one_held_out: bool) -> list[str]:
    """Those at the list length of the monitored metric, 10 where it has none; each number once."""
    told = distinct_metrics(metrics, one_held_out=one_held_out, preferred=monitored)
    return [name for name in told if name.endswith(_main_end(monitored))]


def _main_end(monitored: str) -> str:
    return f"@{monitored.partition('@')[2] or 10}"


def shown_in_epochs(record: RunRecord) -> list[str]:
    """The validation metrics that an epoch is sent with."""
    ks = record.setting("evaluation.metrics_k", [10])
    monitored, one = monitor_of(record), one_held_out(record.dataset, "validation")
    prefixes = ("", AMONG_NEW) if record.split.get("strategy") == "cold_items" else ("",)
    names = [f"{each}{stem}@{k}" for each in prefixes for stem in RANKING_METRICS for k in ks]
    return main_metrics([monitored, *names], monitored, one_held_out=one)


def baseline_group(name: str, split: str) -> str:
    """The group of a baseline's metrics: its name means the test split, as ``test`` does."""
    return name if split == "test" else f"{name}_{_SHORT.get(split, split)}"


def key_of(record: RunRecord) -> str:
    """What finds a run again in a store that it was sent to: hexadecimal, 20 characters."""
    identity = f"{record.run_name}\n{record.created}"
    return hashlib.sha256(identity.encode()).hexdigest()[:20]


def created_ms(record: RunRecord) -> int:
    """The start of the run, in milliseconds since 1970."""
    return int(datetime.fromisoformat(record.created).timestamp() * 1000)


def ended_ms(record: RunRecord) -> int:
    """The end of the run, likewise."""
    return created_ms(record) + int(record.seconds * 1000)


def tags(record: RunRecord) -> dict[str, str]:
    """What the record says beside numbers and settings."""
    values = {
        "bookends.status": record.status,
        "bookends.key": key_of(record),
        "bookends.stop_reason": record.stop_reason,
        "bookends.error": record.error,
        "bookends.dataset": record.dataset.get("fingerprint"),
        "mlflow.note.content": description(record),
    }
    given = record.setting("experiment.tags") or {}
    return given | {key: str(value) for key, value in values.items() if value}


def dataset_input(
    described: Mapping[str, Any],
    filter_steps: Sequence[Mapping[str, Any]] = (),
    context: Literal["training", "evaluation"] = "training",
) -> DatasetInput | None:
    """The prepared data set of a record as an input of a run; None where none was prepared.

    MLflow's ready-made data sets digest the first 10,000 rows only, so that two different inputs
    share a digest; our fingerprint covers the whole content of the files and the settings.

    Raises:
        TrackingError: the fingerprint is longer than MLflow holds.
    """
    fingerprint = described.get("fingerprint")
    if not fingerprint:
        return None
    if len(fingerprint) > _LONGEST_DIGEST:
        raise TrackingError(
            f"a data set's fingerprint must have at most {_LONGEST_DIGEST} characters in MLflow, "
            f"got {len(fingerprint)}: '{fingerprint}'"
        )
    sources: dict[str, Any] = described.get("sources") or {}
    first = next(iter(sources), "")
    summary = {key: value for key, value in described.items() if key != "sources"}
    dataset = Dataset(
        name=_dataset_name([PurePath(path) for path in sources]),
        digest=fingerprint,
        source_type=first.partition("://")[0] if "://" in first else "local",
        source=json.dumps({"uri": first, "files": sources}),
        profile=json.dumps(summary | {"filter_steps": list(filter_steps)}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _dataset_name(paths: Sequence[PurePath]) -> str:
    """The names of the files, behind that of their directory where they share one."""
    parents = {path.parent.name for path in paths} - {""}
    parent = f"{parents.pop()}/" if len(parents) == 1 else ""
    return (parent + "+".join(path.name for path in paths))[:500] or "data"


def _score_key(group: str, name: str) -> str:
    """Sampled-candidate metrics are charted apart: they are no smaller form of the others."""
    if name.startswith(_SAMPLED):
        return metric_key(f"{group}_sampled", name.removeprefix(_SAMPLED))
    return metric_key(group, name)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
