"""From a comparison to its files: comparison.json, .md and .html, tables and charts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from recsys.errors import ArtifactError
from recsys.evaluation.run_comparison import TAIL_ITEMS, Difference
from recsys.evaluation.tables import Table
from recsys.reporting.charts import difference_chart
from recsys.reporting.comparison import RunComparison
from recsys.reporting.comparison_summary import key_figures, notices, outcome, verdict
from recsys.reporting.comparison_tables import comparison_tables, run_results
from recsys.reporting.document import Block, Callout, Figure, Report, Section, TableView
from recsys.reporting.document import Text as Paragraph
from recsys.reporting.figures import metrics_figure
from recsys.reporting.formatting import metric_label, signed
from recsys.reporting.markdown import escape, table_markdown
from recsys.reporting.pages import write_report_files
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import Value, plain, read_json, write_json, write_tables
from recsys.reporting.sections import figures_of, views_of

JSON_FILE = "comparison.json"
FORMAT = 1
_SHORT_NOTE = (
    "Paired over the same users. points: the run minus the reference, in hundredths of the "
    "metric, with its bootstrap interval. p: of the sign-flip test, after Holm's correction. d_z: "
    "mean difference over the standard deviation of the users' differences. better, worse: "
    "users whom the run serves better or worse."
)
_LEADING = ("run", "segment", "metric", "n")


def build_report(comparison: RunComparison) -> Report:
    """The report of a comparison."""
    others = ", ".join(run.name for run in comparison.others)
    first, *rest = comparison.pairs
    return Report(
        title=f"{others} against {comparison.reference.name}",
        subtitle=(
            f"Comparison of {len(comparison.runs)} runs · {comparison.n_users:,} test users · "
            f"data {comparison.reference.fingerprint}"
        ),
        summary=_count(comparison) if rest else verdict(comparison, first),
        notices=notices(comparison),
        key_figures=key_figures(comparison),
        sections=_sections(comparison),
    )


def write_comparison(comparison: RunComparison, directory: Path) -> tuple[Path, Path]:
    """Put a comparison into a directory of its own; the same comparison gives the same bytes.

    Returns:
        The Markdown and the HTML file.

    Raises:
        ArtifactError: the directory holds another comparison, or something else.
    """
    _refuse_other(comparison, directory)
    report = build_report(comparison)
    directory.mkdir(parents=True, exist_ok=True)
    tables = comparison_tables(comparison)
    # First, so that a directory whose writer was ended can be told and filled.
    write_json(directory / JSON_FILE, plain(to_json(comparison)) | {"tables": list(tables)})
    write_tables(directory, tables.values())
    return write_report_files(report, directory, "comparison")


def to_json(comparison: RunComparison) -> dict[str, Any]:
    """The method, the runs and every difference."""
    return {
        "format": FORMAT,
        "name": comparison.name,
        "key": comparison.key,
        "fingerprint": comparison.reference.fingerprint,
        "n_users": comparison.n_users,
        "method": dataclasses.asdict(comparison.method) | {"tests": comparison.n_tests},
        "reference": comparison.reference.name,
        "runs": [
            {
                "name": run.name,
                "run_id": run.run_id,
                "created": run.record.created,
                "test": _test_values(run),
            }
            for run in comparison.runs
        ],
        "pairs": [
            {
                "run": pair.name,
                "verdict": pair.headline.verdict,
                "in_words": verdict(comparison, pair),
                "tested": [_difference(found) for found in pair.tested],
                "shown": [_difference(found) for found in pair.shown],
                "segments": [_difference(found) for found in pair.segments],
            }
            for pair in comparison.pairs
        ],
    }


def _test_values(run: PastRun) -> dict[str, Any]:
    if run.paired is not None:
        return {"means": run.means, "intervals": {}, "judged": run.paired.said}
    assert run.record.judged is not None, "a compared run was evaluated"
    return dataclasses.asdict(run.record.judged.model)


def description(comparison: RunComparison) -> str:
    """Markdown for the head of a tracked run's page: outcomes, differences, then all in words.

    The outcome and the table come first, since MLflow folds what is higher than 100 pixels.
    """
    table = shortened(comparison_tables(comparison)["differences"])
    outcomes = " ".join(outcome(comparison, pair) for pair in comparison.pairs)
    verdicts = [verdict(comparison, pair) for pair in comparison.pairs]
    parts = [f"**{escape(outcomes)}**", table_markdown(TableView(table)), *map(escape, verdicts)]
    return "\n\n".join(parts)


def _sections(comparison: RunComparison) -> tuple[Section, ...]:
    tables = comparison_tables(comparison)
    views = partial(views_of, tables, limit=1000)
    drift = views(*(name for name in tables if name.startswith("drift")))
    others = views("other_differences", is_folded=True)
    found: list[tuple[str, str, list[Block]]] = [
        ("differences", "Is the difference real", _differences(comparison, tables)),
        ("metrics", "Metrics of each run", views("metrics")),
        ("segments", "Who gains, who loses", _segments(comparison, tables)),
        ("settings", "What was set differently", views("settings", "environment")),
        ("runs", "The runs and what they cost", views("runs")),
        ("others", "Other metrics", others),
        ("drift", "How the data moved", drift),
        ("method", "How this was compared", [Paragraph(_method(comparison))]),
    ]
    return Section.of(found)


def _differences(comparison: RunComparison, tables: Mapping[str, Table]) -> list[Block]:
    blocks: list[Block] = []
    if len(comparison.pairs) > 1:
        blocks += [Callout(verdict(comparison, pair)) for pair in comparison.pairs]
    drawn = {
        pair.name: {metric_label(found.metric): _in_points(found) for found in pair.tested}
        for pair in comparison.pairs
    }
    k = comparison.method.headline.partition("@")[2]
    metrics = [name for name in comparison.method.tested if name.endswith(f"@{k}")]
    results = run_results(comparison)
    # The reference last, so that a run has the same colour in both charts.
    first, *others = results.scores.items()
    results = dataclasses.replace(results, scores=dict([*others, first]))
    beside = metrics_figure(results, metrics, name="metrics", title=f"Metrics at {k}")
    figure = _figure(comparison, drawn, "differences", "Difference on each tested metric")
    blocks += figures_of(figure, beside)
    return [*blocks, TableView(shortened(tables["differences"]), limit=1000)]


def _segments(comparison: RunComparison, tables: Mapping[str, Table]) -> list[Block]:
    drawn = {
        pair.name: {_row_label(found): _in_points(found) for found in pair.segments}
        for pair in comparison.pairs
    }
    label = metric_label(comparison.method.headline)
    blocks: list[Block] = []
    if any(drawn.values()):
        title = f"Difference in {label} by segment"
        blocks += figures_of(_figure(comparison, drawn, "segments", title))
        blocks.append(TableView(shortened(tables["segment_differences"]), limit=1000))
    return blocks + views_of(tables, "item_segment_differences", limit=1000)


def shortened(table: Table) -> Table:
    """A table of differences as wide as a page: points to two decimals, interval in one column."""
    records = []
    for given in table.records():
        if "segment" in given:  # of one metric, which the title names
            del given["metric"]
        kept = {key: value for key, value in given.items() if key in _LEADING}
        records.append(
            kept
            | {"verdict": given["verdict"], "reference": given["reference"]}
            | {"value": given["value"], "points": signed(given["difference"])}
            | {"interval": f"[{signed(given['low'])}, {signed(given['high'])}]"}
            | {"p": given["p_corrected"], "d_z": given["d_z"]}
            | {"better": given["better"], "worse": given["worse"]}
        )
    note = _SHORT_NOTE + f" tables/{table.name}.json has more decimals and the p-values as tested."
    return Table.from_records(table.name, table.title, note, records)


def _row_label(found: Difference) -> str:
    """A segment beside the chart, users in brackets where there is room."""
    room = f" ({found.comparison.n:,})" if found.segment != TAIL_ITEMS else ""
    return f"{found.segment}{room}"


def _in_points(found: Difference) -> Value:
    values = (found.points, *found.interval_points)
    return Value(*(None if math.isnan(value) else value for value in values))


def _figure(
    comparison: RunComparison, drawn: Mapping[str, Mapping[str, Value]], name: str, title: str
) -> Figure:
    reference = comparison.reference.name
    caption = (
        f"In points, hundredths of the metric. Right of the line at zero the run is better than "
        f"{reference}. Whiskers: {comparison.method.confidence:.0%} bootstrap intervals over "
        "users."
    )
    svg = difference_chart(title, drawn, x_label=f"points more than {reference}")
    return Figure(name, title, caption, svg)


def _method(comparison: RunComparison) -> str:
    method = comparison.method
    alpha = 1 - method.confidence
    return (
        f"The first run named is the reference. For each of the {comparison.n_users:,} test "
        "users the run's value is taken minus the reference's. The interval of the mean "
        f"difference comes from {method.n_samples:,} bootstrap resamples of users (seed "
        f"{method.seed}); the p-value from a sign-flip randomisation test, two-sided. P-values are "
        f"corrected by Holm's rule over all {comparison.n_tests} tests of the comparison, every "
        "tested metric of every run in one family, and segments in a family of their "
        f"own. A corrected value below {alpha:.2g} counts as a difference; intervals are not "
        "corrected."
    )


def _count(comparison: RunComparison) -> str:
    """How many runs beat the reference, for the head of a report on several."""
    words: dict[str, list[str]] = {"better": [], "worse": []}
    rest = list[str]()
    for pair in comparison.pairs:
        words.get(pair.headline.verdict, rest).append(pair.name)
    label = metric_label(comparison.method.headline)
    reference = comparison.reference.name
    parts = [
        f"{', '.join(names)} {word} than {reference}" for word, names in words.items() if names
    ]
    if rest:
        parts.append(f"{', '.join(rest)} not told apart from it")
    return f"On {label}: {'; '.join(parts)}."


def _difference(found: Difference) -> dict[str, Any]:
    compared = found.comparison
    return {
        "metric": found.metric,
        "segment": found.segment,
        "n": compared.n,
        "reference": compared.second,
        "value": compared.first,
        "difference": compared.difference,
        "low": compared.interval[0],
        "high": compared.interval[1],
        "points": found.points,
        "p_value": compared.p_value,
        "p_corrected": found.p_corrected,
        "d_z": compared.effect_size,
        "n_better": compared.n_better,
        "n_worse": compared.n_worse,
        "verdict": found.verdict,
    }


def _refuse_other(comparison: RunComparison, directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        return
    path = directory / JSON_FILE
    if not path.exists():
        raise ArtifactError(
            f"{directory}: must be new or hold this comparison; it has no {JSON_FILE}"
        )
    if read_json(path).get("key") != comparison.key:
        raise ArtifactError(
            f"{directory}: must be new or hold this comparison, but holds another one, of other "
            "runs or metrics"
        )
