"""The outcome of a run in plain words, and the numbers that matter."""

from __future__ import annotations

from recsys.reporting.document import Callout, KeyFigure
from recsys.reporting.formatting import GAP, duration, interval, memory, metric_label, number
from recsys.reporting.record import RunRecord
from recsys.reporting.results import Results, Value


def summary(record: RunRecord, results: Results | None, paired: Value | None) -> str:
    """One paragraph: what was learned from, how well, against what, and how training went."""
    sentences = []
    if results is not None:
        sentences.append(_outcome(record, results))
        sentences.append(_against_popularity(results, paired))
        sentences.append(_against_best(results))
    sentences += [_learned_from(record), _training(record)]
    return " ".join(sentence for sentence in sentences if sentence)


def notices(record: RunRecord) -> tuple[Callout, ...]:
    """What a reader must know before the numbers."""
    found = []
    match record.status:
        case "failed":
            cause = f": {record.error}" if record.error else ""
            found.append(Callout(f"This run failed{cause}.", "warning"))
        case "interrupted":
            found.append(
                Callout(
                    f"This run was interrupted after {_epochs(record)}; what follows is what was "
                    "saved until then.",
                    "warning",
                )
            )
        case "running":
            found.append(Callout("This run had not ended when its record was written.", "warning"))
        case "finished":
            pass
    skipped_split = record.dataset.get("split", {}).get("skipped")
    if skipped_split:
        found.append(Callout(f"The split was skipped: {_bare(skipped_split)}.", "warning"))
    skipped = (record.evaluation or {}).get("skipped")
    if skipped:
        found.append(Callout(f"Evaluation was skipped: {_bare(skipped)}.", "warning"))
    if record.evaluation is None and record.status == "finished":
        found.append(Callout("This run holds no evaluation.", "warning"))
    return tuple(found)


def key_figures(record: RunRecord, results: Results | None) -> tuple[KeyFigure, ...]:
    """The numbers for the head of the report."""
    figures = []
    if results is not None:
        figures += _result_figures(results)
    elif record.history:
        loss = record.history[-1].get("train_loss")
        figures.append(KeyFigure("Train loss", number(loss), "in the last epoch"))
    kept = f"epoch {record.best_epoch} kept" if record.best_epoch else "no epoch chosen"
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
    value, popular = results.value("model", metric), results.value("popularity", metric)
    detail = _level(results, value)
    figures = [KeyFigure(metric_label(metric), number(value.mean, 3), detail)]
    if popular.mean is not None:
        ratio = _ratio(value.mean, popular.mean)
        times = f"the model: {ratio:.1f} times" if ratio else f"by {metric_label(metric)}"
        figures.append(KeyFigure("Popularity", number(popular.mean, 3), times))
    share = _ratio(value.mean, results.best)
    if share is not None:
        best = f"which is {number(results.best, 3)}"
        figures.append(KeyFigure("Of the best attainable", f"{share:.0%}".replace("%", " %"), best))
    recall = results.value("model", f"recall@{k}")
    if metric != f"recall@{k}" and recall.mean is not None:
        label = metric_label(f"recall@{k}")
        figures.append(KeyFigure(label, number(recall.mean, 3), _level(results, recall)))
    return figures


def _bare(reason: str) -> str:
    return reason.strip().removesuffix(".")


def _level(results: Results, value: Value) -> str:
    return f"{results.level} {interval(value.low, value.high, 3)}" if value.low is not None else ""


def _learned_from(record: RunRecord) -> str:
    data = record.dataset
    return (
        f"The model learned from {_count(data, 'train')} interactions of "
        f"{_count(data, 'n_warm_users')} readers with {_count(data, 'n_warm_items')} books."
    )


def _outcome(record: RunRecord, results: Results) -> str:
    value = results.value("model", results.headline)
    if value.mean is None:
        return f"No {results.split} reader had a book to find."
    between = ""
    if value.low is not None and value.high is not None:
        between = f" ({results.level} interval {number(value.low, 3)} to {number(value.high, 3)})"
    return (
        f"Ranking the whole catalogue for {results.n_users:,} readers, {record.run_name} reaches "
        f"{metric_label(results.headline)} {number(value.mean, 3)}{between} on the "
        f"{results.split} books."
    )


def _against_popularity(results: Results, paired: Value | None) -> str:
    model = results.value("model", results.headline).mean
    popular = results.value("popularity", results.headline).mean
    if model is None or popular is None:
        return ""
    ratio = _ratio(model, popular)
    times = f", {ratio:.1f} times as much" if ratio is not None and ratio >= 1.05 else ""
    sentence = f"Ranking by popularity reaches {number(popular, 3)}"
    if times:
        sentence += f"; the model has{times[1:]}"
    if paired is None or paired.mean is None or paired.low is None or paired.high is None:
        return sentence + "."
    between = f"{results.level} interval {number(paired.low, 3)} to {number(paired.high, 3)}"
    verdict = f"{number(paired.mean, 3)}, reader by reader ({between})"
    if paired.low > 0:
        return f"{sentence}. The model is better by {verdict}."
    if paired.high < 0:
        return f"{sentence}. The model is worse: its difference is {verdict}."
    return f"{sentence}. The difference of {verdict} cannot be told from chance."


def _against_best(results: Results) -> str:
    share = _ratio(results.value("model", results.headline).mean, results.best)
    if share is None or results.best is None:
        return ""
    return (
        f"The best attainable, by the preferences that generated the data, is "
        f"{number(results.best, 3)}: the model reaches {share * 100:.0f} % of it."
    )


def _training(record: RunRecord) -> str:
    if not record.history:
        return "No epoch was finished."
    kept = f" and kept the weights of epoch {record.best_epoch}" if record.best_epoch else ""
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
