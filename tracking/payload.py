"""What MLflow is told about a run: its record as parameters, metrics, tags and a description."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from recsys.config import RANKING_METRICS
from recsys.reporting.record import RunRecord
from tracking.names import metric_key, parameter_key
from tracking.store import without_password

LONGEST_PARAMETER = 6000
LOSS_KEY = "train/loss"
_SAMPLED = "sampled_"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Epoch(Protocol):
    """One pass over the train interactions, as the trainer gives it."""

    @property
    def number(self) -> int:
        """Counted from 1."""

    @property
    def train_loss(self) -> float:
        """Mean loss."""

    @property
    def parts(self) -> Mapping[str, float]:
        """The loss by part."""

    @property
    def validation(self) -> Mapping[str, float]:
        """Metrics by name."""

    @property
    def seconds(self) -> float:
        """Wall time."""


def parameters(record: RunRecord) -> dict[str, str]:
    """Every resolved setting under ``cfg.``, and the data set's numbers under ``dataset.``."""
    values = {parameter_key(path): _text(value) for path, value in _leaves(record.config)}
    address = parameter_key(("experiment", "tracking_uri"))
    if address in values:
        values[address] = without_password(values[address])
    summary = {key: value for key, value in record.dataset.items() if key != "sources"}
    dataset = {
        parameter_key(path, "dataset."): _text(value)
        for path, value in _leaves(summary)
        if value is not None
    }
    return {key: _shortened(text) for key, text in (values | dataset).items()}


def epoch_metrics(
    *,
    train_loss: float | None,
    parts: Mapping[str, float | None],
    validation: Mapping[str, float | None],
    seconds: float,
) -> dict[str, float]:
    """One epoch's metrics by MLflow's key; a value that a record could not hold is NaN."""
    values: dict[str, float | None] = {LOSS_KEY: train_loss, "train/seconds": seconds}
    values |= {metric_key("train", f"loss_{name}"): value for name, value in parts.items()}
    values |= {metric_key("val", name): value for name, value in validation.items()}
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
    values |= {metric_key("model", name): value for name, value in record.model_size.items()}
    values |= evaluation_metrics(record)
    values |= {metric_key("oracle", name): v for name, v in (record.oracle or {}).items()}
    return {key: _number(value) for key, value in values.items()}


def evaluation_metrics(record: RunRecord) -> dict[str, float]:
    """Means and interval ends of the model and the baselines on the evaluated split."""
    evaluation = record.evaluation
    if not evaluation or evaluation.get("skipped"):
        return {}
    split = "test" if evaluation["split"] == "test" else f"final_{evaluation['split']}"
    values = {metric_key(split, "readers"): _number(evaluation["n_users"])}
    values |= _score_metrics(split, evaluation["model"])
    for name, scores in evaluation["baselines"].items():
        values |= _score_metrics(name, scores)
    return values


def status(record: RunRecord) -> str | None:
    """MLflow's word for how the run ended; None while it runs."""
    return _STATUS.get(record.status)


def key_of(record: RunRecord) -> str:
    """What finds a run again in a store that it was sent to: hexadecimal, 20 characters."""
    identity = f"{record.run_name}\n{record.created}"
    return hashlib.sha256(identity.encode()).hexdigest()[:20]


def created_ms(record: RunRecord) -> int:
    """The start of the run, in milliseconds since 1970."""
    return int(datetime.fromisoformat(record.created).timestamp() * 1000)


ENDING_TAGS = ("bookends.error", "bookends.reason", "bookends.stop_reason")
"""What a run is told of its end, and must forget when it goes on."""


def tags(record: RunRecord) -> dict[str, str]:
    """What the record says beside numbers and settings."""
    values = {
        "bookends.status": record.status,
        "bookends.key": key_of(record),
        "bookends.stop_reason": record.stop_reason,
        "bookends.error": record.error,
        "bookends.dataset": record.dataset.get("fingerprint"),
        "bookends.python": record.environment.get("python"),
        "mlflow.note.content": description(record),
    }
    return {key: str(value) for key, value in values.items() if value}


def source_tags(record: RunRecord) -> dict[str, str]:
    """Where the code came from; ``mlflow run`` has set these already, in its own way."""
    commit = record.environment.get("git_commit") or ""
    values = {
        "mlflow.source.name": record.environment.get("command") or "bookends run",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        "mlflow.source.git.dirty": str(commit.endswith("-dirty")) if commit else "",
    }
    return {key: str(value) for key, value in values.items() if value}


def description(record: RunRecord) -> str:
    """Markdown for the head of the run's page, the key figures in a table at its end."""
    dataset, model = record.dataset, record.config.get("model", {})
    lines = []
    if model:
        fusions = [model.get(f"{side}_tower", {}).get("fusion") for side in ("user", "item")]
        lines.append(
            f"Two towers, fusion {fusions[0]} / {fusions[1]}, {model.get('embedding_dim')} "
            f"dimensions, {model.get('similarity')}."
        )
    if dataset:
        words = {"n_users": "readers", "n_items": "books", "train": "train interactions"}
        counts = [f"{dataset[key]:,} {word}" for key, word in words.items() if key in dataset]
        lines.append(", ".join([*counts, f"data `{dataset.get('fingerprint')}`"]) + ".")
    if record.error:
        lines.append(f"Failed: {record.error}")
    if record.evaluation and record.evaluation.get("skipped"):
        lines.append(f"Not evaluated: {record.evaluation['skipped']}")
    table = _key_table(record)
    return "\n\n".join([*lines, "\n".join(table)] if table else lines)


def _key_table(record: RunRecord) -> list[str]:
    evaluation = record.evaluation
    if not evaluation or evaluation.get("skipped"):
        return []
    columns = {"model": evaluation["model"]} | evaluation["baselines"]
    names = [
        name
        for name in evaluation["model"]["means"]
        if name.partition("@")[0] in (*RANKING_METRICS, "coverage")
    ]
    confidence = record.config.get("evaluation", {}).get("confidence", 0.95)
    heads = [evaluation["split"], *columns, f"{confidence:.0%} interval of the model"]
    lines = [
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for name in names:
        means = [_cell(scores["means"].get(name)) for scores in columns.values()]
        low, high = evaluation["model"].get("intervals", {}).get(name, (None, None))
        interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        lines.append(f"| {name} | " + " | ".join(means) + f" | {interval} |")
    return lines


def _score_metrics(group: str, scores: Mapping[str, Any]) -> dict[str, float]:
    values = {_score_key(group, "", name): value for name, value in scores["means"].items()}
    for name, (low, high) in scores.get("intervals", {}).items():
        values[_score_key(group, "_ci_low", name)] = low
        values[_score_key(group, "_ci_high", name)] = high
    return {key: _number(value) for key, value in values.items()}


def _score_key(group: str, end: str, name: str) -> str:
    """Sampled-candidate metrics are charted apart: they are no smaller form of the others."""
    if name.startswith(_SAMPLED):
        return metric_key(f"{group}_sampled{end}", name.removeprefix(_SAMPLED))
    return metric_key(group + end, name)


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shortened(text: str) -> str:
    """MLflow cuts longer values in silence, so that two of them may look alike."""
    if len(text) <= LONGEST_PARAMETER:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    end = f"... ({len(text)} characters, sha256:{digest}, whole in config.yaml)"
    return text[: LONGEST_PARAMETER - len(end)] + end


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
