"""The outcome of a run in plain words, and the numbers that matter."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.baselines.names import baseline_label
from recsys.config import prefix_of
from recsys.evaluation.tables import Cell, Table
from recsys.reporting.document import Callout, KeyFigure
from recsys.reporting.formatting import (
    GAP,
    chance,
    duration,
    interval,
    memory,
    metric_label,
    number,
)
from recsys.reporting.record import RunRecord, Value
from recsys.reporting.results import Results, results_of

FEWEST_COLD = 20
"""Fewer cold items or users say nothing of a model."""
_KINDS = {
    "items": "cold items",
    "new items": "new items among themselves",
    "users": "cold users",
}


def summary(record: RunRecord, tables: Mapping[str, Table]) -> str:
    """One paragraph: how well, against what, what was learned from, and how training went."""
    rest = [_against_best(results_of(record)), _learned_from(record), _training(record)]
    return " ".join([*outcome_sentences(record, tables), *filter(None, rest)])


def outcome_sentences(record: RunRecord, tables: Mapping[str, Table]) -> list[str]:
    """How well the model does, against the best baseline first; none where nothing was judged."""
    results = results_of(record)
    if results is None:
        return []
    found = [
        _outcome(record, results, tables),
        _other_baselines(results),
        _left_out(tables),
        _on_the_cold(tables),
    ]
    return [sentence for sentence in found if sentence]


def notices(record: RunRecord) -> tuple[Callout, ...]:
    """What must be known before the numbers."""
    evaluation, split = record.evaluation, record.split.get("skipped")
    skipped = evaluation.skipped if evaluation else None
    said = [
        _status(record),
        f"The split was skipped: {_bare(split)}." if split else "",
        f"Evaluation was skipped: {_bare(skipped)}." if skipped else "",
    ]
    return tuple(Callout(text, "warning") for text in said if text)


def _status(record: RunRecord) -> str:
    match record.status:
        case "failed":
            return f"This run failed{f': {record.error}' if record.error else ''}."
        case "interrupted":
            return (
                f"This run was interrupted after {_epochs(record)}; what follows is what was saved "
                "until then."
            )
        case "running":
            return "This run had not ended when its record was written."
        case "finished":
            return "This run holds no evaluation." if record.evaluation is None else ""


def key_figures(record: RunRecord) -> tuple[KeyFigure, ...]:
    """The numbers for the head of the report."""
    figures, results = [], results_of(record)
    if results is not None:
        figures += _result_figures(results)
    elif record.history:
        loss = record.history[-1].train_loss
        figures.append(KeyFigure("Train loss", number(loss), "in the last epoch"))
    kept = f"epoch {record.best_epoch} kept" if record.best_epoch else "no epoch chosen"
    if record.refit is not None:
        kept = f"best {record.best_epoch}, refitted with validation"
    figures.append(KeyFigure("Epochs", str(len(record.history)), kept))
    used = f"{memory(record.peak_memory_mb)} at the peak" if record.peak_memory_mb else ""
    figures.append(KeyFigure("Time", duration(record.seconds), used))
    if record.model_size:
        size = record.model_size["bytes"] / 1024**2
        parameters = _short(record.model_size["parameters"])
        figures.append(KeyFigure("Parameters", parameters, f"{size:,.1f} MiB"))
    return tuple(figures)


def _result_figures(results: Results) -> list[KeyFigure]:
    metric, k = results.headline, results.headline.partition("@")[2]
    value = results.value("model", metric)
    detail = _level(results, value)
    figures = [KeyFigure(metric_label(metric), number(value.mean, 3), detail)]
    for name in results.baselines:
        baseline = results.value(name, metric).mean
        if baseline is not None:
            ratio = _ratio(value.mean, baseline)
            times = f"the model: {ratio:.2f} times" if ratio else f"by {metric_label(metric)}"
            label = baseline_label(name)
            figures.append(KeyFigure(label[:1].upper() + label[1:], number(baseline, 3), times))
    share = _ratio(value.mean, results.best)
    if share is not None:
        best = f"which is {number(results.best, 3)}"
        figures.append(KeyFigure("Of the best attainable", f"{share:.0%}".replace("%", " %"), best))
    also = f"{prefix_of(metric)}recall@{k}"
    recall = results.value("model", also)
    if metric != also and recall.mean is not None:
        label = metric_label(also)
        figures.append(KeyFigure(label, number(recall.mean, 3), _level(results, recall)))
    return figures


def _bare(reason: str) -> str:
    return reason.strip().removesuffix(".")


def _level(results: Results, value: Value) -> str:
    return f"{results.level} {interval(value.low, value.high, 3)}" if value.low is not None else ""


def _learned_from(record: RunRecord) -> str:
    data = record.dataset
    model = "The model" if record.refit is None else "The model that chose the epochs"
    return (
        f"{model} learned from {_count(data, 'train')} interactions of "
        f"{_count(data, 'n_warm_users')} users with {_count(data, 'n_warm_items')} items."
    )


def _outcome(record: RunRecord, results: Results, tables: Mapping[str, Table]) -> str:
    """How well, and how that compares with the best baseline."""
    value = results.value("model", results.headline)
    if value.mean is None:
        return f"No {results.split} user had an item to find."
    what = "new items alone" if results.is_among_new else "the whole catalogue"
    between = ""
    if value.low is not None and value.high is not None:
        between = f" ({results.level} interval {number(value.low, 3)} to {number(value.high, 3)})"
    return (
        f"Ranking {what} for {results.n_users:,} users, {record.run_name} reaches "
        f"{metric_label(results.headline)} {number(value.mean, 3)}{between} on the "
        f"{results.split} items{_against_best_baseline(results, tables)}."
    )


def _against_best_baseline(results: Results, tables: Mapping[str, Table]) -> str:
    name = results.best_baseline
    if name is None:
        return ""
    baseline, model = (results.value(each, results.headline).mean for each in (name, "model"))
    assert baseline is not None and model is not None
    found = f"the best baseline, {baseline_label(name)}, with {number(baseline, 3)}"
    difference, low, high, p_value = _paired(tables, name, results.headline)
    if difference is None or low is None or high is None:
        side = "above" if model > baseline else "below"
        return f", {number(abs(model - baseline), 3)} {side} {found}"
    measured = f"{results.level} interval of the difference {number(low, 3)} to {number(high, 3)}"
    if p_value is not None:
        measured += f", {chance(p_value)} after Holm's correction"
    by_chance = p_value is not None and p_value > 1 - results.confidence
    if by_chance or low <= 0 <= high:
        said = f"which cannot be told from {found}"
        return f", {said} (difference {number(difference, 3)}, {measured})"
    side = "above" if difference > 0 else "below"
    return f", {number(abs(difference), 3)} {side} {found} ({measured})"


def _paired(tables: Mapping[str, Table], baseline: str, metric: str) -> list[float | None]:
    """Model minus a baseline, the ends of its interval, and p; None where it was not measured."""
    names = ("difference", "low", "high", "p_corrected")
    for row in _rows(tables, "versus_baselines"):
        if (row["baseline"], row["metric"]) == (baseline, metric):
            cells = [row.get(name) for name in names]
            return [float(cell) if isinstance(cell, int | float) else None for cell in cells]
    return [None] * len(names)


def _other_baselines(results: Results) -> str:
    """What the baselines that are not the best reach."""
    others = [name for name in results.baselines if name != results.best_baseline]
    found = [(name, results.value(name, results.headline).mean) for name in others]
    parts = [
        f"{baseline_label(name)} {number(mean, 3)}" for name, mean in found if mean is not None
    ]
    return f"The other baselines reach: {', '.join(parts)}." if parts else ""


def _left_out(tables: Mapping[str, Table]) -> str:
    """Which baselines were too large."""
    return " ".join(
        f"{baseline_label(str(row['baseline']))} was {row['settings']}."
        for row in _rows(tables, "baseline_tuning")
        if str(row["settings"]).startswith("left out")
    )


def _on_the_cold(tables: Mapping[str, Table]) -> str:
    """Whether towers do what baselines cannot: items and users that train knows little of."""
    rows = _rows(tables, "versus_baselines_cold")
    parts, better = [], []
    for kind, words in _KINDS.items():
        of_kind = [row for row in rows if row["kind"] == kind and _float(row["n"]) >= FEWEST_COLD]
        if not of_kind:
            continue
        best = max(of_kind, key=lambda row: _float(row["baseline_value"]))
        names = ("model", "baseline_value", "low", "high")
        model, baseline, low, high = (number(_float(best[name]), 3) for name in names)
        counted = "held out" if kind == "items" else "judged"
        parts.append(
            f"{model} against {baseline} of {baseline_label(str(best['baseline']))} on {words} "
            f"({best['n']:,} {counted}, interval of the difference {low} to {high})"
        )
        if _float(best["low"]) > 0:
            better.append(words)
        elif kind == "new items" and _KINDS["items"] in better:  # was high among all for nothing
            better.remove(_KINDS["items"])
    if not parts:
        return ""
    verdict = (
        f"The towers earn their place on {' and '.join(better)}"
        if better
        else "Where little is known the towers are not shown to be better than the best baseline"
    )
    return f"{verdict}: NDCG {', '.join(parts)}."


def _rows(tables: Mapping[str, Table], name: str) -> list[dict[str, Cell]]:
    return tables[name].records() if name in tables else []


def _float(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else float("-inf")


def _against_best(results: Results | None) -> str:
    if results is None:
        return ""
    share = _ratio(results.value("model", results.headline).mean, results.best)
    if share is None or results.best is None:
        return ""
    return (
        f"The best attainable, by the preferences that generated the data, is "
        f"{number(results.best, 3)}: the model reaches {share * 100:.0f}% of it."
    )


def _training(record: RunRecord) -> str:
    if not record.history:
        return "No epoch was finished."
    kept, refit = "", record.refit
    if refit is not None:
        kept = (
            f", the best of which was epoch {record.best_epoch}. The model that is tested and "
            f"saved was trained anew for {refit['epochs']} epochs on train and validation together"
        )
    elif record.best_epoch:
        kept = f" and kept the weights of epoch {record.best_epoch}"
    why = f" ({record.stop_reason})" if record.stop_reason else ""
    return f"Training took {_epochs(record)}{why}{kept}; the run took {duration(record.seconds)}."


def _epochs(record: RunRecord) -> str:
    n = len(record.history)
    return f"{n} epoch" if n == 1 else f"{n} epochs"


def _count(data: dict[str, object], name: str) -> str:
    value = data.get(name)
    return f"{value:,}" if isinstance(value, int) else GAP


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None


def _short(count: int) -> str:
    for bound, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= bound:
            return f"{count / bound:.1f} {unit}"
    return str(count)
