"""The parts of the report, in order, from a record and its tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recsys.config import TIMED_SPLITS
from recsys.config.section import flatten
from recsys.evaluation.tables import Cell, Table
from recsys.reporting import figures
from recsys.reporting.document import (
    Block,
    Callout,
    Code,
    Figure,
    Figures,
    Section,
    TableView,
    Text,
)
from recsys.reporting.formatting import (
    GAP,
    decimals,
    environment_facts,
    interval,
    metric_label,
    number,
    setting_text,
)
from recsys.reporting.record import RunRecord, Value
from recsys.reporting.results import ORACLE, Results, monitor_of, results_of

Tables = Mapping[str, Table]
FOLDED = {"embedding_norm_histogram", "dimension_spread"}
EMBEDDING_TABLES = (
    *("category_cohesion", "alignment", "gates_by_popularity", "embedding_dimensions"),
    *("embedding_norms", "embedding_norm_histogram", "dimension_spread"),
)
FURTHER_NOTE = (
    "Coverage: share of the catalogue that is in anyone's list. Novelty: mean of -log2 of a listed "
    "item's share of train interactions, in bits. Popularity lift: mean train count of the listed "
    "items over that of the user's own; above 1 the list is more popular than what the user "
    "chose. Intra-list diversity: 1 - mean cosine of the categories of each two listed items."
)
_SETTINGS = (
    *("settings", "All settings"),
    "Every setting of the run, defaults included; config.yaml holds the same.",
)
_AGAIN = (
    Text(
        "The settings lie in config.yaml of the run directory. With the same settings, the same "
        "data (see its fingerprint) and the same versions, one machine gives the same history, "
        "bit for bit. This report is made again from the run directory, without training:"
    ),
    Code("bookends report RUN_DIR"),
)
EXAMPLE_COLUMNS = {
    "history": ("rank", "title", "author", "categories"),
    "recommended": (
        *("rank", "title", "author", "categories", "score"),
        *("category_hit", "author_hit", "held_out"),
    ),
}


def sections(record: RunRecord, tables: Tables) -> tuple[Section, ...]:
    """All parts that have something to say."""
    results = results_of(record)
    found = [
        ("results", "Results", _results(results, tables)),
        ("sampled", "Second view: sampled candidates", _sampled(record, results)),
        ("cold_start", "Cold start", _cold_start(tables)),
        ("segments", "Cold, tail and head", _segments(tables)),
        ("learning", "Learning curves", _learning(record)),
        ("data", "Data and split", _data(record)),
        ("embeddings", "Embeddings", _embeddings(tables)),
        ("correlations", "Scores and metadata", views_of(tables, "feature_correlations")),
        ("examples", "Examples", _examples(tables)),
    ]
    blocks = [block for _, _, part in found for block in part]
    shown = {block.table.name for block in blocks if isinstance(block, TableView)}
    further = [name for name in tables if name not in shown and not name.startswith("example_")]
    found += [
        ("further", "Further tables", views_of(tables, *further)),
        ("settings", "Settings", settings_view(*_SETTINGS, record.config)),
        (
            *("reproduce", "Environment and reproduction"),
            reproduction(record.environment, "run", *_AGAIN),
        ),
    ]
    return Section.of(found)


def metric_table(name: str, title: str, note: str, results: Results, metrics: list[str]) -> Table:
    """Metrics by row; for each recommender the mean, then its interval where there is one."""
    everything = [results.value(name, metric).mean for name in results.scores for metric in metrics]
    places = decimals([mean for mean in everything if mean is not None])
    columns = ["metric"]
    parts: list[list[Cell]] = [list(metrics)]
    for recommender in results.scores:
        values = [results.value(recommender, metric) for metric in metrics]
        columns.append(recommender)
        parts.append([value.mean for value in values])
        if any(value.low is not None for value in values):
            columns.append(f"{recommender} interval")
            parts.append([_interval(value, places) for value in values])
    return Table(name, title, note, tuple(columns), tuple(zip(*parts, strict=True)))


def _results(results: Results | None, tables: Tables) -> list[Block]:
    if results is None:
        return []
    k = results.headline.partition("@")[2]
    at, _ = _at(results.ranking_metrics, k)
    title = "Finding the held-out items"
    blocks = figures_of(
        figures.metrics_figure(results, at, name="metrics", title=f"Ranking metrics at {k}"),
        figures.lengths_figure(results),
    )
    is_new = results.is_among_new
    note = _ranking_note(results, among_new=is_new)
    blocks += _metric_views("results", title, note, results, results.ranking_metrics)
    title, note = (
        f"Among {'all' if is_new else 'new'} items",
        _ranking_note(results, among_new=not is_new),
    )
    others = results.other_ranking_metrics
    blocks += _metric_views("results_among_others", title, note, results, others)
    blocks += views_of(tables, "versus_baselines", limit=1000)
    blocks += views_of(tables, "baseline_tuning", limit=1000, is_folded=True)
    return blocks + _metric_views(
        "beyond_accuracy", "Beyond accuracy", FURTHER_NOTE, results, results.further_metrics
    )


def _ranking_note(results: Results, *, among_new: bool) -> str:
    """How lists of the whole catalogue are judged, or those of new items alone."""
    what = "the whole catalogue is ranked, the items of earlier interactions left out"
    if among_new:
        what = "the items that nobody is known to have are ranked"
    sentences = [
        f"For each user {what}, and judged by the held-out ones; users with nothing to find do not "
        f"count. Intervals: {results.level}, bootstrap over users."
    ]
    blind = [name for name in results.baselines if name != "content_knn"]
    if among_new and blind:
        sentences.append(f"The order of new items is arbitrary in {', '.join(blind)}.")
    if results.one_held_out:
        sentences.append(
            "Each user has one held-out item: hit rate is recall, precision is recall over k, and "
            "MAP is MRR, so that each is told once."
        )
    if ORACLE in results.scores:
        knows = among_new or (results.best and not results.is_among_new)
        unknown = "" if knows else ", which do not know that whatever is held out is new"
        sentences.append(f"oracle ranks by the true preferences that generated the data{unknown}.")
    if results.expected and not among_new:
        expected = [f"{metric_label(m)} {number(value)}" for m, value in results.expected.items()]
        sentences.append(f"In expectation it attains {', '.join(expected)}.")
    return " ".join(sentences)


def _sampled(record: RunRecord, results: Results | None) -> list[Block]:
    if results is None or not results.sampled_metrics:
        return []
    k = results.headline.partition("@")[2]
    n_candidates = record.setting("evaluation.candidate_samples", "some")
    n_items = record.dataset.get("n_items")
    if isinstance(n_candidates, int) and n_items is not None and n_candidates >= n_items:
        return []  # these are all items, and the figures those above
    caveat = (
        f"Each held-out item is ranked among {n_candidates} random items, not among the whole "
        "catalogue. Such figures are higher, depend on how many candidates are drawn, and can "
        "order models differently (Krichene and Rendle, 2020). They are here to compare with work "
        "that reports them; the results above are the ones to decide by."
    )
    at, _ = _at(results.sampled_metrics, k)
    title = "Among sampled candidates"
    figure = figures.metrics_figure(
        results, at, name="sampled_metrics", title=f"{title}: metrics at {k}"
    )
    note = f"Intervals: {results.level}, bootstrap over users."
    views = _metric_views("sampled_results", title, note, results, results.sampled_metrics)
    return [Callout(caveat), *figures_of(figure), *views]


def _metric_views(
    name: str, title: str, note: str, results: Results, metrics: tuple[str, ...]
) -> list[Block]:
    """The metrics at the headline's list length, and folded those at the others."""
    at, others = _at(metrics, results.headline.partition("@")[2])
    blocks: list[Block] = []
    if at:
        blocks.append(TableView(metric_table(name, title, note, results, at), limit=1000))
    if others:
        table = metric_table(name, f"{title}: other list lengths", "", results, others)
        blocks.append(TableView(table, limit=1000, is_folded=True))
    return blocks


