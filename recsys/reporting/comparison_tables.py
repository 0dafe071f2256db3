"""The tables of a comparison, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from recsys.evaluation.bootstrap import bootstrap_intervals
from recsys.evaluation.run_comparison import TAIL_ITEMS, Difference, Method, PairedRun
from recsys.evaluation.tables import Cell, Table
from recsys.reporting.comparison import (
    RunComparison,
    differing_settings,
    has_same_segments,
)
from recsys.reporting.formatting import (
    environment_facts,
    metric_label,
    moment,
    number,
    setting_text,
)
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import ScoresRecord
from recsys.reporting.results import Results
from recsys.reporting.sections import metric_table

_UNITS = ("novelty", "popularity_lift")
"""Metrics that are no shares: a hundredth of them means nothing."""


def comparison_tables(comparison: RunComparison) -> dict[str, Table]:
    """Every table of a comparison that has something to say, in the order of the report."""
    tables = [
        _tested(comparison),
        _metrics(comparison),
        _segments(comparison),
        _item_segments(comparison),
        _settings(comparison),
        _environment(comparison),
        _runs(comparison),
        _shown(comparison),
        *_drift(comparison),
    ]
    return {table.name: table for table in tables if table is not None}


def run_results(comparison: RunComparison) -> Results:
    """The runs' own metrics with their intervals, side by side, the reference first.

    A run whose evaluation used another confidence gets intervals of the comparison's.
    """
    method = comparison.method
    scores = {run.name: _scores(run, method) for run in comparison.runs}
    return Results("test", comparison.n_users, method.headline, scores, None, {}, method.confidence)


def _scores(run: PastRun, method: Method) -> ScoresRecord:
    if run.paired is None:
        assert run.record.judged is not None, "a compared run was evaluated"
        if run.record.confidence == method.confidence:
            return run.record.judged.model
    names = [name for name in (*method.tested, *method.shown) if name in run.means]
    intervals = bootstrap_intervals(
        {name: run.per_user[name].to_numpy(np.float64) for name in names},
        n_samples=method.n_samples,
        confidence=method.confidence,
        rng=np.random.default_rng(method.seed),
    )
    return ScoresRecord(run.means, dict(intervals))


def _tested(comparison: RunComparison) -> Table | None:
    pairs, family = len(comparison.pairs), comparison.n_tests
    spread = f" of all {pairs} runs" if pairs > 1 else ""
    note = (
        "Paired over the same users. difference, low and high are in points, hundredths of the "
        f"metric: the run minus the reference, and its {comparison.method.confidence:.0%} "
        "bootstrap interval. p_value: two-sided sign-flip test; p_corrected: after Holm's "
        f"correction for the {family} tests{spread}, one family. d_z: mean difference over the "
        "standard deviation of the users' differences. better, worse: users whom the run serves "
        "better or worse."
    )
    rows = [(pair, found) for pair in comparison.pairs for found in pair.tested]
    return _differences(comparison, "differences", "Difference", note, rows)


def _shown(comparison: RunComparison) -> Table | None:
    note = (
        "Not tested and not corrected for their number: to be read as a description. The "
        f"difference and its {comparison.method.confidence:.0%} interval are in points, hundredths "
        f"of the metric; those of {' and '.join(_UNITS)} in units of the metric."
    )
    rows = [(pair, found) for pair in comparison.pairs for found in pair.shown]
    return _differences(comparison, "other_differences", "Other metrics", note, rows)


def _segments(comparison: RunComparison) -> Table | None:
    note = (
        f"Users by train interactions, as in the evaluation of {comparison.reference.name}; "
        f"unseen are those of the cold without any. {TAIL_ITEMS}: users with a held-out item "
        "outside the head, by what they find of such items alone. Where a run is of other data: "
        "known to it, new users, new items: users with a held-out item of which it knows user and "
        "item, not the user, not the item, by what they find of such alone. Values as in the table "
        "of differences, n the users; p_corrected: after Holm's correction for these rows, a "
        "family of their own."
    )
    what = f"{metric_label(comparison.method.headline)} by segment"
    rows = [(pair, found) for pair in comparison.pairs for found in pair.segments]
    return _differences(comparison, "segment_differences", what, note, rows)


def _differences(
    comparison: RunComparison,
    name: str,
    what: str,
    note: str,
    rows: Sequence[tuple[PairedRun, Difference]],
) -> Table | None:
    """A row a difference: of which run and segment where these vary, and whether it is real."""
    records = []
    for pair, found in rows:
        record: dict[str, Cell] = {"run": pair.name} if len(comparison.pairs) > 1 else {}
        of_segment = {"segment": found.segment, "metric": found.metric, "n": found.comparison.n}
        record |= {"metric": found.metric} if found.segment is None else of_segment
        scale = 1 if found.metric.startswith(_UNITS) else 100
        low, high = found.comparison.interval
        record |= {
            "reference": found.comparison.second,
            "value": found.comparison.first,
            "difference": scale * found.comparison.difference,
            "low": scale * low,
            "high": scale * high,
        }
        if found not in pair.shown:
            record |= {
                "p_value": found.comparison.p_value,
                "p_corrected": found.p_corrected,
                "d_z": found.comparison.effect_size,
                "better": found.comparison.n_better,
                "worse": found.comparison.n_worse,
                "verdict": found.verdict,
            }
        records.append(record)
    title = _title(comparison, what)
    return Table.from_records(name, title, note, records) if records else None


def _item_segments(comparison: RunComparison) -> Table | None:
    """What the runs' own segment tables say of items; these hold means, so nothing is tested."""
    reference, *others = (_item_values(run) for run in comparison.runs)
    if not all((reference, *others)) or not has_same_segments(comparison.runs):
        return None
    records = []
    for run, values in zip(comparison.others, others, strict=True):
        name = {"run": run.name} if len(others) > 1 else {}
        for segment, metric in (key for key in reference if key in values):
            (n, old), (_, new) = reference[segment, metric], values[segment, metric]
            records.append(
                name
                | {"segment": segment, "metric": metric, "n": n, "reference": old, "value": new}
                | {"difference": None if None in (old, new) else 100 * (new - old)}
            )
    note = (
        "Held-out interactions by the train interactions of their item, from the runs' own tables; "
        "difference in points. Not tested: the runs keep no values of single interactions."
    )
    title = _title(comparison, "Segments of items")
    return Table.from_records("item_segment_differences", title, note, records) if records else None


