"""Runs listed, chosen and ordered by what a user types."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run

from recsys.errors import TrackingError
from tracking.names import metric_key, parameter_key
from tracking.store import experiment_ids, reading, runs_where

TRIAL_TAG = "optuna.trial"
_PAGE = 200
_MODEL = ("training.objective", "model.item_encoder.fusion")
_EMBEDDING_DIM = "model.user_encoder.id_embedding.params.embedding_dim"
_SPLITS = {"test": "test", "test_sampled": "test"} | dict.fromkeys(
    ("trial", "best", "val"), "validation"
)
_QUOTED = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`)""")
_METRIC = re.compile(r"(?<![\w./@])([a-z]\w*/[\w@]+|[a-z]\w*@\d+)(?=\s*[<>=!])")
_SAMPLED = "sampled_"
_FALLBACKS = ("test", "trial", "best", "val")
_SMALLER_IS_BETTER = ("loss", "seconds", "bytes", "parameters", "memory_mb")


@dataclass(frozen=True)
class Measured:
    """A metric of a listed run: the mean, and the ends of its interval where MLflow holds them.

    ``split`` is "test" or "validation", None for what is of no split.
    """

    value: float
    low: float | None
    high: float | None
    split: str | None


@dataclass(frozen=True)
class RunRow:
    """What a list says of a run; what MLflow does not know is None.

    Attributes:
        kind: "run", "trial", "sweep" or "comparison".
        status: such as "finished", "running", "failed" or "pruned".
        created: start, UTC.
        fingerprint: of the data.
        model: objective and fusion of the item tower.
        metrics: by MLflow's key.
    """

    run_id: str
    name: str
    kind: str
    status: str
    created: datetime
    fingerprint: str | None
    model: str | None
    embedding_dim: str | None
    metrics: Mapping[str, float]

    def measured(self, metric: str) -> Measured | None:
        """A metric by our name, of the test split or else of validation; None without one."""
        for key in metric_keys(metric):
            value = self.metrics.get(key)
            if value is None or math.isnan(value):
                continue
            group, _, name = key.partition("/")
            ends = [self.metrics.get(f"{group}_ci_{end}/{name}") for end in ("low", "high")]
            return Measured(value, ends[0], ends[1], _SPLITS.get(group))
        return None


def list_runs(
    tracking_uri: str | None = None,
    experiment: str = "bookends",
    *,
    filter_text: str = "",
    sort: str = "ndcg@10",
    is_reversed: bool = False,
    limit: int = 20,
    include_all: bool = False,
) -> list[RunRow]:
    """Runs of an experiment, best first.

    Args:
        tracking_uri: the store; None takes ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here.
        experiment: its name.
        filter_text: as for :func:`mlflow_filter`.
        sort: as for :func:`order_by`.
        is_reversed: worst or oldest first.
        limit: rows at most.
        include_all: trials, sweeps and comparisons too.

    Raises:
        TrackingError: no such store or experiment, a filter that MLflow does not take, or a metric
            to sort by that no run has.
    """
    conditions = [mlflow_filter(filter_text)] if filter_text.strip() else []
    if not include_all:
        conditions.append(f"tags.`{TRIAL_TAG}` IS NULL")
    condition = " and ".join(conditions)
    order = order_by(sort, is_reversed=is_reversed)
    chosen = f" by the filter '{filter_text}'" if filter_text else ""
    with reading(tracking_uri, f"runs{chosen} could not be read from") as client:
        ids = experiment_ids(client, experiment)
        runs = runs_where(client, ids, condition, order, min(limit, _PAGE))
        wanted = (row for row in map(_row, runs) if include_all or row.kind == "run")
        rows = list(itertools.islice(wanted, limit))
    _refuse_unknown_metric(rows, sort)
    return rows


def mlflow_filter(text: str) -> str:
    """A filter with our metric names as MLflow's: ``ndcg@10>=0.1`` asks for the test metric.

    ``val/ndcg@10`` and ``run/seconds`` name a group of their own. All else, and what stands in
    quotes, is MLflow's search syntax and stays as it is.
    """
    pieces = _QUOTED.split(text)
    pieces[::2] = [
        _METRIC.sub(lambda found: f"metrics.`{metric_keys(found[0])[0]}`", piece)
        for piece in pieces[::2]
    ]
    return "".join(pieces)


def metric_keys(metric: str) -> list[str]:
    """MLflow's keys of a metric, the one that says most first.

    A plain name such as ``ndcg@10`` is that of the test split, else a trial's best on validation,
    else the kept epoch's on validation, else the last epoch's; ``run/seconds`` is that key alone.
    """
    if "/" in metric:
        return [metric_key(*metric.split("/", 1))]
    if metric.startswith(_SAMPLED):
        return [metric_key("test_sampled", metric.removeprefix(_SAMPLED))]
    return [metric_key(group, metric) for group in _FALLBACKS]


def order_by(sort: str, *, is_reversed: bool = False) -> list[str]:
    """MLflow's order, best or newest first; runs without the metric come last, newest first.

    ``sort`` is "date", or a metric as for :func:`metric_keys`. Runs with a test value stand before
    those that only have one of validation: the two are not alike.
    """
    if sort == "date":
        return [f"attributes.start_time {'ASC' if is_reversed else 'DESC'}"]
    is_ascending = sort.endswith(_SMALLER_IS_BETTER) != is_reversed
    keys = [f"metrics.`{key}` {'ASC' if is_ascending else 'DESC'}" for key in metric_keys(sort)]
    return [*keys, "attributes.start_time DESC"]


def sweep_directories(uri: str, experiment: str) -> list[Path]:
    """Where the sweeps of an experiment lie, or lay, the latest first.

    Raises:
        TrackingError: there is no such store or experiment.
    """
    with reading(uri, "sweeps could not be read from") as client:
        ids = experiment_ids(client, experiment)
        runs = runs_where(client, ids, "tags.`bookends.kind` = 'sweep'")
        return [Path(run.data.tags["bookends.sweep_dir"]) for run in runs]


def kind_of(run: Run) -> str:
    """What a run is, by its tags: "run", "trial", "sweep" or "comparison"."""
    tags = run.data.tags
    return "trial" if TRIAL_TAG in tags else tags.get("bookends.kind", "run")


def started(run: Run) -> datetime:
    """When it began, UTC."""
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC)


def _row(run: Run) -> RunRow:
    params, tags = run.data.params, run.data.tags
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        kind=kind_of(run),
        status=tags.get("bookends.status") or run.info.status.lower(),
        created=started(run),
        fingerprint=tags.get("bookends.dataset") or params.get("dataset.fingerprint"),
        model=", ".join(params[key] for key in map(parameter_key, _MODEL) if key in params) or None,
        embedding_dim=params.get(parameter_key(_EMBEDDING_DIM)),
        metrics=dict(run.data.metrics),
    )


def _refuse_unknown_metric(rows: list[RunRow], sort: str) -> None:
    usual = ("date", "ndcg@10")
    if not rows or sort in usual or any(row.measured(sort) is not None for row in rows):
        return
    raise TrackingError(
        f"'--sort' must be 'date' or a metric of these runs, such as 'ndcg@10', 'recall@10' or "
        f"'run/seconds', got '{sort}'"
    )