def _cold_start(tables: Tables) -> list[Block]:
    """Where train knows little: by number of train interactions, and the test on the cold."""
    known = views_of(tables, "new_items", "versus_baselines_cold", limit=1000)
    if "by_train_interactions" not in tables:
        return known
    table = tables["by_train_interactions"]
    blocks = [*figures_of(*figures.activity_figures(table)), *known]
    return [*blocks, TableView(table, is_folded=True)]


def _segments(tables: Tables) -> list[Block]:
    if "segments" not in tables:
        return []
    table = tables["segments"]
    charts = figures_of(*figures.activity_figures(table))
    ndcg = [column for column in table.columns if "recall@" not in column]
    recall = [column for column in table.columns if "ndcg@" not in column]
    if len(ndcg) == len(table.columns):
        return [*charts, TableView(table)]
    further = dataclasses.replace(table.select(recall), title=f"{table.title}: recall", note="")
    return [*charts, TableView(table.select(ndcg)), TableView(further, is_folded=True)]


def _learning(record: RunRecord) -> list[Block]:
    if not record.history:
        return []
    monitor = monitor_of(record)
    blocks = figures_of(figures.loss_figure(record), figures.validation_figure(record, monitor))
    return [*blocks, TableView(_epoch_table(record), limit=200, is_folded=True)]


def _epoch_table(record: RunRecord) -> Table:
    k = monitor_of(record).partition("@")[2]
    records = []
    for epoch in record.history:
        validation = {
            metric_label(name): value
            for name, value in epoch.validation.items()
            if name.partition("@")[2] == k
        }
        records.append(
            {"epoch": epoch.number, "train loss": epoch.train_loss}
            | (epoch.parts if len(epoch.parts) > 1 else {})
            | validation
            | {"seconds": epoch.seconds}
        )
    note = f"Validation metrics at {k}; those at other lengths are in record.json."
    return Table.from_records("epochs", "Every epoch", note, records)