def _item_values(run: PastRun) -> dict[tuple[str, str], tuple[Any, Any]]:
    """{(segment, metric): (n, value)} of the items in a run's segment table, baselines left out."""
    table = run.tables.get("segments")
    if table is None or not {"kind", "segment", "n"} <= set(table.columns):
        return {}
    metrics = [name for name in table.columns if name.startswith(("recall@", "ndcg@"))]
    return {
        (str(row["segment"]), metric): (row["n"], row[metric])
        for row in table.records()
        if row["kind"] == "items"
        for metric in metrics
    }


def _metrics(comparison: RunComparison) -> Table:
    results = run_results(comparison)
    note = (
        f"Of each run's own evaluation. Intervals: {results.level}, bootstrap over users; of one "
        "run alone. Whether two runs differ is told by the differences: intervals of runs that "
        "serve the same users may overlap although one is better."
    )
    metrics = list(comparison.method.tested)
    return metric_table("metrics", "Metrics of each run", note, results, metrics)


def _settings(comparison: RunComparison) -> Table:
    rows = differing_settings(comparison.runs)
    note = (
        "Every setting that is not alike in all runs, but for names and places of files."
        if rows
        else "All settings of the runs are alike, but for names and places of files."
    )
    return _by_run("settings", "Settings that differ", note, "setting", comparison, rows)


def _drift(comparison: RunComparison) -> Iterator[Table]:
    """How the data of each run of other data differ from the reference's: before is the run's."""
    several = len(comparison.others) > 1
    for index, run in enumerate(comparison.others, start=1):
        for table in () if run.paired is None else run.paired.tables:
            title = f"{table.title}: from {run.name} to {comparison.reference.name}"
            name = f"{table.name}_{index}" if several else table.name
            yield dataclasses.replace(table, name=name, title=title)


def _environment(comparison: RunComparison) -> Table | None:
    """Versions and machines that differ; the commands always do."""
    rows = []
    found = [environment_facts(run.record.environment) for run in comparison.runs]
    for name in dict.fromkeys(key for each in found for key in each):
        values = [each.get(name, ...) for each in found]
        if any(value != values[0] for value in values):
            rows.append((name, values))
    title = "Versions and machines that differ"
    return _by_run("environment", title, "", "what", comparison, rows) if rows else None


def _runs(comparison: RunComparison) -> Table:
    facts = [_facts(run) for run in comparison.runs]
    rows = [(label, [each[label] for each in facts]) for label in facts[0]]
    return _by_run("runs", "The runs", "", "what", comparison, rows)


def _facts(run: PastRun) -> dict[str, object]:
    """What a run was and cost."""
    record = run.record
    n_bytes = record.model_size.get("bytes")
    return {
        "tracked as": run.run_id or "not tracked",
        "started": moment(record.created),
        "status": record.status,
        "seed": record.setting("experiment.seed"),
        "parameters": number(record.model_size.get("parameters")),
        "model, MiB": number(n_bytes and n_bytes / 1024**2, 2),
        "epochs": len(record.history),
        "epoch kept": record.best_epoch,
        "seconds": number(float(record.seconds), 1),
        "peak memory, MiB": number(float(record.peak_memory_mb), 1),
    }


def _by_run(
    name: str,
    title: str,
    note: str,
    head: str,
    comparison: RunComparison,
    rows: Iterable[tuple[str, Sequence[Any]]],
) -> Table:
    """One row a fact, one column a run, all as text: a column holds unlike things."""
    columns = (head, *(run.name for run in comparison.runs))
    cells = tuple((label, *(setting_text(value) for value in values)) for label, values in rows)
    return Table(name, title, note, columns, cells)


def _title(comparison: RunComparison, what: str) -> str:
    if len(comparison.pairs) > 1:
        return f"{what}: each run against {comparison.reference.name}"
    return f"{what}: {comparison.pairs[0].name} against {comparison.reference.name}"
