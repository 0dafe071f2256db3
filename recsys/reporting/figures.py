"""The charts of a run, each None where its data is missing."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.evaluation.tables import Cell, Table
from recsys.reporting.charts import Line, bar_chart, line_chart, step_chart
from recsys.reporting.document import Figure
from recsys.reporting.formatting import metric_label
from recsys.reporting.record import RunRecord, Value
from recsys.reporting.results import ORACLE, Results


def loss_figure(record: RunRecord) -> Figure | None:
    """Train loss of every epoch, and its parts where there are several."""
    epochs = record.history
    values = {"train loss": [epoch.train_loss for epoch in epochs]}
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.parts))
    if len(names) > 1:
        values |= {n.replace("_", " "): [epoch.parts.get(n) for epoch in epochs] for n in names}
    lines = [line for name, each in values.items() if (line := _line(name, record, each))]
    if not lines:
        return None
    title = "Train loss by epoch"
    svg = line_chart(title, lines, x_label="epoch", marked=_best(record))
    parts = ", whole and in its parts" if len(lines) > 1 else ""
    return Figure("train_loss", title, f"Mean loss over an epoch's steps{parts}.", svg)


def validation_figure(record: RunRecord, metric: str) -> Figure | None:
    """The watched validation metric of every epoch."""
    values = [epoch.validation.get(metric) for epoch in record.history]
    line = _line(metric_label(metric), record, values)
    if line is None:
        return None
    title = f"Validation {metric_label(metric)} by epoch"
    svg = line_chart(title, [line], x_label="epoch", marked=_best(record))
    kept = record.best_epoch is not None
    caption = "The dashed line marks the epoch whose weights were kept." if kept else ""
    return Figure("validation", title, caption, svg)


def metrics_figure(
    results: Results, metrics: Sequence[str], *, name: str, title: str
) -> Figure | None:
    """Some metrics, the model beside the baselines."""
    labels = [metric_label(metric.removeprefix("sampled_").partition("@")[0]) for metric in metrics]
    return _comparison(results, metrics, labels, name=name, title=title)


def lengths_figure(results: Results) -> Figure | None:
    """The headline metric at every list length, the model beside the baselines."""
    stem = results.headline.partition("@")[0]
    metrics = [metric for metric in results.ranking_metrics if metric.partition("@")[0] == stem]
    if len(metrics) < 2:
        return None
    labels = [f"first {metric.partition('@')[2]}" for metric in metrics]
    title = f"{metric_label(stem)} by length of the list"
    return _comparison(results, metrics, labels, name="list_lengths", title=title)


def _comparison(
    results: Results, metrics: Sequence[str], labels: Sequence[str], *, name: str, title: str
) -> Figure | None:
    rows = {
        recommender: [results.value(recommender, metric) for metric in metrics]
        for recommender in results.scores
    }
    if not any(value.mean is not None for row in rows.values() for value in row):
        return None
    caption = f"Whiskers: {results.level} confidence intervals over users."
    return Figure(name, title, caption, bar_chart(title, labels, rows))


def activity_figures(table: Table) -> list[Figure]:
    """NDCG of users and of held-out items, by segment or by number of train interactions.

    The model beside the baselines, one group a row with members. The oracle, beside whom all others
    look alike, stays in the table.
    """
    is_counted = "train_interactions" in table.columns
    column, name = ("train_interactions", "cold_start") if is_counted else ("segment", "segments")
    label = column.replace("_", " ")
    columns = [c for c in table.columns if "ndcg@" in c and not c.startswith(ORACLE)]
    found = []
    for kind, counted in (("users", "users"), ("items", "held-out items")):
        rows = [row for row in table.records() if row["kind"] == kind and row["n"]]
        if not rows or not columns:
            continue
        bars = {
            each.partition("ndcg@")[0].rstrip("_") or "model": [
                Value(_float(row[each])) for row in rows
            ]
            for each in columns
        }
        sizes = ", ".join(f"{row[column]}: {row['n']:,}" for row in rows)
        title, groups = f"NDCG by {label} of {kind}", [str(row[column]) for row in rows]
        svg = bar_chart(title, groups, bars, x_label=label)
        found.append(Figure(f"{name}_{kind}", title, f"Number of {counted}: {sizes}.", svg))
    return found


def gate_figure(gates: Table) -> Figure | None:
    """Mean gate by number of train interactions, items beside users."""
    order = [str(label) for label in gates.column("train_interactions")]
    labels = sorted(dict.fromkeys(order), key=lambda label: int(label.split("–")[0].rstrip("+")))
    rows = {}
    for side, records in _by_side(gates).items():
        held = {str(row["train_interactions"]): row for row in records}
        cells = [held.get(label, {}) for label in labels]
        rows[f"{side}s"] = [
            Value(*(_float(cell.get(name)) for name in ("mean_gate", "p10", "p90")))
            for cell in cells
        ]
    if not rows:
        return None
    title = "Gate by number of train interactions"
    svg = bar_chart(title, labels, rows, x_label="train interactions", reach=1)
    caption = "1: the id embedding alone, 0: the metadata alone. Whiskers: the middle 80% of rows."
    return Figure("gate_by_popularity", title, caption, svg)


def norm_figures(histogram: Table) -> tuple[Figure, ...]:
    """Norms of each kind of vector, items over users; kinds of one bin have nothing to show."""
    figures = []
    for kind in dict.fromkeys(histogram.column("vector")):
        rows = {}
        for side, records in _by_side(histogram).items():
            bins = [row for row in records if row["vector"] == kind]
            if len(bins) > 1:
                edges = [*(_number(row["from"]) for row in bins), _number(bins[-1]["to"])]
                rows[f"{side}s"] = edges, [_number(row["share"]) for row in bins]
        if rows:
            title = f"Norms of {kind} vectors"
            svg = step_chart(title, rows, x_label="Euclidean length")
            caption = "Share of items and of users in each bin."
            figures.append(Figure(f"norms_{kind}", title, caption, svg))
    return tuple(figures)


def _line(name: str, record: RunRecord, values: Sequence[float | None]) -> Line | None:
    """A value of every epoch; None where no epoch has one."""
    numbers = [float(epoch.number) for epoch in record.history]
    has_any = any(value is not None for value in values)
    return Line(name, tuple(zip(numbers, values, strict=True))) if has_any else None


def _best(record: RunRecord) -> tuple[float, str] | None:
    return None if record.best_epoch is None else (float(record.best_epoch), "kept")


def _by_side(table: Table) -> dict[str, list[dict[str, Cell]]]:
    sides: dict[str, list[dict[str, Cell]]] = {}
    for record in table.records():
        sides.setdefault(str(record["side"]), []).append(record)
    return dict(sorted(sides.items()))  # items first


def _float(value: Cell) -> float | None:
    return None if value is None else _number(value)


def _number(value: Cell) -> float:
    assert isinstance(value, int | float), value
    return float(value)