def _data(record: RunRecord) -> list[Block]:
    data = record.dataset
    split = record.split
    strategy = str(split.get("strategy", GAP)).replace("_", " ")
    in_time = split.get("order") and split.get("strategy") in TIMED_SPLITS
    order = f", in the order of the {split['order']}" if in_time else ""
    note = f"; {split['note']}" if split.get("note") else ""
    skipped = split.get("skipped")
    said = (
        f"The split was skipped: {skipped.strip().removesuffix('.')}."
        if skipped
        else f"Split: {strategy}{order}{note}."
    )
    facts: list[tuple[str, Cell]] = [
        ("users", data.get("n_users")),
        ("users with train items", data.get("n_warm_users")),
        ("items", data.get("n_items")),
        ("items with train users", data.get("n_warm_items")),
        *((f"{part} interactions", data.get(part)) for part in ("train", "validation", "test")),
    ]
    size = Table("dataset", "Data set", "", ("what", "count"), tuple(facts))
    blocks: list[Block] = [Callout(said, "warning") if skipped else Text(said)]
    blocks.append(TableView(size))
    if record.filter_steps:
        blocks.append(TableView(_filter_table(record)))
    rows = (("fingerprint of data and settings", data.get("fingerprint")), *record.sources.items())
    note = "A file's line is the SHA-256 of its content."
    origin = Table("origin", "Where the data came from", note, ("source", "digest"), rows)
    return [*blocks, TableView(origin)]


def _filter_table(record: RunRecord) -> Table:
    records: list[dict[str, Cell]] = []
    for before, step in zip([None, *record.filter_steps], record.filter_steps, strict=False):
        left = {name: step[name] for name in ("users", "items", "interactions")}
        dropped = {
            f"{name} dropped": before and before[name] - step[name]
            for name in ("interactions", "users", "items")
        }
        records.append({"step": step["name"].replace("_", " ")} | left | dropped)
    note = "What is left after each step, and what that step dropped."
    return Table.from_records("filter_steps", "Filtering", note, records)


def _embeddings(tables: Tables) -> list[Block]:
    shown = [tables[name] for name in EMBEDDING_TABLES if name in tables]
    if not shown:
        return []
    charts: list[Figure | None] = []
    if "gates_by_popularity" in tables:
        charts.append(figures.gate_figure(tables["gates_by_popularity"]))
    if "embedding_norm_histogram" in tables:
        charts += figures.norm_figures(tables["embedding_norm_histogram"])
    return [*figures_of(*charts), *(TableView(t, is_folded=t.name in FOLDED) for t in shown)]


def _examples(tables: Tables) -> list[Block]:
    blocks = views_of(tables, "qualitative_summary")
    for name, table in tables.items():
        if name.startswith("example_"):
            blocks += _example(table)
    return blocks


def _example(table: Table) -> list[Block]:
    """History and recommendations as two tables under one heading."""
    views: list[Block] = []
    for part, columns in EXAMPLE_COLUMNS.items():
        rows = tuple(row for row in table.rows if row[0] == part)
        first = part == "history"
        views.append(
            TableView(
                dataclasses.replace(
                    dataclasses.replace(table, rows=rows).select(columns),
                    name=f"{table.name}_{part}",
                    title=table.title if first else "Recommended to this user",
                    note="Earlier interactions." if first else table.note,
                ),
                limit=1000,
            )
        )
    return views


def settings_view(name: str, title: str, note: str, tree: Mapping[str, Any]) -> list[Block]:
    """Every setting with its value, folded; nothing where there is none."""
    rows = tuple((setting, setting_text(value)) for setting, value in flatten(tree).items())
    table = Table(name, title, note, ("setting", "value"), rows)
    return [TableView(table, limit=1000, is_folded=True)] if rows else []


def reproduction(environment: Mapping[str, Any], what: str, *said: Block) -> list[Block]:
    """The command, what else is ``said`` of doing it again, and the environment, folded."""
    blocks: list[Block] = []
    if command := environment.get("command"):
        commit = environment.get("git_commit")
        at = f", at commit {commit}" if commit else ""
        blocks += [Text(f"The command of this {what}{at}:"), Code(str(command))]
    rows = [(name, setting_text(value)) for name, value in environment_facts(environment).items()]
    table = Table("environment", "Environment", "", ("what", "value"), tuple(rows))
    view = [TableView(table, limit=1000, is_folded=True)] if rows else []
    return [*blocks, *said, *view]


def views_of(tables: Tables, *names: str, limit: int = 60, is_folded: bool = False) -> list[Block]:
    """Those of the named tables that are there."""
    found = [tables[name] for name in names if name in tables]
    return [TableView(table, limit=limit, is_folded=is_folded) for table in found]


def figures_of(*drawn: Figure | None) -> list[Block]:
    """Those charts side by side that have something to show."""
    kept = tuple(figure for figure in drawn if figure is not None)
    return [Figures(kept)] if kept else []


def _interval(value: Value, places: int) -> str | None:
    return None if value.low is None else interval(value.low, value.high, places)


def _at(metrics: tuple[str, ...], k: str) -> tuple[list[str], list[str]]:
    """The metrics at list length k, and the others."""
    at = [name for name in metrics if name.partition("@")[2] == k]
    return at, [name for name in metrics if name not in at]
