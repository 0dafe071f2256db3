"""What the page of a run in MLflow's UI shows: a description at its head, and tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from recsys.config import is_ranking_metric
from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord
from recsys.reporting.results import results_of

_TABLE_DIGITS = 6
_SPACE = "\N{NO-BREAK SPACE}"


def description(record: RunRecord) -> str:
    """Markdown for the head of the run's page: a line on the model, and the key figures.

    It is short on purpose: MLflow folds what is higher than 100 pixels.
    """
    lines = [". ".join(part for part in (_model_line(record), _data_line(record)) if part)]
    if record.error:
        lines.append(f"Failed: {record.error}")
    if record.evaluation and record.evaluation.skipped:
        lines.append(f"Not evaluated: {record.evaluation.skipped}")
    lines.append("\n".join(_key_table(record)))
    return "\n\n".join(line for line in lines if line)


def _model_line(record: RunRecord) -> str:
    if record.setting("model") is None:
        return ""
    user = "model.user_encoder"
    dim = record.setting(f"{user}.id_embedding.params.embedding_dim")
    history = record.setting(f"{user}.history.pooling", "none")
    return (
        f"Two towers, {record.setting('training.objective')} over "
        f"{record.setting('training.examples')}, item tower "
        f"{record.setting('model.item_encoder.fusion')}, history {history}, {dim} dimensions, "
        f"{record.setting('model.similarity')}"
    )


def _data_line(record: RunRecord) -> str:
    words = {"n_users": "users", "n_items": "items", "train": "train interactions"}
    counts = [
        f"{record.dataset[key]:,} {word}" for key, word in words.items() if key in record.dataset
    ]
    return ", ".join(counts)


def _key_table(record: RunRecord) -> list[str]:
    results = results_of(record)
    if results is None:
        return []
    heads = [results.split, *results.scores, f"{results.confidence:.0%} interval of the model"]
    rows = []
    for name in _key_metrics(results.metrics, results.headline):
        means = [_cell(results.value(recommender, name).mean) for recommender in results.scores]
        _, low, high = results.value("model", name)
        interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        rows.append([name, *means, interval])
    return markdown_table(heads, rows)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for MLflow's pages; all columns but the first hold numbers.

    MLflow's page puts no space between columns: the heads, which it centres, make room.
    """
    longest = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths = [max(n + 8, 2 * n) for n in longest]  # a space is about half as wide as a letter
    spaced = [head.center(width, _SPACE) for head, width in zip(heads, widths, strict=True)]
    rule = "|---|" + "---:|" * (len(heads) - 1)
    return [_table_row(spaced), rule, *map(_table_row, rows)]


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _key_metrics(names: Collection[str], monitored: str) -> list[str]:
    """Two metrics: the monitored one and a companion at the same list length."""
    k = monitored.partition("@")[2]
    others = filter(is_ranking_metric, names)
    wanted = dict.fromkeys([monitored, f"ndcg@{k}", f"recall@{k}", *others])
    return [name for name in wanted if name in names][:2]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def detail_tables(record: RunRecord) -> list[Table]:
    """All metrics of every epoch, and of model and baselines with their intervals."""
    tables = []
    if record.history:
        epochs = [
            {"epoch": epoch.number, "train_loss": epoch.train_loss}
            | epoch.parts
            | epoch.validation
            | {"seconds": epoch.seconds}
            for epoch in record.history
        ]
        tables.append(Table.from_records("epochs", "Every epoch", "", epochs))
    results = results_of(record)
    if results is not None:
        rows = [
            {"recommender": name, "metric": metric} | scores.value(metric)._asdict()
            for name, scores in results.scores.items()
            for metric in scores.means
        ]
        tables.append(Table.from_records("all_metrics", results.split, "", rows))
    return tables


def viewer_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table in JSON as MLflow's pages show it whole: no other keys, and 6 digits of a number."""
    data = [
        [float(f"{cell:.{_TABLE_DIGITS}g}") if isinstance(cell, float) else cell for cell in row]
        for row in table["data"]
    ]
    return {"columns": table["columns"], "data": data}
